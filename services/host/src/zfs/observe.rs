//! Reading pools and datasets. Parsers take text and do no I/O; their fixtures in `testdata/` name the command they came from.

use std::collections::BTreeMap;

use model::{
    name::{Dataset, Mark, PoolName, Snapshot},
    observed::{DatasetState, ImportablePool, Pool},
};
use serde::Deserialize;

use super::{BOOT, Error, MARK};
use crate::cmd::{Cmd, Program};

#[cfg(test)]
mod tests;

/// Imported pools. A pool whose name no document could hold is left out.
///
/// # Errors
/// zpool fails, or its output is not as we know it.
pub async fn observe_pools() -> Result<BTreeMap<PoolName, Pool>, Error> {
    let columns = "name,guid,health,size,free";
    parse_pools(&Cmd::new(Program::Zpool).args(["list", "-j", "-p", "-o", columns]).run().await?)
}

/// Pools on the disks of this machine that are not imported.
///
/// # Errors
/// zpool fails, or its output is not as we know it.
pub async fn observe_importable() -> Result<Vec<ImportablePool>, Error> {
    let found = Cmd::new(Program::Zpool).arg("import");
    let command = found.shell_line();
    let output = found.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() && !nothing_to_import(&text, &output.stderr) {
        return Err(Error::Command(crate::cmd::Error::Status {
            program: Program::Zpool,
            argv: vec!["import".into()],
            command,
            status: output.status,
            stderr: output.stderr,
        }));
    }
    parse_importable(&text)
}

/// Every dataset at or below `<pool>/clusterducks` of every imported pool.
///
/// One process lists all, snapshots included; what lies elsewhere is dropped here, because naming the trees would need a
/// process that looks for them first.
///
/// # Errors
/// zfs fails, or its output is not as we know it.
pub async fn observe_datasets() -> Result<BTreeMap<Dataset, DatasetState>, Error> {
    let columns = format!("name,volsize,origin,used,snapdev,mounted,{MARK},{BOOT}");
    let types = "filesystem,volume,snapshot";
    let list = Cmd::new(Program::Zfs).args(["list", "-j", "-p", "-t", types, "-o", &columns]);
    parse_datasets(&list.run().await?)
}

/// zpool says that there is nothing to import by its standard error alone; `testdata/zpool-import-nothing.txt` holds it.
fn nothing_to_import(stdout: &str, stderr: &str) -> bool {
    stdout.trim().is_empty() && stderr == "no pools available to import"
}

#[derive(Deserialize)]
struct Property {
    value: String,
    source: Source,
}

#[derive(Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Object {
    properties: BTreeMap<String, Property>,
}

impl Object {
    fn text(&self, object: &str, field: &'static str) -> Result<&str, Error> {
        let absent = || Error::Value { object: object.into(), field, value: "(nothing)".into() };
        self.properties.get(field).map(|property| property.value.as_str()).ok_or_else(absent)
    }

    fn number(&self, object: &str, field: &'static str) -> Result<u64, Error> {
        let value = self.text(object, field)?;
        let bad = |_| Error::Value { object: object.into(), field, value: value.into() };
        value.parse().map_err(bad)
    }

    /// `None` where ZFS prints `-`: the property does not apply, or is not set.
    fn optional(&self, object: &str, field: &'static str) -> Result<Option<&str>, Error> {
        Ok(Some(self.text(object, field)?).filter(|value| !["-", ""].contains(value)))
    }

    /// A user property that is set on this dataset itself, and not inherited or received.
    fn local(&self, field: &str) -> Option<&str> {
        let property = self.properties.get(field)?;
        (property.source.kind == "LOCAL").then_some(property.value.as_str())
    }
}

