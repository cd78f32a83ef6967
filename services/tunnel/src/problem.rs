//! Refusals as the panel reads them (RFC 9457).

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use model::{join::Problem, throttle::Wait};

/// Refuses a request. `kind` is for the panel, the rest for people.
pub fn refuse(status: StatusCode, kind: &str, title: &str, detail: String) -> Response {
    let problem =
        Problem { kind: kind.to_owned(), title: title.to_owned(), status: status.as_u16(), detail };
    let json = serde_json::to_vec(&problem).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], json).into_response()
}

/// Says when to come back.
pub fn with_retry(mut response: Response, Wait(wait): Wait) -> Response {
    let seconds = wait.as_secs().saturating_add(1);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}
