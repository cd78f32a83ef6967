//! The first-boot page: one form, for the join code and the short code that stands on the box's screen. Whoever can type that
//! stands before the box; nobody else is listened to, and nobody may guess. There is no script, no cookie and no state of a browser.

mod serve;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use askama::Template;
use axum::{
    Extension, Form, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use host::seam::chain;
use model::{
    code::ShortCode,
    throttle::{Rate, Throttle, Wait},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serve::{Served, serve};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    facts::{Door, Kind, Standing},
    join::{
        identity::PageIdentity,
        joiner::{self, OfferError},
    },
};

/// A code mistyped: five at once, then one every ten seconds. From every address of a subnet of 254 that is under 26 a second of
/// 2^40 codes.
const TRIES: Rate = Rate { burst: 5, every: Duration::from_secs(10) };
/// How many addresses are remembered.
const REMEMBERED: usize = 1024;
/// Two codes and their names.
const FORM_BYTES: usize = 4 << 10;

/// The page's own rules: its style sheet and its form, and nothing of anybody else's.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// How long until an address is tried again that could not be had.
const RETRY: Duration = Duration::from_secs(5);

/// Where the page is, and for how long.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the box is.
    pub kind: Kind,
    /// The file with the page's certificate and key.
    pub identity: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// How long it tells, to the browser that waits for it, that the box has joined.
    pub farewell: Duration,
}

/// Keeps the page open until the box has joined. `door` tells where it is, while codes are taken there, and `trouble` why it can't
/// be opened.
pub async fn keep(
    settings: Settings,
    joiner: joiner::Handle,
    door: watch::Sender<Option<Door>>,
    trouble: watch::Sender<Option<String>>,
) {
    let mut standing = joiner.standing();
    while !standing.borrow_and_update().joined() {
        let (listener, served, mut open) = match open(&settings).await {
            Ok(opened) => opened,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "the first-boot page can't open");
                trouble.send_replace(Some(format!("the first-boot page can't open: {error}")));
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let code = ShortCode::new(rand::random());
        code.text().expose_secret().clone_into(&mut open.code);
        trouble.send_replace(None);
        door.send_replace(Some(open));
        let router = router(Page::new(settings.kind, code, joiner.clone()));
        let joined = async {
            // A joiner that ended takes the service with it.
            drop(standing.wait_for(Standing::joined).await);
            door.send_replace(None);
            tokio::time::sleep(settings.farewell).await;
        };
        serve(served, listener, router, joined).await;
    }
    // The service goes on without the page.
    std::future::pending().await
}

async fn open(settings: &Settings) -> anyhow::Result<(TcpListener, Served, Door)> {
    let file = settings.identity.clone();
    let identity = tokio::task::spawn_blocking(move || PageIdentity::open(&file)).await??;
    let listener = TcpListener::bind(settings.address).await?;
    let port = listener.local_addr()?.port();
    let door = Door { port, fingerprint: identity.fingerprint(), code: String::new() };
    Ok((listener, Served::new(&identity)?, door))
}

/// What the page works with.
#[derive(Debug)]
struct Page {
    kind: Kind,
    /// The code on the box's screen.
    code: ShortCode,
    joiner: joiner::Handle,
    standing: watch::Receiver<Standing>,
    tries: Mutex<Throttle<IpAddr>>,
}

/// Who asks; the server puts it beside each request.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

impl Page {
    fn new(kind: Kind, code: ShortCode, joiner: joiner::Handle) -> Self {
        let standing = joiner.standing();
        let tries = Mutex::new(Throttle::new(TRIES, REMEMBERED));
        Self { kind, code, joiner, standing, tries }
    }

    /// Counts every try until the right one, before the code is looked at.
    fn try_code(&self, typed: &SecretString, from: IpAddr) -> Result<(), Fault> {
        let now = Instant::now();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.attempt(&from, now).map_err(Fault::Wait)?;
        if !is_code(typed, &self.code) {
            tracing::warn!(%from, "wrong code on the first-boot page");
            return Err(Fault::Code);
        }
        tries.forget(&from);
        Ok(())
    }
}

fn is_code(typed: &SecretString, code: &ShortCode) -> bool {
    ShortCode::parse(typed.expose_secret()).is_ok_and(|typed| typed.is(code))
}

/// The route table.
fn router(page: Page) -> Router {
    Router::new()
        .route("/", get(show).post(join))
        .route("/style.css", get(style))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(map_response(secured))
        .with_state(Arc::new(page))
}

async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../templates/style.css"))
}

async fn show(State(page): State<Arc<Page>>) -> Response {
    page.render(StatusCode::OK, None)
}

/// What was typed. Neither is ever written back into the form: both are secrets.
#[derive(Debug, Deserialize)]
struct Typed {
    code: SecretString,
    join: SecretString,
}

/// Why it is not taken.
#[derive(Debug)]
enum Fault {
    Wait(Wait),
    Code,
    Join(OfferError),
}

async fn join(
    State(page): State<Arc<Page>>,
    Extension(Peer(from)): Extension<Peer>,
    Form(typed): Form<Typed>,
) -> Response {
    if let Err(fault) = page.try_code(&typed.code, from) {
        let status = match &fault {
            Fault::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
            Fault::Code | Fault::Join(_) => StatusCode::FORBIDDEN,
        };
        return page.render(status, Some(&fault));
    }
    match page.joiner.offer(&typed.join).await {
        Ok(()) => {
            tracing::info!(%from, "a join code was given on the first-boot page");
            Redirect::to("/").into_response()
        }
        Err(error) => page.render(StatusCode::UNPROCESSABLE_ENTITY, Some(&Fault::Join(error))),
    }
}

/// The page in words.
#[derive(Debug, Template)]
#[template(path = "page.html")]
struct Words {
    kind: Kind,
    standing: String,
    /// Seconds until it is looked at again, while something goes on.
    refresh: Option<u32>,
    form: bool,
    code_fault: Option<String>,
    join_fault: Option<String>,
}

impl Page {
    fn render(&self, status: StatusCode, fault: Option<&Fault>) -> Response {
        let standing = self.standing.borrow().clone();
        let (code_fault, join_fault) = match fault {
            None => (None, None),
            Some(Fault::Wait(wait)) => (Some(wait.to_string()), None),
            Some(Fault::Code) => (Some("This is not the code on the box's screen.".into()), None),
            Some(Fault::Join(error)) => (None, Some(chain(error))),
        };
        let words = Words {
            kind: self.kind,
            standing: standing.to_string(),
            refresh: match &standing {
                _ if fault.is_some() => None,
                Standing::Asking { .. } => Some(2),
                Standing::Unconfirmed { .. } => Some(5),
                Standing::Alone | Standing::Joined { .. } | Standing::Failed { .. } => None,
            },
            form: standing.wants_code(),
            code_fault,
            join_fault,
        };
        match words.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(error) => {
                tracing::error!(%error, "the first-boot page can't be rendered");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
