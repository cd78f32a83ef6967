use super::*;
use crate::{
    noun::Place,
    store::ListQuery,
    testing::{ROOT, device, faults, rig},
};

fn outcomes(import: &Import) -> Vec<(u64, &str, &Outcome)> {
    import.lines.iter().map(|line| (line.line, line.name.as_str(), &line.outcome)).collect()
}

#[test]
fn what_is_exported_is_imported_as_it_was() {
    let rig = rig();
    let mut rich = device(10);
    rich.vdisks = vec![vdisk("home-01").unwrap(), vdisk("data-01=/srv").unwrap()];
    rich.menu = Some("main".parse().unwrap());
    rich.pinned = Some(1);
    rig.add(rich);
    rig.add(device(11));
    let text = rig.panel.export(ROOT, rig.network).unwrap();
    let again = rig.panel.import(ROOT, rig.network, &text).unwrap();
    assert_eq!(outcomes(&again), [(2, "pc-10", &Outcome::Same), (3, "pc-11", &Outcome::Same)]);
    let ids: Vec<_> = rig
        .panel
        .list::<Device>(ROOT, &ListQuery::default())
        .unwrap()
        .rows
        .iter()
        .map(|device| (device.id, device.version))
        .collect();
    rig.panel.delete_devices(ROOT, &ids, crate::operations::Data::Keep).unwrap();
    let anew = rig.panel.import(ROOT, rig.network, &text).unwrap();
    assert!(anew.lines.iter().all(|line| line.outcome == Outcome::Create));
    assert_eq!(rig.panel.export(ROOT, rig.network).unwrap(), text);
}

#[test]
fn two_hundred_devices_come_from_a_spreadsheet_with_addresses_of_their_own() {
    let rig = rig();
    let lines: String =
        (0..190).map(|i| format!("pc-{i:03};52-54-00-00-02-{i:02X};lab;;lab\r\n")).collect();
    let text = format!("\u{feff}name;macs;subnet;address;group\r\n{lines}");
    let preview = rig.panel.preview_import(ROOT, rig.network, &text).unwrap();
    assert!(preview.lines.iter().all(|line| line.outcome == Outcome::Create), "{preview:?}");
    let count = || rig.panel.count::<Device>(ROOT, &ListQuery::default()).unwrap();
    assert_eq!(count(), 0);
    assert_eq!(rig.panel.import(ROOT, rig.network, &text).unwrap(), preview);
    assert_eq!(count(), 190);
    let last = rig
        .panel
        .list::<Device>(
            ROOT,
            &ListQuery {
                sort: Some("address".to_owned()),
                descending: true,
                ..ListQuery::default()
            },
        )
        .unwrap();
    // .1 is the server's, so that 190 devices end at .191.
    assert_eq!(last.rows[0].value.address.to_string(), "10.77.0.191");
}

#[test]
fn each_faulty_line_is_told_and_nothing_is_imported() {
    let rig = rig();
    rig.add(device(10));
    let text = "name,macs,subnet,address,group,boot_mode\n\
        pc-20,52:54:00:00:02:01,lab,10.77.0.20,lab,overlay\n\
        pc-21,nonsense,lab,10.77.0.300,lab,sometimes\n\
        pc-22,52:54:00:00:02:01,lab,10.77.0.22,lab,overlay\n\
        pc-23,52:54:00:00:02:03,attic,,lab,overlay\n\
        pc-24,52:54:00:00:02:04,lab\n\
        pc-10,52:54:00:00:02:0a,lab,10.77.0.20,lab,overlay\n";
    let preview = rig.panel.preview_import(ROOT, rig.network, text).unwrap();
    let told: Vec<_> = preview
        .lines
        .iter()
        .map(|line| match &line.outcome {
            Outcome::Faulty(faults) => {
                (line.line, faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>())
            }
            _ => (line.line, Vec::new()),
        })
        .collect();
    assert_eq!(
        told,
        [
            (2, vec![]),
            (3, vec!["macs", "boot_mode", "address"]),
            (4, vec!["macs"]),
            (5, vec!["subnet"]),
            (6, vec!["file"]),
            (7, vec!["address"]),
        ]
    );
    let refused = faults(rig.panel.import(ROOT, rig.network, text));
    assert_eq!(refused[0].field, "line 3: macs");
    assert_eq!(rig.panel.count::<Device>(ROOT, &ListQuery::default()).unwrap(), 1);
}

#[test]
fn a_column_that_is_not_there_leaves_alone_what_it_would_say() {
    let rig = rig();
    let mut rich = device(10);
    rich.menu = Some("main".parse().unwrap());
    let before = rig.add(rich);
    rig.panel.import(ROOT, rig.network, "name,test\npc-10,yes\n").unwrap();
    let after = rig.panel.get(ROOT, before.id).unwrap().value;
    assert_eq!(after, Device { test: true, ..before.value });
}

#[test]
fn a_table_of_something_else_is_refused() {
    let rig = rig();
    for text in ["", "colour,name\nred,pc-10\n", "macs\n52:54:00:00:02:01\n"] {
        let told = faults(rig.panel.preview_import(ROOT, rig.network, text));
        assert_eq!(told[0].field, "file", "{text:?}");
    }
}

#[test]
fn a_viewer_exports_and_does_not_import() {
    let rig = rig();
    let viewer = rig.user("vera", "member", Some("viewer"));
    rig.panel.export(viewer, rig.network).unwrap();
    let refused = rig.panel.preview_import(viewer, rig.network, "name\n");
    assert!(matches!(refused, Err(Error::Forbidden { .. })));
    let nobody = rig.user("nemo", "member", None);
    assert!(matches!(rig.panel.export(nobody, rig.network), Err(Error::NotFound { .. })));
    assert!(matches!(rig.at(), Place::Network(_)));
}
