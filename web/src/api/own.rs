//! What is nobody's record: who calls and with what, the table of roles, search, jobs, the audit log, and the stream that says that
//! something changed. Passwords and one-time passwords are a person's, and stay with the pages.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use panel::{
    access::{Limit, Rank, Role, Standing, Verb, least},
    noun::{Id, Network, Noun, Organization, User},
    operations::{Actor, Hit},
    store::{Cursor, Entry, EntryQuery, Job, MOST_ROWS, Page, Session, Token},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Line,
    caller::Caller,
    describe::Operation,
    receive::{Body, Numbers, Query},
    refusal::Refusal,
};
use crate::{
    app::App,
    pages::{account, jobs, live},
    problem::Problem,
};

/// Who calls, as the panel counts them.
#[derive(Debug, Serialize, JsonSchema)]
struct Account {
    user: Option<Id<User>>,
    name: String,
    standing: Standing,
    organization: Option<Id<Organization>>,
    roles: Vec<Held>,
    /// What the token is limited to; absent for a session.
    limit: Option<Limit>,
}

/// A role on a network.
#[derive(Debug, Serialize, JsonSchema)]
struct Held {
    network: Id<Network>,
    role: Role,
}

/// The least that somebody has to be at the place of a record.
#[derive(Debug, Serialize, JsonSchema)]
struct Rule {
    noun: Noun,
    verb: Verb,
    least: Rank,
}

/// What a token is made of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    #[schemars(length(min = 1, max = 80))]
    name: String,
    /// What it counts for at the most, and the only network it sees.
    limit: Limit,
    /// When it ends, in milliseconds since 1970.
    expires_ms: u64,
}

/// A token, for the only time.
#[derive(Serialize, JsonSchema)]
struct MadeToken {
    id: i64,
    token: String,
}

/// The routes.
pub fn lines() -> Vec<Line> {
    let operation = Operation::new;
    let number = || json!({ "type": "integer", "minimum": 1 });
    let nouns = json!({ "enum": Noun::ALL.map(Noun::word) });
    vec![
        Line::get(
            "/roles",
            get(roles),
            operation("access", "listRules", "Who may do what: the least that it takes")
                .answers::<Vec<Rule>>(200, "The table."),
        ),
        Line::get(
            "/search",
            get(search),
            operation(
                "search",
                "search",
                "Everything that the caller may see and that is called so",
            )
            .asked("q", json!({ "type": "string" }), "What to search for.")
            .answers::<Vec<Hit>>(200, "A few of each kind."),
        ),
        Line::get(
            "/jobs",
            get(list_jobs),
            operation("job", "listJobs", "Long operations: those that run first, then the newest")
                .asked("network", number(), "Only those of this network.")
                .answers::<Vec<Job>>(200, "The jobs.")
                .refuses([404]),
        ),
        Line::post(
            "/jobs/{id}/cancel",
            post(cancel),
            operation("job", "cancelJob", "Stops a job").done("It is stopped.").refuses([403, 409]),
        ),
        Line::get(
            "/audit",
            get(audit),
            operation("audit", "listEntries", "Who did what, the newest first")
                .asked("noun", nouns, "Only of this kind of record.")
                .asked("object", number(), "Only of the record of this number.")
                .asked("q", json!({ "type": "string" }), "Only with this in a name.")
                .asked("cursor", json!({ "type": "string" }), "Where to go on.")
                .asked(
                    "limit",
                    json!({ "type": "integer", "minimum": 1, "maximum": MOST_ROWS }),
                    "How many; 50 unless told.",
                )
                .answers::<Page<Entry>>(200, "A part of the log."),
        ),
        Line::get(
            "/events",
            get(events),
            operation(
                "event",
                "listen",
                "Says each time that something is different now; what, is to be asked",
            )
            .answers_as::<String>(
                200,
                "text/event-stream",
                "Events named `changed`. It ends with the token.",
            ),
        ),
    ]
    .into_iter()
    .chain(accounts())
    .collect()
}

