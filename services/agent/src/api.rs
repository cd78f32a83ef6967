//! The agent's API: what the panel and root on the box ask of it. The same routes stand on the Unix socket and, behind client
//! certificates, on loopback. It changes nothing itself: a document goes to the owner.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use host::seam::chain;
use model::{
    certify::{Endpoint, Requested},
    desired::Desired,
    join::Problem,
    tunnel::Renewed,
    validate::Fault,
    wire,
};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use tokio::{
    sync::{broadcast, oneshot, watch},
    time::Instant,
};

pub use crate::document::read_document;
use crate::{
    boot::events::Events,
    owner::{self, ApplyError, Handle, Request},
    renewal::{self, Renewals},
    uplink,
};

/// The largest document: 5,000 devices take about 2 MiB.
const DOCUMENT_BYTES: usize = 32 << 20;
/// How long somebody may wait for another status.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the API shows and reaches.
pub struct Api {
    /// The owner of the machine.
    pub owner: Handle,
    /// What happened.
    pub events: Arc<Events>,
    /// Machines that are not known.
    pub discoveries: Arc<dyn Fn() -> Vec<wire::Discovered> + Send + Sync>,
    /// Rises when that list changes.
    pub discovered: watch::Receiver<u64>,
    /// The certificates of the agent's own servers.
    pub certificates: watch::Receiver<BTreeMap<String, wire::Certificate>>,
    /// The way to renew them.
    pub renewals: Arc<Renewals>,
    /// The ways through tunnels.
    pub uplinks: watch::Receiver<uplink::States>,
    /// Who was refused here last.
    pub stranger: watch::Receiver<Option<wire::Stranger>>,
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
        .route("/v1/desired", get(desired).put(apply))
        .route("/v1/status", get(status))
        .route("/v1/certificates/{endpoint}", post(request_certificate).put(renew_certificate))
        .route("/v1/events", get(events))
        .route("/v1/schema", get(schema))
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(DOCUMENT_BYTES))
        .with_state(api)
}

/// Why a document was refused: all of it, with the place of each fault.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The faults.
    pub faults: Vec<Fault>,
}

/// A document that was put in force.
#[derive(Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Its generation number.
    pub generation: u64,
}

