//! The machine's processes, as the kernel tells of them below `/proc`: whose they are, when they began, and their end. Which of them
//! have to end is for others to say.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::tunnel::ForwardPort;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A folder that tells of processes.
#[derive(Debug, Clone)]
pub(crate) struct Processes(PathBuf);

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its real user.
    pub(crate) uid: u32,
    /// Who started it.
    pub(crate) parent: i32,
    /// It has ended, and nobody asked how.
    pub(crate) dead: bool,
    /// It has another number in a PID namespace of its own (pid_namespaces(7)): a system inside of this one, whose users are others.
    pub(crate) contained: bool,
}

impl Process {
    /// Whether it lives and is this user's on this very tunnel.
    pub(crate) fn is_of(&self, uid: u32) -> bool {
        !self.dead && !self.contained && self.uid == uid
    }

    /// Whether it lives and is a server's of this very tunnel.
    pub(crate) fn is_of_server(&self) -> bool {
        let (first, last) = ForwardPort::uids();
        !self.dead && !self.contained && (first..=last).contains(&self.uid)
    }
}

impl Processes {
    /// Those of which this folder tells.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Clock ticks since the machine started, as [`Self::started`] counts them.
    pub(crate) fn now(&self) -> io::Result<u64> {
        self.number("uptime", uptime_ticks)
    }

    /// How many threads there are on the whole machine.
    pub(crate) fn threads(&self) -> io::Result<u64> {
        self.number("loadavg", thread_count)
    }

    /// The numbers of all.
    pub(crate) fn list(&self) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(pids)
    }

    /// What is known of one; nothing when it is gone.
    pub(crate) fn observe(&self, pid: i32) -> io::Result<Option<Process>> {
        let path = self.0.join(format!("{pid}/status"));
        let Some(text) = read(&path)? else { return Ok(None) };
        parse_status(&text).map(Some).ok_or_else(|| unreadable(&path, &text))
    }

    /// When it began; nothing when it is gone.
    pub(crate) fn started(&self, pid: i32) -> io::Result<Option<u64>> {
        let path = self.0.join(format!("{pid}/stat"));
        let Some(text) = read(&path)? else { return Ok(None) };
        parse_start(&text).map(Some).ok_or_else(|| unreadable(&path, &text))
    }

    /// Kills one that is still what it was once it is held fast, and says whether it did: the number may have become another's.
    pub(crate) fn end(
        &self,
        pid: i32,
        still: impl FnOnce() -> io::Result<bool>,
    ) -> io::Result<bool> {
        let Some(raw) = Pid::from_raw(pid) else { return Ok(false) };
        let held = match pidfd_open(raw, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(false),
            other => other?,
        };
        if !still()? {
            return Ok(false);
        }
        match pidfd_send_signal(held, Signal::KILL) {
            Err(Errno::SRCH) => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }

    fn number(&self, name: &str, parse: fn(&str) -> Option<u64>) -> io::Result<u64> {
        let path = self.0.join(name);
        let text = fs::read_to_string(&path)?;
        parse(&text).ok_or_else(|| unreadable(&path, &text))
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
    let fields = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace())
    };
    let field = |name: &str| fields(name)?.next();
    Some(Process {
        uid: field("Uid")?.parse().ok()?,
        parent: field("PPid")?.parse().ok()?,
        dead: matches!(field("State")?, "Z" | "X"),
        contained: fields("NSpid").is_some_and(|numbers| numbers.count() > 1),
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

/// proc_loadavg(5): the fourth field is those that run and, behind a slash, all that there are.
fn thread_count(text: &str) -> Option<u64> {
    text.split(' ').nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder that tells of processes as `/proc` does. The kernel's highest number is 4,194,304: one of a higher one can't be ended
    /// by mistake.
    pub(crate) struct Told(pub(crate) tempfile::TempDir);

    impl Told {
        pub(crate) fn new() -> Self {
            let told = Self(tempfile::tempdir().unwrap());
            told.tell("uptime", "100.00 1.00\n");
            told
        }

        pub(crate) fn process(&self, pid: i32, uid: u32, state: &str, parent: i32, start: u64) {
            fs::create_dir(self.0.path().join(pid.to_string())).unwrap();
            let status = format!("State:\t{state} (x)\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\n");
            self.tell(&format!("{pid}/status"), &status);
            let stat = format!("{pid} (x) {state} {parent}{} {start} 0", " 0".repeat(17));
            self.tell(&format!("{pid}/stat"), &stat);
        }

        fn tell(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            host::files::write_atomic(&path, text.as_bytes(), 0o644).unwrap();
        }
    }

    #[test]
    fn times_and_users_are_read_from_what_the_kernel_prints() {
        assert_eq!(uptime_ticks("53590.07 88345.51\n"), Some(5_359_007));
        assert_eq!(thread_count("0.20 0.18 0.12 1/1211 11206\n"), Some(1211));
        let stat =
            "77 (sshd) (x) S 1 77 77 0 -1 4194560 200 0 3 0 0 0 0 0 20 0 1 0 5359001 15876096 900";
        assert_eq!(parse_start(stat), Some(5_359_001));
        let status =
            "Name:\tsshd-session\nState:\tS (sleeping)\nPPid:\t70\nUid:\t210007\t0\t0\t0\n";
        let read = Process { uid: 210_007, parent: 70, dead: false, contained: false };
        assert_eq!(parse_status(status), Some(read));
        assert!(read.is_of_server());
        assert_eq!(parse_status(&format!("{status}NSpid:\t77\n")), Some(read));
        let inside = parse_status(&format!("{status}NSpid:\t77\t5\n")).unwrap();
        assert_eq!(inside, Process { contained: true, ..read });
        assert!(!inside.is_of_server());
        assert_eq!(parse_status("Name:\tx\n"), None);
    }
}
