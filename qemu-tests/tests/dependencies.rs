//! The table of who may know whom, as DESIGN.md has it; every other edge between our crates is forbidden.

use anyhow::Result;
use cargo_metadata::MetadataCommand;
use std::collections::{BTreeMap, BTreeSet};

/// Each crate and those of ours that it may use.
const TABLE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("host", &["model"]),
    ("clusterducks-appliance", &["host", "model"]),
    ("clusterducks-agent", &["host", "model"]),
    ("clusterducks-tunnel", &["host", "model"]),
    ("panel", &["model"]),
    ("clusterducks-panel", &["model", "panel"]),
    ("qemu-tests", &[]),
];

#[test]
fn crates_know_only_whom_the_table_allows() -> Result<()> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec()?;
    let ours: BTreeSet<String> =
        metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let table: BTreeMap<&str, BTreeSet<&str>> =
        TABLE.iter().map(|(name, allowed)| (*name, allowed.iter().copied().collect())).collect();
    for package in &metadata.packages {
        let name = package.name.to_string();
        let allowed = table.get(name.as_str());
        assert!(allowed.is_some(), "{name} is not in the table");
        let used = package.dependencies.iter().filter(|dependency| ours.contains(&dependency.name));
        for dependency in used {
            let known = allowed.is_some_and(|allowed| allowed.contains(dependency.name.as_str()));
            assert!(known, "{name} must not know {}", dependency.name);
        }
    }
    let missing: Vec<&&str> = table.keys().filter(|name| !ours.contains(**name)).collect();
    assert!(missing.is_empty(), "the table names crates that are not there: {missing:?}");
    Ok(())
}
