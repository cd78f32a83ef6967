//! The owner alone, on a simulated machine that counts: which devices are made ready together, and that none is forgotten.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;

use std::time::Duration;

use alone::{DEVICES, Machine, address, ask, document, shows, start};
use clusterducks_agent::owner::{Request, Status};
use model::step::Step;
use serde_json::json;
use tokio::sync::oneshot;

/// On one worker, so that only the owner's own letting the others go first brings all of them into one batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn devices_that_ask_in_the_same_moment_share_a_roll_back() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(DEVICES));
    let counting = machine.clone();
    let asked = tokio::spawn(async move {
        let handle = start(&folder, &counting).await;
        let mut all = tokio::task::JoinSet::new();
        for number in 1..=DEVICES {
            let handle = handle.clone();
            all.spawn(async move { ask(&handle, number, address(number)).await.is_ok() });
        }
        all.join_all().await
    });
    assert_eq!(asked.await.unwrap(), [true; DEVICES]);
    assert_eq!(machine.rolled_back(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_asks_while_another_is_made_ready_is_the_next() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(0));
    let handle = start(&folder, &machine).await;
    let asking = handle.clone();
    let first = tokio::spawn(async move { ask(&asking, 1, address(1)).await.is_ok() });
    machine.rolls_back().await;
    let (reply, second) = oneshot::channel();
    let device = "pc-2".parse().unwrap();
    let request = Request::Provision { device, generation: 1, from: address(2), reply };
    assert!(handle.send(request).await);
    machine.allow(2);
    let both = async { (first.await.unwrap(), second.await.unwrap().is_ok()) };
    let answered = tokio::time::timeout(Duration::from_secs(20), both).await;
    assert_eq!(answered.expect("nobody waits for the timer"), (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_asks_before_much_other_work_does_not_wait_for_its_end() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(0));
    let handle = start(&folder, &machine).await;
    let asking = handle.clone();
    let first = tokio::spawn(async move { ask(&asking, 1, address(1)).await.is_ok() });
    machine.rolls_back().await;
    let mut much = document(2, 1);
    let vdisk =
        |number| json!({ "name": format!("v-{number}"), "pool": "tank", "size_bytes": 1 << 20 });
    much["vdisks"] = (0..30).map(vdisk).collect();
    let desired = Box::new(serde_json::from_value(much).unwrap());
    let (reply, in_force) = oneshot::channel();
    assert!(handle.send(Request::Apply { desired, reply }).await);
    let (reply, second) = oneshot::channel();
    let device = "pc-2".parse().unwrap();
    let request = Request::Provision { device, generation: 1, from: address(2), reply };
    assert!(handle.send(request).await);
    machine.allow(2);
    assert!(first.await.unwrap() && in_force.await.unwrap().is_ok());
    assert!(second.await.unwrap().is_ok());
    let mut roll_backs = 0;
    let before = machine.applied().into_iter().take_while(|step| {
        roll_backs += usize::from(matches!(step, Step::MakeNew(_)));
        roll_backs < 2
    });
    let other = before.filter(|step| matches!(step, Step::CreateZvol { .. })).count();
    assert!(other < 5, "{other} other things were done first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_is_ready_too_late_is_there_when_the_device_asks_again() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(0));
    let handle = start(&folder, &machine).await;
    let asking = handle.clone();
    let patient = tokio::spawn(async move { ask(&asking, 1, address(1)).await });
    machine.rolls_back().await;
    patient.abort();
    assert!(patient.await.unwrap_err().is_cancelled());
    machine.allow(2);
    let made = |status: &Status| {
        let clone = "tank/clusterducks/devices/pc-1".parse().unwrap();
        status.observed.datasets.get(&clone).and_then(|state| state.boot.clone())
    };
    shows(&handle, |status| made(status).is_some()).await;
    let boot = made(&handle.status().borrow()).unwrap();
    assert_eq!(ask(&handle, 1, address(1)).await.unwrap().boot.id, boot);
    assert_eq!(machine.rolled_back(), 1);
    assert_ne!(ask(&handle, 1, address(1)).await.unwrap().boot.id, boot, "it is claimed once");
}