async fn apply(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    let refuse = |status, faults| (status, Json(Refused { faults })).into_response();
    let desired = match read_document(&body) {
        Ok(desired) => Box::new(desired),
        Err(faults) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, faults),
    };
    let generation = desired.generation;
    let (reply, answer) = oneshot::channel();
    if !api.owner.send(Request::Apply { desired, reply }).await {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let fault = |error: &ApplyError| {
        vec![Fault { path: "generation".to_owned(), message: error.to_string() }]
    };
    match answer.await {
        Ok(Ok(())) => Json(Accepted { generation }).into_response(),
        Ok(Err(error @ (ApplyError::Late { .. } | ApplyError::Changed(_)))) => {
            refuse(StatusCode::CONFLICT, fault(&error))
        }
        Ok(Err(error @ ApplyError::Store(_))) => {
            tracing::error!(%error, "a document could not be kept");
            refuse(StatusCode::INSUFFICIENT_STORAGE, fault(&error))
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn desired(State(api): State<Arc<Api>>) -> Response {
    let view = api.owner.view();
    let desired: &Desired = view.document();
    Json(desired).into_response()
}

/// The status, at once; or, for whoever has one already, when it differs. They say which they have by its tag (`If-None-Match`,
/// RFC 9110, 13.1.2), and how many seconds they wait for another (`Prefer: wait`, RFC 7240, 4.3).
async fn status(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH);
    let deadline = Instant::now() + preferred_wait(&headers).min(LONGEST_WAIT);
    let mut owner = api.owner.status();
    let (mut discovered, mut certificates) = (api.discovered.clone(), api.certificates.clone());
    let (mut uplinks, mut stranger) = (api.uplinks.clone(), api.stranger.clone());
    loop {
        discovered.mark_unchanged();
        certificates.mark_unchanged();
        uplinks.mark_unchanged();
        stranger.mark_unchanged();
        let shown = show(&api, &owner.borrow_and_update());
        let Ok(body) = serde_json::to_vec(&shown) else {
            tracing::error!("the status can't be written");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let tag = format!("\"{}\"", hex::encode(sha2::Sha256::digest(&body)));
        if known.is_none_or(|known| known.as_bytes() != tag.as_bytes()) {
            let kind = (header::CONTENT_TYPE, "application/json".to_owned());
            return ([(header::ETAG, tag), kind], body).into_response();
        }
        let changed = tokio::select! {
            changed = owner.changed() => changed.is_ok(),
            changed = discovered.changed() => changed.is_ok(),
            changed = certificates.changed() => changed.is_ok(),
            changed = uplinks.changed() => changed.is_ok(),
            changed = stranger.changed() => changed.is_ok(),
            () = tokio::time::sleep_until(deadline) => false,
        };
        if !changed {
            return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        }
    }
}

fn preferred_wait(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let wait = preferences
        .flat_map(|value| value.split(','))
        .find_map(|preference| preference.trim().strip_prefix("wait=")?.parse().ok());
    Duration::from_secs(wait.unwrap_or(0))
}

fn show(api: &Api, status: &owner::Status) -> wire::Status {
    let observed = &status.observed;
    wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: status.generation,
        converged: status.converged,
        failures: status
            .failures
            .iter()
            .map(|(resource, why)| (resource.to_string(), why.clone()))
            .collect(),
        waiting: status
            .waiting
            .iter()
            .map(|w| (w.resource.to_string(), w.reason.clone()))
            .collect(),
        links: observed.links.clone(),
        disks: observed.disks.clone(),
        pools: observed.pools.clone(),
        datasets: observed.datasets.clone(),
        sessions: observed
            .targets
            .iter()
            .map(|(iqn, target)| (iqn.clone(), target.sessions.keys().cloned().collect()))
            .collect(),
        boot_files: observed.boot_files.clone(),
        imports: observed.imports.clone(),
        discovered: (api.discoveries)(),
        certificates: api.certificates.borrow().clone(),
        uplinks: api.uplinks.borrow().clone(),
        stranger: api.stranger.borrow().clone(),
    }
}

async fn request_certificate(
    State(api): State<Arc<Api>>,
    Path(endpoint): Path<Endpoint>,
) -> Response {
    let made = certifying(&api, move |renewals| renewals.request(endpoint)).await;
    made.map(|certificate_request_pem| Json(Requested { certificate_request_pem })).into_response()
}

async fn renew_certificate(
    State(api): State<Arc<Api>>,
    Path(endpoint): Path<Endpoint>,
    body: Bytes,
) -> Response {
    let Renewed { chain_pem } = match serde_json::from_slice(&body) {
        Ok(renewed) => renewed,
        Err(error) => return not_renewed(StatusCode::BAD_REQUEST, chain(&error)).into_response(),
    };
    let done = certifying(&api, move |renewals| renewals.renew(endpoint, chain_pem)).await;
    done.map(|()| StatusCode::NO_CONTENT).into_response()
}

async fn certifying<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Renewals) -> Result<T, renewal::Error> + Send + 'static,
) -> Result<T, (StatusCode, Json<Problem>)> {
    let renewals = Arc::clone(&api.renewals);
    match tokio::task::spawn_blocking(move || work(&renewals)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.retryable() => {
            Err(not_renewed(StatusCode::INTERNAL_SERVER_ERROR, chain(&error)))
        }
        Ok(Err(error)) => Err(not_renewed(StatusCode::UNPROCESSABLE_ENTITY, chain(&error))),
        Err(died) => Err(not_renewed(StatusCode::INTERNAL_SERVER_ERROR, died.to_string())),
    }
}

fn not_renewed(status: StatusCode, detail: String) -> (StatusCode, Json<Problem>) {
    tracing::error!(error = detail, "a certificate is not renewed");
    let title = "The certificate is not renewed".to_owned();
    let kind = "certificate".to_owned();
    (status, Json(Problem { kind, title, status: status.as_u16(), detail }))
}

/// The JSON schema of a document.
pub fn document_schema() -> schemars::Schema {
    schemars::schema_for!(Desired)
}

async fn schema() -> Response {
    Json(document_schema()).into_response()
}

/// Which events to send.
#[derive(Debug, Deserialize)]
struct EventsQuery {
    /// Those with a higher number.
    #[serde(default)]
    after: u64,
    /// Whether to stay and send what comes.
    #[serde(default)]
    follow: bool,
}

/// One JSON object a line.
async fn events(State(api): State<Arc<Api>>, Query(query): Query<EventsQuery>) -> Response {
    let fresh = api.events.subscribe();
    let old = api.events.since(query.after, usize::MAX);
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let sender: Lines = sender;
    tokio::spawn(async move {
        let mut last = query.after;
        for event in old {
            last = event.number;
            if sender.send(Ok(line(&event))).await.is_err() {
                return;
            }
        }
        if query.follow {
            follow(fresh, last, sender).await;
        }
    });
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

type Lines = tokio::sync::mpsc::Sender<Result<Bytes, std::convert::Infallible>>;

/// Sends what comes until the reader goes away.
async fn follow(mut fresh: broadcast::Receiver<wire::Event>, last: u64, lines: Lines) {
    loop {
        match fresh.recv().await {
            Ok(event) if event.number <= last => {}
            Ok(event) => {
                if lines.send(Ok(line(&event))).await.is_err() {
                    return;
                }
            }
            // A reader that is too slow for the ring sees a gap in the numbers and asks again.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn line(event: &wire::Event) -> Bytes {
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
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
