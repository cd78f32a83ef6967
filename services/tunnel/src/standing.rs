//! What the box's screen shows of the tunnel, on a Unix socket for root alone: the code is in it. Everybody may connect, and
//! everybody else is closed at once.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use host::{files, seam::chain};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::tunnel::{Pairing, Standing};
use tokio::net::{UnixListener, UnixStream};
use tower_service::Service;

use crate::{
    faults::Faults,
    host_key,
    owner::{Error, Owner, Shown, on_thread},
    peer::is_of,
};

/// Where it is asked.
pub const PATH: &str = "/v1/standing";
/// The socket's name in the folder `run`.
pub const SOCKET: &str = "socket";

const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// After accept(2) failed for want of descriptors or memory, others get the time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What it is told from.
#[derive(Debug, Clone)]
pub struct Screen {
    /// Whose the tunnel is.
    pub owner: Arc<Owner>,
    /// The private host key's file.
    pub host_key: PathBuf,
    /// What fails.
    pub faults: Faults,
    /// Whom it is told: the number of a Unix user.
    pub reader: u32,
}

/// Makes the socket.
///
/// # Errors
/// It can't be made there.
pub fn bind(run: &Path) -> anyhow::Result<UnixListener> {
    let path = run.join(SOCKET);
    files::remove_if_exists(&path)?;
    let socket =
        UnixListener::bind(&path).with_context(|| format!("can't listen at {}", path.display()))?;
    // root is not among the service's own group, and may lack CAP_DAC_OVERRIDE where it asks.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

impl Screen {
    /// Answers for ever.
    pub async fn serve(self, socket: UnixListener) {
        let reader = self.reader;
        let router = Router::new().route(PATH, get(standing)).with_state(self);
        loop {
            match socket.accept().await {
                Ok((stream, _)) => match is_of(&stream, reader) {
                    Ok(()) => drop(tokio::spawn(answer(stream, router.clone()))),
                    Err(error) => tracing::warn!(%error, "a reader of the screen was refused"),
                },
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn standing(&self) -> Result<Standing, Error> {
        let pairing = match self.owner.shown()? {
            Shown::Unpaired(code, expires_ms) => Pairing::Unpaired { code, expires_ms },
            Shown::Paired(name) => {
                Pairing::Paired { name, panel_seen_ms: self.owner.panel_seen_ms() }
            }
        };
        let mut faults = self.faults.list();
        let fingerprint =
            host_key::read(&self.host_key).and_then(|key| host_key::fingerprint(&key));
        let host_key_fingerprint = match fingerprint {
            Ok(fingerprint) => Some(fingerprint),
            Err(error) => {
                faults.push(chain(&error));
                None
            }
        };
        Ok(Standing { pairing, host_key_fingerprint, faults })
    }
}

async fn answer(stream: UnixStream, router: Router) {
    let service = service_fn(move |request: hyper::Request<Incoming>| router.clone().call(request));
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = answered {
        tracing::debug!(%error, "connection broke");
    }
}

async fn standing(State(screen): State<Screen>) -> Response {
    let owner = Arc::clone(&screen.owner);
    match on_thread(&owner, move |_| screen.standing()).await {
        Ok(standing) => Json(standing).into_response(),
        Err(error) => {
            tracing::error!(error = chain(&error), "there is nothing to show");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
