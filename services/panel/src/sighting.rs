//! The short of what a server shows: what lists, alerts and statistics are made of, so that none of them reads the whole of a
//! status again, which has thousands of datasets. It decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use model::{
    name::{Dataset, Iqn, Mac, PoolName, VolumeName},
    observed::Job,
    wire::{Certificate, Status, Stranger},
};
use serde::{Deserialize, Serialize};

/// How many of many are kept: enough for a person to know what it is about.
const SOME: usize = 5;
/// How many unknown machines are kept: a room of them.
const MACHINES: usize = 200;

/// The short of a status.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sighting {
    /// How many resources failed.
    pub failed: u64,
    /// The first of them, and why.
    pub failures: BTreeMap<String, String>,
    /// How many resources wait for something.
    pub waiting: u64,
    /// Pools.
    pub pools: BTreeMap<PoolName, PoolSeen>,
    /// Sessions at its targets.
    pub sessions: u64,
    /// Devices that have at least one.
    pub devices_up: u64,
    /// Imports that failed, and why.
    pub imports: BTreeMap<VolumeName, String>,
    /// Certificates that can't be used, and why.
    pub certificates: BTreeMap<String, String>,
    /// When the certificates end that it works with, in milliseconds since 1970.
    pub certificate_ends: BTreeMap<String, u64>,
    /// Machines that asked to boot and were not known then.
    pub machines: Vec<Machine>,
    /// The bytes that each tier of the storage trees uses.
    pub space: Space,
    /// Who came to its API last and is not the panel.
    pub stranger: Option<Stranger>,
}

/// A pool, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSeen {
    /// `ONLINE`, `DEGRADED` and so on (zpoolconcepts(7)).
    pub health: String,
    /// Bytes in all.
    pub size_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
}

impl PoolSeen {
    /// Bytes that are used.
    pub fn used_bytes(&self) -> u64 {
        self.size_bytes.saturating_sub(self.free_bytes)
    }

    /// How much of it is used, in percent; a pool without a size is empty.
    pub fn used_percent(&self) -> u64 {
        self.used_bytes().saturating_mul(100).checked_div(self.size_bytes).unwrap_or(0)
    }
}

/// A machine that asked to boot and is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The card it asked from.
    pub mac: Mac,
    /// The address it asked from.
    pub address: Option<Ipv4Addr>,
    /// When it asked first, in milliseconds since 1970.
    pub first_seen_ms: u64,
    /// When it asked last.
    pub last_seen_ms: u64,
}

/// Bytes by the tiers of the storage tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// Volumes.
    pub volumes: u64,
    /// Groups, with their generations.
    pub groups: u64,
    /// Devices' own clones.
    pub devices: u64,
    /// vDisks.
    pub vdisks: u64,
}

impl Space {
    fn add(&mut self, dataset: &Dataset, used_bytes: u64) {
        // `<pool>/clusterducks/<tier>/<name>`
        let tier = match dataset.as_str().split('/').collect::<Vec<_>>()[..] {
            [_, "clusterducks", "volumes", _] => &mut self.volumes,
            [_, "clusterducks", "groups", _] => &mut self.groups,
            [_, "clusterducks", "devices", _] => &mut self.devices,
            [_, "clusterducks", "vdisks", _] => &mut self.vdisks,
            _ => return,
        };
        *tier = tier.saturating_add(used_bytes);
    }
}

