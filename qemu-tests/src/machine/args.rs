//! Owns QEMU's command line: a pure function of what the machine is. The order of devices is part of a saved state.

use super::spec::{Arch, Firmware, HostService, Memory, NicSpec, Spec};
use crate::accel::Accel;
use std::path::{Path, PathBuf};

/// Name of the virtio-serial port on which images with a debug shell serve it.
const DEBUG_PORT: &str = "org.clusterducks.debug";
/// The bus on which disks are plugged in while the machine runs.
pub(crate) const SPARE_BUS: &str = "spare.0";

/// The files and sockets of one machine.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) serial_log: PathBuf,
    pub(crate) qmp: PathBuf,
    pub(crate) debug: PathBuf,
    pub(crate) memory: PathBuf,
    pub(crate) variables: PathBuf,
    pub(crate) disks: Vec<Drive>,
    pub(crate) nics: Vec<PathBuf>,
}

/// A disk as QEMU opens it.
#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) file: PathBuf,
    pub(crate) format: &'static str,
    pub(crate) read_only: bool,
}

/// QEMU's program for this processor.
pub(crate) fn program(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "qemu-system-x86_64",
        Arch::Aarch64 => "qemu-system-aarch64",
    }
}

/// All arguments; with `incoming` the machine waits for a saved state instead of starting.
pub(crate) fn render_args(spec: &Spec, paths: &Paths, accel: Accel, incoming: bool) -> Vec<String> {
    let mut args = Args(Vec::new());
    args.add("-name", &spec.name);
    add_board(&mut args, spec.arch, accel);
    args.add("-m", spec.memory_mib.to_string());
    args.add("-smp", spec.cpus.to_string());
    args.add("-object", memory_object(spec, &paths.memory));
    for switch in ["-nodefaults", "-no-user-config"] {
        args.0.push(switch.into());
    }
    args.add("-display", "none");
    args.add("-rtc", "base=utc");
    args.add("-boot", "menu=off,strict=on");
    args.add("-device", "virtio-rng-pci,id=rng");
    add_firmware(&mut args, &spec.firmware, &paths.variables);
    add_channels(&mut args, paths);
    for (index, drive) in paths.disks.iter().enumerate() {
        let serial = spec.disks.get(index).map(|disk| disk.serial()).unwrap_or_default();
        add_disk(&mut args, index, drive, serial);
    }
    for (index, (nic, socket)) in spec.nics.iter().zip(&paths.nics).enumerate() {
        add_nic(&mut args, index, nic, &spec.firmware, socket);
    }
    if spec.reaches_host() {
        add_host_card(&mut args, spec);
    }
    // Not PCI slots: when a new card's registers appear, QEMU 10.0 can take a write that another processor of the guest is
    // making for one to them (the stale CPUTLBEntryFull of do_st_mmio_leN, accel/tcg/cputlb.c), and it ends by an assertion.
    args.add("-device", "virtio-scsi-pci,id=spare");
    if let Some(boot) = &spec.kernel {
        args.add("-kernel", boot.kernel.display().to_string());
        args.add("-initrd", boot.initrd.display().to_string());
        args.add("-append", &boot.command_line);
    }
    if incoming {
        args.add("-incoming", "defer");
        args.0.push("-S".into());
    }
    args.0
}

#[derive(Debug)]
struct Args(Vec<String>);

impl Args {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }
}

fn add_board(args: &mut Args, arch: Arch, accel: Accel) {
    match arch {
        Arch::X86_64 => {
            args.add("-machine", "q35,memory-backend=ram");
            args.0.extend(accel.args().map(String::from));
            args.add("-vga", "std");
        }
        Arch::Aarch64 => {
            args.add("-machine", "virt,memory-backend=ram");
            args.0.extend(["-accel", "tcg,thread=multi", "-cpu", "cortex-a57"].map(String::from));
        }
    }
}

