use model::{step::Step, validate::validate};
use serde_json::json;

use super::*;
use crate::{
    operations::{self, Data, Preview},
    testing::{ROOT, Rig, device, rig, value},
};

fn document(rig: &Rig) -> Desired {
    let document = rig.panel.document(ROOT, rig.server.id).unwrap().unwrap();
    let desired: Desired = serde_json::from_str(&document.body).unwrap();
    assert_eq!(desired.generation, document.generation);
    desired
}

#[test]
fn a_server_is_told_all_that_a_boot_needs() {
    let rig = rig();
    rig.add(device(10));
    let published = rig.published();
    assert_eq!(published, [(rig.server.id, Published::Changed { generation: 1 })]);
    let desired = document(&rig);
    assert_eq!(validate(&desired), []);
    let expected = json!({
        "generation": 1, "server": "agent-1",
        "pools": [{ "name": "tank", "layout": "mirror", "disks": [
            { "serial": "A", "overwrite": false }, { "serial": "B", "overwrite": true }] }],
        "networks": [{ "name": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": "10.77.0.1/24",
            "gateway": "10.77.0.254", "dns": ["10.77.0.253"], "domain": "lab.example",
            "dhcp": { "mode": "authoritative", "first": "10.77.0.200", "last": "10.77.0.250" } }],
        "volumes": [{ "name": "debian", "pool": "tank", "size_bytes": 8_589_934_592_u64, "source": {
            "location": "https://images.example/debian.qcow2", "format": "qcow2", "sha256": "ab".repeat(32) } }],
        "groups": [{ "name": "lab", "volume": "debian", "generations": [1, 2], "production": 1, "test": 2,
            "kernel_arguments": "console=ttyS0" }],
        "vdisks": [{ "name": "data-01", "pool": "tank", "size_bytes": 1 << 30 },
            { "name": "home-01", "pool": "tank", "size_bytes": 1 << 30 }],
        "menus": [{ "name": "main", "title": "Lab", "timeout_s": 5, "default": 0, "entries": [
            { "label": "Boot", "action": "image" }, { "label": "Old", "action": "generation", "generation": 1 }] }],
        "devices": [{ "name": "pc-10", "macs": ["52:54:00:00:01:0a"], "network": "lab", "address": "10.77.0.10",
            "group": "lab", "boot_mode": "overlay", "test": false, "vdisks": [], "on_failure": "retry" }],
        "destroy": []
    });
    assert_eq!(serde_json::to_value(&desired).unwrap(), expected);
}

#[test]
fn the_generation_rises_only_when_the_document_says_something_new() {
    let rig = rig();
    let one = rig.add(device(10));
    rig.published();
    assert_eq!(rig.published(), []);
    // A new version of the record, and the same bytes.
    rig.panel.change(ROOT, one.id, 1, one.value.clone()).unwrap();
    assert_eq!(rig.published(), [(rig.server.id, Published::Unchanged)]);
    rig.add(device(11));
    assert_eq!(rig.published(), [(rig.server.id, Published::Changed { generation: 2 })]);
}

#[test]
fn a_server_that_is_ahead_of_a_restored_panel_is_told_anew_above_its_number() {
    let rig = rig();
    rig.published();
    rig.add(device(10));
    rig.published();
    let observe = |generation| {
        let status = Status { generation, converged: true, ..Status::default() };
        rig.panel.observe(rig.server.id, &status).unwrap();
        let kept = rig.panel.document(ROOT, rig.server.id).unwrap().unwrap();
        (kept.acknowledged, kept.applied)
    };
    assert_eq!(observe(1), (1, 1));
    let before = document(&rig);
    assert_eq!(before.generation, 2);
    assert_eq!(observe(40), (1, 1), "a number that was never ours");
    let told = [(rig.server.id, Published::Changed { generation: 41 })];
    assert_eq!(rig.published(), told, "though nothing else changed");
    assert_eq!(document(&rig), Desired { generation: 41, ..before });
    assert_eq!(observe(40), (40, 40), "it has not read it yet");
    assert_eq!(observe(41), (41, 41));
    assert_eq!(rig.published(), []);
}

