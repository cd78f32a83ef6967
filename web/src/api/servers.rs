//! Servers beyond their records: how they are, what they were told and show, their certificates, and boxes that join.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use model::{
    name::Mark,
    wire::{Event, Status},
};
use panel::{
    ca::{Reason, Serial},
    codes::{self, SeedFile},
    noun::{Id, Network, Server, TunnelName},
    operations::Panel,
    secret::ExposeSecret as _,
    store::{Booked, Health, Join, JoinCode, JoinedBox},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Line,
    caller::Caller,
    describe::Operation,
    receive::{Body, Numbers, Query},
    refusal::{Fault, Refusal},
};
use crate::{
    app::App,
    pages::{join, server},
    problem::Problem,
};

/// How a server is, in short.
#[derive(Debug, Serialize, JsonSchema)]
struct Condition {
    /// `new`, `silent`, `failing`, `applying` or `ready`.
    state: &'static str,
    #[serde(flatten)]
    health: Health,
}

impl Condition {
    fn of(panel: &Panel, health: Health) -> Self {
        Self { state: server::State::of(&health, panel.now_ms()).word(), health }
    }
}

/// What a server was told, and what it showed of itself.
#[derive(Debug, Serialize, JsonSchema)]
struct Shown {
    /// The generation of its document; absent before the first.
    generation: Option<u64>,
    /// When that was made, in milliseconds since 1970.
    made_ms: Option<u64>,
    /// The generation that it took last.
    acknowledged: Option<u64>,
    /// The generation that it was last seen to be converged to.
    applied: Option<u64>,
    /// The document.
    desired: Option<Value>,
    /// What it showed last.
    status: Option<Status>,
    /// When it showed that.
    status_ms: Option<u64>,
    /// The box that joined.
    joined: Option<JoinedBox>,
}

/// What a code by which a server joins is made of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewJoinCode {
    /// Where the box finds the panel, with the port if it is not 443; not needed where it joins through a tunnel.
    #[serde(default)]
    host: String,
    /// The tunnel of the network that the box joins through; absent where it reaches the panel itself.
    #[serde(default)]
    tunnel: Option<TunnelName>,
    /// How long it is good.
    #[schemars(range(min = 1, max = 168))]
    hours: u64,
    /// Whether a person confirms the box before it is let in.
    #[serde(default = "yes")]
    confirm: bool,
    /// The server whose place the box takes; absent makes a new one.
    #[serde(default)]
    server: Option<Id<Server>>,
}

fn yes() -> bool {
    true
}

/// A code by which a server joins, for the only time.
#[derive(Serialize, JsonSchema)]
struct MadeJoinCode {
    code: JoinCode,
    /// What a person types.
    typed: String,
    /// The seed file for the boot partition.
    seed: String,
}

/// Why a certificate is revoked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Revocation {
    reason: Reason,
}

/// What a server may destroy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Destruction {
    mark: Mark,
}

/// How many events of a server are told.
const EVENTS: usize = 200;

/// The routes.
pub fn lines() -> Vec<Line> {
    let operation = |id, summary| Operation::new("server", id, summary);
    let network = json!({ "type": "integer", "minimum": 1 });
    vec![
        Line::get(
            "/health",
            get(health),
            operation("listHealth", "How the servers are that the caller may see")
                .asked("network", network, "Only those of this network.")
                .answers::<Vec<Condition>>(200, "The servers, by name."),
        ),
        Line::get(
            "/servers/{id}/status",
            get(status),
            operation("statusOfServer", "What a server was told, and what it showed of itself")
                .answers::<Shown>(200, "What is known."),
        ),
        Line::get(
            "/servers/{id}/events",
            get(events),
            operation("eventsOfServer", "What happened on a server last, the newest first")
                .answers::<Vec<Event>>(200, "As far as it is remembered."),
        ),
        Line::get(
            "/servers/{id}/certificates",
            get(certificates),
            operation("certificatesOfServer", "What a server was given, the newest first")
                .answers::<Vec<Booked>>(200, "The certificates."),
        ),
        Line::post(
            "/certificates/{serial}/revoke",
            post(revoke),
            operation("revokeCertificate", "Takes a server's certificate back, once and for all")
                .takes::<Revocation>()
                .done("It counts no more.")
                .refuses([403, 409]),
        ),
        Line::post(
            "/networks/{network}/destroy",
            post(destroy),
            operation("destroy", "Lets servers destroy what they report and nothing asks for")
                .takes::<Destruction>()
                .done("They may.")
                .refuses([403]),
        ),
    ]
    .into_iter()
    .chain(joins())
    .collect()
}

fn joins() -> Vec<Line> {
    let operation = |id, summary| Operation::new("join", id, summary);
    vec![
        Line::get(
            "/networks/{network}/join-codes",
            get(codes),
            operation("listJoinCodes", "The codes by which servers may join, the newest first")
                .answers::<Vec<JoinCode>>(200, "The codes, without their secrets.")
                .refuses([403]),
        ),
        Line::post(
            "/networks/{network}/join-codes",
            post(make_code),
            operation("makeJoinCode", "Makes a code by which one server may join")
                .takes::<NewJoinCode>()
                .answers::<MadeJoinCode>(201, "The code; its secret is told this once.")
                .refuses([403]),
        ),
        Line::delete(
            "/networks/{network}/join-codes/{code}",
            axum::routing::delete(delete_code),
            operation("deleteJoinCode", "Takes a code back").done("It is gone.").refuses([403]),
        ),
        Line::get(
            "/joins",
            get(waiting),
            operation("listJoins", "The boxes that wait to be let in")
                .answers::<Vec<Join>>(200, "The boxes."),
        ),
        Line::post(
            "/joins/{code}/confirm",
            post(confirm),
            operation("confirmJoin", "Lets a box in").done("It may come in.").refuses([403, 409]),
        ),
        Line::post(
            "/joins/{code}/refuse",
            post(refuse),
            operation("refuseJoin", "Keeps a box out").done("It may not.").refuses([403, 409]),
        ),
    ]
}

