mod access;

use serde_json::json;

use super::*;
use crate::{
    access::{Limit, Rank, Role},
    noun::{Device, Group, Network, Organization, Server, Subnet, Vdisk, Volume},
    store::Digest,
    testing::{ROOT, device, faults, fields, rig, value},
};

#[test]
fn a_record_comes_back_as_it_was_kept() {
    let rig = rig();
    let sent: Device = value(
        json!({ "name": "pc-10", "macs": ["52:54:00:00:02:02", "52:54:00:00:02:01"],
        "network": "lab", "address": "10.77.0.10", "group": "lab", "boot_mode": "overlay", "test": true,
        "pinned": 2, "menu": "main", "on_failure": "shell", "vdisks": [
            { "vdisk": "home-01", "use": "upper" }, { "vdisk": "data-01", "use": "mount", "path": "/srv/data" }] }),
    );
    let kept = rig.add(sent.clone());
    assert_eq!(kept.value, sent);
    let mut next = sent.clone();
    next.macs.reverse();
    next.vdisks.pop();
    next.pinned = None;
    let kept = rig.panel.change(ROOT, kept.id, kept.version, next.clone()).unwrap();
    assert_eq!((kept.value, kept.version), (next, 2));
}

#[test]
fn a_subnet_and_a_server_come_back_as_they_were_kept() {
    let rig = rig();
    let subnet: Subnet =
        value(json!({ "name": "wide", "subnet": "10.78.0.0/16", "dhcp": { "mode": "proxy" } }));
    let kept = rig.panel.create(ROOT, rig.at(), subnet.clone()).unwrap();
    assert_eq!(kept.value, subnet);
    let mut server = rig.server.value.clone();
    server.management = Some(value(json!({ "interface": { "path": "pci-0000:00:03.0" },
        "address": "192.0.2.5/24", "gateway": "192.0.2.1" })));
    server
        .interfaces
        .push(value(json!({ "subnet": "wide", "interface": { "path": "pci-0000:00:04.0" },
        "address": "10.78.0.1" })));
    let kept = rig.panel.change(ROOT, rig.server.id, 1, server.clone()).unwrap();
    assert_eq!(kept.value, server);
}

#[test]
fn a_stale_change_is_refused_and_told_what_is_there_now() {
    let rig = rig();
    let device = rig.add(device(10));
    let mut mine = device.value.clone();
    mine.test = true;
    rig.panel.change(ROOT, device.id, 1, mine.clone()).unwrap();
    let late = rig.panel.change(ROOT, device.id, 1, device.value.clone());
    let Err(Error::Conflict { version: 2, current, .. }) = late else { panic!("{late:?}") };
    assert_eq!(serde_json::from_value::<Device>(current).unwrap(), mine);
    let late = rig.panel.delete(ROOT, device.id, 1, Data::Keep);
    assert!(matches!(late, Err(Error::Conflict { version: 2, .. })));
}

