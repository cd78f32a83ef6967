//! The local socket: what the box shows, and a way for root to give it a join code. Only root may connect.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use host::{files, seam::chain};
use secrecy::SecretString;
use serde_json::json;
use tokio::{net::UnixListener, sync::watch};

use crate::{facts::Facts, join::joiner};

/// A join code with a long name of its panel.
const CODE_BYTES: usize = 4 << 10;

/// What the socket shows and reaches.
#[derive(Debug, Clone)]
pub struct Api {
    /// What the box shows.
    pub facts: watch::Receiver<Facts>,
    /// Who takes join codes; absent where there is nothing to join.
    pub joiner: Option<joiner::Handle>,
}

/// The route table.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/join", post(join))
        .layer(DefaultBodyLimit::max(CODE_BYTES))
        .with_state(api)
}

async fn status(State(api): State<Api>) -> Json<Facts> {
    Json(api.facts.borrow().clone())
}

/// Takes a join code as plain text.
async fn join(State(api): State<Api>, code: String) -> Response {
    let Some(joiner) = &api.joiner else {
        return refuse(StatusCode::NOT_FOUND, "this box joins nothing");
    };
    match joiner.offer(&SecretString::from(code)).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &chain(&error)),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

/// Makes the socket.
///
/// # Errors
/// It can't be made there.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    files::remove_if_exists(path)?;
    let socket =
        UnixListener::bind(path).with_context(|| format!("can't listen at {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}