async fn health(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    mut query: Query,
) -> Result<Json<Vec<Condition>>, Refusal> {
    let network = query.within("network", 1, i64::MAX).map(Id::<Network>::new);
    query.finish()?;
    let found = app.ask(move |panel| {
        let all = panel.health(actor, network)?;
        Ok(all.into_iter().map(|health| Condition::of(panel, health)).collect())
    });
    Ok(Json(found.await?))
}

async fn status(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Json<Shown>, Refusal> {
    let id = Id::<Server>::new(id);
    let ask = move |panel: &Panel| Ok((panel.document(actor, id)?, panel.joined_box(actor, id)?));
    let (document, joined) = app.ask(ask).await?;
    let document = document.as_ref();
    let desired = document.map(|document| serde_json::from_str(&document.body)).transpose();
    Ok(Json(Shown {
        generation: document.map(|document| document.generation),
        made_ms: document.map(|document| document.made_ms),
        acknowledged: document.map(|document| document.acknowledged),
        applied: document.map(|document| document.applied),
        desired: desired.map_err(Problem::broken)?,
        status: document.and_then(|document| document.status.clone()),
        status_ms: document.and_then(|document| document.status_ms),
        joined,
    }))
}

async fn events(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Json<Vec<Event>>, Refusal> {
    Ok(Json(app.ask(move |panel| panel.happened(actor, Id::new(id), EVENTS)).await?))
}

async fn certificates(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Json<Vec<Booked>>, Refusal> {
    Ok(Json(app.ask(move |panel| panel.certificates(actor, Id::new(id))).await?))
}

/// What is done once, and by whoever was first.
fn once(was_done: bool) -> Result<StatusCode, Refusal> {
    if was_done { Ok(StatusCode::NO_CONTENT) } else { Err(Refusal::Over("somebody was first")) }
}

async fn revoke(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([serial]): Numbers<1, Serial>,
    Body(Revocation { reason }): Body<Revocation>,
) -> Result<StatusCode, Refusal> {
    once(app.change(move |panel| panel.revoke(actor, serial, reason)).await?)
}

async fn destroy(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([network]): Numbers<1>,
    Body(Destruction { mark }): Body<Destruction>,
) -> Result<StatusCode, Refusal> {
    app.change(move |panel| panel.destroy(actor, Id::new(network), &mark)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn codes(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([network]): Numbers<1>,
) -> Result<Json<Vec<JoinCode>>, Refusal> {
    Ok(Json(app.ask(move |panel| panel.join_codes(actor, Id::new(network))).await?))
}

async fn make_code(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([network]): Numbers<1>,
    Body(new): Body<NewJoinCode>,
) -> Result<(StatusCode, Json<MadeJoinCode>), Refusal> {
    let help = "give a name or an address, with a port if it is not 443";
    let id = Id::new(network);
    let ways = app.ask(move |panel| panel.ways_of(actor, id)).await?;
    let tunnel = new.tunnel.as_ref().map_or("", TunnelName::as_str);
    let faulty = || match &new.tunnel {
        Some(_) => Fault::at("/tunnel", "name a tunnel of this network that is paired"),
        None => Fault::at("/host", help),
    };
    let way = join::way(&ways, tunnel, &new.host);
    let (way, host) = way.ok_or_else(|| Refusal::Faulty(vec![faulty()]))?;
    let lifetime = Duration::from_secs(new.hours.saturating_mul(3600));
    // Longer than any code may be good; the operation says so.
    let lasts = lifetime.min(Duration::from_secs(365 * 24 * 3600));
    let root = app.ca().root().fingerprint();
    let code = codes::join_code(way, host, &root, SystemTime::now(), lasts);
    let digest = codes::digest(&code.secret);
    let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
    let made = app.change(move |panel| {
        let network = Id::new(network);
        panel.make_join_code(actor, network, new.server, digest, lasts_ms, new.confirm)
    });
    let made = made.await.map_err(|problem| match problem {
        Problem::Invalid(faults) => {
            let told = faults.into_iter().map(|fault| Fault::at("/hours", fault.message));
            Refusal::Faulty(told.collect())
        }
        other => Refusal::Problem(other),
    })?;
    let seed = SeedFile { hostname: None, join: &code }.render().map_err(Problem::broken)?;
    let typed = code.typed().map_err(Problem::broken)?;
    let shown = MadeJoinCode {
        code: made,
        typed: typed.expose_secret().to_owned(),
        seed: seed.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(shown)))
}

async fn delete_code(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([network, code]): Numbers<2>,
) -> Result<StatusCode, Refusal> {
    let ask = move |panel: &Panel| panel.delete_join_code(actor, Id::new(network), code);
    if app.change(ask).await? { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::NotFound.into()) }
}

async fn waiting(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
) -> Result<Json<Vec<Join>>, Refusal> {
    Ok(Json(app.ask(move |panel| panel.waiting_joins(actor)).await?))
}

async fn confirm(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([code]): Numbers<1>,
) -> Result<StatusCode, Refusal> {
    once(app.change(move |panel| panel.confirm_join(actor, code)).await?)
}

async fn refuse(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([code]): Numbers<1>,
) -> Result<StatusCode, Refusal> {
    once(app.change(move |panel| panel.refuse_join(actor, code)).await?)
}
