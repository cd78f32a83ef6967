//! The way from nothing to a booted device: each step is checked against what the servers show, not against what was typed.

use model::{name::Mark, wire::Status};
use panel::{
    noun::{Device, Group, Id, Organization, Server, Subnet, Volume},
    operations::{Actor, Error, Kind, Panel},
    store::ListQuery,
};

use super::network::Line;

/// So many servers are looked at: the way is for panels that have few.
const MOST_SERVERS: usize = 10;

/// A step of the way to the first booted device, checked against what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which words of the template.
    pub kind: &'static str,
    /// Whether it is done.
    pub done: bool,
    /// Where it is done.
    pub path: String,
}

/// The steps.
///
/// # Errors
/// The store failed.
pub fn steps(panel: &Panel, actor: Actor, lines: &[Line]) -> Result<Vec<Step>, Error> {
    let first = lines.first().map(|line| line.network.id);
    let at = |tab: &str| match first {
        Some(network) => format!("/networks/{network}/{tab}"),
        None => "/networks/new".to_owned(),
    };
    let servers = || lines.iter().flat_map(|line| &line.servers).map(|(health, _)| health);
    let seen = servers().any(|health| health.seen_ms.is_some());
    let booted = servers().any(|health| health.sessions > 0);
    let here = servers().next().map(|health| health.server);
    let shown = if booted { Shown::all() } else { Shown::by(panel, actor, servers())? };
    let server = match (here, panel.waiting_joins(actor)?.is_empty()) {
        (_, false) => "/joins".to_owned(),
        (_, true) => at("servers/join"),
    };
    let pool = here.map_or_else(|| at("servers"), |server| format!("/servers/{server}/edit"));
    let volume = made::<Volume>(panel, actor, at("volumes/new"), at("tree"))?;
    let group = made::<Group>(panel, actor, at("groups/new"), at("tree"))?;
    let any = |count: u64| count > 0;
    let all = ListQuery::default();
    let step = |kind, done, path| Step { kind, done, path };
    let organizations = any(panel.count::<Organization>(actor, &all)?);
    Ok(vec![
        step("organization", organizations, "/organizations/new".to_owned()),
        step("network", first.is_some(), "/networks/new".to_owned()),
        step("subnet", any(panel.count::<Subnet>(actor, &all)?), at("subnets/new")),
        step("server", seen, server),
        step("pool", shown.pool, pool),
        step("volume", shown.volume, volume),
        step("group", shown.group, group),
        step("device", any(panel.count::<Device>(actor, &all)?), at("devices/new")),
        step("boot", booted, at("devices")),
    ])
}

/// Where one is made, and where it is looked at once that is done.
fn made<T: Kind>(panel: &Panel, actor: Actor, new: String, there: String) -> Result<String, Error> {
    let count = panel.count::<T>(actor, &ListQuery::default())?;
    Ok(if count == 0 { new } else { there })
}

/// What servers show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Shown {
    pool: bool,
    volume: bool,
    group: bool,
}

impl Shown {
    /// A device that booted needed all of it.
    fn all() -> Self {
        Self { pool: true, volume: true, group: true }
    }

    fn by<'a>(
        panel: &Panel,
        actor: Actor,
        servers: impl Iterator<Item = &'a panel::store::Health>,
    ) -> Result<Self, Error> {
        let mut shown = Self::default();
        let servers: Vec<Id<Server>> = servers.map(|health| health.server).collect();
        for server in servers.into_iter().take(MOST_SERVERS) {
            let status = panel.document(actor, server)?.and_then(|document| document.status);
            if let Some(status) = status {
                shown.add(&status);
            }
            // A status is long, and most servers show it all.
            if shown == Self::all() {
                break;
            }
        }
        Ok(shown)
    }

    fn add(&mut self, status: &Status) {
        self.pool |= !status.pools.is_empty();
        for state in status.datasets.values() {
            let snapshot = |first: char| state.snapshots.iter().any(|name| name.starts_with(first));
            match &state.mark {
                // The tree's snapshots are `@p<N>` of volumes and `@g<N>` of groups.
                Some(Mark::Volume(_)) => self.volume |= snapshot('p'),
                Some(Mark::Group(_)) => self.group |= snapshot('g'),
                Some(Mark::Tree(_) | Mark::Vdisk(_) | Mark::Device(_)) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_is_done_when_a_server_shows_it() {
        let mut shown = Shown::default();
        let dataset = |mark: &str, snapshots: &[&str]| {
            json!({ "volume_size_bytes": 1, "mark": mark, "origin": null, "boot": null,
                "snapdev_visible": true, "mounted": false, "used_bytes": 0, "snapshots": snapshots })
        };
        let mut status = Status::default();
        shown.add(&status);
        assert_eq!(shown, Shown::default());
        let pool = json!({ "guid": 1, "health": "ONLINE", "size_bytes": 2, "free_bytes": 1 });
        status.pools.insert("tank".parse().unwrap(), serde_json::from_value(pool).unwrap());
        let mut put = |name: &str, mark: &str, snapshots: &[&str]| {
            let state = serde_json::from_value(dataset(mark, snapshots)).unwrap();
            status.datasets.insert(name.parse().unwrap(), state);
            let mut shown = Shown::default();
            shown.add(&status);
            shown
        };
        let volume = "tank/clusterducks/volumes/debian";
        let begun = put(volume, "volume:debian", &[]);
        assert_eq!(begun, Shown { pool: true, ..Shown::default() }, "it is not whole yet");
        let whole = put(volume, "volume:debian", &["p1"]);
        assert_eq!(whole, Shown { group: false, ..Shown::all() });
        assert_eq!(put("tank/clusterducks/groups/lab", "group:lab", &["g1"]), Shown::all());
    }
}
