//! The desired state of one server: one JSON document with a generation number. The panel sends it whole, the agent keeps it
//! on its own disk and converges to it. [`crate::validate`] holds what the types alone can't.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    name::{
        Dataset, DeviceName, GroupName, Mac, Mark, MenuName, NetworkName, PoolName, ServerName,
        Sha256, VdiskName, VolumeName,
    },
    tunnel::Uplink,
};

/// Everything that a server shall be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Rises with every change; a document with a lower one than the one in force is refused as late.
    pub generation: u64,
    /// The server's own name; absent leaves the seed file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerName>,
    /// The interface that the panel reaches the server by; absent leaves the seed file's. Without any, the server asks for an
    /// address by DHCP on every card that serves no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management: Option<Management>,
    /// Which certificates of the panel's authorities don't count any more, the panel's own among them: their revocation lists (RFC
    /// 5280, 5) in PEM, one after the other. Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_list_pem: Option<String>,
    /// The server's ways to the panel, through the tunnels of its network, the favourite first; none where the panel comes straight
    /// over the LAN. All are kept up at the same time, so that the panel may take another at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<Uplink>,
    /// Pools to make or import.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// Networks that this server serves.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// Volumes.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// vDisks.
    #[serde(default)]
    pub vdisks: Vec<Vdisk>,
    /// Menus.
    #[serde(default)]
    pub menus: Vec<Menu>,
    /// Devices.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// What shall be destroyed, by its mark. A volume, a group, a vDisk or a persistent device's clone that merely
    /// disappears from the document is kept and reported: only this list takes data away.
    #[serde(default)]
    pub destroy: Vec<Mark>,
}

/// The server's own address, apart from the networks that it serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Management {
    /// The interface; with an address it may be a netboot interface too.
    pub interface: Interface,
    /// The address with the prefix length; absent asks for one by DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub address: Option<Ipv4Net>,
    /// The server's default gateway; by DHCP the lease brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The server's own name servers, the first asked first; where there are none, those of its leases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// The time servers, asked beside those of its leases; where there are neither, those of the distribution (timesyncd.conf(5)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
}

/// A ZFS pool on disks of the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The pool's name.
    pub name: PoolName,
    /// How the disks are joined.
    #[serde(default)]
    pub layout: Layout,
    /// The disks, by serial number.
    pub disks: Vec<PoolDisk>,
}

/// How the disks of a pool are joined (zpoolconcepts(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// No redundancy.
    #[default]
    Stripe,
    /// All disks hold the same.
    Mirror,
    /// One disk may fail.
    Raidz1,
    /// Two disks may fail.
    Raidz2,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stripe => "stripe",
            Self::Mirror => "mirror",
            Self::Raidz1 => "raidz1",
            Self::Raidz2 => "raidz2",
        })
    }
}

/// A disk that a pool may take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolDisk {
    /// The serial number, as udev's `ID_SERIAL_SHORT` or `ID_SERIAL` gives it.
    pub serial: String,
    /// Says that data which stands on this disk now, and is not ours, may be destroyed.
    #[serde(default)]
    pub overwrite: bool,
}

/// How an interface is found: never by the name that the kernel happened to give it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// By its permanent address.
    Mac(Mac),
    /// By udev's `ID_PATH`, for example `pci-0000:00:03.0`.
    Path(String),
}

/// One site's LAN, as this server sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The network's name.
    pub name: NetworkName,
    /// The netboot interface.
    pub interface: Interface,
    /// This server's address there with the prefix length: `10.77.0.1/24`. Its subnet is the network's subnet.
    #[schemars(with = "String")]
    pub address: Ipv4Net,
    /// The default gateway of the devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The name servers of the devices.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// The domain of the devices' host names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Who gives out addresses.
    #[serde(default)]
    pub dhcp: Dhcp,
}

/// Who gives out addresses on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "mode", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Dhcp {
    /// Nobody boots from this network.
    #[default]
    Off,
    /// The site's own DHCP server gives addresses; ours adds the boot file (proxyDHCP, PXE 2.1 specification, 2.2.3).
    Proxy,
    /// Ours gives addresses: each device its own, unknown machines one of the range.
    Authoritative {
        /// First address for unknown machines.
        first: Ipv4Addr,
        /// Last address for unknown machines.
        last: Ipv4Addr,
    },
}

/// Top of the storage tree: a thin zvol with the content of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The volume's name.
    pub name: VolumeName,
    /// The pool it lies in.
    pub pool: PoolName,
    /// Size in bytes, a multiple of 1 MiB, at least the image's virtual size.
    pub size_bytes: u64,
    /// What it is filled with; absent leaves it empty, to install into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// A disk image to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// An `http://` or `https://` URL, or an absolute path on the server (a file or a block device).
    pub location: String,
    /// How the image is written.
    pub format: ImageFormat,
    /// The digest of the file as it is fetched; the import fails when it differs.
    pub sha256: Sha256,
}

/// A disk image's format, by qemu-img(1)'s name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// The bytes of the disk.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
}

/// A clone of a volume: the image that a set of devices shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The group's name.
    pub name: GroupName,
    /// The volume it is a clone of.
    pub volume: VolumeName,
    /// Numbers of its generations, rising. The first is made from the volume; later ones come from commits.
    pub generations: Vec<u32>,
    /// The generation that devices boot.
    pub production: u32,
    /// The generation that test devices boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<u32>,
    /// What the group's devices add to the kernel's command line, for example `console=ttyS0`.
    #[serde(default)]
    pub kernel_arguments: String,
}

