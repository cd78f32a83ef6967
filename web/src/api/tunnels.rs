//! Tunnels beyond their records: making them the panel's, and how they are.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    routing::{delete, get, post},
};
use model::code::PairingCode;
use panel::{
    fleet,
    noun::{Id, Tunnel},
    operations::Panel,
    store::{Pairing, PairingSeed},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Line,
    caller::Caller,
    describe::Operation,
    receive::{Body, Numbers},
    refusal::{Fault, Refusal},
};
use crate::{app::App, pages::tunnel, problem::Problem};

/// How a tunnel is.
#[derive(Debug, Serialize, JsonSchema)]
struct Shown {
    /// Absent where it is not the panel's.
    pairing: Option<Pairing>,
    /// Whether the connection to it is there; absent where it is not the panel's, and while the link does not run.
    connection: Option<fleet::State>,
    /// Since when, in milliseconds since 1970.
    since_ms: Option<u64>,
    /// When it answered last.
    seen_ms: Option<u64>,
    /// Why it is not there, or can't be told who may come in. Only those who may change tunnels are told.
    error: Option<String>,
    /// What it says is not as it should be, for the same.
    faults: Vec<String>,
    /// How many servers are there at this moment, for the same.
    servers: Option<u64>,
}

/// What a tunnel is paired with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPairing {
    /// The code that stands on its screen.
    #[schemars(with = "String", length(min = 1, max = 200))]
    code: PairingCode,
}

/// What a seed file is made of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewSeed {
    /// How long its code is tried.
    #[schemars(range(min = 1, max = 168))]
    hours: u64,
}

/// A seed file, for the only time.
#[derive(Serialize, JsonSchema)]
struct MadeSeed {
    code: PairingSeed,
    /// The file for the boot partition.
    seed: String,
}

/// The routes.
pub(super) fn lines() -> Vec<Line> {
    let operation = |id, summary| Operation::new("tunnel", id, summary);
    vec![
        Line::get(
            "/tunnels/{id}/pairing",
            get(show),
            operation("pairingOfTunnel", "Whether a tunnel is the panel's, and how it is")
                .answers::<Shown>(200, "What is known."),
        ),
        Line::post(
            "/tunnels/{id}/pairing",
            post(pair),
            operation("pairTunnel", "Makes a tunnel the panel's by the code that it shows")
                .takes::<NewPairing>()
                .done("It is the panel's.")
                .refuses([403]),
        ),
        Line::delete(
            "/tunnels/{id}/pairing",
            delete(forget),
            operation("forgetPairing", "Forgets that a tunnel is the panel's")
                .done("No server comes through it any more.")
                .refuses([403]),
        ),
        Line::post(
            "/tunnels/{id}/pairing-seed",
            post(make_seed),
            operation("makePairingSeed", "Makes a seed file by which a tunnel pairs by itself")
                .takes::<NewSeed>()
                .answers::<MadeSeed>(201, "The file; its code is told this once.")
                .refuses([403]),
        ),
    ]
}

async fn show(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Json<Shown>, Refusal> {
    let id = Id::<Tunnel>::new(id);
    let ask =
        move |panel: &Panel| Ok((panel.pairing(actor, id)?, panel.presences(actor)?.remove(&id)));
    let (pairing, presence) = app.ask(ask).await?;
    let status = presence.as_ref().and_then(|presence| presence.status.as_ref());
    let there = status.map(|status| status.agents.values().filter(|a| a.since_ms.is_some()));
    Ok(Json(Shown {
        pairing,
        connection: presence.as_ref().map(|presence| presence.state),
        since_ms: presence.as_ref().map(|presence| presence.since_ms),
        seen_ms: presence.as_ref().and_then(|presence| presence.seen_ms),
        error: presence.as_ref().and_then(|presence| presence.error.clone()),
        faults: status.map(|status| status.faults.clone()).unwrap_or_default(),
        servers: there.map(|there| u64::try_from(there.count()).unwrap_or(u64::MAX)),
    }))
}

async fn pair(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
    Body(new): Body<NewPairing>,
) -> Result<StatusCode, Refusal> {
    tunnel::allowed(&app, actor, id).await?;
    match tunnel::paired(&app, actor, Id::new(id), &new.code).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(Problem::Invalid(faults)) => Err(Refusal::Faulty(
            faults.into_iter().map(|fault| Fault::at("/code", fault.message)).collect(),
        )),
        Err(problem) => Err(problem.into()),
    }
}

async fn forget(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<StatusCode, Refusal> {
    let ask = move |panel: &Panel| panel.forget_pairing(actor, Id::new(id));
    if app.change(ask).await? { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::NotFound.into()) }
}

async fn make_seed(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
    Body(new): Body<NewSeed>,
) -> Result<(StatusCode, Json<MadeSeed>), Refusal> {
    let made = tunnel::seed(&app, actor, Id::new(id), new.hours).await;
    let (_, code, seed) = made.map_err(|problem| match problem {
        Problem::Invalid(faults) => {
            let told = faults.into_iter().map(|fault| Fault::at("/hours", fault.message));
            Refusal::Faulty(told.collect())
        }
        other => Refusal::Problem(other),
    })?;
    Ok((StatusCode::CREATED, Json(MadeSeed { code, seed })))
}