fn memory_object(spec: &Spec, own_file: &Path) -> String {
    let size = spec.memory_mib;
    match &spec.memory {
        Memory::Anonymous => format!("memory-backend-ram,id=ram,size={size}M"),
        Memory::Saveable => {
            format!(
                "memory-backend-file,id=ram,size={size}M,share=on,mem-path={}",
                escaped(own_file)
            )
        }
        Memory::Saved(file) => {
            format!("memory-backend-file,id=ram,size={size}M,share=off,mem-path={}", escaped(file))
        }
    }
}

fn add_firmware(args: &mut Args, firmware: &Firmware, variables: &Path) {
    if let Firmware::Uefi { code, http_only, .. } = firmware {
        if *http_only {
            // OvmfPkg/RUNTIME_CONFIG.md
            args.add("-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no");
            args.add("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no");
        }
        args.add(
            "-drive",
            format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escaped(code)),
        );
        args.add("-drive", format!("if=pflash,unit=1,format=raw,file={}", escaped(variables)));
    }
}

/// The harness listens and QEMU connects: the debug port is connected before the guest's first instruction, also when
/// a state is restored. A shell that reads from a port without a listener would get its end of file.
fn add_channels(args: &mut Args, paths: &Paths) {
    args.add("-chardev", format!("file,id=serial,append=on,path={}", escaped(&paths.serial_log)));
    args.add("-serial", "chardev:serial");
    args.add("-chardev", format!("socket,id=qmp,path={}", escaped(&paths.qmp)));
    args.add("-mon", "chardev=qmp,mode=control");
    args.add("-chardev", format!("socket,id=debug,path={}", escaped(&paths.debug)));
    args.add("-device", "virtio-serial-pci,id=ports");
    args.add("-device", format!("virtserialport,id=debugport,chardev=debug,name={DEBUG_PORT}"));
}

/// `cache=unsafe` skips fsync(2) only: what the guest flushed is with the host's kernel and survives SIGKILL, which
/// is the power cut of the tests.
fn add_disk(args: &mut Args, index: usize, drive: &Drive, serial: &str) {
    let Drive { file, format, read_only } = drive;
    let access = if *read_only { "readonly=on" } else { "discard=unmap" };
    args.add(
        "-drive",
        format!(
            "if=none,id=disk{index},format={format},cache=unsafe,{access},file={}",
            escaped(file)
        ),
    );
    let boot_index = 100 + index;
    args.add(
        "-device",
        format!(
            "virtio-blk-pci,id=blk{index},drive=disk{index},serial={serial},bootindex={boot_index}"
        ),
    );
}

/// QEMU's cards carry iPXE in their ROM. For BIOS there is nothing else; UEFI firmware has a network boot of its own, which fetches
/// the agent's iPXE as real machines do.
fn add_nic(args: &mut Args, index: usize, nic: &NicSpec, firmware: &Firmware, socket: &Path) {
    args.add(
        "-netdev",
        format!("stream,id=net{index},server=off,addr.type=unix,addr.path={}", escaped(socket)),
    );
    let boot = match firmware {
        _ if !nic.boot => "romfile=".into(),
        Firmware::Uefi { .. } => format!("bootindex={index},romfile="),
        Firmware::Bios => format!("bootindex={index}"),
    };
    args.add(
        "-device",
        format!("{},id=nic{index},netdev=net{index},mac={},{boot}", nic.model.device(), nic.mac),
    );
}

/// QEMU's user network with `restrict=on`: only what is listed passes.
fn add_host_card(args: &mut Args, spec: &Spec) {
    let mut netdev = "user,id=host,restrict=on,ipv6=off".to_owned();
    for HostService { address, socket } in &spec.host_services {
        let command = format!("socat STDIO UNIX-CONNECT:{}", socket.display());
        netdev += &format!(",guestfwd=tcp:{address}-cmd:{}", command.replace(',', ",,"));
    }
    for forward in &spec.forwards {
        netdev += &format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host_port, forward.guest_port);
    }
    args.add("-netdev", netdev);
    args.add("-device", "virtio-net-pci,id=hostnic,netdev=host,mac=52:54:00:ff:00:01,romfile=");
}

/// In QEMU's option lists a comma in a value is written twice.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
