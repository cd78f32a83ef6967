//! The owner alone, on a simulated machine that counts: which devices are made ready together, and that none is forgotten.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;

use std::time::Duration;

use alone::{DEVICES, Machine, address, ask, shows, start};
use clusterducks_agent::owner::{Request, Status};

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
    while machine.rolled_back() == 0 {
        tokio::task::yield_now().await;
    }
    let (reply, second) = tokio::sync::oneshot::channel();
    let device = "pc-2".parse().unwrap();
    let request = Request::Provision { device, generation: 1, from: address(2), reply };
    assert!(handle.send(request).await);
    machine.allow(2);
    let both = async { (first.await.unwrap(), second.await.unwrap().is_ok()) };
    let answered = tokio::time::timeout(Duration::from_secs(20), both).await;
    assert_eq!(answered.expect("nobody waits for the timer"), (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_is_ready_too_late_is_there_when_the_device_asks_again() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(0));
    let handle = start(&folder, &machine).await;
    let asking = handle.clone();
    let patient = tokio::spawn(async move { ask(&asking, 1, address(1)).await });
    while machine.rolled_back() == 0 {
        tokio::task::yield_now().await;
    }
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
