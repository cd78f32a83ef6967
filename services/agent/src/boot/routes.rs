//! The routes of the boot service, in one table, and what stands before all of them: only the network's own subnet is answered.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{
        Extension, MatchedPath, Path, Query, RawQuery, Request, State, rejection::QueryRejection,
    },
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use model::{
    name::{BootId, Mac},
    observed::GenerationId,
    wire::BootStep,
};
use serde::Deserialize;

use super::{
    BootService, Endpoint, Provisioner,
    files::{self, Served},
    grants,
    ipxe::BOOT_SCRIPT,
    metadata::{Metadata, render_metadata},
    metrics::Route,
    script::ScriptQuery,
    text::clean,
};

const EVENT_BYTES: usize = 4096;
const EVENT_TIMEOUT: Duration = Duration::from_secs(10);
const MESSAGE_CHARACTERS: usize = 512;
const PLAIN: &str = "text/plain; charset=utf-8";
const REFUSED: &str = "refused: restart the device to get a new token\n";

/// Where a request came from. [`super::serve`] sets it; a request without it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Ipv4Addr);

struct Site<P> {
    service: Arc<BootService<P>>,
    endpoint: Endpoint,
}

type Here<P> = State<Arc<Site<P>>>;

/// The routes, for one endpoint.
pub fn router<P: Provisioner>(service: Arc<BootService<P>>, endpoint: Endpoint) -> Router {
    let site = Arc::new(Site { service, endpoint });
    Router::new()
        .route("/boot.ipxe", get(boot_script))
        .route("/boot/{file}", get(script::<P>))
        .route("/files/{group}/{generation}/{file}", get(boot_file::<P>))
        .route("/ipxe/{binary}", get(ipxe_binary::<P>))
        .route("/metadata/v1/boot", get(metadata::<P>))
        .route("/metadata/v1/events", post(event::<P>))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(middleware::from_fn_with_state(Arc::clone(&site), admit::<P>))
        .with_state(site)
}

fn route(path: Option<&MatchedPath>) -> Route {
    match path.map(MatchedPath::as_str) {
        Some("/boot.ipxe") => Route::Chain,
        Some("/boot/{file}") => Route::Script,
        Some("/files/{group}/{generation}/{file}") => Route::Files,
        Some("/ipxe/{binary}") => Route::Ipxe,
        Some("/metadata/v1/boot") => Route::Metadata,
        Some("/metadata/v1/events") => Route::Events,
        _ => Route::None,
    }
}

async fn admit<P: Provisioner>(State(site): Here<P>, request: Request, next: Next) -> Response {
    let route = route(request.extensions().get());
    let peer: Option<&Peer> = request.extensions().get();
    let response = if peer.is_some_and(|peer| site.stands_near(peer.0)) {
        next.run(request).await
    } else {
        let network = &site.endpoint.network;
        tracing::warn!(?peer, %network, "request from outside of the network's subnet refused");
        StatusCode::FORBIDDEN.into_response()
    };
    site.service.metrics.count_request(route, response.status().as_u16());
    response
}

impl<P: Provisioner> Site<P> {
    fn stands_near(&self, peer: Ipv4Addr) -> bool {
        let view = self.service.provisioner.view();
        let network = view.document().network(&self.endpoint.network);
        network.is_some_and(|network| network.address.contains(&peer))
    }
}

async fn boot_script() -> Response {
    plain(BOOT_SCRIPT)
}

async fn script<P: Provisioner>(
    State(site): Here<P>,
    Extension(peer): Extension<Peer>,
    Path(file): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let mac = file.strip_suffix(".ipxe").and_then(|mac| mac.parse::<Mac>().ok());
    let Some(mac) = mac else { return StatusCode::NOT_FOUND.into_response() };
    // iPXE writes a blank as %20 and, before 2.0, a plus as it is. A query that can't be read costs the facts, not the boot.
    let query = query.unwrap_or_default().replace('+', "%2B");
    let query: ScriptQuery = serde_urlencoded::from_str(&query).unwrap_or_default();
    let script = site.service.script(&site.endpoint, mac, peer.0, &query).await;
    ([(header::CACHE_CONTROL, "no-store")], plain(script)).into_response()
}

#[derive(Debug, Default, Deserialize)]
struct FileQuery {
    boot: Option<BootId>,
}

