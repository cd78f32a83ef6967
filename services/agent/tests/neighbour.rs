//! The owner alone: whoever asks for the boot of a device that runs elsewhere does not get it, and a boot that nobody uses any more
//! gives its clone to the next generation.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;

use std::{net::Ipv4Addr, time::Duration};

use alone::{Machine, address, apply, ask, document, shows, start};
use clusterducks_agent::{boot::ProvisionError, owner::Status};
use model::name::{Dataset, Iqn};

const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn target() -> Iqn {
    Iqn::device(&"pc-1".parse().unwrap())
}

/// The device is logged in, from this address, or it is not any more.
fn log_in(machine: &Machine, from: Option<Option<Ipv4Addr>>) {
    let initiator = Iqn::initiator(&"pc-1".parse().unwrap());
    let mut machine = machine.hold();
    let sessions = &mut machine.state.targets.get_mut(&target()).unwrap().sessions;
    match from {
        Some(address) => drop(sessions.insert(initiator, address)),
        None => drop(sessions.remove(&initiator)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_does_not_get_the_boot_of_a_device_that_runs() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(9));
    let handle = start(&folder, &machine).await;
    let boot = ask(&handle, 1, address(1)).await.unwrap().boot;
    // It logs in after the machine was observed last.
    for at in [Some(address(1)), None] {
        log_in(&machine, Some(at));
        let refused = ask(&handle, 1, NEIGHBOUR).await.unwrap_err();
        let runs = ProvisionError::Runs { device: "pc-1".parse().unwrap(), address: at };
        assert_eq!(refused, runs);
    }
    let export = machine.hold().state.targets[&target()].export.clone().unwrap();
    assert!(export.acls.values().eq([&boot.chap]), "the device's secrets are what they were");
    log_in(&machine, Some(Some(NEIGHBOUR)));
    assert!(ask(&handle, 1, NEIGHBOUR).await.is_ok(), "its session comes from where it asks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_at_another_address_boots_once_its_old_session_is_gone() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(9));
    let handle = start(&folder, &machine).await;
    ask(&handle, 1, address(1)).await.unwrap();
    log_in(&machine, Some(Some(address(1))));
    assert!(ask(&handle, 1, NEIGHBOUR).await.is_err());
    log_in(&machine, None);
    assert_eq!(ask(&handle, 1, NEIGHBOUR).await.unwrap().boot.from, NEIGHBOUR);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_restarts_at_its_address_and_the_server_itself_are_not_kept_waiting() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(9));
    let handle = start(&folder, &machine).await;
    ask(&handle, 1, address(1)).await.unwrap();
    let observed = machine.observed();
    for from in [address(1), SERVER, SERVER] {
        log_in(&machine, Some(Some(address(1))));
        assert!(ask(&handle, 1, from).await.is_ok(), "{from}");
    }
    assert_eq!(machine.observed(), observed, "nothing had to be looked at");
}

fn clone_of(status: &Status) -> Option<&str> {
    let clone: Dataset = "tank/clusterducks/devices/pc-1".parse().unwrap();
    Some(status.observed.datasets.get(&clone)?.origin.as_ref()?.tag.as_str())
}

/// Time passes as soon as everybody waits for it.
#[tokio::test(start_paused = true)]
async fn a_clone_follows_production_ten_minutes_after_its_device_was_switched_off() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new(9));
    let handle = start(&folder, &machine).await;
    ask(&handle, 1, address(1)).await.unwrap();
    log_in(&machine, Some(Some(address(1))));
    apply(&handle, document(2, 2)).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(clone_of(&handle.status().borrow()), Some("g1"), "it runs");
    log_in(&machine, None);
    tokio::time::sleep(Duration::from_secs(530)).await;
    assert_eq!(clone_of(&handle.status().borrow()), Some("g1"), "it may come back");
    shows(&handle, |status| clone_of(status) == Some("g2") && status.converged).await;
    assert!(!machine.hold().state.targets.contains_key(&target()));
}
