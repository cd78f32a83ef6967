//! The owner alone, on a simulated machine that counts: devices that ask in the same moment are made ready together.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clusterducks_agent::{
    boot::{Provisioner as _, events::Events},
    owner::{Handle, Owner, Request},
    seed::Seed,
    store::Store,
};
use host::{
    seam::{Error, Host},
    sim::SimHost,
};
use model::{observed::Observed, step::Step};
use prometheus_client::registry::Registry;
use serde_json::json;

const DEVICES: usize = 40;

struct Counting {
    machine: SimHost,
    roll_backs: Arc<AtomicUsize>,
}

impl Host for Counting {
    async fn observe(&mut self) -> Result<Observed, Error> {
        self.machine.observe().await
    }

    async fn apply(&mut self, step: &Step) -> Result<(), Error> {
        if matches!(step, Step::MakeNew(_)) {
            self.roll_backs.fetch_add(1, Ordering::Relaxed);
        }
        self.machine.apply(step).await
    }
}

fn document() -> serde_json::Value {
    let devices = (1..=DEVICES).map(|number| {
        json!({ "name": format!("pc-{number}"), "macs": [format!("52:54:00:00:01:{number:02x}")],
            "network": "lab", "address": format!("10.0.0.{}", number + 1), "group": "lab",
            "boot_mode": "ephemeral" })
    });
    json!({
        "generation": 1,
        "pools": [{ "name": "tank", "disks": [{ "serial": "SIM-0" }] }],
        "networks": [{ "name": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": "10.0.0.1/24" }],
        "volumes": [{ "name": "debian", "pool": "tank", "size_bytes": 1 << 30 }],
        "groups": [{ "name": "lab", "volume": "debian", "generations": [1], "production": 1 }],
        "devices": devices.collect::<Vec<_>>(),
    })
}

async fn converged(handle: &Handle) {
    let mut status = handle.status();
    let there = status.wait_for(|status| status.generation == 1 && status.converged);
    tokio::time::timeout(Duration::from_secs(20), there).await.unwrap().unwrap();
}

/// It holds the taking of all that wait; on one worker, so that asking and making ready never overlap by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn devices_that_ask_in_the_same_moment_share_a_roll_back() {
    let roll_backs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&roll_backs);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let make = |_| Counting { machine: SimHost::demo(), roll_backs: counted };
    let (owner, handle) = Owner::new(
        make,
        Seed::default(),
        store,
        Arc::new(Events::default()),
        &mut Registry::default(),
    )
    .unwrap();
    let asked = tokio::spawn(async move {
        tokio::spawn(owner.run());
        let (reply, answer) = tokio::sync::oneshot::channel();
        let desired = Box::new(serde_json::from_value(document()).unwrap());
        assert!(handle.send(Request::Apply { desired, reply }).await);
        answer.await.unwrap().unwrap();
        converged(&handle).await;
        let mut asked = tokio::task::JoinSet::new();
        for number in 1..=DEVICES {
            let handle = handle.clone();
            let device = format!("pc-{number}").parse().unwrap();
            asked.spawn(async move { handle.provision(device, 1).await });
        }
        asked.join_all().await
    });
    let answers = asked.await.unwrap();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), DEVICES);
    let roll_backs = roll_backs.load(Ordering::Relaxed);
    assert!((1..=3).contains(&roll_backs), "{DEVICES} devices took {roll_backs} roll-backs");
}
