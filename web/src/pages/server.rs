//! The servers of a network, and one server: what it shows of itself, what it was told, what failed.

use askama::Template;
use axum::{
    extract::{Path, State as Shared},
    response::Response,
};
use model::{
    observed::{DiskContents, Job},
    plan::Plan,
    wire::{Certificate, Event, EventKind, Status},
};
use panel::{
    access::Verb,
    fleet::{self, Connection, Trouble},
    noun::{Id, Noun, Server, Stored, Tunnel},
    operations::Error,
    statistics::Span,
    store::{Document, Health, JoinCode},
};

use super::{
    form::Site,
    list::{Asked, Rows, rows},
    statistics::{asked_span, of_server},
};
use crate::{
    app::App,
    chart::Chart,
    format,
    frame::{Frame, Seat, page_or_part},
    problem::Problem,
    shapes::word,
};

/// One that was not connected since the panel began is away when it was last seen longer ago than this.
const SILENT_MS: u64 = 90_000;

/// How a server is, in one word and one colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It never showed itself.
    New,
    /// It was silent for long.
    Silent,
    /// Something failed.
    Failing,
    /// It is on its way to what it shall be.
    Applying,
    /// It is as it shall be.
    Ready,
}

impl State {
    /// Of what is kept.
    pub fn of(health: &Health, now_ms: u64) -> Self {
        let silent = |seen: u64| match health.connection {
            Some(fleet::State::Connected) => false,
            Some(fleet::State::Lost) => true,
            Some(fleet::State::Connecting) | None => now_ms.saturating_sub(seen) > SILENT_MS,
        };
        match health.seen_ms {
            None => Self::New,
            Some(seen) if silent(seen) => Self::Silent,
            Some(_) if health.failures > 0 || health.unsound_pools > 0 => Self::Failing,
            Some(_) if health.applied < health.generation => Self::Applying,
            Some(_) => Self::Ready,
        }
    }

    /// The word, by which the style sheet has the colour too.
    pub fn word(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Silent => "silent",
            Self::Failing => "failing",
            Self::Applying => "applying",
            Self::Ready => "ready",
        }
    }
}

/// How many events stand on the page.
const EVENTS: usize = 50;

#[derive(Debug, Clone)]
struct Row {
    server: Stored<Server>,
    role: String,
    health: Option<Health>,
    state: State,
}

#[derive(Debug, Template)]
#[template(path = "servers.html", blocks = ["list"])]
struct Servers {
    frame: Frame,
    site: Site,
    list: Rows<Server>,
    servers: Vec<Row>,
    codes: Vec<JoinCode>,
    waiting: usize,
    now_ms: u64,
    may_change: bool,
}

/// The servers of a network, and the codes by which more may join.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn servers(
    Shared(app): Shared<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, Id::new(id));
    let may_change = frame.may_in(Verb::Create, Noun::Server, id);
    let found = app.ask(move |panel| {
        let site = Site::of(panel, actor, id)?;
        let list = rows::<Server>(panel, actor, &asked, Some(id))?;
        let codes = if may_change { panel.join_codes(actor, id)? } else { Vec::new() };
        let waiting = panel.waiting_joins(actor)?;
        let waiting = waiting.iter().filter(|join| join.network == id).count();
        Ok((site, list, codes, waiting, panel.health(actor, Some(id))?))
    });
    let (site, list, codes, waiting, health) = found.await?;
    let now_ms = format::ms(std::time::SystemTime::now());
    let row = |server: &Stored<Server>| {
        let health = health.iter().find(|health| health.server == server.id).cloned();
        let state = health.as_ref().map_or(State::New, |health| State::of(health, now_ms));
        Row { server: server.clone(), role: word(&server.value.role), health, state }
    };
    let servers = list.rows.iter().map(row).collect();
    let whole = Servers { frame, site, list, servers, codes, waiting, now_ms, may_change };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

#[derive(Debug, Template)]
#[template(path = "server.html", blocks = ["live"])]
struct ServerPage {
    frame: Frame,
    site: Site,
    server: Stored<Server>,
    role: String,
    state: State,
    connection: Option<Connection>,
    through: String,
    to_do: Option<Plan>,
    events: Vec<Event>,
    document: Option<Document>,
    status: Option<Status>,
    span: Span,
    charts: Vec<Chart>,
    may_change: bool,
    may_add: bool,
}

/// What the link knows of the server.
struct Link {
    connection: Option<Connection>,
    /// The name of the tunnel that it is reached through.
    through: String,
    to_do: Option<Plan>,
    events: Vec<Event>,
}