fn accounts() -> Vec<Line> {
    let operation = |id, summary| Operation::new("account", id, summary);
    vec![
        Line::get(
            "/account",
            get(account),
            operation("getAccount", "Who calls")
                .answers::<Account>(200, "As the panel counts them."),
        ),
        Line::get(
            "/account/tokens",
            get(tokens),
            operation("listTokens", "The caller's own tokens, the newest first")
                .answers::<Vec<Token>>(200, "The tokens, without their secrets.")
                .refuses([404]),
        ),
        Line::post(
            "/account/tokens",
            post(make_token),
            operation("makeToken", "Makes a token; it takes a session, for no token makes another")
                .takes::<NewToken>()
                .answers::<MadeToken>(201, "The token, which is told this once.")
                .refuses([403, 404]),
        ),
        Line::delete(
            "/account/tokens/{token}",
            axum::routing::delete(revoke_token),
            operation("revokeToken", "Revokes a token").done("It counts no more.").refuses([403]),
        ),
        Line::get(
            "/account/sessions",
            get(sessions),
            operation("listSessions", "The caller's own sessions, the one used last first")
                .answers::<Vec<Session>>(200, "The sessions.")
                .refuses([403, 404]),
        ),
        Line::delete(
            "/account/sessions/{session}",
            axum::routing::delete(end_session),
            operation("endSession", "Ends a session").done("It is over.").refuses([403]),
        ),
    ]
}

fn user(actor: Actor) -> Result<Id<User>, Refusal> {
    match actor {
        Actor::User(user) | Actor::Token { user, .. } => Ok(user),
        Actor::Panel(_) => Err(Problem::NotFound.into()),
    }
}

async fn roles() -> Json<Vec<Rule>> {
    let rules = Noun::ALL
        .into_iter()
        .flat_map(|noun| Verb::ALL.map(|verb| Rule { noun, verb, least: least(verb, noun) }));
    Json(rules.collect())
}

async fn search(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    mut query: Query,
) -> Result<Json<Vec<Hit>>, Refusal> {
    let text = query.text("q").unwrap_or_default();
    query.finish()?;
    Ok(Json(app.ask(move |panel| panel.search(actor, &text)).await?))
}

async fn list_jobs(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    mut query: Query,
) -> Result<Json<Vec<Job>>, Refusal> {
    let network = query.within("network", 1, i64::MAX).map(Id::<Network>::new);
    query.finish()?;
    let found = app.ask(move |panel| match network {
        Some(_) => panel.jobs(actor, network),
        None => jobs::all(panel, actor),
    });
    Ok(Json(found.await?))
}

async fn cancel(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<StatusCode, Refusal> {
    if app.change(move |panel| panel.cancel_job(actor, id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refusal::Over("the job has ended before"))
    }
}

async fn audit(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    mut asked: Query,
) -> Result<Json<Page<Entry>>, Refusal> {
    let query = EntryQuery {
        noun: asked.word("noun"),
        object_id: asked.within("object", 1, i64::MAX),
        search: asked.text("q"),
        cursor: asked.text("cursor").map(Cursor::new),
        limit: asked.limit(),
    };
    asked.finish()?;
    let found = app.ask(move |panel| panel.audit(actor, &query)).await;
    Ok(Json(found.map_err(Refusal::of_query)?))
}

async fn events(State(app): State<App>, caller: Caller) -> Response {
    live::told(app, caller)
}

async fn account(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
) -> Result<Json<Account>, Refusal> {
    let who = app.ask(move |panel| panel.standings(actor)).await?;
    Ok(Json(Account {
        user: who.user,
        name: who.name,
        standing: who.standing,
        organization: who.organization,
        roles: who.roles.into_iter().map(|(network, role)| Held { network, role }).collect(),
        limit: who.limit,
    }))
}

async fn tokens(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
) -> Result<Json<Vec<Token>>, Refusal> {
    let user = user(actor)?;
    Ok(Json(app.ask(move |panel| panel.tokens(actor, user)).await?))
}

async fn make_token(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Body(NewToken { name, limit, expires_ms }): Body<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), Refusal> {
    let (token, digest) = account::new_token();
    let make = move |panel: &panel::operations::Panel| {
        panel.make_token(actor, &name, digest, limit, expires_ms)
    };
    let id = app.change(make).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { id, token })))
}

async fn revoke_token(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([token]): Numbers<1>,
) -> Result<StatusCode, Refusal> {
    let user = user(actor)?;
    let revoked = app.change(move |panel| panel.revoke_token(actor, user, token)).await?;
    if revoked { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::NotFound.into()) }
}

async fn sessions(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
) -> Result<Json<Vec<Session>>, Refusal> {
    let user = user(actor)?;
    Ok(Json(app.ask(move |panel| panel.sessions(actor, user)).await?))
}

async fn end_session(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([session]): Numbers<1>,
) -> Result<StatusCode, Refusal> {
    let user = user(actor)?;
    let ended = app.change(move |panel| panel.end_sessions(actor, user, Some(session))).await?;
    if ended > 0 { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::NotFound.into()) }
}
