//! Owns the choice between KVM and emulation. `/dev/kvm` may exist and still not run a guest (nested sandboxes), so
//! the choice is made by booting the tiny guest.

use crate::image::{Image, find_image};
use crate::process::Process;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The tiny guest takes under two seconds on any KVM that works.
const PROBE: Duration = Duration::from_secs(10);
/// What the tiny guest's serial log shows once its shell is about to start.
pub const TINY_GUEST_UP: &str = "TINY-GUEST-UP";

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The host's processor.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

impl Accel {
    /// QEMU's arguments. An emulated boot takes a quarter less time with an old processor model than with `max`: fewer features to
    /// probe, no wide vectors to emulate. Of the old ones it is AMD's: they are not open to Meltdown (`cpu_vuln_whitelist` in
    /// Linux's arch/x86/kernel/cpu/common.c), so the kernel does not isolate its page tables, which under emulation empties
    /// the translation buffer twice in every system call and makes it cost fourteen times as much.
    pub(crate) fn args(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "Opteron_G3"],
        }
    }
}

/// What this host can do; probed once a process. `CD_ACCEL=kvm` or `tcg` decides without a probe.
pub fn accelerator() -> Result<Accel> {
    static CHOICE: OnceLock<Result<Accel, String>> = OnceLock::new();
    CHOICE
        .get_or_init(|| choose().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

fn choose() -> Result<Accel> {
    match std::env::var("CD_ACCEL").as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        Ok(other) => bail!("CD_ACCEL={other}: kvm and tcg are known"),
        Err(_) => {}
    }
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accel::Tcg);
    }
    Ok(if boots_with(Accel::Kvm)? { Accel::Kvm } else { Accel::Tcg })
}

/// Whether the tiny guest reaches user space with `accel`.
fn boots_with(accel: Accel) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let serial = folder.path().join("serial.log");
    let kernel = find_image(Image::TinyKernel)?;
    let initrd = find_image(Image::TinyInitrd)?;
    let mut args: Vec<String> = accel.args().map(String::from).into();
    args.extend(
        ["-machine", "q35", "-m", "256", "-display", "none", "-nodefaults", "-no-reboot"]
            .map(String::from),
    );
    args.extend([
        "-kernel".into(),
        kernel.display().to_string(),
        "-initrd".into(),
        initrd.display().to_string(),
    ]);
    args.extend(["-append", "console=ttyS0 panic=-1", "-serial"].map(String::from));
    args.push(format!("file:{}", serial.display()));
    let process = Process::start("qemu-system-x86_64", &args, &folder.path().join("qemu.log"))
        .context("the probe of the accelerator did not start")?;
    let started = Instant::now();
    while started.elapsed() < PROBE && process.exit_status().is_none() {
        if std::fs::read(&serial)
            .is_ok_and(|log| String::from_utf8_lossy(&log).contains(TINY_GUEST_UP))
        {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}