#[test]
fn what_something_hangs_on_is_not_deleted() {
    let rig = rig();
    let one = rig.add(device(10));
    let refused = rig.panel.delete(ROOT, rig.group.id, 1, Data::Keep);
    let Err(Error::InUse { dependents, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(
        dependents,
        [Dependent { noun: Noun::Device, id: one.id.number(), name: "pc-10".into() }]
    );
    assert_eq!(rig.panel.dependents(ROOT, rig.group.id).unwrap(), dependents);
    let viewer = rig.user("vera", "member", Some("viewer"));
    let refused = rig.panel.dependents(viewer, rig.group.id);
    assert!(matches!(refused, Err(Error::Forbidden { verb: Verb::Delete, .. })), "{refused:?}");
    let network = rig.panel.dependents(ROOT, rig.network).unwrap();
    assert_eq!(network.len(), 8, "{network:?}");
    rig.panel.delete(ROOT, one.id, 1, Data::Keep).unwrap();
    rig.panel.delete(ROOT, rig.group.id, 1, Data::Keep).unwrap();
}

#[test]
fn every_fault_is_told_at_its_field() {
    let rig = rig();
    rig.add(device(10));
    let bad = |change: serde_json::Value| {
        let mut json = serde_json::to_value(device(11)).unwrap();
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let device: Device = value(json);
        fields(rig.panel.create(ROOT, rig.at(), device))
    };
    assert_eq!(bad(json!({ "name": "pc-10" })), ["name"]);
    assert_eq!(bad(json!({ "macs": ["52:54:00:00:01:0a"] })), ["macs"]);
    assert_eq!(bad(json!({ "macs": [] })), ["macs"]);
    assert_eq!(bad(json!({ "address": "10.77.0.10" })), ["address"]);
    assert_eq!(bad(json!({ "address": "10.77.1.10" })), ["address"]);
    assert_eq!(bad(json!({ "address": "10.77.0.255" })), ["address"]);
    assert_eq!(bad(json!({ "address": "10.77.0.1" })), ["address"], "the server's");
    assert_eq!(bad(json!({ "address": "10.77.0.254" })), ["address"], "the gateway's");
    assert_eq!(bad(json!({ "address": "10.77.0.210" })), ["address"], "of the range");
    assert_eq!(
        bad(json!({ "network": "x", "group": "y", "menu": "z" })),
        ["network", "group", "menu"]
    );
    assert_eq!(bad(json!({ "pinned": 3 })), ["pinned"]);
    assert_eq!(bad(json!({ "vdisks": [{ "vdisk": "x", "use": "upper" }] })), ["vdisks[0].vdisk"]);
    let persistent =
        json!({ "boot_mode": "persistent", "vdisks": [{ "vdisk": "home-01", "use": "upper" }] });
    assert_eq!(bad(persistent), ["vdisks[0].use"]);
}

#[test]
fn an_address_is_refused_that_stands_in_another_network_on_the_same_wire() {
    let rig = rig();
    rig.add(device(10));
    let south = rig
        .panel
        .create::<Network>(ROOT, rig.home(), value(json!({ "name": "south" })))
        .unwrap()
        .id
        .place();
    let subnet = |lan: Option<&str>, name: &str| -> Subnet {
        value(json!({ "name": name, "subnet": "10.77.0.0/25", "lan": lan }))
    };
    let same = rig.panel.create(ROOT, south, subnet(Some("north"), "lab")).unwrap();
    rig.panel
        .create(
            ROOT,
            south,
            value::<Volume>(json!({ "name": "v", "pool": "tank", "size_bytes": 1 << 20 })),
        )
        .unwrap();
    let group: Group =
        value(json!({ "name": "lab", "volume": "v", "generations": [1], "production": 1 }));
    rig.panel.create(ROOT, south, group).unwrap();
    let told = faults(rig.panel.create(ROOT, south, device(10)));
    assert_eq!(told[0].message, "10.77.0.10 is taken: the device pc-10 of north has it");
    // Somebody who may not see the other network does not learn what stands in it.
    let user: User = value(json!({ "name": "tina", "full_name": "T", "standing": "member",
        "roles": [{ "network": "south", "role": "technician" }] }));
    let technician = Actor::User(rig.panel.create(ROOT, rig.home(), user).unwrap().id);
    let told = faults(rig.panel.create(technician, south, device(10)));
    assert_eq!(
        told[0].message,
        "10.77.0.10 is taken: a machine of another network on this LAN has it"
    );
    // Free here is what is free on the wire: .1 is the other network's server.
    let free = rig.panel.next_free_address(ROOT, same.id).unwrap();
    assert_eq!(free.unwrap().to_string(), "10.77.0.2");
    rig.panel.change(ROOT, same.id, 1, subnet(None, "lab")).unwrap();
    rig.panel.create(ROOT, south, device(10)).unwrap();
    let told = faults(rig.panel.change(ROOT, same.id, 2, subnet(Some("north"), "lab")));
    let messages: Vec<_> = told.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "on this LAN 10.77.0.10 would stand twice: the device pc-10 of north has it",
            "on this LAN 10.77.0.10 would stand twice: the device pc-10 of south has it",
        ]
    );
}

