//! Ends the live sessions of servers that may no longer come in. It ends processes of the Unix users of servers
//! ([`model::tunnel::ForwardPort::uids`]) and of nobody else.

use std::{collections::HashSet, io, path::Path, sync::Arc, time::Duration};

use host::sshd::LOGIN_GRACE;

use crate::processes::{Process, Processes};

/// Sessions that have to end: those of servers' users that are not spared, where the connection began before a moment.
#[derive(Debug)]
pub struct Sweep {
    processes: Processes,
    spared: HashSet<u32>,
    /// In clock ticks since the machine started.
    moment: u64,
}

impl Sweep {
    /// A sweep of all that began before now, among the processes that this folder tells of. Its users' keys are gone already.
    ///
    /// # Errors
    /// The machine's clock can't be read.
    pub fn now(processes: &Path, spared: HashSet<u32>) -> io::Result<Self> {
        let processes = Processes::of(processes);
        let moment = processes.now()?;
        Ok(Self { processes, spared, moment })
    }

    /// Ends the processes that are there, and says how many they were.
    ///
    /// # Errors
    /// The machine's processes can't be listed, or one can't be ended.
    pub fn run(&self) -> io::Result<usize> {
        let mut ended = 0;
        for pid in self.processes.list()? {
            if self.is_over(pid)? && self.processes.end(pid, || self.is_over(pid))? {
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// Goes on for as long as somebody may be on his way in who proved to have a key before it went: until sshd lets go of who
    /// was not done by then. Runs are far apart in the end: each looks at every process.
    pub async fn follow(self) {
        let sweep = Arc::new(self);
        let mut pause = Duration::from_millis(250);
        let mut waited = Duration::ZERO;
        while waited <= LOGIN_GRACE {
            tokio::time::sleep(pause).await;
            waited += pause;
            pause *= 2;
            let run = Arc::clone(&sweep);
            match tokio::task::spawn_blocking(move || run.run()).await {
                Ok(Ok(0)) => {}
                Ok(Ok(ended)) => {
                    tracing::info!(ended, "sessions that came in while their key went")
                }
                Ok(Err(error)) => tracing::error!(%error, "live sessions can't be looked for"),
                Err(error) => tracing::error!(%error, "who looks for live sessions died"),
            }
        }
    }

    /// Whether the session that a process belongs to has to end.
    fn is_over(&self, pid: i32) -> io::Result<bool> {
        let Some(process) = self.processes.observe(pid)? else { return Ok(false) };
        let concerned = process.is_of_server() && !self.spared.contains(&process.uid);
        Ok(concerned && self.began(process)? <= self.moment)
    }

    /// When a session's connection began: sshd forks the process that becomes the user's after the key was looked at, but the one of
    /// root's above it before. Where that is gone, long ago.
    fn began(&self, mut process: Process) -> io::Result<u64> {
        for _ in 0..8 {
            let parent = self.processes.observe(process.parent)?.filter(|_| process.parent > 1);
            let Some(parent) = parent else { break };
            if parent.uid == 0 {
                return Ok(self.processes.started(process.parent)?.unwrap_or(0));
            }
            process = parent;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::tests::Told;

    const MONITOR: i32 = 5_000_000;
    const SESSION: i32 = 5_000_001;

    /// Whether a session of this user and state, whose connection began then, is over at 100 s.
    fn is_over(uid: u32, state: &str, began: Option<u64>) -> bool {
        let told = Told::new();
        if let Some(began) = began {
            told.process(MONITOR, 0, "S", 1, began);
        }
        told.process(SESSION, uid, state, MONITOR, 20_000);
        let sweep = Sweep::now(told.0.path(), HashSet::from([210_001])).unwrap();
        assert_eq!(sweep.run().unwrap(), 0, "nobody has these numbers");
        sweep.is_over(SESSION).unwrap()
    }

    #[test]
    fn a_server_s_session_is_over_when_its_connection_began_before() {
        assert!(is_over(210_002, "S", Some(10_000)));
        assert!(!is_over(210_002, "S", Some(10_001)), "by a key that is there");
        assert!(is_over(210_002, "S", None));
    }

    #[test]
    fn who_is_spared_or_dead_or_no_server_is_left_alone() {
        for (uid, state) in
            [(210_001, "S"), (210_002, "Z"), (0, "S"), (500, "S"), (209_999, "S"), (260_000, "S")]
        {
            assert!(!is_over(uid, state, Some(1)), "{uid} {state}");
        }
    }
}
