//! The one door for processes: absolute path, argv list, no shell, clean environment, C locale, a time limit, a bound on what
//! is kept of the output, and death of the whole process group when the caller lets go. Nothing else in the workspace starts
//! a process, and this module decides nothing from what a process says.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs::File,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

pub use pipe::{Complaints, Pipe};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Child,
};

mod pipe;
#[cfg(test)]
mod tests;

macro_rules! programs {
    ($($name:ident = $path:literal,)*) => {
        /// A program that an appliance may start, where Debian 13 has it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Program {
            $(#[doc = concat!("`", $path, "`")] $name,)*
        }

        impl Program {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its absolute path.
            pub fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }
        }
    };
}

programs! {
    Blkdiscard = "/usr/sbin/blkdiscard",
    Blkid = "/usr/sbin/blkid",
    Curl = "/usr/bin/curl",
    Dnsmasq = "/usr/sbin/dnsmasq",
    GrubFstest = "/usr/bin/grub-fstest",
    Ip6tablesRestore = "/usr/sbin/ip6tables-restore",
    Ip6tablesSave = "/usr/sbin/ip6tables-save",
    IptablesRestore = "/usr/sbin/iptables-restore",
    IptablesSave = "/usr/sbin/iptables-save",
    Lsblk = "/usr/bin/lsblk",
    Modprobe = "/usr/sbin/modprobe",
    Networkctl = "/usr/bin/networkctl",
    Prlimit = "/usr/bin/prlimit",
    QemuImg = "/usr/bin/qemu-img",
    Setpriv = "/usr/bin/setpriv",
    Ssh = "/usr/bin/ssh",
    SshKeygen = "/usr/bin/ssh-keygen",
    Sshd = "/usr/sbin/sshd",
    Systemctl = "/usr/bin/systemctl",
    Udevadm = "/usr/bin/udevadm",
    Unshare = "/usr/bin/unshare",
    Wipefs = "/usr/sbin/wipefs",
    Zfs = "/usr/sbin/zfs",
    Zpool = "/usr/sbin/zpool",
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path())
    }
}

/// Those of `wanted` that are not on this machine; a service calls it at start and stops with their names.
pub fn missing(wanted: &[Program]) -> Vec<Program> {
    wanted.iter().copied().filter(|program| !Path::new(program.path()).is_file()).collect()
}

/// Why a process did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("can't start {program}")]
    Start {
        /// Which program.
        program: Program,
        /// Why.
        source: io::Error,
    },
    /// A pipe to it, or waiting for it, failed.
    #[error("can't talk with {command}")]
    Pipe {
        /// The command, quoted for a shell.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("{command} ended with {status}: {stderr}")]
    Status {
        /// Which program.
        program: Program,
        /// Its arguments.
        argv: Vec<OsString>,
        /// The command, quoted for a shell.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, trimmed and bounded.
        stderr: String,
    },
    /// It ran longer than it may.
    #[error("{command} was ended after {} s", limit.as_secs())]
    Timeout {
        /// The command, quoted for a shell.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// It wrote more than it may.
    #[error("{command} wrote more than {limit_bytes} bytes")]
    TooMuchOutput {
        /// The command, quoted for a shell.
        command: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// Its output is not UTF-8.
    #[error("{command} wrote something that is not text")]
    NotText {
        /// The command, quoted for a shell.
        command: String,
    },
}

impl Error {
    /// Whether the same command can succeed later without any change to the document or the machine's software.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Start { .. } | Self::TooMuchOutput { .. } | Self::NotText { .. } => false,
            Self::Pipe { .. } | Self::Status { .. } | Self::Timeout { .. } => true,
        }
    }
}

/// How a process ended, whatever the status.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error: trimmed, at most [`STDERR_BYTES`].
    pub stderr: String,
}

/// What is kept of standard error.
pub const STDERR_BYTES: u64 = 16 << 10;

/// Time that a command gets unless it says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of standard output that a command may write unless it says otherwise: 1,000 zvols with 2,000 snapshots take about 1 MiB.
pub const STDOUT_BYTES: u64 = 64 << 20;

enum Input {
    Closed,
    Bytes(Vec<u8>),
    File(File),
    Pipe,
}

/// A command that is not started yet.
pub struct Cmd {
    program: Program,
    argv: Vec<OsString>,
    input: Input,
    stdout: Option<File>,
    timeout: Option<Duration>,
    stdout_bytes: u64,
}