#[test]
fn ranges_and_gateways_of_subnets_on_one_wire_keep_out_of_each_other_s_way() {
    let rig = rig();
    let south = value::<Network>(json!({ "name": "south" }));
    let south = rig.panel.create(ROOT, rig.home(), south).unwrap().id.place();
    rig.add(device(10));
    let range = |last: u8| json!({ "mode": "authoritative", "first": "10.77.0.100", "last": format!("10.77.0.{last}") });
    let subnet = |lan: Option<&str>, gateway: &str, dhcp: serde_json::Value| -> Subnet {
        value(
            json!({ "name": "lab", "subnet": "10.77.0.0/24", "lan": lan, "gateway": gateway, "dhcp": dhcp }),
        )
    };
    let off = || json!({ "mode": "off" });
    let lan = Some("north");
    for (gateway, dhcp, twice) in [
        ("10.77.0.254", range(220), "10.77.0.200"),
        ("10.77.0.210", off(), "10.77.0.210"),
        ("10.77.0.10", off(), "10.77.0.10"),
    ] {
        let told = faults(rig.panel.create(ROOT, south, subnet(lan, gateway, dhcp)));
        assert_eq!(told[0].field, "lan");
        let begins = format!("on this LAN {twice} would stand twice: ");
        assert!(told[0].message.starts_with(&begins), "{told:?}");
    }
    let there = rig.panel.create(ROOT, south, subnet(lan, "10.77.0.254", range(150))).unwrap();
    // Back onto the wire with a gateway that stands in the other's range, and with a range that holds the other's gateway.
    rig.panel.change(ROOT, there.id, 1, subnet(None, "10.77.0.210", off())).unwrap();
    assert_eq!(
        fields(rig.panel.change(ROOT, there.id, 2, subnet(lan, "10.77.0.210", off()))),
        ["lan"]
    );
    let wide = json!({ "mode": "authoritative", "first": "10.77.0.251", "last": "10.77.0.254" });
    assert_eq!(
        fields(rig.panel.change(ROOT, there.id, 2, subnet(lan, "10.77.0.1", wide))),
        ["lan"]
    );
}

#[test]
fn a_change_of_a_subnet_keeps_what_it_holds() {
    let rig = rig();
    rig.add(device(100));
    let with = |key: &str, to: serde_json::Value| {
        let mut subnet = serde_json::to_value(&rig.subnet.value).unwrap();
        subnet[key] = to;
        rig.panel.change(ROOT, rig.subnet.id, 1, value::<Subnet>(subnet))
    };
    let range =
        |first: &str| json!({ "mode": "authoritative", "first": first, "last": "10.77.0.250" });
    assert_eq!(fields(with("dhcp", range("10.77.0.90"))), ["dhcp"]);
    assert_eq!(fields(with("dhcp", range("10.77.1.90"))), ["dhcp"]);
    assert_eq!(fields(with("gateway", json!("10.77.0.100"))), ["gateway"]);
    assert_eq!(fields(with("gateway", json!("10.78.0.100"))), ["gateway"]);
    assert_eq!(fields(with("subnet", json!("10.77.0.1/24"))), ["subnet"]);
    with("dhcp", range("10.77.0.101")).unwrap();
    let overlapping: Subnet = value(json!({ "name": "more", "subnet": "10.77.0.128/25" }));
    assert_eq!(fields(rig.panel.create(ROOT, rig.at(), overlapping)), ["subnet"]);
}

#[test]
fn a_server_is_checked_as_its_agent_would() {
    let rig = rig();
    let with = |key: &str, to: serde_json::Value| {
        let mut server = serde_json::to_value(&rig.server.value).unwrap();
        server[key] = to;
        fields(rig.panel.change(ROOT, rig.server.id, 1, value::<Server>(server)))
    };
    assert_eq!(
        with(
            "pools",
            json!([{ "name": "tank", "layout": "raidz1", "disks": [{ "serial": "A" }] }])
        ),
        ["pools[0].disks"]
    );
    let interface = |subnet: &str, address: &str| json!([{ "subnet": subnet, "interface": { "mac": "52:54:00:00:00:01" }, "address": address }]);
    assert_eq!(with("interfaces", interface("x", "10.77.0.1")), ["interfaces[0].subnet"]);
    assert_eq!(with("interfaces", interface("lab", "10.78.0.1")), ["interfaces[0].address"]);
    assert_eq!(with("interfaces", interface("lab", "10.77.0.201")), ["interfaces[0].dhcp"]);
    let management =
        |key: &str, to: &str| json!({ "interface": { "mac": "52:54:00:00:00:09" }, key: to });
    assert_eq!(with("management", management("gateway", "192.0.2.1")), ["management.gateway"]);
    rig.add(device(10));
    assert_eq!(with("interfaces", interface("lab", "10.77.0.10")), ["interfaces[0].address"]);
    let other: Server = value(json!({ "name": "agent-2", "role": "storage", "primary": true }));
    assert_eq!(fields(rig.panel.create(ROOT, rig.at(), other)), ["primary"]);
    // vDisks lie in the pool.
    let mut bare = rig.server.value.clone();
    bare.pools.clear();
    assert_eq!(fields(rig.panel.change(ROOT, rig.server.id, 1, bare)), ["pools", "pools"]);
}

