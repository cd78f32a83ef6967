//! What stands before every page: who is signed in, whether a change really comes from a page of ours, and the headers that
//! browsers hold pages to. It decides nothing about what somebody may do.
//!
//! Requests that change something are taken when the browser says that they come from us (`Sec-Fetch-Site`, or `Origin` of older
//! ones), and, from somebody who is signed in, with the token that only our pages have. OWASP's Cross-Site Request Forgery
//! Prevention Cheat Sheet describes both; each is enough, and each covers what the other misses: the token a browser that sends
//! neither header, the headers a sign-in, which has no session to bind a token to.

use std::net::{IpAddr, Ipv4Addr};

use axum::{
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, FromRequest as _, FromRequestParts, Multipart, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};
use axum_htmx::{HX_BOOSTED, HX_HISTORY_RESTORE_REQUEST, HX_REDIRECT, HX_REQUEST};
use panel::store::Digest;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    app::App,
    fields::Fields,
    frame::{Frame, Seat, Theme, go, page},
    pages::trouble::Trouble,
    problem::{Problem, Told},
};

/// The session's cookie. `__Host-`: only over HTTPS, only for this host, whole site (RFC 6265bis, 4.1.3.2).
pub const SESSION: &str = "__Host-session";
/// The cookie of somebody between password and one-time password.
pub const PENDING: &str = "__Host-pending";
/// Light or dark.
pub const THEME: &str = "theme";

/// A CSV file of 100,000 devices.
const MOST_BYTES: usize = 16 << 20;
/// What somebody may send who is not signed in.
const MOST_BYTES_SIGNED_OUT: usize = 16 << 10;

/// Styles, scripts and pictures come from us alone, and nothing is inline. Pico's own arrows and ticks are `data:` pictures.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let unknown = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(parts.extensions.get().copied().unwrap_or(unknown))
    }
}

impl<S: Sync> FromRequestParts<S> for Fields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.remove().unwrap_or_default())
    }
}

/// A secret of 256 bits for a cookie, and what the store keeps of it.
pub fn new_secret() -> (String, Digest) {
    let secret: [u8; 32] = rand::random();
    (hex::encode(secret), digest("session", &secret))
}

/// What the store keeps of a cookie's secret.
pub fn secret_digest(text: &str) -> Option<Digest> {
    let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
    Some(digest("session", &bytes))
}

/// The token of a session's forms: whoever has it does not have the cookie.
fn form_token(text: &str) -> Option<String> {
    let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
    Some(hex::encode(digest("form", &bytes).0))
}

fn digest(of: &str, secret: &[u8; 32]) -> Digest {
    let prefix = format!("clusterducks {of}\0");
    Digest(Sha256::new().chain_update(prefix).chain_update(secret).finalize().into())
}

