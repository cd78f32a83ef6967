mod figures;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    noun::{Device, Id, Menu, Place, Tunnel},
    testing::{self, rig, value},
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
fn what_was_taken_for_the_host_of_a_tunnel_and_is_none_is_brought_forward_as_unknown() {
    let folder = tempfile::tempdir().unwrap();
    for (was, is) in [("relay:22", "unknown.invalid"), ("2001:db8::7", "2001:db8::7")] {
        let path = folder.path().join(format!("{}.db", is));
        let old = Connection::open(&path).unwrap();
        old.pragma_update(None, "foreign_keys", false).unwrap();
        old.execute_batch(include_str!("../../testdata/schema-0004.sql")).unwrap();
        old.execute("UPDATE tunnels SET host = ?", [was]).unwrap();
        old.pragma_update(None, "user_version", 4).unwrap();
        drop(old);
        let store = Store::open(&path).unwrap();
        let tunnel = store.read(|tx| tx.get(Id::<Tunnel>::new(1))).unwrap().unwrap();
        assert_eq!(tunnel.value.host.as_str(), is);
    }
}

#[test]
fn a_status_that_another_version_kept_is_none() {
    let rig = rig();
    rig.published();
    let writer = rig.panel.store().writer.lock().unwrap();
    writer.execute("UPDATE documents SET status = '{\"version\":\"0\"}'", []).unwrap();
    drop(writer);
    let document = rig.panel.store().read(|tx| tx.document(rig.server.id)).unwrap().unwrap();
    assert_eq!((document.generation, document.status), (1, None));
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

#[test]
fn the_number_of_what_was_deleted_is_not_given_again() {
    let rig = rig();
    let store = rig.panel.store();
    let add = || store.write(|tx| tx.insert(rig.at(), &menu("newest"))).unwrap();
    let gone = add();
    store.write(|tx| tx.delete(gone)).unwrap();
    assert!(add().number() > gone.number());
    // The pools' numbers stay inside, and the others have their server's, code's or tunnel's.
    let inside = "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table'
        AND sql LIKE '%INTEGER PRIMARY KEY%' AND sql NOT LIKE '%AUTOINCREMENT%'";
    let expected = "pools,documents,joins,boxes,contacts,settings,pairings,pairing_codes";
    assert_eq!(sql::<String>(store, inside), expected);
}

/// Tables that people never fill in: a clash there is a fault of ours, and stays one.
const NOT_FOR_PEOPLE: [&str; 14] = [
    "alerts",
    "boots",
    "network_samples",
    "server_samples",
    "told",
    "recovery_codes",
    "sessions",
    "generations",
    "destroys",
    "join_codes",
    "certificates",
    "creations",
    "device_macs.device_id",
    "servers.forward_port",
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
        let named = |name: &str| NOT_FOR_PEOPLE.contains(&name);
        if !inner && !named(&table) && !named(&columns) {
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

#[test]
fn places_are_where_records_live() {
    let rig = rig();
    let store = rig.panel.store();
    let network = store.read(|tx| tx.get(rig.network)).unwrap().unwrap();
    assert_eq!(network.place, Place::Network(rig.network));
    let organization = store.read(|tx| tx.get(rig.organization)).unwrap().unwrap();
    assert_eq!(organization.place, Place::Organization(rig.organization));
}
