//! What boxes ask, which are no browsers: one that wants to join brings its secret along, and has neither cookies nor forms.

use std::time::Instant;

use axum::{
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use model::join::{Answer, MOST_BYTES, Problem, Request};
use panel::{operations::JoinError, throttle::Wait};

use crate::{app::App, guard::Peer};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// RFC 9457.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Answers a box that wants to join.
pub(crate) async fn join(State(app): State<App>, Peer(from): Peer, body: Body) -> Response {
    // A body that is too long and one that breaks off look the same from here.
    let Ok(body) = to_bytes(body, MOST_BYTES).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "it is too long, or was cut off");
    };
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let ca = app.ca();
    let panel = app.shared();
    let joined =
        tokio::task::spawn_blocking(move || panel.join(&ca, &request, from, Instant::now()));
    match joined.await {
        Ok(Ok(answer)) => answered(&answer),
        Ok(Err(error)) => failed(&error, &from),
        Err(error) => {
            tracing::error!(%error, "a box's request died");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "see the panel's log")
        }
    }
}

fn answered(answer: &Answer) -> Response {
    let status = match answer {
        Answer::Joined(_) => StatusCode::OK,
        Answer::Waiting { .. } => StatusCode::ACCEPTED,
    };
    match serde_json::to_vec(answer) {
        Ok(json) => (status, [(header::CONTENT_TYPE, JSON)], json).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer to a box can't be written");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "see the panel's log")
        }
    }
}

fn failed(error: &JoinError, from: &std::net::IpAddr) -> Response {
    let problem = error.problem();
    let wait = match error {
        JoinError::Throttled(wait) => Some(*wait),
        JoinError::Ports | JoinError::Ca(_) | JoinError::Operation(_) => {
            let error = panel::fleet::chain(error);
            tracing::error!(error, %from, "a box can't be let in");
            None
        }
        JoinError::Refused(_) | JoinError::Request(_) | JoinError::BootKey => None,
    };
    told(&problem, wait)
}

fn refuse(status: StatusCode, detail: &str) -> Response {
    let problem = Problem {
        kind: "join-request".to_owned(),
        title: "The request can't be used".to_owned(),
        status: status.as_u16(),
        detail: detail.to_owned(),
    };
    told(&problem, None)
}

fn told(problem: &Problem, wait: Option<Wait>) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    let json = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = (status, [(header::CONTENT_TYPE, PROBLEM)], json).into_response();
    if let Some(Wait(wait)) = wait {
        let seconds = wait.as_secs().saturating_add(1);
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
