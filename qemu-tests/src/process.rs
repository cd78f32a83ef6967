//! Owns every process of the harness: QEMU and the few tools around it. Processes start only here, each in a process
//! group of its own that is killed on drop; the kernel kills it too when the harness's process dies.
#![expect(
    clippy::disallowed_methods,
    reason = "the harness tests images from outside and may not import host::cmd"
)]

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// A running process and its group.
#[derive(Debug)]
pub struct Process {
    group: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts `program` with both outputs in the file `log`.
    pub fn start<A: AsRef<OsStr>>(program: &str, args: &[A], log: &Path) -> Result<Self> {
        Self::start_nice(0, program, args, log)
    }

    /// Starts `program` so much nicer than the harness is: see nice(1).
    pub(crate) fn start_nice<A: AsRef<OsStr>>(
        nice: u8,
        program: &str,
        args: &[A],
        log: &Path,
    ) -> Result<Self> {
        let log_file =
            File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        // Both replace themselves by the program, so the process id stays.
        let mut command = Command::new("nice");
        command
            .args(["-n", &nice.to_string(), "setpriv", "--pdeathsig", "KILL", "--", program])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .process_group(0);
        let child = spawn_from_lasting_thread(command)
            .with_context(|| format!("cannot start {program}"))?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        let (report, exit) = watch::channel(None);
        thread::spawn(move || wait_for_exit(child, &report));
        Ok(Self { group, exit })
    }

    /// How the process ended; None while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until the process has ended.
    pub(crate) async fn exited(&self) {
        let mut exit = self.exit.clone();
        // An error means that the waiting thread is gone, and it ends only after the process.
        let _ended = exit.wait_for(Option::is_some).await;
    }

    pub(crate) fn id(&self) -> i32 {
        self.group.as_raw()
    }

    /// Kills the whole group and returns when the process is gone.
    pub(crate) fn kill(&self) {
        while self.exit_status().is_none() {
            // ESRCH means that it ended by itself just now; the waiting thread will say so.
            let _already_gone = killpg(self.group, Signal::SIGKILL);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait_for_exit(mut child: Child, report: &watch::Sender<Option<ExitStatus>>) {
    if let Ok(status) = child.wait() {
        report.send_replace(Some(status));
    }
}

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

/// prctl(2): the parent-death signal is sent when the *thread* that forked ends, so all are forked by one that lasts.
static FORKER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    thread::spawn(move || {
        for (mut command, reply) in queue {
            let _nobody_waits = reply.send(command.spawn());
        }
    });
    Mutex::new(jobs)
});

fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    let (reply, answer) = mpsc::channel();
    FORKER
        .lock()
        .map_err(|_| anyhow::anyhow!("the forking thread panicked"))?
        .send((command, reply))?;
    Ok(answer.recv()??)
}

/// Runs a short tool to its end and returns what it printed; fails with its stderr.
pub fn run_tool<A: AsRef<OsStr>>(program: &str, args: &[A]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
