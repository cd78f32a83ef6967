//! The first page: what is wrong, the way from nothing to a booted device, and the networks.

use askama::Template;
use axum::{extract::State, response::Response};
use panel::{
    noun::{Device, Group, Id, Network, Organization, Server, Stored, Subnet, Volume},
    operations::{Actor, Error, Panel},
    store::{Job, JobState, ListQuery},
};

use super::{
    jobs,
    network::{Line, lines},
    server::State as Condition,
};
use crate::{
    app::App,
    frame::{Frame, Seat, page_or_part},
    problem::Problem,
};

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

#[derive(Debug, Template)]
#[template(path = "dashboard.html", blocks = ["live"])]
struct Dashboard {
    frame: Frame,
    lines: Vec<Line>,
    jobs: Vec<Job>,
    guide: Vec<Step>,
    devices: u64,
}

impl Dashboard {
    /// Servers that somebody has to look after.
    fn troubled(&self) -> Vec<(&Line, &panel::store::Health, Condition)> {
        let each = self.lines.iter().flat_map(|line| {
            line.servers.iter().map(move |(health, state)| (line, health, *state))
        });
        each.filter(|(_, _, state)| matches!(state, Condition::Silent | Condition::Failing))
            .collect()
    }

    /// Whether the way lies behind.
    fn arrived(&self) -> bool {
        self.guide.iter().all(|step| step.done)
    }
}

/// The page.
///
/// # Errors
/// The store failed.
pub async fn show(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    let actor = seat.actor;
    let admin = frame.people();
    let found = app.ask(move |panel| {
        let query = ListQuery { limit: Some(200), ..ListQuery::default() };
        let networks = panel.list::<Network>(actor, &query)?.rows;
        let lines = lines(panel, actor, networks)?;
        let jobs = jobs::all(panel, actor)?;
        let guide = if admin { guide(panel, actor, &lines)? } else { Vec::new() };
        Ok((lines, jobs, guide))
    });
    let (lines, mut jobs, guide) = found.await?;
    jobs.retain(|job| job.state == JobState::Running);
    let devices = lines.iter().map(|line| line.devices).sum();
    let whole = Dashboard { frame, lines, jobs, guide, devices };
    page_or_part(&whole.frame, &whole, &whole.as_live())
}

fn guide(panel: &Panel, actor: Actor, lines: &[Line]) -> Result<Vec<Step>, Error> {
    let all = ListQuery::default();
    let organization: Option<Stored<Organization>> =
        panel.list(actor, &all)?.rows.into_iter().next();
    let first = lines.first().map(|line| line.network.id);
    let at = |tab: &str| match first {
        Some(network) => format!("/networks/{network}/{tab}"),
        None => "/networks/new".to_owned(),
    };
    let any = |count: u64| count > 0;
    let servers = lines.iter().flat_map(|line| &line.servers);
    let seen = servers.clone().any(|(health, _)| health.seen_ms.is_some());
    let sessions = servers.clone().any(|(health, _)| health.sessions > 0);
    let pools = pools(panel, actor, servers.map(|(health, _)| health.server))?;
    let step = |kind, done, path| Step { kind, done, path };
    Ok(vec![
        step("organization", organization.is_some(), "/organizations/new".to_owned()),
        step("network", first.is_some(), "/networks/new".to_owned()),
        step("subnet", any(panel.count::<Subnet>(actor, &all)?), at("subnets/new")),
        step("server", seen, at("servers/join")),
        step("pool", pools, at("servers")),
        step("volume", any(panel.count::<Volume>(actor, &all)?), at("volumes/new")),
        step("group", any(panel.count::<Group>(actor, &all)?), at("groups/new")),
        step("device", any(panel.count::<Device>(actor, &all)?), at("devices/new")),
        step("boot", sessions, at("devices")),
    ])
}

/// Whether a server was told to have a pool.
fn pools(
    panel: &Panel,
    actor: Actor,
    servers: impl Iterator<Item = Id<Server>>,
) -> Result<bool, Error> {
    for server in servers.take(50) {
        if !panel.get(actor, server)?.value.pools.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
