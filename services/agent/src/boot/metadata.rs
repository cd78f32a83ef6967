//! The answer to a device's initrd: one `key=value` a line. Pure; the format is a contract with `initrd-module`.

use std::{fmt::Write, net::Ipv4Addr};

use model::{
    boot::Boot,
    desired::{BootMode, Device, VdiskPurpose},
    name::{DeviceName, Iqn, VdiskName},
};
use sha2::{Digest, Sha256};

use super::text::clean;

/// The port of iSCSI (RFC 3720, 13).
const ISCSI_PORT: u16 = 3260;
/// Linux's PATH_MAX.
const PATH_CHARACTERS: usize = 4096;

/// What machine ids are made of, beside the device's name: 32 random bytes that a server, or a network, keeps for ever.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a device that boots is told.
#[derive(Debug, Clone)]
pub struct Metadata<'a> {
    /// The device.
    pub device: &'a Device,
    /// Its boot.
    pub boot: &'a Boot,
    /// The server's address on the device's network.
    pub server: Ipv4Addr,
    /// Number of the partition with the root file system; 0 is the bare LUN.
    pub root_partition: u32,
    /// What its machine id is made of.
    pub seed: &'a Seed,
}

/// Writes the answer.
pub fn render_metadata(metadata: &Metadata<'_>) -> String {
    let Metadata { device, boot, server, root_partition, seed } = metadata;
    let mut out = String::with_capacity(2048);
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        // Writing to a String can't fail.
        let _infallible = writeln!(out, "{key}={value}");
    };
    line("boot", &boot.id);
    line("device", &device.name);
    line("hostname", &device.name);
    line("machine_id", &machine_id(seed, &device.name));
    line("mode", &mode(boot.boot_mode));
    line("initiator", &Iqn::initiator(&device.name));
    line("root.target", &root_target(device, boot));
    let login = |line: &mut dyn FnMut(&str, &dyn std::fmt::Display), of: &str| {
        line(&format!("{of}.portal"), &format_args!("{server}:{ISCSI_PORT}"));
        line(&format!("{of}.lun"), &0);
        line(&format!("{of}.user"), &boot.chap.user);
        line(&format!("{of}.password"), &boot.chap.password.reveal());
        line(&format!("{of}.target_user"), &boot.chap.target_user);
        line(&format!("{of}.target_password"), &boot.chap.target_password.reveal());
    };
    login(&mut line, "root");
    line("root.partition", root_partition);
    match device.vdisks.iter().position(|used| used.purpose == VdiskPurpose::Upper) {
        Some(index) => line("upper", &format_args!("vdisk:{}", index + 1)),
        None => line("upper", &"tmpfs"),
    }
    line("vdisks", &device.vdisks.len());
    for (number, used) in (1..).zip(&device.vdisks) {
        let of = format!("vdisk.{number}");
        line(&format!("{of}.name"), &used.vdisk);
        line(&format!("{of}.label"), &vdisk_label(&used.vdisk));
        let mount = match &used.purpose {
            VdiskPurpose::Upper => String::new(),
            VdiskPurpose::Mount { path } => clean(path, PATH_CHARACTERS),
        };
        line(&format!("{of}.mount"), &mount);
        line(&format!("{of}.target"), &Iqn::vdisk(&used.vdisk));
        login(&mut line, &of);
    }
    out
}

/// The target that a boot's root is on.
pub fn root_target(device: &Device, boot: &Boot) -> Iqn {
    match boot.boot_mode {
        BootMode::Overlay => Iqn::generation(&device.group, boot.generation),
        BootMode::Ephemeral | BootMode::Persistent => Iqn::device(&device.name),
    }
}

/// The device's machine-id(5): the same at each of its boots. It has the bits of a random UUID, as systemd wants them.
pub fn machine_id(seed: &Seed, device: &DeviceName) -> String {
    let mut hash = Sha256::new();
    hash.update(b"clusterducks machine-id\0");
    hash.update(seed.0);
    hash.update(device.as_str());
    let mut id: [u8; 16] = [0; 16];
    id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut id;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    hex::encode(id)
}

/// The label of a vDisk's file system, by which the device knows it; ext4 takes 16 bytes.
pub fn vdisk_label(vdisk: &VdiskName) -> String {
    let digest = Sha256::digest(format!("clusterducks vdisk\0{vdisk}"));
    format!("cd-{}", hex::encode(digest).chars().take(10).collect::<String>())
}

fn mode(mode: BootMode) -> &'static str {
    match mode {
        BootMode::Overlay => "overlay",
        BootMode::Ephemeral => "ephemeral",
        BootMode::Persistent => "persistent",
    }
}