async fn boot_file<P: Provisioner>(
    State(site): Here<P>,
    Path((group, number, file)): Path<(String, String, String)>,
    query: Result<Query<FileQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Some(generation) = group.parse().ok().zip(number.parse().ok()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let generation = GenerationId { group: generation.0, number: generation.1 };
    let view = site.service.provisioner.view();
    let Some(files) = view.boot_files(&generation) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (digest, step) = match file.as_str() {
        "vmlinuz" => (&files.kernel_sha256, BootStep::Kernel),
        "initrd" => (&files.initrd_sha256, BootStep::Initrd),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let boot = query.ok().and_then(|Query(query)| query.boot);
    let service = Arc::clone(&site.service);
    let sent = Served {
        path: std::path::Path::new(&files.folder).join(&file),
        etag: Some(format!("\"{digest}\"")),
        held: site.service.metrics.transfer(),
        sent: Box::new(move || {
            if let Some(boot) = boot {
                service.file_sent(&boot, &generation, step);
            }
        }),
    };
    files::answer(sent, &headers).await
}

impl<P: Provisioner> BootService<P> {
    fn file_sent(&self, boot: &BootId, generation: &GenerationId, step: BootStep) {
        let Some(grant) = self.grants.of_boot(boot) else { return };
        if grant.boot.generation == generation.number && self.grants.reaches(boot, step) {
            self.note_step(&grant.device, boot, step, String::new());
        }
    }
}

async fn ipxe_binary<P: Provisioner>(
    State(site): Here<P>,
    Path(binary): Path<String>,
    headers: HeaderMap,
) -> Response {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if binary.starts_with('.') || !binary.bytes().all(inner) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let served = Served {
        path: site.service.settings.ipxe_folder.join(binary),
        etag: None,
        held: site.service.metrics.transfer(),
        sent: Box::new(|| ()),
    };
    files::answer(served, &headers).await
}

async fn metadata<P: Provisioner>(
    State(site): Here<P>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    let service = &site.service;
    let token = bearer(&headers);
    let grant = match service.grants.holder(token, peer.0) {
        Ok(grant) => grant,
        Err(error) => return refused(peer, &error),
    };
    let view = service.provisioner.view();
    let document = view.document();
    let (Some(device), Some(network)) =
        (document.device(&grant.device), document.network(&site.endpoint.network))
    else {
        return refused(peer, &grants::Error::Unknown);
    };
    let generation = GenerationId { group: device.group.clone(), number: grant.boot.generation };
    let Some(files) = view.boot_files(&generation) else {
        tracing::warn!(device = %device.name, %generation, "no boot files; the device asks again");
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    // Last, so that a device which was answered an error can ask again.
    if let Err(error) = service.grants.fetch(token, peer.0) {
        return refused(peer, &error);
    }
    if service.grants.reaches(&grant.boot.id, BootStep::Network) {
        service.note_step(&device.name, &grant.boot.id, BootStep::Network, String::new());
    }
    let answer = render_metadata(&Metadata {
        device,
        boot: &grant.boot,
        server: network.address.addr(),
        root_partition: files.root_partition,
        seed: &service.settings.seed,
    });
    ([(header::CACHE_CONTROL, "no-store")], plain(answer)).into_response()
}

async fn event<P: Provisioner>(
    State(site): Here<P>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let grant = match site.service.grants.holder(bearer(&headers), peer.0) {
        Ok(grant) => grant,
        Err(error) => return refused(peer, &error),
    };
    let body = axum::body::to_bytes(body, EVENT_BYTES);
    let Ok(body) = tokio::time::timeout(EVENT_TIMEOUT, body).await else {
        return StatusCode::REQUEST_TIMEOUT.into_response();
    };
    let Ok(body) = body else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let Some((step, message)) = std::str::from_utf8(&body).ok().and_then(parse_event) else {
        tracing::warn!(device = %grant.device, "an event that can't be read was refused");
        return StatusCode::BAD_REQUEST.into_response();
    };
    if site.service.grants.reaches(&grant.boot.id, step) {
        site.service.note_step(&grant.device, &grant.boot.id, step, message);
    }
    StatusCode::NO_CONTENT.into_response()
}

/// A device tells only what it alone can know. Its `initrd` means that the initrd runs and reached the server, which is
/// [`BootStep::Network`]: that kernel and initrd were fetched is told by the one who sent them.
fn parse_event(body: &str) -> Option<(BootStep, String)> {
    let mut step = None;
    let mut message = String::new();
    for line in body.lines() {
        match line.split_once('=')? {
            ("step", "initrd") => step = Some(BootStep::Network),
            ("step", "root") => step = Some(BootStep::Root),
            ("step", "up") => step = Some(BootStep::Up),
            ("step", "failed") => step = Some(BootStep::Failed),
            ("message", text) => message = clean(text, MESSAGE_CHARACTERS),
            _ => return None,
        }
    }
    step.map(|step| (step, message))
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.split_once(' '));
    token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token)
}

fn refused(peer: Peer, error: &grants::Error) -> Response {
    tracing::warn!(from = %peer.0, reason = %error, "metadata refused");
    (StatusCode::FORBIDDEN, plain(REFUSED)).into_response()
}

fn plain(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, PLAIN)], text.into()).into_response()
}
