//! What lists and documents cost with many devices. The figures are printed (`--nocapture`).

use std::time::Instant;

use super::super::*;
use crate::{
    desired::Published,
    noun::{Device, Id, Network, Stored},
    testing::{self, Rig, rig},
};

/// Devices `d000001` and so on, evenly over this many networks of the rig's organization.
fn fill(rig: &Rig, devices: u32, networks: u32) {
    let writer = rig.panel.store().writer.lock().unwrap();
    writer
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; BEGIN;
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {networks})
             INSERT INTO networks (id, organization_id, name) SELECT 1000 + i, {o}, printf('n%03d', i) FROM n;
             INSERT INTO subnets (id, network_id, name, subnet, dns, dhcp_mode)
             SELECT id, id, 'lan', '10.0.0.0/8', '[]', 'off' FROM networks WHERE id > 1000;
             INSERT INTO volumes (id, network_id, name, pool, size_bytes)
             SELECT id, id, 'debian', 'tank', 1073741824 FROM networks WHERE id > 1000;
             INSERT INTO groups (id, network_id, volume_id, name, production, kernel_arguments)
             SELECT id, id, id, 'lab', 1, '' FROM networks WHERE id > 1000;
             INSERT INTO generations SELECT id, 1 FROM networks WHERE id > 1000;
             INSERT INTO servers (id, network_id, name, role, is_primary)
             SELECT id, id, 'agent', 'both', 1 FROM networks WHERE id > 1000;
             INSERT INTO server_interfaces SELECT id, id, '{{\"path\":\"pci-1\"}}', 167772161 FROM servers WHERE id > 1000;
             INSERT INTO pools (server_id, name, layout, disks)
             SELECT id, 'tank', 'stripe', '[{{\"serial\":\"A\",\"overwrite\":false}}]' FROM servers WHERE id > 1000;
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {devices})
             INSERT INTO devices (id, network_id, name, subnet_id, address, group_id, boot_mode, test, on_failure)
             SELECT 1000 + i, w, printf('d%06d', i), w, 167772162 + i, w, 'overlay', 0, 'retry'
             FROM (SELECT i, 1001 + i % {networks} AS w FROM n);
             INSERT INTO device_macs SELECT id, network_id, 0,
                printf('52:54:00:%02x:%02x:%02x', (id >> 16) & 255, (id >> 8) & 255, id & 255)
             FROM devices WHERE id > 1000;
             COMMIT; PRAGMA synchronous = FULL;",
            o = rig.organization.number(),
        ))
        .unwrap();
}

/// What the console asks for, with the part of the list it begins in.
fn questions(devices: u32) -> Vec<(&'static str, Scope, ListQuery)> {
    let list = ListQuery::default();
    let one = Some(Id::new(1007));
    let search = |text: &str| ListQuery { search: Some(text.to_owned()), ..list.clone() };
    let few = (1001..=1005).map(Id::new).collect();
    vec![
        ("all by name", Scope::All, list.clone()),
        (
            "all by address, last first",
            Scope::All,
            ListQuery { sort: Some("address".to_owned()), descending: true, ..list.clone() },
        ),
        ("one network by name", Scope::All, ListQuery { network: one, ..list.clone() }),
        (
            "one network by address",
            Scope::All,
            ListQuery { network: one, sort: Some("address".to_owned()), ..list.clone() },
        ),
        ("five networks of a technician", Scope::Networks(few), list.clone()),
        ("an organization's", Scope::Organization(Id::new(1)), list.clone()),
        (
            "a group of one network",
            Scope::All,
            ListQuery {
                network: one,
                filters: vec![("group".to_owned(), "lab".to_owned())],
                ..list.clone()
            },
        ),
        ("search: end of a name", Scope::All, search(&format!("{:03}", devices % 1000))),
        ("search: a card", Scope::All, search("52:54:00:00:0f")),
        ("search: nothing", Scope::All, search("nothing has this")),
    ]
}

