//! Who calls the API: the bearer of a token, or somebody who is signed in at the console, whose changes need what changes of our
//! pages need (see [`guard`]). It decides nothing about what somebody may do.

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use panel::operations::{Actor, Panel};
use subtle::ConstantTimeEq as _;

use super::{
    receive::{MOST_BYTES, text},
    refusal::Refusal,
};
use crate::{app::App, guard, pages::account::token_digest, problem::Problem};

/// What is read of somebody whom nobody knows.
const MOST_BYTES_UNKNOWN: usize = 16 << 10;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// As the operations know them.
    pub actor: Actor,
    /// Their session, when they came with one.
    pub session: Option<i64>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get().copied().ok_or(Refusal::Problem(Problem::SignedOut))
    }
}

/// Finds out who calls, and reads the body: one that is left unread would take the connection with it, whatever is answered.
pub async fn find(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = match called(&app, parts.method.is_safe(), &parts.headers).await {
        Ok(caller) => caller,
        Err(problem) => return Refusal::Problem(problem).into_response(),
    };
    let most = if caller.is_some() { MOST_BYTES } else { MOST_BYTES_UNKNOWN };
    let body = match (axum::body::to_bytes(body, most).await, caller) {
        (Ok(bytes), _) => Body::from(bytes),
        (Err(_), None) => Body::empty(),
        (Err(_), Some(_)) => return Refusal::TooLong.into_response(),
    };
    if let Some(caller) = caller {
        parts.extensions.insert(caller);
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Lets nobody in whom nobody knows.
pub async fn known(_caller: Caller, request: Request, next: Next) -> Response {
    next.run(request).await
}

async fn called(app: &App, safe: bool, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
    // Who brings a token means it, whatever cookies a program carries along.
    if headers.contains_key(header::AUTHORIZATION) {
        let Some(token) = bearer(headers) else { return Err(Problem::SignedOut) };
        let digest = token_digest(token);
        let actor = app.ask(move |panel| panel.token(digest)).await?;
        let actor = actor.ok_or(Problem::SignedOut)?;
        return Ok(Some(Caller { actor, session: None }));
    }
    let Some(secret) = guard::session_secret(headers) else { return Ok(None) };
    let Some(seat) = guard::seated(app, &secret).await? else { return Ok(None) };
    if !safe {
        let token = text(headers, &HeaderName::from_static("x-csrf-token")).unwrap_or_default();
        let ours = bool::from(token.as_bytes().ct_eq(seat.csrf.as_bytes()));
        if !ours || !guard::from_us(headers) {
            return Err(Problem::Foreign);
        }
    }
    Ok(Some(Caller { actor: seat.actor, session: Some(seat.session) }))
}

/// The token of `Authorization: Bearer` (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl Caller {
    /// Whether the token, or the session, still counts.
    pub fn counts(self, panel: &Panel) -> bool {
        match (self.session, self.actor) {
            (Some(session), Actor::User(user)) => panel
                .sessions(self.actor, user)
                .is_ok_and(|sessions| sessions.iter().any(|known| known.id == session)),
            (_, actor) => panel.standings(actor).is_ok(),
        }
    }
}