impl Cmd {
    /// A command without arguments, with standard input closed.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            argv: Vec::new(),
            input: Input::Closed,
            stdout: None,
            timeout: Some(TIMEOUT),
            stdout_bytes: STDOUT_BYTES,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Gives these bytes as standard input, then closes it.
    #[must_use]
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Gives an opened file as standard input.
    #[must_use]
    pub fn stdin_file(mut self, file: File) -> Self {
        self.input = Input::File(file);
        self
    }

    /// Sends standard output into an opened file; nothing of it is returned, and the limit on it does not hold.
    #[must_use]
    pub fn stdout_file(mut self, file: File) -> Self {
        self.stdout = Some(file);
        self
    }

    /// Changes the time limit.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Takes the time limit away: for work whose length depends on the size of the data. The caller watches it.
    #[must_use]
    pub fn unlimited(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Changes how many bytes it may write to standard output.
    #[must_use]
    pub fn stdout_limit(mut self, bytes: u64) -> Self {
        self.stdout_bytes = bytes;
        self
    }

    /// The command as one line that a human can paste into a shell.
    pub fn shell_line(&self) -> String {
        shell_line(self.program, &self.argv)
    }

    /// Runs it and returns standard output as text.
    ///
    /// # Errors
    /// Any [`Error`]; a status other than 0 is one.
    pub async fn run(self) -> Result<String, Error> {
        let command = self.shell_line();
        let stdout = self.run_bytes().await?;
        String::from_utf8(stdout).map_err(|_| Error::NotText { command })
    }

    /// Runs it and returns standard output as it is.
    ///
    /// # Errors
    /// Any [`Error`]; a status other than 0 is one.
    pub async fn run_bytes(self) -> Result<Vec<u8>, Error> {
        let (program, argv) = (self.program, self.argv.clone());
        let output = self.output().await?;
        check_status(program, argv, &output)?;
        Ok(output.stdout)
    }

    /// Runs it and returns what it wrote, whatever its status.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::Status`].
    pub async fn output(self) -> Result<Output, Error> {
        let mut stdout = Vec::new();
        let mut output = self.pump(|bytes| stdout.extend_from_slice(bytes)).await?;
        output.stdout = stdout;
        Ok(output)
    }

    /// Runs it and hands standard output over piece by piece as it comes; nothing of it is kept.
    ///
    /// # Errors
    /// Any [`Error`]; a status other than 0 is one.
    pub async fn run_streamed(self, take: impl FnMut(&[u8])) -> Result<(), Error> {
        let (program, argv) = (self.program, self.argv.clone());
        let output = self.pump(take).await?;
        check_status(program, argv, &output)
    }

    /// Starts it with its standard input and output as one stream of bytes: for programs that carry a connection. Neither the time
    /// limit nor the limit on output holds; the caller watches both.
    ///
    /// # Errors
    /// It can't be started.
    pub fn pipe(mut self) -> Result<(Pipe, Complaints), Error> {
        let command = self.shell_line();
        tracing::debug!(%command, "run");
        self.input = Input::Pipe;
        self.stdout = None;
        let (mut group, _nothing_to_feed) = self.start()?;
        let gone =
            || Error::Pipe { command: command.clone(), source: io::ErrorKind::BrokenPipe.into() };
        let stdin = group.child.stdin.take().ok_or_else(gone)?;
        let stdout = group.child.stdout.take().ok_or_else(gone)?;
        let stderr = group.child.stderr.take().ok_or_else(gone)?;
        let complaints = tokio::spawn(async move {
            let read = read_bounded(&mut { stderr }).await.unwrap_or_default();
            String::from_utf8_lossy(&read).trim().to_owned()
        });
        Ok((Pipe::new(stdin, stdout, group), Complaints::new(complaints)))
    }

    /// Runs it and hands standard output over line by line; a line ends with LF or CR, so that progress (`qemu-img -p`) is seen.
    ///
    /// # Errors
    /// Any [`Error`]; a status other than 0 is one.
    pub async fn run_lines(self, mut take: impl FnMut(&str)) -> Result<(), Error> {
        let mut line = Vec::new();
        self.run_streamed(|bytes| {
            for &byte in bytes {
                if byte == b'\n' || byte == b'\r' {
                    take(&String::from_utf8_lossy(&line));
                    line.clear();
                } else if line.len() < 4096 {
                    line.push(byte);
                }
            }
        })
        .await
    }

    async fn pump(self, take: impl FnMut(&[u8])) -> Result<Output, Error> {
        let command = self.shell_line();
        let limit = self.timeout.unwrap_or(Duration::MAX);
        tracing::debug!(%command, "run");
        // On a time-out the future is dropped, and the group dies with it.
        match tokio::time::timeout(limit, self.pump_unlimited(take)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { command, limit }),
        }
    }

