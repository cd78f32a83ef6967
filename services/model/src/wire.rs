//! What the agent says about itself: status and events, as its API and `ctl` print them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    name::{BootId, Dataset, DeviceName, Iqn, Mac, PoolName, VolumeName},
    observed::{BootFiles, DatasetState, Disk, GenerationId, Job, Link, Pool},
};

/// What a server shows of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Generation number of the document in force; 0 before the first.
    pub generation: u64,
    /// Whether the machine is as the document wants it.
    pub converged: bool,
    /// What failed in the last run: the resource in words, and why.
    pub failures: BTreeMap<String, String>,
    /// What waits for something that no step can bring about: the resource in words, and for what.
    pub waiting: BTreeMap<String, String>,
    /// Network interfaces.
    pub links: Vec<Link>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// Pools.
    pub pools: BTreeMap<PoolName, Pool>,
    /// Datasets of the storage trees.
    pub datasets: BTreeMap<Dataset, DatasetState>,
    /// iSCSI targets, each with the initiators that are logged in.
    pub sessions: BTreeMap<Iqn, BTreeSet<Iqn>>,
    /// Kernels that can be booted.
    pub boot_files: BTreeMap<GenerationId, BootFiles>,
    /// Imports that run, or failed.
    pub imports: BTreeMap<VolumeName, Job>,
    /// Machines that asked to boot and are not known.
    pub discovered: Vec<Discovered>,
    /// The certificates of the agent's own servers: `api` and `boot`.
    pub certificates: BTreeMap<String, Certificate>,
    /// The ways through tunnels, by the tunnel's address.
    #[serde(default)]
    pub uplinks: BTreeMap<String, UplinkState>,
    /// Who came to the API last and is not the panel, as the handshake told; absent while nobody did since the agent started.
    #[serde(default)]
    pub stranger: Option<Stranger>,
}

/// A connection to the agent's API that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stranger {
    /// Where it came from; loopback, where it came through a tunnel.
    pub address: IpAddr,
    /// The word for why, as it is counted by.
    pub reason: String,
    /// When, in milliseconds since 1970; to a minute, so that one who tries on is no news each time.
    pub at_ms: u64,
}

/// What became of a way through a tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UplinkState {
    /// Since when the tunnel lets the server in, in milliseconds since 1970; absent while it does not.
    pub since_ms: Option<u64>,
    /// Why it was lost, or never came about; absent while it is there.
    pub trouble: Option<String>,
}

/// What became of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Certificate {
    /// There is none, and no server.
    Absent,
    /// The server works with it.
    InUse {
        /// Which it is; absent from agents that did not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leaf: Option<Leaf>,
    },
    /// It can't be used; the one before it is used on, if there was one.
    Faulty {
        /// In words that an admin can act on.
        why: String,
    },
}

/// What a server's certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leaf {
    /// Its serial number in hexadecimal, 32 digits at the least.
    pub serial: String,
    /// When it ends, in milliseconds since 1970.
    pub ends_ms: u64,
}

/// A moment in the boot of a device.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum BootStep {
    /// iPXE asked for its script, and the device was provisioned.
    Script,
    /// The kernel was fetched.
    Kernel,
    /// The initrd was fetched.
    Initrd,
    /// The initrd runs and reached the server.
    Network,
    /// Its root file system is mounted.
    Root,
    /// It is up.
    Up,
    /// It can't go on.
    Failed,
}

/// Something that happened; numbered from 1 in each life of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// A device's boot reached a step.
    Boot {
        /// The device.
        device: DeviceName,
        /// The boot.
        boot: BootId,
        /// The step.
        step: BootStep,
        /// What the device says of it.
        message: String,
    },
    /// A machine that is not known asked to boot.
    Discovered(Discovered),
    /// A device's boot was asked for from an address where it can't be the device.
    Refused {
        /// The device.
        device: DeviceName,
        /// Where it was asked from.
        address: Ipv4Addr,
        /// Why it was refused.
        reason: String,
    },
    /// A resource failed, or is sound again.
    Resource {
        /// Which, in words.
        resource: String,
        /// Why it failed; absent when it is sound again.
        failure: Option<String>,
    },
    /// A document came into force.
    Applied {
        /// Its generation number.
        generation: u64,
    },
    /// The machine is as the document wants it.
    Converged {
        /// The document's generation number.
        generation: u64,
    },
}

/// A machine that asked to boot and is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Discovered {
    /// The card it asked from.
    pub mac: Mac,
    /// SMBIOS system UUID.
    #[serde(default)]
    pub uuid: String,
    /// SMBIOS serial number.
    #[serde(default)]
    pub serial: String,
    /// SMBIOS manufacturer.
    #[serde(default)]
    pub manufacturer: String,
    /// SMBIOS product.
    #[serde(default)]
    pub product: String,
    /// iPXE's `buildarch`.
    #[serde(default)]
    pub arch: String,
    /// iPXE's `platform`: `pcbios` or `efi`.
    #[serde(default)]
    pub platform: String,
    /// The address it asked from.
    pub address: Option<Ipv4Addr>,
    /// When it asked first, in milliseconds since 1970.
    pub first_seen_ms: u64,
    /// When it asked last.
    pub last_seen_ms: u64,
}