impl Sighting {
    /// The short of this.
    pub fn of(status: &Status) -> Self {
        let some = |map: &BTreeMap<String, String>| -> BTreeMap<_, _> {
            map.iter().take(SOME).map(|(what, why)| (what.clone(), why.clone())).collect()
        };
        let pool = |pool: &model::observed::Pool| PoolSeen {
            health: pool.health.clone(),
            size_bytes: pool.size_bytes,
            free_bytes: pool.free_bytes,
        };
        let import = |(volume, job): (&VolumeName, &Job)| match job {
            Job::Failed { message, .. } => Some((volume.clone(), message.clone())),
            Job::Running { .. } | Job::Done { .. } => None,
        };
        let faulty = |(name, certificate): (&String, &Certificate)| match certificate {
            Certificate::Faulty { why } => Some((name.clone(), why.clone())),
            Certificate::Absent | Certificate::InUse { .. } => None,
        };
        let ends = |(name, certificate): (&String, &Certificate)| match certificate {
            Certificate::InUse { leaf: Some(leaf) } => Some((name.clone(), leaf.ends_ms)),
            Certificate::Absent
            | Certificate::InUse { leaf: None }
            | Certificate::Faulty { .. } => None,
        };
        let initiators: BTreeSet<&Iqn> = status.sessions.values().flatten().collect();
        let sessions = status.sessions.values().map(BTreeSet::len).sum();
        let mut space = Space::default();
        for (dataset, state) in &status.datasets {
            space.add(dataset, state.used_bytes);
        }
        Self {
            failed: count(status.failures.len()),
            failures: some(&status.failures),
            waiting: count(status.waiting.len()),
            pools: status.pools.iter().map(|(name, seen)| (name.clone(), pool(seen))).collect(),
            sessions: count(sessions),
            devices_up: count(initiators.len()),
            imports: status.imports.iter().filter_map(import).take(SOME).collect(),
            certificates: status.certificates.iter().filter_map(faulty).collect(),
            certificate_ends: status.certificates.iter().filter_map(ends).collect(),
            machines: status.discovered.iter().take(MACHINES).map(Machine::of).collect(),
            space,
            stranger: status.stranger.clone(),
        }
    }

    /// How many pools are not sound.
    pub fn unsound_pools(&self) -> u64 {
        count(self.pools.values().filter(|pool| pool.health != "ONLINE").count())
    }
}

impl Machine {
    fn of(seen: &model::wire::Discovered) -> Self {
        let (mac, address) = (seen.mac, seen.address);
        let (first_seen_ms, last_seen_ms) = (seen.first_seen_ms, seen.last_seen_ms);
        Self { mac, address, first_seen_ms, last_seen_ms }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sighting_counts_all_and_keeps_some() {
        let mut status = Status::default();
        for number in 0..9 {
            status.failures.insert(format!("device pc-{number}"), "no pool".to_owned());
        }
        let iqn = |name: &str| format!("iqn.2026-01.x:{name}").parse().unwrap();
        status.sessions.insert(iqn("image"), [iqn("a"), iqn("b")].into());
        status.sessions.insert(iqn("vdisk"), [iqn("a")].into());
        let dataset = |used: u64| {
            serde_json::from_value(json!({ "volume_size_bytes": null, "mark": null, "origin": null,
                "boot": null, "snapdev_visible": false, "mounted": false, "used_bytes": used, "snapshots": [] }))
            .unwrap()
        };
        for (name, used) in [("groups/lab", 5), ("groups/hall", 6), ("vdisks/home", 7), ("x", 8)] {
            let name = format!("tank/clusterducks/{name}");
            status.datasets.insert(name.parse().unwrap(), dataset(used));
        }
        let failed = json!({ "state": "failed", "message": "no route", "source": null });
        status.imports.insert("debian".parse().unwrap(), serde_json::from_value(failed).unwrap());
        let seen = Sighting::of(&status);
        assert_eq!((seen.failed, seen.failures.len()), (9, SOME));
        assert_eq!((seen.sessions, seen.devices_up), (3, 2));
        assert_eq!(seen.space, Space { groups: 11, vdisks: 7, ..Space::default() });
        assert_eq!(seen.imports[&"debian".parse().unwrap()], "no route");
    }

    #[test]
    fn a_pool_is_used_in_percent_and_one_without_a_size_is_empty() {
        let pool = |size_bytes, free_bytes| {
            PoolSeen { health: "ONLINE".to_owned(), size_bytes, free_bytes }.used_percent()
        };
        assert_eq!((pool(1000, 201), pool(1000, 200), pool(0, 0), pool(5, 9)), (79, 80, 0, 0));
    }

    #[test]
    fn what_another_version_kept_is_read_as_far_as_it_goes() {
        let seen: Sighting = serde_json::from_str("{\"sessions\":3,\"new\":1}").unwrap();
        assert_eq!(seen, Sighting { sessions: 3, ..Sighting::default() });
    }
}