/// How a device boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootMode {
    /// Linux: the generation read-only, an overlay above it.
    Overlay,
    /// Its own clone, made anew at each boot.
    Ephemeral,
    /// Its own clone, kept.
    Persistent,
}

/// A machine that netboots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The device's name and host name.
    pub name: DeviceName,
    /// The addresses of the cards that it may boot from.
    pub macs: Vec<Mac>,
    /// The network it stands in.
    pub network: NetworkName,
    /// Its static address.
    pub address: Ipv4Addr,
    /// The group whose image it boots.
    pub group: GroupName,
    /// How it boots.
    pub boot_mode: BootMode,
    /// Whether it boots the group's test generation, when there is one.
    #[serde(default)]
    pub test: bool,
    /// A generation that it boots whatever the group's pointers say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<u32>,
    /// The vDisks it is given.
    #[serde(default)]
    pub vdisks: Vec<VdiskUse>,
    /// The menu that iPXE shows; absent boots straight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub menu: Option<MenuName>,
    /// What the initrd does when it can't go on.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What the initrd does when it can't go on (`cd.onfail=`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Tries again after a pause.
    #[default]
    Retry,
    /// Opens a shell on the screen.
    Shell,
    /// Restarts the device.
    Reboot,
}

/// What a device does with a vDisk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VdiskUse {
    /// The vDisk.
    pub vdisk: VdiskName,
    /// What for.
    #[serde(flatten)]
    pub purpose: VdiskPurpose,
}

/// What a vDisk is for on its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "use", rename_all = "kebab-case")]
pub enum VdiskPurpose {
    /// Holds the overlay's upper and the device's identity.
    Upper,
    /// A disk of its own, mounted at an absolute path.
    Mount {
        /// Where.
        path: String,
    },
}

/// A zvol with a device's own data: never reprovisioned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vdisk {
    /// The vDisk's name.
    pub name: VdiskName,
    /// The pool it lies in.
    pub pool: PoolName,
    /// Size in bytes, a multiple of 1 MiB. It may grow, never shrink.
    pub size_bytes: u64,
}

/// What iPXE shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Menu {
    /// The menu's name.
    pub name: MenuName,
    /// The line above the entries.
    pub title: String,
    /// Seconds until the default entry is taken; 0 waits for ever.
    #[serde(default)]
    pub timeout_s: u32,
    /// Which entry is the default, counted from 0.
    #[serde(default)]
    pub default: usize,
    /// The entries.
    pub entries: Vec<MenuEntry>,
}

/// A line of a menu.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MenuEntry {
    /// What it says.
    pub label: String,
    /// What it does.
    #[serde(flatten)]
    pub action: MenuAction,
}

/// What a line of a menu does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum MenuAction {
    /// Boots what the device would boot without a menu.
    Image,
    /// Boots another generation of the group, this once.
    Generation {
        /// Its number.
        generation: u32,
    },
    /// Leaves the network boot, so that the firmware goes on with the next disk.
    LocalDisk,
    /// Opens iPXE's own shell.
    Shell,
    /// Restarts the device.
    Reboot,
}

/// Where the objects of the storage tree lie; one place for the layout of DESIGN.md.
pub mod tree {
    use super::{Dataset, DeviceName, GroupName, PoolName, VdiskName, VolumeName};
    use crate::name::Snapshot;

    /// The folders of the tree, parents first; the last is a file system that is mounted.
    pub const FOLDERS: [&str; 5] = ["volumes", "groups", "devices", "vdisks", "files"];

    /// The top: `<pool>/clusterducks`.
    pub fn root(pool: &PoolName) -> Dataset {
        Dataset::from(pool).child("clusterducks")
    }

    /// A volume's zvol.
    pub fn volume(pool: &PoolName, name: &VolumeName) -> Dataset {
        root(pool).child("volumes").child(name)
    }

    /// A group's clone.
    pub fn group(pool: &PoolName, name: &GroupName) -> Dataset {
        root(pool).child("groups").child(name)
    }

    /// A device's own clone.
    pub fn device(pool: &PoolName, name: &DeviceName) -> Dataset {
        root(pool).child("devices").child(name)
    }

    /// A vDisk's zvol.
    pub fn vdisk(pool: &PoolName, name: &VdiskName) -> Dataset {
        root(pool).child("vdisks").child(name)
    }

    /// The file system for kernels, imports and ISOs.
    pub fn files(pool: &PoolName) -> Dataset {
        root(pool).child("files")
    }

    /// A generation: `@g<N>` of its group.
    pub fn generation(pool: &PoolName, group: &GroupName, number: u32) -> Snapshot {
        Snapshot::new(self::group(pool, group), format_args!("g{number}"))
    }

    /// The promoted content of a volume: `@p<N>`.
    pub fn promoted(pool: &PoolName, volume: &VolumeName, number: u32) -> Snapshot {
        Snapshot::new(self::volume(pool, volume), format_args!("p{number}"))
    }

    /// A device's clone as it was made: `@clean`.
    pub fn clean(pool: &PoolName, device: &DeviceName) -> Snapshot {
        Snapshot::new(self::device(pool, device), "clean")
    }
}
