//! The API that the panel uses, see [`model::tunnel`]. Each route says who may use it by what it takes: a [`Panel`] is there for
//! the panel of a paired tunnel alone. It decides nothing else.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use host::seam::chain;
use hyper_util::rt::TokioIo;
use model::tunnel::{
    BOX_ADDRESS, CERTIFICATE, JOINS, PAIR, PROOF, Paired, Renewed, STATUS, STREAM, TABLE, Table,
};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::{
    broker::{self, Broker},
    joins::Joins,
    owner::{self, Owner, on_thread},
    pair::{self, Desk},
    problem::{refuse, with_retry},
    session::Session,
    status::{Board, told_to},
};

/// The largest table: 50,000 servers take about 12 MiB.
const TABLE_BYTES: usize = 32 << 20;
const CHAIN_BYTES: usize = 64 << 10;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long somebody may wait for another status, or for a box that joins.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the API shows and reaches.
pub struct Api {
    /// Whose the tunnel is.
    pub owner: Arc<Owner>,
    /// Where panels pair.
    pub desk: Desk,
    /// The streams.
    pub broker: Broker,
    /// The boxes that join.
    pub joins: Arc<Joins>,
    /// The status.
    pub board: Arc<Board>,
    /// Counters.
    pub registry: Registry,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// The route table.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route(PAIR, post(offer).put(pair))
        .route(TABLE, put(put_table))
        .route(STATUS, get(status))
        .route(CERTIFICATE, put(renew))
        .route("/v1/connect/{server}", get(connect))
        .route(JOINS, get(joins))
        .route("/metrics", get(metrics))
        .fallback(nothing)
        .with_state(api)
}

/// The panel, on its connection.
#[derive(Debug)]
struct Panel(Session);

impl FromRequestParts<Arc<Api>> for Panel {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Response> {
        let Anybody(session) = Anybody::from_request_parts(parts, api).await?;
        let (kind, title) = match session.is_panel() {
            true => {
                api.owner.saw_panel(session.peer.ip());
                return Ok(Self(session));
            }
            false if session.is_paired() => ("not-the-panel", "Only the panel is answered"),
            false => ("unpaired", "The tunnel is not paired"),
        };
        tracing::warn!(from = %session.peer, path = %parts.uri.path(), kind, "a request was refused");
        Err(refuse(StatusCode::FORBIDDEN, kind, title, String::new()))
    }
}

/// Whoever is on this connection.
#[derive(Debug)]
struct Anybody(Session);

impl FromRequestParts<Arc<Api>> for Anybody {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _api: &Arc<Api>) -> Result<Self, Response> {
        let session = parts.extensions.get::<Session>().cloned();
        session.map(Self).ok_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
}

async fn nothing() -> Response {
    refuse(StatusCode::NOT_FOUND, "not-found", "There is nothing here", String::new())
}

async fn offer(
    State(api): State<Arc<Api>>,
    Anybody(session): Anybody,
    headers: HeaderMap,
) -> Response {
    let offered = async {
        let proved = api.desk.prove(&session, proof(&headers)).await?;
        api.desk.offer(&session, &proved).await
    };
    match offered.await {
        Ok(offer) => json(&offer),
        Err(error) => not_paired(&error),
    }
}

/// The body is read only after the proof was good.
async fn pair(
    State(api): State<Arc<Api>>,
    Anybody(session): Anybody,
    request: Request,
) -> Response {
    let proved = match api.desk.prove(&session, proof(request.headers())).await {
        Ok(proved) => proved,
        Err(error) => return not_paired(&error),
    };
    let paired: Paired = match read(request.into_body(), TABLE_BYTES).await {
        Ok(paired) => paired,
        Err(refusal) => return refusal,
    };
    match api.desk.pair(&session, proved, paired).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => not_paired(&error),
    }
}

fn proof(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(PROOF).map(|proof| proof.as_bytes())
}

fn not_paired(error: &pair::Error) -> Response {
    const TITLE: &str = "The tunnel was not paired";
    match error {
        pair::Error::Throttled(wait) => {
            let refusal =
                refuse(StatusCode::TOO_MANY_REQUESTS, "throttled", TITLE, error.to_string());
            with_retry(refusal, *wait)
        }
        pair::Error::Proof => {
            refuse(StatusCode::FORBIDDEN, "wrong-proof", TITLE, error.to_string())
        }
        pair::Error::HostKey(_) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, "not-ready", TITLE, chain(error))
        }
        pair::Error::Owner(error) => not_changed(error),
    }
}

fn not_changed(error: &owner::Error) -> Response {
    use owner::Error;
    let (status, kind) = match error {
        Error::State(_) => (StatusCode::INSUFFICIENT_STORAGE, "failed"),
        Error::Users(_) => (StatusCode::INTERNAL_SERVER_ERROR, "users"),
        Error::Tls(_) => (StatusCode::UNPROCESSABLE_ENTITY, "certificate"),
        Error::Table(_) => (StatusCode::UNPROCESSABLE_ENTITY, "table"),
        Error::Late { .. } => (StatusCode::CONFLICT, "late"),
        Error::Paired => (StatusCode::CONFLICT, "paired"),
        Error::Unpaired => (StatusCode::CONFLICT, "unpaired"),
    };
    tracing::error!(error = chain(error), "a change was refused");
    refuse(status, kind, "The tunnel stays as it was", chain(error))
}

