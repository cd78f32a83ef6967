//! What the machine showed at one moment: the input of planning, the proof after applying, and what the console shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    boot::Export,
    desired::{Interface, Source},
    name::{
        BootId, Dataset, GroupName, Iqn, Mac, Mark, PoolName, ServerName, Sha256, Snapshot,
        VolumeName,
    },
    step::DhcpConfig,
};

/// The state of the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The server's name, when it is the same now and after a restart.
    pub server: Option<ServerName>,
    /// Network interfaces, except the loopback.
    pub links: Vec<Link>,
    /// The interfaces on which an address is asked for by DHCP.
    pub leasing: BTreeSet<Mac>,
    /// The name servers that the server itself asks.
    pub resolvers: Vec<Ipv4Addr>,
    /// The time servers that it was given.
    pub time_servers: Vec<Ipv4Addr>,
    /// Nobody keeps the clock: who does was stopped to be given other servers, or died.
    pub clock_stopped: bool,
    /// Whole disks that a pool could take.
    pub disks: Vec<Disk>,
    /// Imported pools, ours or not.
    pub pools: BTreeMap<PoolName, Pool>,
    /// Pools that stand on disks here and are not imported.
    pub importable: Vec<ImportablePool>,
    /// Every dataset of the imported pools at or below `<pool>/clusterducks`, marked or not.
    pub datasets: BTreeMap<Dataset, DatasetState>,
    /// iSCSI targets with our prefix.
    pub targets: BTreeMap<Iqn, Target>,
    /// Kernels and initrds that were taken out of generations.
    pub boot_files: BTreeMap<GenerationId, BootFiles>,
    /// Imports that run, or whose last try failed, in this life of the agent.
    pub imports: BTreeMap<VolumeName, Job>,
    /// Extractions of boot files that run, or whose last try failed, in this life of the agent.
    pub extractions: BTreeMap<GenerationId, Job>,
    /// The configuration that dnsmasq runs with; absent when it does not run, or when its file is not the one that we wrote.
    pub dhcp: Option<DhcpConfig>,
}

/// A generation of a group.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct GenerationId {
    /// The group.
    pub group: GroupName,
    /// The generation's number.
    pub number: u32,
}

impl std::fmt::Display for GenerationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.group, self.number)
    }
}

impl From<GenerationId> for String {
    fn from(id: GenerationId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for GenerationId {
    type Error = crate::name::Error;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bad = || crate::name::Error::Label(text.clone());
        let (group, number) = text.split_once('/').ok_or_else(bad)?;
        Ok(Self { group: group.parse()?, number: number.parse().map_err(|_| bad())? })
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// The kernel's name of it now.
    pub name: String,
    /// Its permanent address.
    pub mac: Mac,
    /// udev's `ID_PATH`.
    pub path: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// Its addresses.
    #[schemars(with = "Vec<String>")]
    pub addresses: BTreeSet<Ipv4Net>,
    /// The default route's gateway through it.
    pub gateway: Option<Ipv4Addr>,
    /// What a DHCP server gave it.
    pub lease: Option<Lease>,
}

impl Link {
    /// Whether this is the interface that a document means.
    pub fn is(&self, interface: &Interface) -> bool {
        match interface {
            Interface::Mac(mac) => self.mac == *mac,
            Interface::Path(path) => self.path.as_ref() == Some(path),
        }
    }
}

/// What a DHCP server gave an interface, beside the address and the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// A path under `/dev/disk/by-id` where there is one, else the kernel's.
    pub path: String,
    /// Its serial number.
    pub serial: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// What stands on it.
    pub contents: DiskContents,
}

/// What stands on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskContents {
    /// No signature that blkid(8) knows.
    Blank,
    /// Member of the ZFS pool of this name.
    Pool(String),
    /// What a power cut left of the making of this pool, on a disk that was blank before.
    Begun(PoolName),
    /// Something else, in blkid's words: a partition table, a file system, a RAID member.
    Foreign(String),
}

/// An imported pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// ZFS's number of it.
    pub guid: u64,
    /// `ONLINE`, `DEGRADED` and so on (zpoolconcepts(7)).
    pub health: String,
    /// Bytes in all.
    pub size_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
}

/// A pool that could be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportablePool {
    /// Its name.
    pub name: String,
    /// ZFS's number of it.
    pub guid: u64,
    /// Whether zpool says that it can be imported now.
    pub ready: bool,
}

/// A dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetState {
    /// Size of a zvol in bytes; absent for a file system.
    pub volume_size_bytes: Option<u64>,
    /// Our mark, when it is set on this very dataset.
    pub mark: Option<Mark>,
    /// What it is a clone of.
    pub origin: Option<Snapshot>,
    /// The boot for which an ephemeral clone was made new last (`org.clusterducks:boot`).
    pub boot: Option<BootId>,
    /// Whether the device nodes of its snapshots show (`snapdev=visible`).
    pub snapdev_visible: bool,
    /// Whether it is mounted; a zvol never is.
    pub mounted: bool,
    /// Bytes that it alone uses.
    pub used_bytes: u64,
    /// The parts behind the `@` of its snapshots.
    pub snapshots: BTreeSet<String>,
}

/// An iSCSI target with our prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The export that it is, secrets included; absent when it is not whole: half made, or half taken down.
    pub export: Option<Export>,
    /// Addresses it listens on, with ports.
    pub portals: BTreeSet<std::net::SocketAddrV4>,
    /// Initiators that are logged in, and from where, when that is known.
    pub sessions: BTreeMap<Iqn, Option<Ipv4Addr>>,
}

/// The kernel and the initrd of a generation, as files that the boot service gives out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootFiles {
    /// Folder that holds `vmlinuz` and `initrd`.
    pub folder: String,
    /// Digest of the kernel.
    pub kernel_sha256: Sha256,
    /// Digest of the initrd.
    pub initrd_sha256: Sha256,
    /// Number of the partition that holds the root file system; 0 when the image is a bare file system.
    pub root_partition: u32,
}

/// A job that runs, or that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Job {
    /// It runs.
    Running {
        /// What it is at.
        phase: String,
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all, when known.
        total_bytes: Option<u64>,
        /// What an import reads, so that a changed source is started anew.
        source: Option<Source>,
    },
    /// It is done; an import's snapshot is still to be taken.
    Done {
        /// What an import read.
        source: Option<Source>,
    },
    /// It failed, and is tried again after a pause or when the document changes.
    Failed {
        /// In words that an admin can act on.
        message: String,
        /// What an import read.
        source: Option<Source>,
    },
}
