//! Ends the live sessions of servers that may no longer come in. It ends processes of the Unix users of servers
//! ([`ForwardPort::uids`]) and of nobody else.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use host::sshd::LOGIN_GRACE;
use model::tunnel::ForwardPort;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Sessions that have to end: those of servers' users that are not spared, where the connection began before a moment.
#[derive(Debug)]
pub struct Sweep {
    /// Where the kernel tells of processes, which is `/proc`.
    processes: PathBuf,
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
    /// A sweep of all that began before now, among the processes that this folder tells of. Its users' keys are gone already.
    ///
    /// # Errors
    /// The machine's clock can't be read.
    pub fn now(processes: &Path, spared: HashSet<u32>) -> io::Result<Self> {
        let path = processes.join("uptime");
        let text = fs::read_to_string(&path)?;
        let moment = uptime_ticks(&text).ok_or_else(|| unreadable(&path, &text))?;
        Ok(Self { processes: processes.to_owned(), spared, moment })
    }

    /// Ends the processes that are there, and says how many they were.
    ///
    /// # Errors
    /// The machine's processes can't be listed, or one can't be ended.
    pub fn run(&self) -> io::Result<usize> {
        let mut ended = 0;
        for entry in fs::read_dir(&self.processes)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if self.is_over(pid)? && self.end(pid)? {
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
        let Some(process) = self.observe(pid)? else { return Ok(false) };
        let (first, last) = ForwardPort::uids();
        let concerned =
            (first..=last).contains(&process.uid) && !self.spared.contains(&process.uid);
        Ok(concerned && !process.dead && self.began(process)? <= self.moment)
    }

    /// When a session's connection began: sshd forks the process that becomes the user's after the key was looked at, but the one of
    /// root's above it before. Where that is gone, long ago.
    fn began(&self, mut process: Process) -> io::Result<u64> {
        for _ in 0..8 {
            let parent = self.observe(process.parent)?.filter(|_| process.parent > 1);
            let Some(parent) = parent else { break };
            if parent.uid == 0 {
                return Ok(self.started(process.parent)?.unwrap_or(0));
            }
            process = parent;
        }
        Ok(0)
    }

    /// Kills a process that is still what it was once it is held fast: its number may have become another's.
    fn end(&self, pid: i32) -> io::Result<bool> {
        let Some(raw) = Pid::from_raw(pid) else { return Ok(false) };
        let held = match pidfd_open(raw, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(false),
            other => other?,
        };
        if !self.is_over(pid)? {
            return Ok(false);
        }
        match pidfd_send_signal(held, Signal::KILL) {
            Err(Errno::SRCH) => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }

    fn observe(&self, pid: i32) -> io::Result<Option<Process>> {
        let path = self.processes.join(format!("{pid}/status"));
        let Some(text) = read(&path)? else { return Ok(None) };
        parse_status(&text).map(Some).ok_or_else(|| unreadable(&path, &text))
    }

    fn started(&self, pid: i32) -> io::Result<Option<u64>> {
        let path = self.processes.join(format!("{pid}/stat"));
        let Some(text) = read(&path)? else { return Ok(None) };
        parse_start(&text).map(Some).ok_or_else(|| unreadable(&path, &text))
    }
}

/// Processes end while they are looked at.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unreadable(path: &Path, text: &str) -> io::Error {
    let start: String = text.chars().take(80).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("{} says {start:?}", path.display()))
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

    /// The kernel's highest number is 4,194,304: what is told of here is nobody that could be ended by mistake.
    const MONITOR: i32 = 5_000_000;
    const SESSION: i32 = 5_000_001;

    /// A session of this user and state whose connection began then, and whether it is over at 100 s.
    fn is_over(uid: u32, state: &str, monitor: &str, began: u64) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let tell = |pid: i32, uid: u32, state: &str, parent: i32, start: u64| {
            let place = folder.path().join(pid.to_string());
            fs::create_dir(&place).unwrap();
            let status = format!("State:\t{state} (x)\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\n");
            host::files::write_atomic(&place.join("status"), status.as_bytes(), 0o644).unwrap();
            let stat = format!("{pid} (x) {state} {parent}{} {start} 0", " 0".repeat(17));
            host::files::write_atomic(&place.join("stat"), stat.as_bytes(), 0o644).unwrap();
        };
        host::files::write_atomic(&folder.path().join("uptime"), b"100.00 1.00\n", 0o644).unwrap();
        if monitor == "monitored" {
            tell(MONITOR, 0, "S", 1, began);
        }
        tell(SESSION, uid, state, MONITOR, 20_000);
        let sweep = Sweep::now(folder.path(), HashSet::from([210_001])).unwrap();
        assert_eq!(sweep.run().unwrap(), 0, "nobody has these numbers");
        sweep.is_over(SESSION).unwrap()
    }

    #[test]
    fn a_server_s_session_is_over_when_its_connection_began_before() {
        assert!(is_over(210_002, "S", "monitored", 10_000));
        assert!(!is_over(210_002, "S", "monitored", 10_001), "by a key that is there");
        assert!(is_over(210_002, "S", "orphaned", 10_001));
    }

    #[test]
    fn who_is_spared_or_dead_or_no_server_is_left_alone() {
        for (uid, state) in
            [(210_001, "S"), (210_002, "Z"), (0, "S"), (500, "S"), (209_999, "S"), (260_000, "S")]
        {
            assert!(!is_over(uid, state, "monitored", 1), "{uid} {state}");
        }
    }
}