async fn put_table(State(api): State<Arc<Api>>, Panel(session): Panel, body: Body) -> Response {
    let table: Table = match read(body, TABLE_BYTES).await {
        Ok(table) => table,
        Err(refusal) => return refusal,
    };
    changed(&api, move |owner| owner.put_table(table, session.peer.ip())).await
}

async fn renew(State(api): State<Arc<Api>>, _panel: Panel, body: Body) -> Response {
    let renewed: Renewed = match read(body, CHAIN_BYTES).await {
        Ok(renewed) => renewed,
        Err(refusal) => return refusal,
    };
    changed(&api, move |owner| owner.renew(renewed.chain_pem)).await
}

async fn changed(
    api: &Api,
    change: impl FnOnce(&Owner) -> Result<(), owner::Error> + Send + 'static,
) -> Response {
    let done = on_thread(&api.owner, change).await;
    api.board.refresh();
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => not_changed(&error),
    }
}

/// The status, at once; or, for whoever has one already, when it differs. They say which they have by its tag (`If-None-Match`,
/// RFC 9110, 13.1.2), and how many seconds they wait for another (`Prefer: wait`, RFC 7240, 4.3).
async fn status(
    State(api): State<Arc<Api>>,
    Panel(session): Panel,
    headers: HeaderMap,
) -> Response {
    let known = headers.get(header::IF_NONE_MATCH);
    let deadline = Instant::now() + preferred_wait(&headers, Duration::ZERO);
    let mut board = api.board.subscribe();
    loop {
        let shown = told_to(&board.borrow_and_update(), session.peer.ip());
        let body = serde_json::to_vec(&shown).unwrap_or_default();
        let tag = format!("\"{}\"", hex::encode(Sha256::digest(&body)));
        if known.is_none_or(|known| known.as_bytes() != tag.as_bytes()) {
            let kind = (header::CONTENT_TYPE, "application/json".to_owned());
            return ([(header::ETAG, tag), kind], body).into_response();
        }
        let changed = tokio::time::timeout_at(deadline, board.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        }
    }
}

fn preferred_wait(headers: &HeaderMap, otherwise: Duration) -> Duration {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let wait = preferences
        .flat_map(|value| value.split(','))
        .find_map(|preference| preference.trim().strip_prefix("wait=")?.parse().ok());
    wait.map_or(otherwise, Duration::from_secs).min(LONGEST_WAIT)
}

async fn connect(
    State(api): State<Arc<Api>>,
    Panel(session): Panel,
    server: Result<Path<u64>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path(server)) = server else { return nothing().await };
    if !asks_for_stream(request.headers()) {
        return upgrade_required();
    }
    let stream = match api.broker.open(server).await {
        Ok(stream) => stream,
        Err(error) => return no_stream(&error),
    };
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => stream.carry(TokioIo::new(upgraded), session).await,
            Err(error) => tracing::debug!(%error, "a stream never began"),
        }
    });
    switching(HeaderMap::new())
}

fn no_stream(error: &broker::Error) -> Response {
    use broker::Error;
    let status = match error {
        Error::Unknown(_) => StatusCode::NOT_FOUND,
        Error::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        Error::Full(_) | Error::NotConnected | Error::Connect(_) | Error::Late => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::Stranger { .. } => StatusCode::BAD_GATEWAY,
        Error::Ports(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(status, error.word(), "There is no stream to the server", chain(error))
}

/// Waits for a box as long as is preferred, or as long as one may.
async fn joins(State(api): State<Arc<Api>>, Panel(session): Panel, request: Request) -> Response {
    if !asks_for_stream(request.headers()) {
        return upgrade_required();
    }
    let patience = preferred_wait(request.headers(), LONGEST_WAIT);
    let waiting = match api.joins.next(patience).await {
        Ok(Some(waiting)) => waiting,
        Ok(None) => return StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            let title = "Boxes are waited for";
            return refuse(StatusCode::TOO_MANY_REQUESTS, "too-many", title, error.to_string());
        }
    };
    let mut headers = HeaderMap::new();
    if let Ok(address) = waiting.address.to_string().parse() {
        headers.insert(BOX_ADDRESS, address);
    }
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => waiting.talk(TokioIo::new(upgraded), session).await,
            Err(error) => tracing::debug!(%error, "a box was never talked to"),
        }
    });
    switching(headers)
}

fn asks_for_stream(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|protocol| protocol.as_bytes() == STREAM.as_bytes())
}

fn upgrade_required() -> Response {
    let title = "This answers with a stream";
    let mut refusal =
        refuse(StatusCode::UPGRADE_REQUIRED, "upgrade", title, format!("upgrade to {STREAM}"));
    into_stream(refusal.headers_mut());
    refusal
}

fn switching(mut headers: HeaderMap) -> Response {
    into_stream(&mut headers);
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

fn into_stream(headers: &mut HeaderMap) {
    headers.insert(header::UPGRADE, header::HeaderValue::from_static(STREAM));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
}

async fn metrics(State(api): State<Arc<Api>>, _panel: Panel) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &api.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Reads a body of up to so many bytes.
async fn read<T: DeserializeOwned>(body: Body, most: usize) -> Result<T, Response> {
    const TITLE: &str = "The request can't be used";
    let refuse = |status, detail| refuse(status, "request", TITLE, detail);
    let bytes: Bytes = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, chain(&error)));
        }
        Err(_elapsed) => {
            return Err(refuse(StatusCode::REQUEST_TIMEOUT, "its body took too long".to_owned()));
        }
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| refuse(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

fn json(value: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
