//! An owner without an agent around it, on a simulated machine that a test holds in its hands.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clusterducks_agent::{
    boot::{ProvisionError, Provisioned, Provisioner as _, events::Events},
    owner::{Handle, Owner, Request, Status},
    seed::Seed,
    store::Store,
};
use host::{
    seam::{Error, Host},
    sim::SimHost,
};
use model::{observed::Observed, step::Step};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(crate) const DEVICES: usize = 40;

/// The machine, and what the owner did with it.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Inner>);

struct Inner {
    machine: Mutex<SimHost>,
    observed: AtomicUsize,
    rolled_back: AtomicUsize,
    /// What was done, in order.
    applied: Mutex<Vec<Step>>,
    /// Each roll-back takes one, and waits for it.
    places: Semaphore,
}

impl Machine {
    pub(crate) fn new(roll_backs: usize) -> Self {
        Self(Arc::new(Inner {
            machine: Mutex::new(SimHost::demo()),
            observed: AtomicUsize::new(0),
            rolled_back: AtomicUsize::new(0),
            applied: Mutex::default(),
            places: Semaphore::new(roll_backs),
        }))
    }

    pub(crate) fn hold(&self) -> MutexGuard<'_, SimHost> {
        self.0.machine.lock().unwrap()
    }

    pub(crate) fn observed(&self) -> usize {
        self.0.observed.load(Ordering::SeqCst)
    }

    pub(crate) fn rolled_back(&self) -> usize {
        self.0.rolled_back.load(Ordering::SeqCst)
    }

    /// Waits until the first roll-back began.
    pub(crate) async fn rolls_back(&self) {
        let began = async {
            while self.rolled_back() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), began).await.expect("a roll-back begins");
    }

    pub(crate) fn applied(&self) -> Vec<Step> {
        self.0.applied.lock().unwrap().clone()
    }

    pub(crate) fn allow(&self, roll_backs: usize) {
        self.0.places.add_permits(roll_backs);
    }
}

impl Host for Machine {
    async fn observe(&mut self) -> Result<Observed, Error> {
        self.0.observed.fetch_add(1, Ordering::SeqCst);
        let mut machine = self.hold().clone();
        let observed = machine.observe().await;
        *self.hold() = machine;
        observed
    }

    async fn apply(&mut self, step: &Step) -> Result<(), Error> {
        if matches!(step, Step::MakeNew(_)) {
            self.0.rolled_back.fetch_add(1, Ordering::SeqCst);
            self.0.places.acquire().await.unwrap().forget();
        }
        self.0.applied.lock().unwrap().push(step.clone());
        let changed = self.hold().change(step);
        changed.map_err(|refusal| Error::new("the simulated machine refused", refusal))
    }
}

/// A group of ephemeral devices on a network whose addresses are the site's.
pub(crate) fn document(generation: u64, production: u32) -> Value {
    let devices = (1..=DEVICES).map(|number| {
        json!({ "name": format!("pc-{number}"), "macs": [format!("52:54:00:00:01:{number:02x}")],
            "network": "lab", "address": address(number), "group": "lab", "boot_mode": "ephemeral" })
    });
    json!({
        "generation": generation,
        "pools": [{ "name": "tank", "disks": [{ "serial": "SIM-0" }] }],
        "networks": [{ "name": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": "10.0.0.1/24",
            "dhcp": { "mode": "proxy" } }],
        "volumes": [{ "name": "debian", "pool": "tank", "size_bytes": 1 << 30 }],
        "groups": [{ "name": "lab", "volume": "debian", "generations": [1, 2], "production": production }],
        "devices": devices.collect::<Vec<_>>(),
    })
}

pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(number + 1).unwrap())
}

/// An owner that has brought the machine to the document, but for the second generation.
pub(crate) async fn start(folder: &tempfile::TempDir, machine: &Machine) -> Handle {
    let store = Store::open(folder.path()).unwrap();
    let events = Arc::new(Events::default());
    let make = |_| machine.clone();
    let (owner, handle) =
        Owner::new(make, Seed::default(), store, events, &mut Registry::default()).unwrap();
    tokio::spawn(owner.run());
    apply(&handle, document(1, 1)).await;
    let clones = |status: &Status| {
        status.observed.datasets.keys().filter(|name| name.as_str().contains("/devices/")).count()
    };
    shows(&handle, |status| clones(status) == DEVICES).await;
    let group = "tank/clusterducks/groups/lab".parse().unwrap();
    machine.hold().state.datasets.get_mut(&group).unwrap().snapshots.insert("g2".to_owned());
    assert!(handle.send(Request::Wake("a generation came")).await);
    shows(&handle, |status| status.converged).await;
    handle
}

pub(crate) async fn apply(handle: &Handle, document: Value) {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let desired = Box::new(serde_json::from_value(document).unwrap());
    assert!(handle.send(Request::Apply { desired, reply }).await);
    answer.await.unwrap().unwrap();
}

/// Waits until the owner's status is so. With time that stands still, hours take no time.
pub(crate) async fn shows(handle: &Handle, so: impl FnMut(&Status) -> bool) {
    let mut status = handle.status();
    let there = tokio::time::timeout(Duration::from_secs(7200), status.wait_for(so)).await;
    there.expect("it came about").unwrap();
}

pub(crate) async fn ask(
    handle: &Handle,
    number: usize,
    from: Ipv4Addr,
) -> Result<Provisioned, ProvisionError> {
    handle.provision(format!("pc-{number}").parse().unwrap(), 1, from).await
}
