//! Fixtures come from OpenZFS 2.3.9 in the agent's image; the commands are those of [`observe_pools`], [`observe_importable`]
//! and [`observe_datasets`].

use super::*;

#[test]
fn a_pool_is_read_with_its_number_and_sizes() {
    let pools = parse_pools(include_str!("../../../testdata/zpool-list.json")).unwrap();
    let pool = Pool {
        guid: 7_028_415_481_607_427_134,
        health: "ONLINE".to_owned(),
        size_bytes: 4_026_531_840,
        free_bytes: 4_024_766_464,
    };
    assert_eq!(pools, [("proof".parse().unwrap(), pool)].into());
    assert_eq!(parse_pools("").unwrap(), BTreeMap::new());
}

#[test]
fn an_exported_pool_is_importable() {
    let pools = parse_importable(include_str!("../../../testdata/zpool-import.txt")).unwrap();
    let pool =
        ImportablePool { name: "proof".to_owned(), guid: 7_028_415_481_607_427_134, ready: true };
    assert_eq!(pools, [pool]);
}

#[test]
fn nothing_to_import_is_told_apart_from_a_failure() {
    let said = include_str!("../../../testdata/zpool-import-nothing.txt").trim();
    assert!(nothing_to_import("", said));
    assert!(!nothing_to_import("", "cannot discover pools: permission denied"));
    assert_eq!(parse_importable("").unwrap(), []);
}

#[test]
fn a_line_that_is_not_understood_is_quoted() {
    let error = parse_importable("something new\n").unwrap_err();
    assert!(matches!(&error, Error::ImportLine { line } if line == "something new"), "{error:?}");
}

/// The command of [`observe_datasets`] with ten names at its end, to keep the file short.
const DATASETS: &str = include_str!("../../../testdata/zfs-list.json");

#[test]
fn datasets_of_the_tree_are_read_with_marks_origins_and_snapshots() {
    let datasets = parse_datasets(DATASETS).unwrap();
    let state = |name: &str| datasets.get(&name.parse::<Dataset>().unwrap()).unwrap();
    assert!(!datasets.contains_key(&"proof".parse::<Dataset>().unwrap()));
    assert!(state("proof/clusterducks/files").mounted);
    let group = state("proof/clusterducks/groups/lab");
    assert_eq!(group.mark, Some("group:lab".parse().unwrap()));
    assert_eq!(group.origin, Some("proof/clusterducks/volumes/debian@p1".parse().unwrap()));
    assert_eq!(group.volume_size_bytes, Some(512 << 20));
    assert!(group.snapdev_visible && !group.mounted);
    assert_eq!(group.snapshots, ["g1".to_owned()].into());
    let device = state("proof/clusterducks/devices/pc-02");
    assert_eq!(device.boot, Some(format!("{:032x}", 2).parse().unwrap()));
    assert_eq!(device.snapshots, ["clean".to_owned()].into());
}

#[test]
fn a_mark_that_is_not_set_on_the_dataset_itself_is_none() {
    let local = "\"value\":\"device:pc-02\",\"source\":{\"type\":\"LOCAL\"";
    assert!(DATASETS.contains(local));
    for source in ["INHERITED", "RECEIVED"] {
        let other = DATASETS.replace(local, &local.replace("LOCAL", source));
        let datasets = parse_datasets(&other).unwrap();
        let device: Dataset = "proof/clusterducks/devices/pc-02".parse().unwrap();
        assert_eq!(datasets.get(&device).unwrap().mark, None, "{source}");
    }
}
