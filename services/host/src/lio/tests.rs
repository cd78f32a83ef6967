use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use model::boot::{Backing, Secret};

use super::*;

/// Lays the captured tree out as files.
fn tree() -> (tempfile::TempDir, Lio) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("target");
    let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
    for line in include_str!("../../testdata/lio-tree.txt").lines().filter(|l| !l.starts_with('#'))
    {
        let mut fields = line.splitn(3, ' ');
        let (kind, path) = (fields.next().unwrap(), fields.next().unwrap());
        match (kind, fields.next()) {
            ("dir", None) => fs::create_dir_all(root.join(path)).unwrap(),
            ("link", Some(to)) => links.push((root.join(path), root.join(to))),
            ("file", Some(text)) => {
                let text: String = serde_json::from_str(text).unwrap();
                fs::File::create(root.join(path)).unwrap().write_all(text.as_bytes()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    for (path, to) in links {
        symlink(to, path).unwrap();
    }
    let lio = Lio::new(folder.path());
    (folder, lio)
}

/// Writes an attribute, and answers what stood there.
fn put(folder: &tempfile::TempDir, path: &str, text: &str) -> String {
    let path = folder.path().join("target").join(path);
    let before = fs::read_to_string(&path).unwrap();
    fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    before
}

fn generation() -> Iqn {
    Iqn::generation(&"lab".parse().unwrap(), 1)
}

fn pc(number: u32) -> Iqn {
    Iqn::initiator(&format!("pc-0{number}").parse().unwrap())
}

#[test]
fn a_captured_tree_reads_as_the_exports_that_made_it() {
    let (_folder, lio) = tree();
    let targets = lio.observe().unwrap();
    assert_eq!(targets.len(), 2);
    let shared = &targets[&generation()];
    let export = shared.export.as_ref().unwrap();
    assert_eq!(
        export.backing,
        Backing::Snapshot("tank/clusterducks/devices/c@g1".parse().unwrap())
    );
    assert_eq!(export.serial, "cd000000000000000c");
    assert_eq!(export.acls.keys().cloned().collect::<Vec<_>>(), [pc(1), pc(2)]);
    assert_eq!(
        *export.acls[&pc(2)],
        Chap {
            user: "user-2".to_owned(),
            password: Secret::new("password00000002"),
            target_user: "target-2".to_owned(),
            target_password: Secret::new("mutual-p00000002"),
        }
    );
    assert_eq!(shared.sessions, [(pc(1), Some(Ipv4Addr::LOCALHOST))].into());
    assert_eq!(shared.portals, BTreeSet::from(["127.0.0.1:3260".parse().unwrap()]));
    let own = &targets[&Iqn::device(&"a".parse().unwrap())];
    assert!(matches!(own.export.as_ref().unwrap().backing, Backing::Zvol(_)));
    assert_eq!(own.sessions, BTreeMap::new());
}

#[test]
fn one_attribute_that_differs_makes_a_target_not_whole() {
    let group = "iscsi/iqn.2026-01.org.clusterducks:generation.lab.g1/tpgt_1";
    let changes = [
        (format!("{group}/attrib/authentication"), "0\n"),
        (format!("{group}/attrib/generate_node_acls"), "1\n"),
        (format!("{group}/attrib/demo_mode_discovery"), "1\n"),
        (format!("{group}/param/AuthMethod"), "CHAP,None\n"),
        (format!("{group}/enable"), "0\n"),
        (format!("{group}/dynamic_sessions"), "iqn.2003-01.org.example:host\n"),
        ("core/iblock_2601/generation.lab.g1/enable".to_owned(), "0\n"),
        ("core/iblock_2601/generation.lab.g1/udev_path".to_owned(), "/dev/sda\n"),
        ("core/iblock_2601/generation.lab.g1/info".to_owned(), "x readonly: 0\n"),
        ("core/iblock_2601/generation.lab.g1/attrib/emulate_pr".to_owned(), "1\n"),
    ];
    let (folder, lio) = tree();
    for (path, value) in changes {
        let before = put(&folder, &path, value);
        assert_ne!(before, value, "{path}");
        assert_eq!(lio.observe().unwrap()[&generation()].export, None, "{path} = {value:?}");
        put(&folder, &path, &before);
    }
    assert!(lio.observe().unwrap()[&generation()].export.is_some());
}

#[test]
fn an_entry_that_is_not_whole_is_nobodys_and_costs_the_others_nothing() {
    let target = "iscsi/iqn.2026-01.org.clusterducks:generation.lab.g1/tpgt_1";
    let acl = format!("{target}/acls/iqn.2026-01.org.clusterducks:initiator.pc-01");
    let (folder, lio) = tree();
    let whole = lio.observe().unwrap()[&generation()].export.clone().unwrap();
    for (path, value) in [
        ("auth/password", "\n"),
        ("auth/userid_mutual", "\n"),
        ("attrib/authentication", "0\n"),
        ("lun_0/write_protect", "0\n"),
    ] {
        let path = format!("{acl}/{path}");
        let before = put(&folder, &path, value);
        let seen = lio.observe().unwrap()[&generation()].export.clone().unwrap();
        assert_eq!(seen.acls[&pc(1)].password, Secret::new(""), "{path}");
        assert_eq!(seen.acls[&pc(2)], whole.acls[&pc(2)], "{path}");
        assert_eq!(seen.backing, whole.backing);
        put(&folder, &path, &before);
    }
    assert_eq!(lio.observe().unwrap()[&generation()].export, Some(whole));
}

#[test]
fn a_second_object_beside_ours_makes_a_target_not_whole() {
    let group = "target/iscsi/iqn.2026-01.org.clusterducks:generation.lab.g1";
    for extra in ["tpgt_2", "tpgt_1/lun/lun_1", "tpgt_1/np/[::1]:3260"] {
        let (folder, lio) = tree();
        fs::create_dir(folder.path().join(group).join(extra)).unwrap();
        assert_eq!(lio.observe().unwrap()[&generation()].export, None, "{extra}");
    }
}

#[test]
fn targets_of_others_are_not_shown_and_a_lone_backing_object_of_ours_is() {
    let (folder, lio) = tree();
    let root = folder.path().join("target");
    fs::create_dir(root.join("iscsi/iqn.2003-01.org.example:other")).unwrap();
    fs::create_dir(root.join("core/iblock_2601/vdisk.lost")).unwrap();
    let targets = lio.observe().unwrap();
    assert_eq!(targets.len(), 3);
    assert_eq!(targets[&Iqn::vdisk(&"lost".parse().unwrap())].export, None);
}

#[test]
fn without_lio_nothing_is_exported_and_an_export_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let lio = Lio::new(folder.path());
    assert!(lio.observe().unwrap().is_empty());
    let (_captured, whole) = tree();
    let export = whole.observe().unwrap()[&generation()].export.clone().unwrap();
    let error = lio.export(&export, &BTreeSet::new()).unwrap_err();
    assert!(matches!(&error, Error::Missing { path, .. } if path == "core/iblock_2601"), "{error}");
    assert!(!Path::new(&folder.path().join("target")).exists());
}