fn measure(devices: u32) -> Vec<(String, f64)> {
    let rig = rig();
    fill(&rig, devices, 50);
    let store = rig.panel.store();
    let mut figures = Vec::new();
    for (what, scope, mut query) in questions(devices) {
        let page = |query: &ListQuery| store.read(|tx| tx.page::<Device>(&scope, query)).unwrap();
        let first = page(&query);
        query.cursor = first.next.clone();
        let mut times: Vec<f64> = (0..20)
            .map(|_| {
                let began = Instant::now();
                page(&query);
                began.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{devices} devices, {what}: {} rows, median {:.2} ms, worst {:.2} ms",
            first.rows.len(),
            times[10],
            times[19]
        );
        figures.push((what.to_owned(), times[10]));
    }
    let began = Instant::now();
    let count = store.read(|tx| tx.count::<Device>(&Scope::All, &ListQuery::default())).unwrap();
    assert_eq!(count, u64::from(devices));
    println!("{devices} devices, counted: {:.2} ms", began.elapsed().as_secs_f64() * 1000.0);
    figures
}

fn told(what: &str, began: Instant) {
    println!("{what}: {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
}

/// Saving one device on one of 50 networks, and telling all servers, then the one.
fn measure_saving(devices: u32) {
    let rig = rig();
    fill(&rig, devices, 50);
    let began = Instant::now();
    let published = rig.published();
    told(&format!("{devices} devices, the documents of 51 servers rendered"), began);
    let changed = |(_, what): &(_, Published)| matches!(what, Published::Changed { .. });
    assert!(published.iter().all(changed), "{published:?}");
    let network: Id<Network> = Id::new(1007);
    let page = |rig: &Rig| {
        let query = ListQuery { network: Some(network), limit: Some(1), ..ListQuery::default() };
        rig.panel.list::<Device>(testing::ROOT, &query).unwrap().rows.remove(0)
    };
    let Stored { id, version, mut value, .. } = page(&rig);
    value.test = true;
    let began = Instant::now();
    rig.panel.change(testing::ROOT, id, version, value).unwrap();
    told(&format!("{devices} devices, one saved"), began);
    let began = Instant::now();
    assert_eq!(rig.published(), [(Id::new(1007), Published::Changed { generation: 2 })]);
    told(
        &format!("{devices} devices, its server's document of {} devices rendered", devices / 50),
        began,
    );
}

#[test]
fn one_change_tells_the_servers_of_one_network() {
    measure_saving(5_000);
    measure_saving(100_000);
}

/// The bound is wide, for a machine that is busy with other tests; what a page costs is printed.
#[test]
fn a_page_of_a_hundred_thousand_devices_does_not_read_them_all() {
    measure(5_000);
    for (what, median_ms) in measure(100_000) {
        assert!(median_ms < 250.0, "{what}: {median_ms} ms");
    }
}

#[test]
fn a_page_is_read_in_the_order_of_an_index_and_never_sorted() {
    let rig = rig();
    fill(&rig, 5_000, 50);
    let writer = rig.panel.store().writer.lock().unwrap();
    for (column, within) in [
        ("t.name", "1"),
        ("t.address", "1"),
        ("t.name", "t.network_id = 1007"),
        ("t.address", "t.network_id = 1007"),
        ("t.name", "+t.network_id IN (1001, 1002)"),
    ] {
        for (order, beyond) in [("ASC", ">"), ("DESC", "<")] {
            let text = format!(
                "EXPLAIN QUERY PLAN SELECT {} FROM devices t WHERE {within} AND ({column}, t.id) {beyond} (1, 1)
                 ORDER BY {column} {order}, t.id {order} LIMIT 51",
                record::columns::<Device>()
            );
            let mut statement = writer.prepare(&text).unwrap();
            let rows = statement.query_map([], |row| row.get(3)).unwrap();
            let plan: Vec<String> = rows.collect::<Result<_, _>>().unwrap();
            let outer = plan.first().unwrap();
            assert!(outer.starts_with("SEARCH t USING INDEX"), "{within} {column}: {plan:?}");
            assert!(!plan.iter().any(|line| line == "USE TEMP B-TREE FOR ORDER BY"), "{plan:?}");
        }
    }
}
