//! A panel for tests: one organization with one network that has all it takes to boot a device.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    desired::Published,
    noun::{
        Device, Group, Id, Menu, Network, Organization, Place, Server, Stored, Subnet, User, Vdisk,
        Volume,
    },
    operations::{Actor, Error, Panel},
    store::{FieldError, Store},
};

pub(crate) const ROOT: Actor = Actor::Panel("test");

pub(crate) struct Rig {
    pub(crate) panel: Panel,
    pub(crate) organization: Id<Organization>,
    pub(crate) network: Id<Network>,
    pub(crate) subnet: Stored<Subnet>,
    pub(crate) server: Stored<Server>,
    pub(crate) group: Stored<Group>,
    pub(crate) folder: TempDir,
    /// The panel's clock, in milliseconds since 1970.
    pub(crate) now: Arc<AtomicU64>,
}

pub(crate) fn value<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A panel with nothing in it; its clock moves by a millisecond at each look.
fn empty() -> (Panel, TempDir, Arc<AtomicU64>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("panel.db")).unwrap();
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&now);
    (Panel::new(store, Arc::new(move || clock.fetch_add(1, Ordering::Relaxed))), folder, now)
}

pub(crate) fn rig() -> Rig {
    let (panel, folder, now) = empty();
    let organization: Organization = value(json!({ "name": "Example School" }));
    let organization = panel.create(ROOT, Place::Panel, organization).unwrap().id;
    let home = Place::Organization(organization);
    let network: Network = value(json!({ "name": "north" }));
    let network = panel.create(ROOT, home, network).unwrap().id;
    let at = Place::Network(network);
    let subnet: Subnet = value(json!({
        "name": "lab", "subnet": "10.77.0.0/24", "lan": "north", "gateway": "10.77.0.254", "dns": ["10.77.0.253"],
        "domain": "lab.example", "dhcp": { "mode": "authoritative", "first": "10.77.0.200", "last": "10.77.0.250" }
    }));
    let subnet = panel.create(ROOT, at, subnet).unwrap();
    let server: Server = value(json!({
        "name": "agent-1", "role": "both", "primary": true,
        "interfaces": [{ "subnet": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": "10.77.0.1" }],
        "pools": [{ "name": "tank", "layout": "mirror", "disks": [{ "serial": "A" }, { "serial": "B", "overwrite": true }] }]
    }));
    let server = panel.create(ROOT, at, server).unwrap();
    let volume: Volume = value(json!({
        "name": "debian", "pool": "tank", "size_bytes": 8_589_934_592_u64, "source": { "location":
        "https://images.example/debian.qcow2", "format": "qcow2", "sha256": "ab".repeat(32) }
    }));
    panel.create(ROOT, at, volume).unwrap();
    let group: Group = value(json!({ "name": "lab", "volume": "debian", "generations": [1, 2],
        "production": 1, "test": 2, "kernel_arguments": "console=ttyS0" }));
    let group = panel.create(ROOT, at, group).unwrap();
    let menu: Menu = value(json!({ "name": "main", "title": "Lab", "timeout_s": 5, "entries": [
        { "label": "Boot", "action": "image" },
        { "label": "Old", "action": "generation", "generation": 1 }] }));
    panel.create(ROOT, at, menu).unwrap();
    for name in ["home-01", "data-01"] {
        let vdisk: Vdisk = value(
            json!({ "name": name, "server": "agent-1", "pool": "tank", "size_bytes": 1 << 30 }),
        );
        panel.create(ROOT, at, vdisk).unwrap();
    }
    Rig { panel, organization, network, subnet, server, group, folder, now }
}

/// A device of the rig's network.
pub(crate) fn device(number: u8) -> Device {
    value(
        json!({ "name": format!("pc-{number:02}"), "macs": [format!("52:54:00:00:01:{number:02x}")],
        "network": "lab", "address": format!("10.77.0.{number}"), "group": "lab", "boot_mode": "overlay" }),
    )
}

impl Rig {
    pub(crate) fn at(&self) -> Place {
        Place::Network(self.network)
    }

    pub(crate) fn home(&self) -> Place {
        Place::Organization(self.organization)
    }

    pub(crate) fn add(&self, device: Device) -> Stored<Device> {
        self.panel.create(ROOT, self.at(), device).unwrap()
    }

    /// What became of the documents that may have changed: each of them could be made.
    pub(crate) fn published(&self) -> Vec<(Id<Server>, Published)> {
        let all = self.panel.publish().unwrap().into_iter();
        all.map(|(server, published)| (server, published.unwrap())).collect()
    }

    /// A user of the rig's organization.
    pub(crate) fn user(&self, name: &str, standing: &str, role: Option<&str>) -> Actor {
        let roles: Vec<Value> =
            role.iter().map(|role| json!({ "network": "north", "role": role })).collect();
        let user: User =
            value(json!({ "name": name, "full_name": name, "standing": standing, "roles": roles }));
        Actor::User(self.panel.create(ROOT, self.home(), user).unwrap().id)
    }
}

/// The faults of an operation that was refused for its fields.
pub(crate) fn faults<T: std::fmt::Debug>(result: Result<T, Error>) -> Vec<FieldError> {
    match result {
        Err(Error::Invalid(faults)) => faults,
        other => panic!("not refused for its fields: {other:?}"),
    }
}

/// The fields of these faults.
pub(crate) fn fields<T: std::fmt::Debug>(result: Result<T, Error>) -> Vec<String> {
    faults(result).into_iter().map(|fault| fault.field).collect()
}
