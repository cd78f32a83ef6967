//! `testdata/lsblk-pool-exported.json`: the command of [`list`] in the agent's image (util-linux of Debian 13), in QEMU with a
//! system disk and a disk that holds an exported pool.

use super::*;

const CAPTURED: &str = include_str!("../../testdata/lsblk-pool-exported.json");

#[test]
fn the_disk_that_the_system_runs_from_is_never_listed() {
    let disks: Vec<Disk> =
        parse(CAPTURED).unwrap().into_iter().map(|found| disk(found, &BTreeMap::new())).collect();
    let pool = Disk {
        path: "/dev/vdb".to_owned(),
        serial: Some("cd-data-1".to_owned()),
        size_bytes: 4 << 30,
        contents: DiskContents::Pool("proof".to_owned()),
    };
    assert_eq!(disks, [pool]);
}

#[test]
fn partitions_beside_their_disk_are_refused_instead_of_guessed_at() {
    let (_, children) = CAPTURED.split_once("\"children\": [").unwrap();
    let (first, _) = children.split_once("},").unwrap();
    let error = parse(&format!("{{\"blockdevices\": [{first}}}]}}")).unwrap_err();
    assert!(matches!(&error, Error::Orphan { path } if path == "/dev/vda1"), "{error:?}");
}