impl ServerPage {
    /// Whether what is shown is how it was when it was last seen.
    fn past(&self) -> bool {
        let connected = |c: &Connection| c.state == fleet::State::Connected;
        self.status.is_some() && !self.connection.as_ref().is_some_and(connected)
    }

    /// Initiators and where they are logged in.
    fn sessions(&self) -> Vec<(String, String)> {
        let sessions = self.status.iter().flat_map(|status| &status.sessions);
        let each = sessions.flat_map(|(target, initiators)| {
            initiators
                .iter()
                .map(move |initiator| (short(initiator.as_str()), short(target.as_str())))
        });
        each.take(200).collect()
    }
}

/// An IQN of ours without its prefix.
fn short(iqn: &str) -> String {
    iqn.strip_prefix(model::name::IQN_PREFIX).unwrap_or(iqn).to_owned()
}

/// How much of a pool is used, in percent.
pub(crate) fn used(pool: &model::observed::Pool) -> u64 {
    let used = pool.size_bytes.saturating_sub(pool.free_bytes);
    used.saturating_mul(100).checked_div(pool.size_bytes).unwrap_or(0)
}

/// A server's page.
///
/// # Errors
/// There is none that the actor may see.
pub async fn show(
    Shared(app): Shared<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (actor, span) = (seat.actor, asked_span(&asked));
    let found = app.ask(move |panel| {
        let server = panel.get::<Server>(actor, Id::new(id))?;
        let missing = Error::NotFound { noun: Noun::Server };
        let site = Site::at(panel, actor, server.place)?.ok_or(missing)?;
        let document = panel.document(actor, server.id)?;
        let health = panel.health(actor, Some(site.network.id))?;
        let health = health.into_iter().find(|health| health.server == server.id);
        let connection = panel.connection(actor, server.id)?;
        let tunnel = connection.as_ref().and_then(|connection| connection.tunnel);
        let tunnel = tunnel.map(|tunnel| panel.get::<Tunnel>(actor, tunnel)).transpose()?;
        let link = Link {
            connection,
            through: tunnel.map(|tunnel| tunnel.value.name.to_string()).unwrap_or_default(),
            to_do: panel.to_do(actor, server.id)?,
            events: panel.happened(actor, server.id, EVENTS)?,
        };
        let charts = of_server(panel, actor, server.id, span)?;
        Ok((site, server, link, document, health, charts))
    });
    let (site, server, link, document, health, charts) = found.await?;
    let Link { connection, through, to_do, events } = link;
    let now_ms = format::ms(std::time::SystemTime::now());
    let state = health.as_ref().map_or(State::New, |health| State::of(health, now_ms));
    let may_change = frame.may(Verb::Change, Noun::Server, server.place);
    let role = word(&server.value.role);
    let status = document.as_ref().and_then(|document| document.status.clone());
    let may_add = frame.may(Verb::Create, Noun::Device, server.place);
    let whole = ServerPage {
        frame,
        site,
        server,
        role,
        state,
        connection,
        through,
        to_do,
        events,
        document,
        status,
        span,
        charts,
        may_change,
        may_add,
    };
    page_or_part(&whole.frame, &whole, &whole.as_live())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_by_what_matters_most() {
        let health = |seen_ms, failures, applied| Health {
            server: Id::new(1),
            name: "agent-1".to_owned(),
            network: Id::new(1),
            generation: 5,
            applied,
            seen_ms,
            connection: None,
            failures,
            waiting: 0,
            unsound_pools: 0,
            sessions: 0,
        };
        let state = |health: Health| State::of(&health, 1_000_000);
        assert_eq!(state(health(None, 0, 0)), State::New);
        assert_eq!(state(health(Some(1_000_000 - SILENT_MS - 1), 1, 5)), State::Silent);
        assert_eq!(state(health(Some(999_000), 1, 5)), State::Failing);
        assert_eq!(
            state(Health { unsound_pools: 1, ..health(Some(999_000), 0, 5) }),
            State::Failing
        );
        assert_eq!(state(health(Some(999_000), 0, 4)), State::Applying);
        assert_eq!(state(health(Some(2_000_000), 0, 5)), State::Ready, "a clock that was set back");
        let linked = |connection, seen_ms| {
            state(Health { connection: Some(connection), ..health(Some(seen_ms), 0, 5) })
        };
        assert_eq!(linked(fleet::State::Lost, 999_999), State::Silent);
        assert_eq!(linked(fleet::State::Connected, 5), State::Ready, "it has nothing new to show");
        assert_eq!(
            linked(fleet::State::Connecting, 999_999),
            State::Ready,
            "the panel has just begun"
        );
    }
}
