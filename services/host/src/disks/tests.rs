//! `testdata/lsblk-pool-exported.json`: the command of [`list`] in the agent's image (util-linux of Debian 13), in QEMU with a
//! system disk and a disk that holds an exported pool.

use super::*;

const CAPTURED: &str = include_str!("../../testdata/lsblk-pool-exported.json");

#[test]
fn the_disk_that_the_system_runs_from_is_never_listed() {
    let disks: Vec<Disk> = parse(CAPTURED)
        .unwrap()
        .into_iter()
        .map(|found| disk(found, &BTreeMap::new(), &BTreeMap::new()))
        .collect();
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

/// A disk whose pool's making was cut off has the partitions of [`CAPTURED`]'s pool and nothing in them.
#[test]
fn a_begun_pool_is_told_from_foreign_data_by_the_note_and_by_its_bare_partitions() {
    let bare = CAPTURED.replace("\"zfs_member\"", "null").replace("\"proof\"", "null");
    let begun = BTreeMap::from([("/dev/vdb".to_owned(), "proof".parse().unwrap())]);
    let contents = |text: &str, begun: &BTreeMap<String, PoolName>| {
        let found = parse(text).unwrap().into_iter().next().unwrap();
        disk(found, &BTreeMap::new(), begun).contents
    };
    assert_eq!(contents(&bare, &begun), DiskContents::Begun("proof".parse().unwrap()));
    assert!(matches!(contents(&bare, &BTreeMap::new()), DiskContents::Foreign(_)));
    assert_eq!(contents(CAPTURED, &begun), DiskContents::Pool("proof".to_owned()));
    let filled = CAPTURED.replace("\"zfs_member\"", "\"ext4\"");
    assert!(matches!(contents(&filled, &begun), DiskContents::Foreign(_)));
}