#[test]
fn a_document_that_cannot_be_made_holds_no_other_up() {
    let rig = rig();
    rig.published();
    let other: Server = value(json!({ "name": "agent-2", "role": "storage" }));
    let other = rig.panel.create(ROOT, rig.at(), other).unwrap();
    let ahead = Status { generation: i64::MAX.unsigned_abs(), ..Status::default() };
    let kept = rig.panel.store().write(|tx| {
        tx.keep_status(rig.server.id, &ahead, 0)?;
        tx.mark_stale(rig.network)
    });
    kept.unwrap();
    let published = rig.panel.publish().unwrap();
    let [(first, Err(operations::Error::Store(_))), (second, Ok(Published::Changed { .. }))] =
        published.as_slice()
    else {
        panic!("{published:?}")
    };
    assert_eq!((*first, *second), (rig.server.id, other.id));
}

#[test]
fn a_number_that_no_panel_gives_is_not_kept() {
    let rig = rig();
    rig.published();
    let observe = |generation| {
        let status = Status { generation, ..Status::default() };
        rig.panel.observe(rig.server.id, &status)
    };
    let most = 1 << 53;
    for generation in [most + 1, i64::MAX.unsigned_abs(), u64::MAX] {
        let refused = observe(generation);
        assert!(
            matches!(refused, Err(operations::Error::Generation { generation: shown }) if shown == generation),
            "{refused:?}"
        );
    }
    assert_eq!(rig.panel.document(ROOT, rig.server.id).unwrap().unwrap().status, None);
    observe(most).unwrap();
    let told = [(rig.server.id, Published::Changed { generation: most + 1 })];
    assert_eq!(rig.published(), told);
    observe(most + 1).unwrap();
}

#[test]
fn a_document_that_cannot_be_told_anew_stays() {
    let rig = rig();
    rig.published();
    let before = document(&rig);
    let mut server = rig.server.value.clone();
    // Past the operations' checks.
    server.management = Some(value(json!({ "interface": { "mac": "52:54:00:00:00:09" },
        "gateway": "192.0.2.1" })));
    rig.panel.store().write(|tx| tx.update(rig.server.id, rig.at(), &server)).unwrap();
    let refused = rig.panel.retell(rig.server.id, 1);
    let Err(operations::Error::Untold { published: Published::Faulty { .. } }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(document(&rig), before);
    rig.panel.store().write(|tx| tx.update(rig.server.id, rig.at(), &rig.server.value)).unwrap();
    rig.panel.retell(rig.server.id, 1).unwrap();
    assert_eq!(document(&rig), Desired { generation: 2, ..before });
}

#[test]
fn a_faulty_document_is_told_until_it_is_mended() {
    let rig = rig();
    rig.published();
    let mut server = rig.server.value.clone();
    // Past the operations' checks.
    server.management = Some(value(json!({ "interface": { "mac": "52:54:00:00:00:09" },
        "gateway": "192.0.2.1" })));
    let keep = |server: &Server| {
        rig.panel.store().write(|tx| {
            tx.update(rig.server.id, rig.at(), server)?;
            tx.mark_stale(rig.network)
        })
    };
    keep(&server).unwrap();
    for _ in 0..2 {
        let published = rig.published();
        assert!(matches!(published.as_slice(), [(_, Published::Faulty { .. })]), "{published:?}");
    }
    assert_eq!(document(&rig).generation, 1);
    keep(&rig.server.value).unwrap();
    assert_eq!(rig.published(), [(rig.server.id, Published::Unchanged)]);
    assert_eq!(rig.published(), []);
}

#[test]
fn a_server_is_given_only_what_it_can_hold_and_only_the_primary_gives_out_addresses() {
    let rig = rig();
    let replica: Server = value(json!({ "name": "agent-2", "role": "storage",
        "interfaces": [{ "subnet": "lab", "interface": { "mac": "52:54:00:00:00:02" }, "address": "10.77.0.2" }],
        "pools": [{ "name": "tank", "disks": [{ "serial": "C" }] }] }));
    let other: Server = value(json!({ "name": "agent-3", "role": "storage",
        "pools": [{ "name": "other", "disks": [{ "serial": "D" }] }] }));
    let mut with_disk = device(11);
    with_disk.vdisks = vec![value(json!({ "vdisk": "home-01", "use": "upper" }))];
    let site = |rig: &Rig| rig.panel.store().read(|tx| Site::read(tx, rig.network)).unwrap();
    rig.add(device(10));
    rig.add(with_disk);
    let site = site(&rig);
    let on_replica = render(&site, &replica, Vec::new());
    let names: Vec<_> = on_replica.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["pc-10"], "the other one's vDisk lies on agent-1");
    assert_eq!(on_replica.networks[0].dhcp, Dhcp::Off);
    assert_eq!((on_replica.groups.len(), on_replica.vdisks.len()), (1, 0));
    let on_other = render(&site, &other, Vec::new());
    assert!(
        on_other.volumes.is_empty() && on_other.groups.is_empty() && on_other.devices.is_empty()
    );
    for document in [on_replica, on_other, render(&site, &rig.server.value, Vec::new())] {
        assert_eq!(validate(&document), []);
    }
}