    async fn pump_unlimited(self, mut take: impl FnMut(&[u8])) -> Result<Output, Error> {
        let command = self.shell_line();
        let pipe = |source| Error::Pipe { command: command.clone(), source };
        let limit_bytes = self.stdout_bytes;
        let (mut group, feed) = self.start()?;
        let [mut stdout, mut stderr] = group.outputs();
        let read = async {
            let mut written = 0u64;
            let mut piece = vec![0; 64 << 10];
            loop {
                let count = stdout.read(&mut piece).await.map_err(pipe)?;
                let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else {
                    return Ok(());
                };
                written += bytes.len() as u64;
                if written > limit_bytes {
                    return Err(Error::TooMuchOutput { command: command.clone(), limit_bytes });
                }
                take(bytes);
            }
        };
        let complaints = async { read_bounded(&mut stderr).await.map_err(pipe) };
        let feed = async { feed.await.map_err(pipe) };
        let ((), complaints, ()) = tokio::try_join!(read, complaints, feed)?;
        let status = group.child.wait().await.map_err(pipe)?;
        group.ended = true;
        let stderr = String::from_utf8_lossy(&complaints).trim().to_owned();
        Ok(Output { status, stdout: Vec::new(), stderr })
    }

    fn start(self) -> Result<(Group, impl Future<Output = io::Result<()>>), Error> {
        let (stdin, bytes) = match self.input {
            Input::Closed => (Stdio::null(), None),
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
            Input::Pipe => (Stdio::piped(), None),
            Input::File(file) => (file.into(), None),
        };
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let mut command = tokio::process::Command::new(self.program.path());
        command
            .args(&self.argv)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(stdin)
            .stdout(self.stdout.map_or_else(Stdio::piped, Stdio::from))
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|source| Error::Start { program: self.program, source })?;
        let feeder = bytes.and_then(|bytes| Some((child.stdin.take()?, bytes)));
        let feed = async move {
            let Some((mut stdin, bytes)) = feeder else { return Ok(()) };
            match stdin.write_all(&bytes).await {
                // It ended, or closed its input, before it read all: its status tells whether that was right.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                other => other,
            }
        };
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok((Group { child, leader, ended: false }, feed))
    }
}

/// A started process and all that it started; killed when dropped.
struct Group {
    child: Child,
    leader: Option<Pid>,
    ended: bool,
}

impl Group {
    fn outputs(&mut self) -> [Box<dyn AsyncRead + Unpin + Send>; 2] {
        let nothing = || Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin + Send>;
        [
            self.child.stdout.take().map_or_else(nothing, |pipe| Box::new(pipe) as _),
            self.child.stderr.take().map_or_else(nothing, |pipe| Box::new(pipe) as _),
        ]
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Some(leader) = self.leader
            && let Err(error) = kill_process_group(leader, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, group = %leader.as_raw_nonzero(), "can't kill a process group");
        }
    }
}

async fn read_bounded(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    from.take(STDERR_BYTES).read_to_end(&mut kept).await?;
    // A process must not hang on a full pipe because of what nobody wants to read.
    tokio::io::copy(from, &mut tokio::io::sink()).await?;
    Ok(kept)
}

fn check_status(program: Program, argv: Vec<OsString>, output: &Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let command = shell_line(program, &argv);
    let (status, stderr) = (output.status, output.stderr.clone());
    Err(Error::Status { program, argv, command, status, stderr })
}

fn shell_line(program: Program, argv: &[OsString]) -> String {
    let mut line = program.path().to_owned();
    for arg in argv {
        let text = arg.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,%+".contains(c);
        let written = if !text.is_empty() && text.chars().all(plain) {
            write!(line, " {text}")
        } else {
            write!(line, " '{}'", text.replace('\'', r"'\''"))
        };
        written.expect("a String takes every write");
    }
    line
}
