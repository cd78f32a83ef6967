use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    noun::{Device, Id, Menu, Place},
    testing::{self, Rig, rig, value},
};

fn sql<T: rusqlite::types::FromSql>(store: &Store, text: &str) -> T {
    store.writer.lock().unwrap().query_row(text, [], |row| row.get(0)).unwrap()
}

#[test]
fn what_was_acknowledged_is_on_the_disk() {
    let rig = rig();
    let store = rig.panel.store();
    assert_eq!(sql::<String>(store, "PRAGMA journal_mode"), "wal");
    let full = 2;
    assert_eq!(sql::<i64>(store, "PRAGMA synchronous"), full);
    assert_eq!(sql::<i64>(store, "PRAGMA foreign_keys"), 1);
}

/// The schema's statements, as SQLite has them.
fn schema(store: &Store) -> Vec<(String, Option<String>)> {
    let writer = store.writer.lock().unwrap();
    let mut statement = writer
        .prepare(
            "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY name",
        )
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn every_older_schema_is_brought_forward_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = Store::open(&folder.path().join("fresh.db")).unwrap();
    for version in 1..=migrations::MIGRATIONS.len() {
        let dump = format!("{}/testdata/schema-{version:04}.sql", env!("CARGO_MANIFEST_DIR"));
        let dump = std::fs::read_to_string(&dump).unwrap_or_else(|error| {
            panic!("capture {dump} before schema {version} is left: {error}")
        });
        let path = folder.path().join(format!("{version}.db"));
        let old = Connection::open(&path).unwrap();
        old.pragma_update(None, "foreign_keys", false).unwrap();
        old.execute_batch(&dump).unwrap();
        old.pragma_update(None, "user_version", version).unwrap();
        drop(old);
        let store = Store::open(&path).unwrap();
        assert_eq!(schema(&store), schema(&fresh), "from schema {version}");
        let devices =
            store.read(|tx| tx.page::<Device>(&Scope::All, &ListQuery::default())).unwrap().rows;
        let names: Vec<_> = devices.iter().map(|device| device.value.name.as_str()).collect();
        assert_eq!(names, ["pc-01", "pc-02"], "from schema {version}");
        assert_eq!(sql::<i64>(&store, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    }
}

#[test]
fn the_database_of_a_newer_panel_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("panel.db");
    drop(Store::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Newer { found: 99, .. })));
}

#[test]
fn the_audit_log_can_only_grow() {
    let rig = rig();
    let writer = rig.panel.store().writer.lock().unwrap();
    for statement in ["DELETE FROM audit", "UPDATE audit SET actor = 'nobody'"] {
        let refused = writer.execute(statement, []).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{statement}: {refused}");
    }
}

/// Tables that people never fill in: a clash there is a fault of ours, and stays one.
const NOT_FOR_PEOPLE: [&str; 6] = [
    "recovery_codes",
    "sessions",
    "generations",
    "destroys",
    "join_codes",
    "device_macs.device_id",
];

#[test]
fn every_unique_constraint_is_told_in_words_for_people() {
    let rig = rig();
    let writer = rig.panel.store().writer.lock().unwrap();
    let mut statement = writer
        .prepare(
            "SELECT t.name, (SELECT group_concat(t.name || '.' || i.name, ', ') FROM pragma_index_info(l.name) i)
             FROM pragma_table_list t, pragma_index_list(t.name) l
             WHERE t.schema = 'main' AND t.type = 'table' AND l.\"unique\"",
        )
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut found = BTreeSet::new();
    for row in rows {
        let (table, columns): (String, String) = row.unwrap();
        let inner = columns.ends_with("token_hash") || columns.ends_with(".position");
        if !inner && !NOT_FOR_PEOPLE.contains(&table.as_str()) {
            found.insert(format!("UNIQUE constraint failed: {columns}"));
        }
    }
    let told: BTreeSet<String> = error::CONSTRAINTS
        .iter()
        .map(|(constraint, _, _)| (*constraint).to_owned())
        .filter(|constraint| constraint.starts_with("UNIQUE"))
        .collect();
    assert_eq!(found, told);
}

#[test]
fn a_backup_is_whole_and_opens() {
    let rig = rig();
    rig.add(testing::device(10));
    let to = rig.folder.path().join("backup.db");
    rig.panel.store().back_up(&to).unwrap();
    rig.add(testing::device(11));
    let backup = Store::open(&to).unwrap();
    let page = backup.read(|tx| tx.page::<Device>(&Scope::All, &ListQuery::default())).unwrap();
    assert_eq!(page.rows.len(), 1);
    assert!(matches!(rig.panel.store().back_up(&to), Err(Error::Backup { .. })));
}

