//! Owns what a machine is made of, as data that a saved state can hold. No I/O.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the machine's processor understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Arch {
    /// A PC (q35).
    #[default]
    X86_64,
    /// QEMU's own board `virt`; always emulated.
    Aarch64,
}

/// What starts when the machine gets power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// UEFI; a copy of `variables` becomes the machine's own.
    Uefi {
        /// The firmware's code.
        code: PathBuf,
        /// The variables it starts with.
        variables: PathBuf,
        /// Whether it leaves PXE out, so that what is left of the network is HTTP boot.
        http_only: bool,
    },
}

/// A virtio disk; `serial` (20 bytes at most) names it under `/dev/disk/by-id/virtio-*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskSpec {
    /// A throw-away overlay: `base` is never written.
    Overlay {
        /// What the disk holds at first.
        base: PathBuf,
        /// `raw` or `qcow2`.
        format: String,
        /// Size of the disk where it is larger than its base.
        size_bytes: Option<u64>,
        /// The disk's serial number.
        serial: String,
    },
    /// An empty throw-away disk.
    Blank {
        /// Its size.
        size_bytes: u64,
        /// The disk's serial number.
        serial: String,
    },
    /// A file that the guest can only read, as it is.
    ReadOnly {
        /// The file; its bytes are the disk's.
        file: PathBuf,
        /// The disk's serial number.
        serial: String,
    },
}

impl DiskSpec {
    /// The file that the guest reads, where it is one of the host's as it is.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::ReadOnly { file, .. } => Some(file),
            Self::Overlay { .. } | Self::Blank { .. } => None,
        }
    }

    pub(crate) fn serial(&self) -> &str {
        match self {
            Self::Overlay { serial, .. }
            | Self::Blank { serial, .. }
            | Self::ReadOnly { serial, .. } => serial,
        }
    }
}

/// Which card QEMU shows to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NicModel {
    /// virtio-net-pci.
    Virtio,
    /// Intel 82540EM.
    E1000,
}

impl NicModel {
    pub(crate) fn device(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net-pci",
            Self::E1000 => "e1000",
        }
    }
}

/// A network card on a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// As `52:54:00:aa:bb:cc`.
    pub mac: String,
    /// What the guest sees.
    pub model: NicModel,
    /// Whether the firmware boots from it (PXE), before any disk.
    pub boot: bool,
}

/// A kernel that QEMU itself loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirectBoot {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) command_line: String,
}

/// One address that the guest can reach outside of its switches, on a card of its own; nothing else answers there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostService {
    /// Address and port in 10.0.2.0/24 as the guest uses them, such as `10.0.2.100:80`.
    pub address: String,
    /// The Unix socket of the service on the host.
    pub socket: PathBuf,
}

/// A port of the host's loopback that leads to one of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forward {
    pub(crate) host_port: u16,
    pub(crate) guest_port: u16,
}

/// Where the guest's memory lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Memory {
    /// In the process; such a machine cannot be saved.
    Anonymous,
    /// In the file `memory` of the machine's folder, which becomes part of a saved state as it is.
    Saveable,
    /// In a private mapping of a saved state's file: read as needed, shared until written.
    Saved(PathBuf),
}

/// A machine, all but the switches it is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) arch: Arch,
    pub(crate) firmware: Firmware,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) disks: Vec<DiskSpec>,
    pub(crate) nics: Vec<NicSpec>,
    pub(crate) kernel: Option<DirectBoot>,
    pub(crate) host_services: Vec<HostService>,
    pub(crate) forwards: Vec<Forward>,
    pub(crate) memory: Memory,
    // States that were saved before there was this go on.
    #[serde(default)]
    pub(crate) nice: u8,
}

impl Spec {
    /// Whether there is a card towards the host.
    pub(crate) fn reaches_host(&self) -> bool {
        !self.host_services.is_empty() || !self.forwards.is_empty()
    }
}
