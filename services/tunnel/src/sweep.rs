//! Ends the live sessions of servers that may no longer come in. It ends processes of the Unix users of servers
//! ([`ForwardPort::uids`]) and of nobody else.

use std::{collections::HashSet, fs, io, sync::Arc, time::Duration};

use host::sshd::LOGIN_GRACE;
use model::tunnel::ForwardPort;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Sessions that have to end: those of servers' users that are not spared, where the connection began before a moment.
#[derive(Debug)]
pub struct Sweep {
    spared: HashSet<u32>,
    /// In clock ticks since the machine started, as proc_pid_stat(5) counts them.
    moment: u64,
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    /// Its real user.
    uid: u32,
    parent: i32,
    dead: bool,
}

impl Sweep {
    /// A sweep of all that began before now. Its users' keys are gone already.
    ///
    /// # Errors
    /// The machine's clock can't be read.
    pub fn now(spared: HashSet<u32>) -> io::Result<Self> {
        let text = fs::read_to_string("/proc/uptime")?;
        let moment = uptime_ticks(&text).ok_or_else(|| unreadable("/proc/uptime", &text))?;
        Ok(Self { spared, moment })
    }

    /// Ends the processes that are there, and says how many they were.
    ///
    /// # Errors
    /// The machine's processes can't be listed, or one can't be ended.
    pub fn run(&self) -> io::Result<usize> {
        let mut ended = 0;
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if self.is_over(pid, observe)? && end(pid, |now| self.is_over(pid, |_| Ok(now)))? {
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
    fn is_over(
        &self,
        pid: i32,
        look: impl Fn(i32) -> io::Result<Option<Process>>,
    ) -> io::Result<bool> {
        let Some(process) = look(pid)? else { return Ok(false) };
        let (first, last) = ForwardPort::uids();
        let concerned =
            (first..=last).contains(&process.uid) && !self.spared.contains(&process.uid);
        Ok(concerned && !process.dead && began(process)? <= self.moment)
    }
}

/// When a session's connection began: sshd forks the process that becomes the user's after the key was looked at, but the one of
/// root's above it before. Where that is gone, long ago.
fn began(mut process: Process) -> io::Result<u64> {
    for _ in 0..8 {
        let Some(parent) = observe(process.parent)?.filter(|_| process.parent > 1) else { break };
        if parent.uid == 0 {
            return Ok(started(process.parent)?.unwrap_or(0));
        }
        process = parent;
    }
    Ok(0)
}

/// Kills a process that is still what it was once it is held fast.
fn end(pid: i32, still: impl Fn(Option<Process>) -> io::Result<bool>) -> io::Result<bool> {
    let Some(raw) = Pid::from_raw(pid) else { return Ok(false) };
    let held = match pidfd_open(raw, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(false),
        other => other?,
    };
    // The number may have been another process's when it was listed.
    if !still(observe(pid)?)? {
        return Ok(false);
    }
    match pidfd_send_signal(held, Signal::KILL) {
        Err(Errno::SRCH) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

fn observe(pid: i32) -> io::Result<Option<Process>> {
    let path = format!("/proc/{pid}/status");
    let Some(text) = read(&path)? else { return Ok(None) };
    parse_status(&text).map(Some).ok_or_else(|| unreadable(&path, &text))
}

fn started(pid: i32) -> io::Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    let Some(text) = read(&path)? else { return Ok(None) };
    parse_start(&text).map(Some).ok_or_else(|| unreadable(&path, &text))
}

/// Processes end while they are looked at.
fn read(path: &str) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreadable(path: &str, text: &str) -> io::Error {
    let start: String = text.chars().take(80).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("{path} says {start:?}"))
}

/// proc_pid_status(5)
fn parse_status(text: &str) -> Option<Process> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()
    };
    Some(Process {
        uid: field("Uid")?.parse().ok()?,
        parent: field("PPid")?.parse().ok()?,
        dead: matches!(field("State")?, "Z" | "X"),
    })
}

/// Field 22 of proc_pid_stat(5); the second one is the program's name in brackets, whatever that is.
fn parse_start(text: &str) -> Option<u64> {
    let (_, behind_name) = text.rsplit_once(") ")?;
    behind_name.split(' ').nth(22 - 3)?.parse().ok()
}

/// proc_uptime(5): seconds with two digits behind the point, and a tick is a hundredth of a second everywhere.
fn uptime_ticks(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_once('.')?;
    let (hundredths, _) = rest.split_once(' ')?;
    Some(seconds.parse::<u64>().ok()? * 100 + hundredths.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_users_are_read_from_what_the_kernel_prints() {
        assert_eq!(uptime_ticks("53590.07 88345.51\n"), Some(5_359_007));
        let stat =
            "77 (sshd) (x) S 1 77 77 0 -1 4194560 200 0 3 0 0 0 0 0 20 0 1 0 5359001 15876096 900";
        assert_eq!(parse_start(stat), Some(5_359_001));
        let status =
            "Name:\tsshd-session\nState:\tS (sleeping)\nPPid:\t70\nUid:\t210007\t0\t0\t0\n";
        assert_eq!(parse_status(status), Some(Process { uid: 210_007, parent: 70, dead: false }));
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[test]
    fn this_very_process_began_before_now_and_is_nobody_to_put_out() {
        let now = Sweep::now(HashSet::new()).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(started(me).unwrap().unwrap() <= now.moment);
        assert_eq!(now.run().unwrap(), 0);
    }

    #[test]
    fn only_a_server_s_living_session_of_before_that_is_not_spared_is_over() {
        let sweep = Sweep { spared: HashSet::from([210_001]), moment: 0 };
        let over =
            |uid, dead| sweep.is_over(2, |_| Ok(Some(Process { uid, parent: 1, dead }))).unwrap();
        assert!(over(210_002, false));
        for (uid, dead) in [
            (210_001, false),
            (210_002, true),
            (0, false),
            (500, false),
            (209_999, false),
            (260_000, false),
        ] {
            assert!(!over(uid, dead), "{uid} {dead}");
        }
        assert!(!sweep.is_over(2, |_| Ok(None)).unwrap());
    }
}