#[test]
fn a_row_that_is_no_record_is_told_and_not_dropped() {
    let rig = rig();
    let device = rig.add(testing::device(10));
    rig.panel
        .store()
        .writer
        .lock()
        .unwrap()
        .execute("UPDATE devices SET boot_mode = 'sometimes'", [])
        .unwrap();
    let read = rig.panel.store().read(|tx| tx.get(device.id));
    assert!(matches!(read, Err(Error::Damaged { id, .. }) if id == device.id.number()));
}

fn menu(name: &str) -> Menu {
    value(
        json!({ "name": name, "title": "x", "entries": [{ "label": "Boot", "action": "image" }] }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The law of paging: what is there from the first page to the last is seen once, whatever comes and goes meanwhile, and
    /// nothing is seen twice.
    #[test]
    fn paging_sees_each_row_once_while_others_come_and_go(
        stay in prop::collection::btree_set("[a-z]{1,3}", 0..20),
        others in prop::collection::vec(("[a-z]{1,3}", any::<bool>()), 0..20),
        limit in 1_usize..6,
        descending in any::<bool>(),
    ) {
        let rig = rig();
        let place = rig.at();
        let store = rig.panel.store();
        let mut ids = BTreeMap::new();
        let add = |name: &str| store.write(|tx| tx.insert(place, &menu(name))).unwrap();
        for name in &stay {
            add(name);
        }
        let mut others = others.into_iter().filter(|(name, _)| !stay.contains(name));
        let mut seen = Vec::new();
        let mut query = ListQuery { limit: Some(limit), descending, ..ListQuery::default() };
        loop {
            let page = store.read(|tx| tx.page::<Menu>(&Scope::All, &query)).unwrap();
            prop_assert!(page.rows.len() <= limit);
            seen.extend(page.rows.into_iter().map(|row| (row.value.name.to_string(), row.id)));
            let Some(next) = page.next else { break };
            query.cursor = Some(next);
            if let Some((name, goes)) = others.next() {
                let id = *ids.entry(name.clone()).or_insert_with(|| add(&name));
                if goes {
                    store.write(|tx| tx.delete(id)).unwrap();
                    ids.remove(&name);
                }
            }
        }
        for name in stay {
            prop_assert_eq!(seen.iter().filter(|(one, _)| *one == name).count(), 1, "{}", name);
        }
        let numbers: BTreeSet<Id<Menu>> = seen.iter().map(|(_, id)| *id).collect();
        prop_assert_eq!(numbers.len(), seen.len());
    }
}

#[test]
fn a_cursor_of_another_list_is_refused() {
    let rig = rig();
    for number in 10..14 {
        rig.add(testing::device(number));
    }
    let store = rig.panel.store();
    let list = |query: &ListQuery| store.read(|tx| tx.page::<Device>(&Scope::All, query));
    let mut query = ListQuery { limit: Some(2), ..ListQuery::default() };
    query.cursor = list(&query).unwrap().next;
    assert_eq!(list(&query).unwrap().rows.len(), 2);
    query.sort = Some("address".to_owned());
    assert!(matches!(list(&query), Err(Error::Field(fault)) if fault.field == "cursor"));
    query.cursor = Some(Cursor::new("x"));
    assert!(matches!(list(&query), Err(Error::Field(fault)) if fault.field == "cursor"));
    query.sort = Some("colour".to_owned());
    assert!(matches!(list(&query), Err(Error::Field(fault)) if fault.field == "sort"));
}

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
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {devices})
             INSERT INTO devices (id, network_id, name, subnet_id, address, group_id, boot_mode, test, on_failure)
             SELECT 1000 + i, w, printf('d%06d', i), w, 167772161 + i, w, 'overlay', 0, 'retry'
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

#[test]
fn places_are_where_records_live() {
    let rig = rig();
    let store = rig.panel.store();
    let network = store.read(|tx| tx.get(rig.network)).unwrap().unwrap();
    assert_eq!(network.place, Place::Network(rig.network));
    let organization = store.read(|tx| tx.get(rig.organization)).unwrap().unwrap();
    assert_eq!(organization.place, Place::Organization(rig.organization));
}