#[test]
fn what_would_lose_data_by_a_new_name_keeps_its_name() {
    let rig = rig();
    let id = rig.panel.store.read(|tx| tx.find::<Vdisk>(rig.at(), "home-01")).unwrap().unwrap();
    let vdisk = rig.panel.get(ROOT, id).unwrap();
    let mut other = vdisk.value.clone();
    other.name = "home-02".parse().unwrap();
    other.size_bytes -= 1 << 20;
    assert_eq!(fields(rig.panel.change(ROOT, id, 1, other)), ["name", "size_bytes"]);
    let mut group = rig.group.value.clone();
    group.name = "other".parse().unwrap();
    assert_eq!(fields(rig.panel.change(ROOT, rig.group.id, 1, group)), ["name"]);
    let mut pinned = device(10);
    pinned.pinned = Some(2);
    rig.add(pinned);
    let mut group = rig.group.value.clone();
    group.generations = vec![1];
    group.test = None;
    assert_eq!(fields(rig.panel.change(ROOT, rig.group.id, 1, group)), ["generations"]);
}

#[test]
fn the_log_has_who_what_before_and_after() {
    let rig = rig();
    let technician = rig.user("tina", "member", Some("technician"));
    let kept = rig.panel.create(technician, rig.at(), device(10)).unwrap();
    let mut next = kept.value.clone();
    next.test = true;
    rig.panel.change(technician, kept.id, 1, next.clone()).unwrap();
    rig.panel.delete(technician, kept.id, 2, Data::Keep).unwrap();
    let query = EntryQuery { noun: Some(Noun::Device), ..EntryQuery::default() };
    let entries = rig.panel.audit(ROOT, &query).unwrap().rows;
    let verbs: Vec<_> = entries.iter().map(|entry| entry.verb).collect();
    assert_eq!(verbs, [Verb::Delete, Verb::Change, Verb::Create]);
    assert!(entries.iter().all(|entry| entry.actor == "tina" && entry.object == "pc-10"));
    assert_eq!(entries[1].before, Some(serde_json::to_value(&kept.value).unwrap()));
    assert_eq!(entries[1].after, Some(serde_json::to_value(&next).unwrap()));
    assert_eq!((&entries[0].after, &entries[2].before), (&None, &None));
    let admin = rig.user("anna", "member", Some("admin"));
    assert_eq!(rig.panel.audit(technician, &query).unwrap().rows.len(), 0);
    assert_eq!(rig.panel.audit(admin, &query).unwrap().rows.len(), 3);
    let mut paged = EntryQuery { limit: Some(2), ..query };
    paged.cursor = rig.panel.audit(admin, &paged).unwrap().next;
    assert_eq!(rig.panel.audit(admin, &paged).unwrap().rows.len(), 1);
}

#[test]
fn the_log_has_what_changes_no_value_too() {
    let rig = rig();
    let panel = &rig.panel;
    let last = || {
        let entry = panel.audit(ROOT, &EntryQuery::default()).unwrap().rows.remove(0);
        (entry.actor, entry.object, entry.after.unwrap().to_string(), entry.network.is_some())
    };
    let says = |actor: &str, object: &str, after: serde_json::Value, inside| {
        assert_eq!(last(), (actor.to_owned(), object.to_owned(), after.to_string(), inside));
    };
    let one = rig.add(device(10));
    panel.delete(ROOT, one.id, 1, Data::Destroy).unwrap();
    says("test", "pc-10", json!({ "destroy": "device:pc-10" }), true);
    let mark = one.value.mark().unwrap();
    panel.destroy(ROOT, rig.network, &mark).unwrap();
    says("test", "north", json!({ "destroy": "device:pc-10" }), true);
    let digest = Digest([1; 32]);
    let code = panel.make_join_code(ROOT, rig.network, None, digest, 10_000, true).unwrap();
    says("test", "north", json!({ "join_code": code.id, "changed": "made" }), true);
    panel.delete_join_code(ROOT, rig.network, code.id).unwrap();
    says("test", "north", json!({ "join_code": code.id, "changed": "deleted" }), true);
    let server = Some(rig.server.id);
    let job = panel.begin_job(ROOT, Some(rig.network), server, "import").unwrap().id;
    says("test", "agent-1", json!({ "job": job, "kind": "import", "changed": "begun" }), true);
    panel.cancel_job(ROOT, job).unwrap();
    says("test", "agent-1", json!({ "job": job, "kind": "import", "changed": "cancelled" }), true);
    let vera = rig.user("vera", "member", Some("admin"));
    let Actor::User(id) = vera else { unreachable!() };
    panel.begin_session(id, digest, 10_000, "192.0.2.1", "Firefox").unwrap();
    panel.end_sessions(ROOT, id, None).unwrap();
    says("test", "vera", json!({ "changed": "sessions ended" }), false);
    panel.set_recovery_codes(vera, id, &[digest]).unwrap();
    panel.use_recovery_code(id, digest).unwrap();
    says("sign-in", "vera", json!({ "changed": "a recovery code used" }), false);
    let limit = Limit { most: Rank::Admin, network: None };
    panel.make_token(vera, "Nightly", digest, limit, u64::MAX >> 1).unwrap();
    let token = panel.token(digest).unwrap().unwrap();
    panel.create(token, rig.at(), device(11)).unwrap();
    let query = EntryQuery { search: Some("nightly".into()), ..EntryQuery::default() };
    let found = panel.audit(ROOT, &query).unwrap().rows;
    assert_eq!((found.len(), found[0].actor.as_str()), (1, "vera by token Nightly"));
}