/// A cookie that scripts can't read and other sites can't make the browser send with a change.
pub fn cookie(name: &'static str, value: String) -> Cookie<'static> {
    Cookie::build((name, value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .build()
}

/// Finds out who asks.
pub async fn seat(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let (mut frame, secret) = looked_at(&request);
    if let Some(secret) = secret {
        frame.seat = match seated(&app, &secret).await {
            Ok(seat) => seat,
            Err(problem) => return problem.into_response(),
        };
    }
    request.extensions_mut().insert(frame);
    next.run(request).await
}

/// The secret of the session's cookie.
pub(crate) fn session_secret(headers: &HeaderMap) -> Option<String> {
    let jar = CookieJar::from_headers(headers);
    jar.get(SESSION).map(|cookie| cookie.value().to_owned())
}

/// The frame as far as the request itself says, and the session's secret.
fn looked_at(request: &Request) -> (Frame, Option<String>) {
    let jar = CookieJar::from_headers(request.headers());
    let secret = session_secret(request.headers());
    let theme = jar.get(THEME).map(|cookie| Theme::parse(cookie.value())).unwrap_or_default();
    let uri = request.uri();
    let path = uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string);
    let said = |name: HeaderName| request.headers().get(name).is_some_and(|value| value == "true");
    let part = said(HX_REQUEST) && !said(HX_BOOSTED) && !said(HX_HISTORY_RESTORE_REQUEST);
    let host = text(request.headers(), &header::HOST).unwrap_or_default().to_owned();
    (Frame { seat: None, theme, path, host, part }, secret)
}

pub(crate) async fn seated(app: &App, secret: &str) -> Result<Option<Seat>, Problem> {
    let (Some(digest), Some(csrf)) = (secret_digest(secret), form_token(secret)) else {
        return Ok(None);
    };
    let found = app.ask(move |panel| {
        let Some((actor, session)) = panel.session(digest)? else { return Ok(None) };
        Ok(Some((actor, session, panel.standings(actor)?, panel.count_alerts(actor)?)))
    });
    match found.await {
        Ok(Some((actor, session, who, alerts))) => {
            Ok(Some(Seat { actor, session, who: who.into(), csrf, alerts }))
        }
        Ok(None) | Err(Problem::SignedOut) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Draws problems into the frame of whoever asked, and leads those who have to sign in there.
pub async fn problems(State(app): State<App>, request: Request, next: Next) -> Response {
    let frame = request.extensions().get::<Frame>().cloned().unwrap_or_default();
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = next.run(request).await;
    let Some(told) = response.extensions().get::<Told>().cloned() else { return response };
    if told.kind == "signed-out" {
        return sign_in_first(&app, &frame, read).await;
    }
    let (status, part) = (told.status, frame.part);
    let trouble = Trouble { frame, told };
    let drawn = if part { page(status, &trouble.as_content()) } else { page(status, &trouble) };
    let Ok(mut drawn) = drawn else { return response };
    if let Some(wait) = response.headers().get(header::RETRY_AFTER) {
        drawn.headers_mut().insert(header::RETRY_AFTER, wait.clone());
    }
    drawn
}

async fn sign_in_first(app: &App, frame: &Frame, read: bool) -> Response {
    let is_new = app.is_new().await;
    let path = match is_new {
        Ok(true) => "/first-start".to_owned(),
        Ok(false) if read && !frame.part && frame.path != "/" => {
            let query = serde_urlencoded::to_string([("next", &frame.path)]);
            format!("/sign-in?{}", query.unwrap_or_default())
        }
        Ok(false) => "/sign-in".to_owned(),
        Err(problem) => return problem.into_response(),
    };
    let mut response = go(&path);
    if frame.part
        && let Ok(path) = HeaderValue::from_str(&path)
    {
        // A script's request would follow the redirect and put the page for signing in into a part of another.
        *response.status_mut() = axum::http::StatusCode::UNAUTHORIZED;
        response.headers_mut().insert(HX_REDIRECT, path);
    }
    response
}

/// Lets nobody in who is not signed in.
pub async fn signed_in(_seat: Seat, request: Request, next: Next) -> Response {
    next.run(request).await
}

/// Takes a change only from a page of ours, and reads the form that came with it.
pub async fn changes(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    match taken(request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// As [`changes`], for a page that reads by itself what comes: a file that no memory holds.
pub async fn uploads(request: Request, next: Next) -> Response {
    if !request.method().is_safe() && !from_us(request.headers()) {
        return Problem::Foreign.into_response();
    }
    next.run(request).await
}

async fn taken(request: Request) -> Result<Request, Problem> {
    if !from_us(request.headers()) {
        return Err(Problem::Foreign);
    }
    let (mut parts, body) = request.into_parts();
    let seat = parts.extensions.get::<Frame>().and_then(|frame| frame.seat.clone());
    let most = if seat.is_some() { MOST_BYTES } else { MOST_BYTES_SIGNED_OUT };
    let body = axum::body::to_bytes(body, most)
        .await
        .map_err(|_| Problem::Unreadable("it is too long, or was cut off"))?;
    let fields = read(&parts.headers, body).await?;
    if let Some(seat) = seat {
        let header = text(&parts.headers, &HeaderName::from_static("x-csrf-token"));
        let token = header.unwrap_or_else(|| fields.get("csrf"));
        if !bool::from(token.as_bytes().ct_eq(seat.csrf.as_bytes())) {
            return Err(Problem::Foreign);
        }
    }
    parts.extensions.insert(fields);
    Ok(Request::from_parts(parts, Body::empty()))
}

/// Whether the browser says that the request comes from a page of ours. One that says nothing is no browser of these years, or
/// none at all.
pub(crate) fn from_us(headers: &HeaderMap) -> bool {
    // Fetch Metadata: `none` is a person who typed the address or opened a bookmark.
    if let Some(site) = text(headers, &HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, "same-origin" | "none");
    }
    match (text(headers, &header::ORIGIN), text(headers, &header::HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host))
        }
        (Some(_), None) => false,
    }
}

async fn read(headers: &HeaderMap, body: Bytes) -> Result<Fields, Problem> {
    let unreadable = || Problem::Unreadable("it is no form");
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let pairs = serde_urlencoded::from_bytes(&body).map_err(|_| unreadable())?;
        return Ok(Fields::new(pairs));
    }
    let again = Request::builder().header(header::CONTENT_TYPE, kind).body(Body::from(body));
    let mut again = again.map_err(Problem::broken)?;
    // The body was measured already.
    DefaultBodyLimit::disable().apply(&mut again);
    let mut parts = Multipart::from_request(again, &()).await.map_err(|_| unreadable())?;
    let mut pairs = Vec::new();
    while let Some(part) = parts.next_field().await.map_err(|_| unreadable())? {
        let name = part.name().unwrap_or_default().to_owned();
        let bytes = part.bytes().await.map_err(|_| unreadable())?;
        let value = String::from_utf8(bytes.to_vec())
            .map_err(|_| Problem::Unreadable("it is not text in UTF-8"))?;
        pairs.push((name, value));
    }
    Ok(Fields::new(pairs))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The headers that browsers hold every answer to.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let always = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: browsers would send `Origin: null` with our own forms (Fetch, 3.2.5).
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in always {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let vary = HeaderValue::from_static("hx-request");
    headers.append(header::VARY, vary);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(pairs: &[(&'static str, &'static str)]) -> bool {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        from_us(&pairs.collect())
    }

    #[test]
    fn a_change_is_taken_from_our_own_pages_alone() {
        let host = ("host", "panel.local:8443");
        assert!(says(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(says(&[host, ("sec-fetch-site", "none")]));
        for site in ["cross-site", "same-site", ""] {
            let own = ("origin", "https://panel.local:8443");
            assert!(!says(&[host, ("sec-fetch-site", site), own]), "{site}");
        }
        assert!(says(&[host, ("origin", "https://panel.local:8443")]));
        for origin in ["https://panel.local", "https://evil.example", "null", ""] {
            assert!(!says(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!says(&[("origin", "https://panel.local:8443")]));
    }

    #[test]
    fn the_token_of_forms_does_not_give_the_session_away() {
        let (secret, digest) = new_secret();
        assert_eq!(secret_digest(&secret), Some(digest));
        let token = form_token(&secret).unwrap();
        assert_ne!(token, secret);
        assert_ne!(token, hex::encode(digest.0));
        assert_eq!(secret_digest("zz"), None);
    }
}