#[test]
fn data_is_destroyed_only_when_it_was_asked_for_and_forgotten_when_it_is_gone() {
    let rig = rig();
    let one = rig.add(device(10));
    rig.panel.delete(ROOT, one.id, 1, Data::Keep).unwrap();
    rig.published();
    assert_eq!(document(&rig).destroy, []);
    let one = rig.add(device(10));
    rig.panel.delete(ROOT, one.id, 1, Data::Destroy).unwrap();
    rig.published();
    assert_eq!(document(&rig).destroy, [Mark::Device("pc-10".parse().unwrap())]);
    // Wanted again.
    let one = rig.add(device(10));
    rig.published();
    assert_eq!(document(&rig).destroy, []);
    rig.panel.delete(ROOT, one.id, 1, Data::Destroy).unwrap();
    rig.published();
    let behind = Status { generation: 1, converged: true, ..Status::default() };
    rig.panel.observe(rig.server.id, &behind).unwrap();
    assert_eq!(rig.published(), [], "the server has not read it yet");
    let done =
        Status { generation: document(&rig).generation, converged: true, ..Status::default() };
    rig.panel.observe(rig.server.id, &done).unwrap();
    rig.published();
    assert_eq!(document(&rig).destroy, []);
}

#[test]
fn what_is_about_to_change_is_what_this_change_brings_and_no_more() {
    let rig = rig();
    rig.published();
    let preview = |previews: Vec<Preview>| previews.into_iter().next().unwrap();
    let vdisk: Vdisk =
        value(json!({ "name": "new", "server": "agent-1", "pool": "tank", "size_bytes": 1 << 30 }));
    let unknown = preview(rig.panel.preview_create(ROOT, rig.at(), &vdisk).unwrap());
    assert!(unknown.changes && !unknown.known && unknown.plan.steps.is_empty());
    let mut status = Status { generation: 1, converged: true, ..Status::default() };
    let pool = json!({ "guid": 7, "health": "ONLINE", "size_bytes": 1_u64 << 40, "free_bytes": 1_u64 << 40 });
    status.pools.insert("tank".parse().unwrap(), value(pool));
    status
        .links
        .push(value(json!({ "name": "eth0", "mac": "52:54:00:00:00:01", "path": null, "up": true,
        "carrier": true, "addresses": ["10.77.0.1/24"], "gateway": null })));
    rig.panel.observe(rig.server.id, &status).unwrap();
    let new = preview(rig.panel.preview_create(ROOT, rig.at(), &vdisk).unwrap());
    let steps: Vec<String> = new.plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["create zvol tank/clusterducks/vdisks/new of 1073741824 bytes"]);
    // A member more is the DHCP server's matter alone.
    let device = preview(rig.panel.preview_create(ROOT, rig.at(), &device(10)).unwrap());
    assert!(device.changes, "{device:?}");
    assert!(matches!(device.plan.steps.as_slice(), [Step::ConfigureDhcp(_)]), "{device:?}");
    let mut replica = rig.server.value.clone();
    replica.primary = false;
    let replica = rig.panel.preview_change(ROOT, rig.server.id, 1, &replica).unwrap();
    assert_eq!(preview(replica).plan.steps, [Step::StopDhcp]);
    assert_eq!(rig.published(), [], "a preview leaves no trace");
}
