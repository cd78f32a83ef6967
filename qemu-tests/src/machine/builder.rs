//! Owns describing a machine and making its files. Running it is the machine's own business.

use super::args::{Drive, Paths};
use super::spec::{
    Arch, DirectBoot, DiskSpec, Firmware, Forward, HostService, Memory, NicSpec, Spec,
};
use super::{Machine, saved};
use crate::process::run_tool;
use crate::switch::{Plug, Switch};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Code and variables of UEFI where Debian's packages `ovmf` and `qemu-efi-aarch64` put them.
const OVMF: (&str, &str) = ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
const AAVMF: (&str, &str) = ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd");

/// A machine that is being described.
#[derive(Debug)]
pub struct Builder {
    pub(super) workspace: Arc<Workspace>,
    pub(super) spec: Spec,
    pub(super) plugs: Vec<Plug>,
    /// The saved state that it starts from.
    pub(super) state: Option<PathBuf>,
}

impl Builder {
    pub(crate) fn new(workspace: Arc<Workspace>, name: &str) -> Self {
        let spec = Spec {
            name: name.to_owned(),
            arch: Arch::X86_64,
            firmware: Firmware::Bios,
            memory_mib: 512,
            cpus: 1,
            disks: Vec::new(),
            nics: Vec::new(),
            kernel: None,
            host_services: Vec::new(),
            forwards: Vec::new(),
            memory: Memory::Anonymous,
            nice: 0,
        };
        Self { workspace, spec, plugs: Vec::new(), state: None }
    }

    /// Starts by SeaBIOS; the default.
    #[must_use]
    pub fn bios(mut self) -> Self {
        self.spec.firmware = Firmware::Bios;
        self
    }

    /// Starts by UEFI firmware with variables of its own.
    #[must_use]
    pub fn uefi(self) -> Self {
        self.firmware(OVMF, false)
    }

    /// Starts by UEFI firmware that boots by HTTP and not by PXE.
    #[must_use]
    pub fn uefi_http(self) -> Self {
        self.firmware(OVMF, true)
    }

    /// Is an ARM machine without a screen, started by UEFI firmware.
    #[must_use]
    pub fn arm64(mut self) -> Self {
        self.spec.arch = Arch::Aarch64;
        self.firmware(AAVMF, false)
    }

    fn firmware(mut self, (code, variables): (&str, &str), http_only: bool) -> Self {
        self.spec.firmware =
            Firmware::Uefi { code: code.into(), variables: variables.into(), http_only };
        self
    }

    /// Gives the machine another name than its kind's.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.spec.name = name.to_owned();
        self
    }

    /// Memory in MiB; 512 by default.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.spec.memory_mib = memory_mib;
        self
    }

    /// Processors; one by default.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.spec.cpus = cpus;
        self
    }

    /// Runs so much nicer than the harness does (see nice(1)): real machines do not take each other's processors, and firmware
    /// that waits for a server by asking again and again would take all of the server's.
    #[must_use]
    pub fn nice(mut self, nice: u8) -> Self {
        self.spec.nice = nice;
        self
    }

    /// Adds a disk; the first one is booted when no card boots.
    #[must_use]
    pub fn disk(mut self, disk: DiskSpec) -> Self {
        self.spec.disks.push(disk);
        self
    }

    /// Adds a card on `switch`.
    pub fn nic(mut self, switch: &Switch, nic: NicSpec) -> Result<Self> {
        self.plugs.push(switch.plug(&self.workspace.socket_path())?);
        self.spec.nics.push(nic);
        Ok(self)
    }

    /// Changes the cards that were added so far, for instance their model.
    #[must_use]
    pub fn nics(mut self, change: impl Fn(&mut NicSpec)) -> Self {
        self.spec.nics.iter_mut().for_each(change);
        self
    }

    /// Starts `kernel` without firmware's help; the log of the kernel goes to ttyS0.
    #[must_use]
    pub fn kernel(mut self, kernel: &Path, initrd: &Path, command_line: &str) -> Self {
        let command_line = format!("console=ttyS0 {command_line}");
        self.spec.kernel =
            Some(DirectBoot { kernel: kernel.into(), initrd: initrd.into(), command_line });
        self
    }

    /// Lets the guest reach one service of the host, and nothing else there.
    #[must_use]
    pub fn host_service(mut self, service: HostService) -> Self {
        self.spec.host_services.retain(|other| other.address != service.address);
        self.spec.host_services.push(service);
        self
    }

    /// Lets 127.0.0.1:`host_port` reach the guest's `guest_port`.
    #[must_use]
    pub fn forward(mut self, host_port: u16, guest_port: u16) -> Self {
        self.spec.forwards.push(Forward { host_port, guest_port });
        self
    }

    /// Keeps the memory in a file, so that [`Machine::save`] can take it.
    #[must_use]
    pub fn saveable(mut self) -> Self {
        self.spec.memory = Memory::Saveable;
        self
    }

    /// Makes the machine's files and starts it: by its firmware, or from the saved state.
    pub async fn start(self) -> Result<Machine> {
        let name = self.spec.name.clone();
        let machine = async {
            let folder = self.workspace.folder(&name)?;
            let paths = self.make_files(&folder)?;
            let mut machine =
                Machine::assemble(self.workspace, self.spec, folder, paths, self.plugs);
            match self.state {
                None => machine.power_on().await?,
                Some(state) => saved::resume(&mut machine, &state).await?,
            }
            anyhow::Ok(machine)
        };
        machine.await.with_context(|| format!("machine {name}"))
    }

    fn make_files(&self, folder: &Path) -> Result<Paths> {
        let variables = folder.join("variables.fd");
        if let Firmware::Uefi { variables: template, .. } = &self.spec.firmware {
            std::fs::copy(template, &variables)
                .with_context(|| format!("cannot copy {}", template.display()))?;
        }
        let disks = self.spec.disks.iter().enumerate().map(|(index, disk)| {
            make_drive(disk, folder.join(format!("disk{index}.qcow2")))
                .with_context(|| format!("disk {}", disk.serial()))
        });
        Ok(Paths {
            serial_log: folder.join("serial.log"),
            qmp: self.workspace.socket_path(),
            debug: self.workspace.socket_path(),
            memory: folder.join("memory"),
            variables,
            disks: disks.collect::<Result<_>>()?,
            nics: self.plugs.iter().map(|plug| plug.path().to_owned()).collect(),
        })
    }
}

fn make_drive(disk: &DiskSpec, own: PathBuf) -> Result<Drive> {
    let own_text = own.display().to_string();
    let mut args: Vec<String> = ["create", "-q", "-f", "qcow2"].map(String::from).into();
    match disk {
        DiskSpec::ReadOnly { file, .. } => {
            return Ok(Drive { file: file.clone(), format: "raw", read_only: true });
        }
        DiskSpec::Overlay { base, format, size_bytes, .. } => {
            if !base.is_absolute() {
                bail!("the base {} is relative", base.display());
            }
            args.extend([
                "-b".into(),
                base.display().to_string(),
                "-F".into(),
                format.clone(),
                own_text,
            ]);
            args.extend(size_bytes.map(|size| size.to_string()));
        }
        DiskSpec::Blank { size_bytes, .. } => args.extend([own_text, size_bytes.to_string()]),
    }
    run_tool("qemu-img", &args)?;
    Ok(Drive { file: own, format: "qcow2", read_only: false })
}
