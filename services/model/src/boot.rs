//! One boot of one device: what it was given, and the iSCSI exports that follow from all boots together.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Document,
    desired::{BootMode, Device, tree},
    name::{BootId, Dataset, DeviceName, GroupName, Iqn, PoolName, Snapshot, VdiskName},
};

/// A secret: shown as `***` wherever it is printed, written out only by serde into the agent's own root-only file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; call it where it leaves for the one who may know it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// How an initiator and a target prove themselves to each other (CHAP both ways, RFC 3720, 11.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chap {
    /// The initiator's user.
    pub user: String,
    /// The initiator's password; LIO and open-iscsi take 12 to 16 characters from everybody.
    pub password: Secret,
    /// The target's user.
    pub target_user: String,
    /// The target's password; it must differ from the initiator's.
    pub target_password: Secret,
}

/// One boot of one device, from the script that iPXE got until the next one. Kept on disk, so that a restarted server exports
/// the same objects with the same secrets and devices that run go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Names this boot in every log line and event.
    pub id: BootId,
    /// The generation it boots.
    pub generation: u32,
    /// The mode it boots in.
    pub boot_mode: BootMode,
    /// The address that it was asked for from.
    pub from: Ipv4Addr,
    /// Its secrets.
    pub chap: Arc<Chap>,
}

/// The newest boot of each device.
pub type Boots = BTreeMap<DeviceName, Boot>;

/// The port that iSCSI targets listen on (RFC 3720, 13).
pub const ISCSI_PORT: u16 = 3260;

/// What a LUN shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backing {
    /// A snapshot, read-only.
    Snapshot(Snapshot),
    /// A zvol, writable.
    Zvol(Dataset),
}

impl Backing {
    /// The block device.
    pub fn device_path(&self) -> String {
        match self {
            Self::Snapshot(snapshot) => snapshot.device_path(),
            Self::Zvol(dataset) => dataset.device_path(),
        }
    }

    /// The dataset that has to exist.
    pub fn dataset(&self) -> &Dataset {
        match self {
            Self::Snapshot(snapshot) => &snapshot.dataset,
            Self::Zvol(dataset) => dataset,
        }
    }

    /// Whether initiators may only read.
    pub fn read_only(&self) -> bool {
        matches!(self, Self::Snapshot(_))
    }
}

/// Initiators that may log in, each with its own secrets.
pub type Acls = BTreeMap<Iqn, Arc<Chap>>;

/// One iSCSI target with one LUN, number 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The target's name.
    pub target: Iqn,
    /// What LUN 0 shows.
    pub backing: Backing,
    /// The LUN's serial number (VPD page 80h): the same on every server that holds the object.
    pub serial: String,
    /// Who may log in.
    pub acls: Acls,
}

/// An export that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The target.
    pub export: Export,
    /// Where it listens: this server's address in each network that a device uses it from.
    pub portals: BTreeSet<SocketAddrV4>,
}

/// An object of the storage tree that a boot needs exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object<'a> {
    /// A generation of a group, for all devices that boot it in overlay mode.
    Generation(&'a PoolName, &'a GroupName, u32),
    /// A device's own clone.
    Clone(&'a PoolName, &'a DeviceName),
    /// A vDisk.
    Vdisk(&'a PoolName, &'a VdiskName),
}

impl Object<'_> {
    /// The target that exports it.
    pub fn target(&self) -> Iqn {
        match self {
            Self::Generation(_, group, number) => Iqn::generation(group, *number),
            Self::Clone(_, device) => Iqn::device(device),
            Self::Vdisk(_, vdisk) => Iqn::vdisk(vdisk),
        }
    }

    /// What its LUN shows.
    pub fn backing(&self) -> Backing {
        match self {
            Self::Generation(pool, group, number) => {
                Backing::Snapshot(tree::generation(pool, group, *number))
            }
            Self::Clone(pool, device) => Backing::Zvol(tree::device(pool, device)),
            Self::Vdisk(pool, vdisk) => Backing::Zvol(tree::vdisk(pool, vdisk)),
        }
    }
}

/// What a boot of a device needs exported.
pub fn objects<'a>(
    document: &'a Document,
    device: &'a Device,
    boot: &Boot,
) -> impl Iterator<Item = Object<'a>> {
    let pool = document.group(&device.group).and_then(|group| document.pool_of(group));
    let root = pool.map(|pool| match boot.boot_mode {
        BootMode::Overlay => Object::Generation(pool, &device.group, boot.generation),
        BootMode::Ephemeral | BootMode::Persistent => Object::Clone(pool, &device.name),
    });
    let vdisks = device.vdisks.iter().filter_map(|used| document.vdisk(&used.vdisk));
    root.into_iter().chain(vdisks.map(|vdisk| Object::Vdisk(&vdisk.pool, &vdisk.name)))
}

/// The exports that the document and the boots ask for.
///
/// A generation, a device's clone or a vDisk is exported when a boot needs it, to that boot's initiator alone: without a
/// boot nothing is exported.
pub fn exports(document: &Document, boots: &Boots) -> BTreeMap<Iqn, Wanted> {
    let mut users: BTreeMap<Object<'_>, (Acls, BTreeSet<SocketAddrV4>)> = BTreeMap::new();
    for device in &document.devices {
        let Some(boot) = boots.get(&device.name) else { continue };
        let portal = document
            .network(&device.network)
            .map(|network| SocketAddrV4::new(network.address.addr(), ISCSI_PORT));
        let initiator = Iqn::initiator(&device.name);
        for object in objects(document, device, boot) {
            let (acls, portals) = users.entry(object).or_default();
            acls.insert(initiator.clone(), Arc::clone(&boot.chap));
            portals.extend(portal);
        }
    }
    let wanted = |(object, (acls, portals)): (Object<'_>, _)| {
        let (target, backing) = (object.target(), object.backing());
        let serial = serial(&target);
        (target.clone(), Wanted { export: Export { target, backing, serial, acls }, portals })
    };
    users.into_iter().map(wanted).collect()
}

/// Devices whose clone waits for their boot to be over: the document has led them to another generation since.
pub fn superseded<'a>(
    document: &'a Document,
    boots: &'a Boots,
) -> impl Iterator<Item = (&'a Device, &'a Boot)> {
    let known = boots.iter().filter_map(|(name, boot)| document.device(name).zip(Some(boot)));
    known.filter(|(device, boot)| {
        device.boot_mode == BootMode::Ephemeral
            && boot.boot_mode == BootMode::Ephemeral
            && document.generation_of(device).is_some_and(|next| next != boot.generation)
    })
}

/// A serial number made of the object's name, so that every server gives the same one: FNV-1a in 64 bits, which is stable
/// across versions of the toolchain as `std`'s hasher is not.
fn serial(target: &Iqn) -> String {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("cd{:016x}", target.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
}