#[test]
fn a_refused_change_leaves_no_trace() {
    let rig = rig();
    let before = rig.panel.audit(ROOT, &EntryQuery::default()).unwrap();
    let mut bad = device(10);
    bad.address = "10.99.0.1".parse().unwrap();
    faults(rig.panel.create(ROOT, rig.at(), bad));
    assert_eq!(rig.panel.audit(ROOT, &EntryQuery::default()).unwrap(), before);
    assert_eq!(rig.panel.count::<Device>(ROOT, &ListQuery::default()).unwrap(), 0);
}

#[test]
fn limits_of_an_organization_hold() {
    let rig = rig();
    let mut organization = rig.panel.get(ROOT, rig.organization).unwrap();
    organization.value.most_devices = Some(1);
    organization.value.most_networks = Some(1);
    rig.panel.change(ROOT, rig.organization, 1, organization.value).unwrap();
    rig.add(device(10));
    assert_eq!(fields(rig.panel.create(ROOT, rig.at(), device(11))), ["name"]);
    let network: Network = value(json!({ "name": "south" }));
    assert_eq!(fields(rig.panel.create(ROOT, rig.home(), network)), ["name"]);
}

#[test]
fn devices_are_changed_together_or_not_at_all() {
    let rig = rig();
    let devices: Vec<_> = (10..15).map(|number| rig.add(device(number))).collect();
    let ids: Vec<_> = devices.iter().map(|device| (device.id, device.version)).collect();
    let patch = DevicePatch { test: Some(true), pinned: Some(2), ..DevicePatch::default() };
    let changed = rig.panel.change_devices(ROOT, &ids, &patch).unwrap();
    assert!(changed.iter().all(|device| device.value.test && device.value.pinned == Some(2)));
    let patch = DevicePatch { menu: Some("none".parse().unwrap()), ..DevicePatch::default() };
    let ids: Vec<_> = changed.iter().map(|device| (device.id, device.version)).collect();
    let told = fields(rig.panel.change_devices(ROOT, &ids, &patch));
    assert_eq!(told, ["pc-10.menu", "pc-11.menu", "pc-12.menu", "pc-13.menu", "pc-14.menu"]);
    let mut late = ids.clone();
    late[4].1 = 1;
    let refused = rig.panel.delete_devices(ROOT, &late, Data::Keep);
    assert!(matches!(refused, Err(Error::Conflict { .. })));
    assert_eq!(rig.panel.count::<Device>(ROOT, &ListQuery::default()).unwrap(), 5);
    rig.panel.delete_devices(ROOT, &ids, Data::Keep).unwrap();
    assert_eq!(rig.panel.count::<Device>(ROOT, &ListQuery::default()).unwrap(), 0);
}

#[test]
fn roles_name_networks_of_the_users_own_organization() {
    let rig = rig();
    let other: Organization = value(json!({ "name": "Elsewhere" }));
    let elsewhere = Place::Organization(rig.panel.create(ROOT, Place::Panel, other).unwrap().id);
    let user: User = value(json!({ "name": "x", "full_name": "X", "standing": "member",
        "roles": [{ "network": "north", "role": "admin" }] }));
    assert_eq!(fields(rig.panel.create(ROOT, elsewhere, user.clone())), ["roles"]);
    let kept = rig.panel.create(ROOT, rig.home(), user).unwrap();
    assert_eq!(kept.value.roles[0].role, Role::Admin);
}
