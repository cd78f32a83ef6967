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