fn parse_pools(json: &str) -> Result<BTreeMap<PoolName, Pool>, Error> {
    #[derive(Deserialize)]
    struct Listing {
        #[serde(default)]
        pools: BTreeMap<String, Object>,
    }
    if json.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let listing: Listing = serde_json::from_str(json)
        .map_err(|source| Error::Json { command: "zpool list", source })?;
    let mut pools = BTreeMap::new();
    for (name, object) in &listing.pools {
        let Ok(parsed) = name.parse::<PoolName>() else {
            tracing::debug!(pool = name, "left out: no document can hold this name");
            continue;
        };
        let pool = Pool {
            guid: object.number(name, "guid")?,
            health: object.text(name, "health")?.to_owned(),
            size_bytes: object.number(name, "size")?,
            free_bytes: object.number(name, "free")?,
        };
        pools.insert(parsed, pool);
    }
    Ok(pools)
}

fn parse_datasets(json: &str) -> Result<BTreeMap<Dataset, DatasetState>, Error> {
    #[derive(Deserialize)]
    struct Listing {
        #[serde(default)]
        datasets: BTreeMap<String, Object>,
    }
    if json.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let listing: Listing =
        serde_json::from_str(json).map_err(|source| Error::Json { command: "zfs list", source })?;
    let ours = || listing.datasets.iter().filter(|(name, _)| is_in_tree(name));
    let mut datasets = BTreeMap::new();
    for (name, object) in ours().filter(|(name, _)| !name.contains('@')) {
        datasets.insert(parse_name::<Dataset>(name)?, parse_state(name, object)?);
    }
    for (name, _) in ours().filter(|(name, _)| name.contains('@')) {
        let snapshot: Snapshot = parse_name(name)?;
        // Its dataset may have come between two looks of the one process; the next observation has both.
        if let Some(state) = datasets.get_mut(&snapshot.dataset) {
            state.snapshots.insert(snapshot.tag);
        }
    }
    Ok(datasets)
}

fn is_in_tree(name: &str) -> bool {
    let inside = name.split_once('/').and_then(|(_, path)| path.strip_prefix("clusterducks"));
    inside.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
}

fn parse_name<T: std::str::FromStr>(name: &str) -> Result<T, Error> {
    let bad = |_| Error::Value { object: name.into(), field: "name", value: name.into() };
    name.parse().map_err(bad)
}

fn parse_state(name: &str, object: &Object) -> Result<DatasetState, Error> {
    let volume_size_bytes = match object.optional(name, "volsize")? {
        None => None,
        Some(_) => Some(object.number(name, "volsize")?),
    };
    Ok(DatasetState {
        volume_size_bytes,
        mark: object.local(MARK).and_then(|mark| mark.parse::<Mark>().ok()),
        origin: object.optional(name, "origin")?.map(parse_name).transpose()?,
        boot: object.local(BOOT).and_then(|boot| boot.parse().ok()),
        snapdev_visible: object.text(name, "snapdev")? == "visible",
        mounted: object.text(name, "mounted")? == "yes",
        used_bytes: object.number(name, "used")?,
        snapshots: [].into(),
    })
}

/// `zpool import` has no machine-readable form. Each pool is a paragraph of `key: value` lines; text that goes on, and the tree
/// of devices, are indented with a tab.
fn parse_importable(text: &str) -> Result<Vec<ImportablePool>, Error> {
    let mut pools: Vec<ImportablePool> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('\t') && !line.trim().is_empty()) {
        let bad = || Error::ImportLine { line: line.to_owned() };
        let (key, value) = line.split_once(':').ok_or_else(bad)?;
        match (key.trim(), value.trim(), pools.last_mut()) {
            ("pool", name, _) => {
                pools.push(ImportablePool { name: name.to_owned(), guid: 0, ready: false });
            }
            ("id", guid, Some(pool)) => pool.guid = guid.parse().map_err(|_| bad())?,
            ("state", state, Some(pool)) => pool.ready = ["ONLINE", "DEGRADED"].contains(&state),
            (_, _, Some(_)) => {}
            (_, _, None) => return Err(bad()),
        }
    }
    match pools.iter().find(|pool| pool.guid == 0) {
        Some(pool) => Err(Error::ImportLine { line: format!("pool: {} (without id)", pool.name) }),
        None => Ok(pools),
    }
}
