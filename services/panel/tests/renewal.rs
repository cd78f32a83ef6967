//! Certificates of servers, renewed over the link to the fleet, against agents that are real processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod room;

use std::sync::atomic::Ordering;

use model::wire::{Certificate, Status};
use panel::{
    backup::Manifest,
    ca::{Kind, Reason},
    fleet::{State, Trouble},
    noun::{Id, Server, Subnet},
    store::Booked,
};
use room::{ROOT, Room, connection, wait_for};
use serde_json::json;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn given(room: &Room, server: Id<Server>, kind: Kind) -> Vec<Booked> {
    let mut given = room.panel.certificates(ROOT, server).unwrap();
    given.retain(|booked| booked.kind == kind);
    given
}

/// Waits until the server works with the newest certificate of this kind that it was given; how many it was given.
async fn in_use(room: &Room, server: Id<Server>, endpoint: &str, kind: Kind, count: usize) {
    wait_for("the certificate is in use", async || {
        let given = given(room, server, kind);
        let status = room.panel.document(ROOT, server).unwrap()?.status?;
        let Status { certificates, .. } = status;
        let Some(Certificate::InUse { leaf: Some(leaf) }) = certificates.get(endpoint) else {
            return None;
        };
        let newest = given.first()?;
        (given.len() == count && newest.serial.to_string() == leaf.serial).then(|| {
            assert_eq!(newest.ends_ms, leaf.ends_ms);
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_certificate_is_renewed_before_it_ends_and_its_connection_stands() {
    let room = Room::new();
    let box_1 = room.join(1);
    let mut agent = room.start(&box_1);
    let fleet = room.fleet();
    let before = connection(&fleet, box_1.id(), State::Connected).await;
    in_use(&room, box_1.id(), "api", Kind::Agent, 1).await;
    // What wakes the one who renews is a document, or an hour.
    room.ahead_ms.store(300 * DAY_MS, Ordering::Relaxed);
    room.save(box_1.id(), 1);
    room.applied(box_1.id(), 1).await;
    in_use(&room, box_1.id(), "api", Kind::Agent, 2).await;
    let renewed = given(&room, box_1.id(), Kind::Agent);
    assert!(renewed.iter().all(|booked| booked.revoked_ms.is_none()));
    // New connections, as for each document, find the new certificate; the one that stood still does.
    room.save(box_1.id(), 2);
    room.applied(box_1.id(), 2).await;
    let after = fleet.connections().borrow()[&box_1.id()].clone();
    assert_eq!((after.state, after.since_ms), (State::Connected, before.since_ms));
    assert_eq!(after.error, None);
    // An agent that lost its power comes up with what was renewed, and is not given a third one.
    agent.restart();
    connection(&fleet, box_1.id(), State::Lost).await;
    connection(&fleet, box_1.id(), State::Connected).await;
    room.save(box_1.id(), 3);
    room.applied(box_1.id(), 3).await;
    in_use(&room, box_1.id(), "api", Kind::Agent, 2).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_panel_knows_the_servers_that_it_renewed_after_the_backup_and_no_others() {
    let room = Room::new();
    let (box_1, box_2) = (room.join(1), room.join(2));
    let _agents = [room.start(&box_1), room.start(&box_2)];
    let fleet = room.fleet();
    for id in [box_1.id(), box_2.id()] {
        connection(&fleet, id, State::Connected).await;
    }
    // What the second has counts no more when the backup is made.
    let taken_back = given(&room, box_2.id(), Kind::Agent)[0].serial;
    room.panel.revoke(ROOT, taken_back, Reason::KeyCompromise).unwrap();
    connection(&fleet, box_2.id(), State::Lost).await;
    let copy = room.folder.path().join("copy.db");
    room.panel.store().back_up(&copy).unwrap();
    let manifest = Manifest::new("0.1.0", room.panel.now_ms() / 1000, Vec::new());

    room.ahead_ms.store(300 * DAY_MS, Ordering::Relaxed);
    room.save(box_1.id(), 1);
    room.applied(box_1.id(), 1).await;
    in_use(&room, box_1.id(), "api", Kind::Agent, 2).await;
    let renewed = given(&room, box_1.id(), Kind::Agent)[0].serial;
    fleet.stop().await;

    let room = room.restored(&copy);
    let fleet = room.fleet();
    let refused = connection(&fleet, box_1.id(), State::Lost).await;
    assert_eq!(refused.trouble, Some(Trouble::Certificate));
    room.panel.note_restore(&manifest).unwrap();
    connection(&fleet, box_1.id(), State::Connected).await;
    assert_eq!(given(&room, box_1.id(), Kind::Agent)[0].serial, renewed);
    let stranger = fleet.connections().borrow()[&box_2.id()].clone();
    assert_eq!((stranger.state, stranger.trouble), (State::Lost, Some(Trouble::Certificate)));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_gets_its_addresses_after_it_joined_gets_a_boot_certificate_for_them() {
    let room = Room::new();
    let box_1 = room.join(1);
    assert_eq!(box_1.joined.boot_chain_pem, None);
    let _agent = room.start(&box_1);
    let fleet = room.fleet();
    let before = connection(&fleet, box_1.id(), State::Connected).await;
    let subnet: Subnet = serde_json::from_value(json!({ "name": "lab", "subnet": "10.77.0.0/24",
        "lan": "north", "gateway": "10.77.0.254", "dhcp": { "mode": "off" } }))
    .unwrap();
    room.panel.create(ROOT, room.network.place(), subnet).unwrap();
    for (count, address) in [(1, "10.77.0.1"), (2, "10.77.0.2")] {
        let mut stored = room.panel.get(ROOT, box_1.id()).unwrap();
        let interfaces = json!([{ "subnet": "lab",
            "interface": { "mac": "52:54:00:00:00:01" }, "address": address }]);
        stored.value.interfaces = serde_json::from_value(interfaces).unwrap();
        room.panel.change(ROOT, box_1.id(), stored.version, stored.value).unwrap();
        in_use(&room, box_1.id(), "boot", Kind::Boot, count).await;
    }
    let after = fleet.connections().borrow()[&box_1.id()].clone();
    assert_eq!((after.state, after.since_ms), (State::Connected, before.since_ms));
    fleet.stop().await;
}
