//! Owns one machine: its process, its channels, its power. What it is made of stands in `spec`, how QEMU is told so in
//! `args`, how it is frozen and thawed in `saved`.

mod args;
mod builder;
mod saved;
mod spec;
#[cfg(test)]
mod tests;

pub use builder::Builder;
pub use saved::SavedState;
pub use spec::{DiskSpec, Firmware, HostService, NicModel, NicSpec};

use crate::accel::accelerator;
use crate::console::Console;
use crate::process::Process;
use crate::qmp::Qmp;
use crate::serial::Serial;
use crate::switch::Plug;
use crate::wait::secs;
use crate::workspace::Workspace;
use anyhow::{Context, Result, anyhow, bail};
use args::{Paths, render_args};
use serde_json::{Value, json};
use spec::Spec;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// A machine that was started at least once. It is killed when dropped.
#[derive(Debug)]
pub struct Machine {
    spec: Spec,
    folder: PathBuf,
    paths: Paths,
    plugs: Vec<Plug>,
    serial: Serial,
    running: Option<Running>,
    starts: u32,
    hotplugged: usize,
    // Last: the folder is removed after the process that uses it.
    _workspace: Arc<Workspace>,
}

/// One life of the machine, from power on to power off.
#[derive(Debug)]
struct Running {
    process: Arc<Process>,
    qmp: Qmp,
    console: Console,
}

impl Machine {
    fn assemble(
        workspace: Arc<Workspace>,
        spec: Spec,
        folder: PathBuf,
        paths: Paths,
        plugs: Vec<Plug>,
    ) -> Self {
        let serial = Serial::new(paths.serial_log.clone());
        Self {
            spec,
            folder,
            paths,
            plugs,
            serial,
            running: None,
            starts: 0,
            hotplugged: 0,
            _workspace: workspace,
        }
    }

    /// The machine's name in its LAN.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where its logs and disks are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of disk `index`, to be put into another machine once this one is off.
    pub fn disk_file(&self, index: usize) -> Result<&Path> {
        let drive = self.paths.disks.get(index);
        drive
            .map(|drive| drive.file.as_path())
            .with_context(|| format!("{} has no disk {index}", self.name()))
    }

    /// The serial log, to read; [`Self::expect`] waits for something in it.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Waits until ttyS0 shows `needle` after the last match; fails at once when the machine ended or gave up. What
    /// the screen shows at a failure is kept as `screen.png`.
    pub async fn expect(&self, needle: &str, timeout: Duration) -> Result<()> {
        let life = self.life()?;
        let found = self.serial.expect_while(&life.process, needle, timeout).await;
        if found.is_err() && self.is_on() {
            life.qmp.screendump(&self.folder.join("screen.png")).await?;
        }
        found
    }

    /// The root shell on the debug port.
    ///
    /// # Panics
    /// When the machine was never started; `Builder::start` does that.
    pub fn debug(&self) -> &Console {
        &self
            .running
            .as_ref()
            .expect("Builder::start returns only machines that were started")
            .console
    }

    /// QEMU's control channel.
    ///
    /// # Panics
    /// As [`Self::debug`].
    pub fn qmp(&self) -> &Qmp {
        &self.running.as_ref().expect("Builder::start returns only machines that were started").qmp
    }

    /// The switch port of card `index`, to cut, delay and lose.
    pub fn port(&self, index: usize) -> Result<&Plug> {
        self.plugs.get(index).with_context(|| format!("{} has no card {index}", self.name()))
    }

    /// QEMU's process id, to measure its memory and time.
    pub fn process_id(&self) -> Result<i32> {
        Ok(self.life()?.process.id())
    }

    /// Whether QEMU runs.
    pub fn is_on(&self) -> bool {
        self.running.as_ref().is_some_and(|life| life.process.exit_status().is_none())
    }

    /// Takes the power away in this instant (SIGKILL): what the guest had not flushed may be lost.
    pub fn power_cut(&self) {
        if let Some(life) = &self.running {
            life.process.kill();
        }
    }

    /// Waits until the guest writes to disk `index`, and returns in that moment.
    pub async fn written_to(&self, index: usize, timeout: Duration) -> Result<()> {
        let written = async {
            while self.writes(index).await? == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(())
        };
        let waited = tokio::time::timeout(timeout, written).await;
        waited.with_context(|| format!("{} did not write to disk {index}", self.name()))?
    }

    /// How often the guest has written to disk `index` since it was switched on.
    async fn writes(&self, index: usize) -> Result<u64> {
        let all = self.qmp().execute("query-blockstats", json!({})).await?;
        let of_disk = |stats: &&Value| {
            stats.get("device").and_then(Value::as_str) == Some(&format!("disk{index}"))
        };
        let stats = all.as_array().and_then(|all| all.iter().find(of_disk));
        let writes = stats.and_then(|stats| stats.pointer("/stats/wr_operations")?.as_u64());
        writes.with_context(|| format!("QEMU does not count the writes to disk {index}"))
    }

    /// Gives power again; disks and firmware variables are as they were left.
    pub async fn power_on(&mut self) -> Result<()> {
        if self.is_on() {
            bail!("{} is on", self.name());
        }
        self.launch(false).await
    }

    /// Waits until the guest has shut itself down.
    pub async fn wait_off(&self, timeout: Duration) -> Result<()> {
        let ended = tokio::time::timeout(timeout, self.life()?.process.exited()).await;
        ended.with_context(|| format!("{} did not go off within {timeout:?}", self.name()))
    }

    /// Plugs a read-only disk into the running machine.
    pub async fn plug_read_only_disk(&mut self, file: &Path, serial: &str) -> Result<()> {
        self.hotplugged += 1;
        let name = format!("hot{}", self.hotplugged);
        let node = json!({"node-name": name, "driver": "raw", "read-only": true,
            "file": {"driver": "file", "filename": file, "read-only": true}});
        self.qmp().execute("blockdev-add", node).await?;
        let device = json!({"driver": "scsi-hd", "id": format!("{name}-disk"), "bus": args::SPARE_BUS, "drive": name,
            "serial": serial});
        self.qmp().execute("device_add", device).await.map(drop)
    }

    fn life(&self) -> Result<&Running> {
        self.running.as_ref().with_context(|| format!("{} was never started", self.name()))
    }

    async fn launch(&mut self, incoming: bool) -> Result<()> {
        self.running = None;
        let qmp = listen(&self.paths.qmp)?;
        let debug = listen(&self.paths.debug)?;
        self.starts += 1;
        let log = self.folder.join(format!("qemu{}.log", self.starts));
        let args = render_args(&self.spec, &self.paths, accelerator()?, incoming);
        let program = args::program(self.spec.arch);
        let process = Arc::new(Process::start_nice(self.spec.nice, program, &args, &log)?);
        let qmp = Qmp::open(accept(&qmp, &process, &log).await?).await?;
        let debug = accept(&debug, &process, &log).await?;
        let console = Console::new(Arc::clone(&process), debug);
        self.running = Some(Running { process, qmp, console });
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_cut();
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    // Left over from the life before.
    if path.exists() {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))
}

async fn accept(listener: &UnixListener, process: &Process, log: &Path) -> Result<UnixStream> {
    let refusal =
        || anyhow!("QEMU ended at once: {}", fs::read_to_string(log).unwrap_or_default().trim());
    tokio::select! {
        connection = tokio::time::timeout(secs(20), listener.accept()) => {
            let (stream, _) = connection.context("QEMU does not connect")??;
            Ok(stream)
        }
        () = process.exited() => Err(refusal()),
    }
}
