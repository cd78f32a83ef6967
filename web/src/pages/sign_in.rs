//! Signing in and out: the password first, then any one second factor that its owner has set up: a certificate that the browser
//! shows, a one-time password, or a recovery code. Who fails is told neither which of name and password was wrong nor whether there
//! is such a user, and waits longer and longer.

use std::time::SystemTime;

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use axum_extra::extract::{CookieJar, cookie::Cookie};
use panel::{
    noun::{Id, User, UserName},
    operations::Proof,
    password::Verdict,
    secret::{ExposeSecret as _, Purpose, SecretString},
    store::{Credentials, FieldError},
    totp::{self, Totp},
};
use serde::Deserialize;

use crate::{
    app::{App, Pending},
    browsers::Shown,
    fields::Fields,
    frame::{Frame, Seat, go, page},
    guard::{PENDING, Peer, SESSION, cookie, new_secret, secret_digest},
    pages::form::FormView,
    problem::Problem,
};

/// Half a day at a machine room's desk; whoever wants less signs out.
const HOUR_MS: u64 = 3600 * 1000;

#[derive(Debug, Template)]
#[template(path = "sign-in.html")]
struct SignIn {
    frame: Frame,
    form: FormView,
    next: String,
}

#[derive(Debug, Template)]
#[template(path = "second-factor.html")]
struct SecondFactor {
    frame: Frame,
    form: FormView,
    next: String,
    /// A certificate would do, too.
    certificate: bool,
}

/// Where to go after signing in.
#[derive(Debug, Deserialize)]
pub struct Next {
    #[serde(default)]
    next: String,
}

/// A path of ours, whatever was sent: `//elsewhere` and `/\elsewhere` are other hosts to a browser.
pub fn own_path(path: &str) -> &str {
    let ours = path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && !path.chars().any(char::is_control);
    if ours { path } else { "/" }
}

/// The form.
///
/// # Errors
/// The store failed.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    Query(Next { next }): Query<Next>,
) -> Result<Response, Problem> {
    if frame.seat.is_some() {
        return Ok(go(own_path(&next)));
    }
    if app.is_new().await? {
        return Ok(go("/first-start"));
    }
    page(StatusCode::OK, &SignIn { frame, form: FormView::default(), next })
}

/// Takes name and password.
///
/// # Errors
/// The store failed.
pub async fn enter(
    State(app): State<App>,
    frame: Frame,
    (peer, shown): (Peer, Shown),
    headers: HeaderMap,
    jar: CookieJar,
    fields: Fields,
) -> Result<Response, Problem> {
    let name = fields.get("name").to_lowercase();
    let next = own_path(fields.get("next")).to_owned();
    let password = SecretString::from(fields.raw("password"));
    let again = |frame, fault: FieldError, status| {
        let mut sent = Fields::default();
        sent.put("name", fields.get("name"));
        page(
            status,
            &SignIn { frame, form: FormView::faulty(sent, vec![fault]), next: next.clone() },
        )
    };
    if let Err(wait) = app.attempt(&name, peer.0) {
        tracing::warn!(from = %peer.0, "a sign-in was held back");
        let fault = FieldError::new("name", wait.to_string());
        return again(frame, fault, StatusCode::TOO_MANY_REQUESTS);
    }
    let user = match name.parse::<UserName>() {
        Ok(parsed) => app.ask(move |panel| panel.credentials(&parsed)).await?,
        Err(_) => None,
    };
    let kept = user.as_ref().and_then(|(_, credentials)| credentials.password_hash.clone());
    let verdict = compare(&app, password.clone(), kept.clone()).await?;
    let (Some((user, credentials)), true) = (user, verdict != Verdict::Wrong) else {
        tracing::warn!(from = %peer.0, "a sign-in was refused");
        let fault = FieldError::new("password", "the name or the password is not right");
        return again(frame, fault, StatusCode::UNPROCESSABLE_ENTITY);
    };
    if let (Verdict::RightButOutdated, Some(before)) = (verdict, kept) {
        rehash(&app, user.id, password, before).await?;
    }
    let second = second_factor(&app, user.id, &credentials, &shown).await?;
    if let Second::Missing(proof) = second {
        tracing::warn!(from = %peer.0, %proof, "a sign-in was refused for want of a certificate");
        let fault = FieldError::new("certificate", proof.to_string());
        return again(frame, fault, StatusCode::UNPROCESSABLE_ENTITY);
    }
    if matches!(second, Second::Code) {
        let (ticket, digest) = new_secret();
        app.keep_pending(digest, user.id, user.value.name);
        let query = serde_urlencoded::to_string([("next", &next)]).unwrap_or_default();
        let jar = jar.add(cookie(PENDING, ticket));
        return Ok((jar, go(format!("/sign-in/code?{query}"))).into_response());
    }
    app.succeeded(&name);
    let jar = begin(&app, user.id, peer, &headers, jar).await?;
    Ok((jar, go(&next)).into_response())
}

/// What is still missing when the password was right.
enum Second {
    /// Nothing.
    Given,
    /// A code, which is asked for on a page of its own.
    Code,
    /// A certificate, which a browser has or has not.
    Missing(Proof),
}

async fn second_factor(
    app: &App,
    user: Id<User>,
    credentials: &Credentials,
    shown: &Shown,
) -> Result<Second, Problem> {
    let by_code = credentials.totp_secret.is_some();
    if !credentials.certificate_required {
        return Ok(if by_code { Second::Code } else { Second::Given });
    }
    let shown = shown.clone();
    let weighed = app.ask(move |panel| {
        let proof = panel.weigh_certificate(user, shown.der())?;
        if let Proof::Good(serial) = proof {
            panel.note_certificate_use(serial)?;
        }
        Ok(proof)
    });
    Ok(match weighed.await? {
        Proof::Good(_) => Second::Given,
        _ if by_code => Second::Code,
        proof => Second::Missing(proof),
    })
}

async fn compare(
    app: &App,
    password: SecretString,
    kept: Option<String>,
) -> Result<Verdict, Problem> {
    let kept = kept.map(SecretString::from);
    match app.hash(move |passwords| passwords.verify(&password, kept.as_ref())).await {
        Err(Problem::Invalid(_)) => Ok(Verdict::Wrong),
        other => other,
    }
}

async fn rehash(
    app: &App,
    user: Id<User>,
    password: SecretString,
    before: String,
) -> Result<(), Problem> {
    let hash = app.hash(move |passwords| passwords.hash(&password)).await?;
    app.ask(move |panel| panel.rehash(user, &before, hash.expose_secret())).await?;
    Ok(())
}

/// Begins a session in this browser.
///
/// # Errors
/// The store failed.
pub async fn begin(
    app: &App,
    user: Id<User>,
    peer: Peer,
    headers: &HeaderMap,
    jar: CookieJar,
) -> Result<CookieJar, Problem> {
    let (secret, digest) = new_secret();
    let browser = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let browser: String = browser.unwrap_or_default().chars().take(200).collect();
    let address = peer.0.to_string();
    let begun = app.ask(move |panel| {
        let lasts_ms = u64::from(panel.settings_in_force()?.session_hours) * HOUR_MS;
        panel.begin_session(user, digest, lasts_ms, &address, &browser)
    });
    begun.await?;
    Ok(jar.add(cookie(SESSION, secret)))
}

fn waiting(app: &App, jar: &CookieJar) -> Option<(Pending, panel::store::Digest)> {
    let digest = secret_digest(jar.get(PENDING)?.value())?;
    Some((app.pending(digest)?, digest))
}

/// The form of the second factor.
///
/// # Errors
/// The page can't be drawn.
pub async fn show_code(
    State(app): State<App>,
    frame: Frame,
    jar: CookieJar,
    Query(Next { next }): Query<Next>,
) -> Result<Response, Problem> {
    let Some((pending, _)) = waiting(&app, &jar) else { return Ok(go("/sign-in")) };
    let certificate = takes_certificates(&app, &pending).await?;
    page(StatusCode::OK, &SecondFactor { frame, form: FormView::default(), next, certificate })
}

/// Takes the one-time password, or a recovery code.
///
/// # Errors
/// The store failed.
pub async fn enter_code(
    State(app): State<App>,
    frame: Frame,
    peer: Peer,
    headers: HeaderMap,
    jar: CookieJar,
    fields: Fields,
) -> Result<Response, Problem> {
    let Some((pending, ticket)) = waiting(&app, &jar) else { return Ok(go("/sign-in")) };
    let next = own_path(fields.get("next")).to_owned();
    let attempt = app.attempt(pending.name.as_str(), peer.0);
    let refused = match attempt {
        Err(wait) => Some((wait.to_string(), StatusCode::TOO_MANY_REQUESTS)),
        Ok(()) => check(&app, &pending, fields.get("code").to_owned())
            .await?
            .map(|fault| (fault, StatusCode::UNPROCESSABLE_ENTITY)),
    };
    if let Some((fault, status)) = refused {
        tracing::warn!(from = %peer.0, "a second factor was refused");
        let form = FormView::faulty(Fields::default(), vec![FieldError::new("code", fault)]);
        let certificate = takes_certificates(&app, &pending).await?;
        return page(status, &SecondFactor { frame, form, next, certificate });
    }
    app.forget_pending(ticket);
    app.succeeded(pending.name.as_str());
    let jar = begin(&app, pending.user, peer, &headers, jar.remove(gone(PENDING))).await?;
    Ok((jar, go(&next)).into_response())
}

async fn takes_certificates(app: &App, pending: &Pending) -> Result<bool, Problem> {
    let name = pending.name.clone();
    let found = app.ask(move |panel| panel.credentials(&name)).await?;
    Ok(found.is_some_and(|(_, known)| known.certificate_required))
}

/// Why a code is not taken; nothing when it is.
async fn check(app: &App, pending: &Pending, code: String) -> Result<Option<String>, Problem> {
    let (name, user) = (pending.name.clone(), pending.user);
    let digits = code.chars().filter(|c| !c.is_whitespace()).all(|c| c.is_ascii_digit());
    if !digits {
        let Ok(digest) = totp::recovery_digest(&code) else {
            return Ok(Some(totp::Error::Wrong.to_string()));
        };
        let used = app.ask(move |panel| panel.use_recovery_code(user, digest)).await?;
        return Ok((!used).then(|| totp::Error::Wrong.to_string()));
    }
    let found = app.ask(move |panel| panel.credentials(&name)).await?;
    let Some((_, credentials)) = found else { return Err(Problem::SignedOut) };
    let Some(sealed) = credentials.totp_secret else { return Err(Problem::SignedOut) };
    let secret = app
        .box_key()
        .open(Purpose::TotpSecret, &totp_owner(user), &sealed)
        .map_err(Problem::broken)?;
    match Totp::new(secret).check(&code, SystemTime::now(), credentials.totp_last_step) {
        Ok(step) => {
            let first = app.ask(move |panel| panel.use_totp_step(user, step)).await?;
            Ok((!first).then(|| totp::Error::Used.to_string()))
        }
        Err(error) if error.retryable() => Ok(Some(error.to_string())),
        Err(error) => Err(Problem::broken(error)),
    }
}

/// What a user's secret is sealed for.
pub fn totp_owner(user: Id<User>) -> String {
    format!("user {user}")
}

fn gone(name: &'static str) -> Cookie<'static> {
    cookie(name, String::new())
}

/// Ends this browser's session.
///
/// # Errors
/// The store failed.
pub async fn leave(
    State(app): State<App>,
    seat: Seat,
    jar: CookieJar,
) -> Result<Response, Problem> {
    let panel::operations::Actor::User(user) = seat.actor else { return Err(Problem::SignedOut) };
    app.ask(move |panel| panel.end_sessions(seat.actor, user, Some(seat.session))).await?;
    Ok((jar.remove(gone(SESSION)), go("/sign-in")).into_response())
}

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn nobody_is_led_elsewhere_after_signing_in() {
        assert_eq!(own_path("/networks/1?q=a"), "/networks/1?q=a");
        for elsewhere in ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\nb"]
        {
            assert_eq!(own_path(elsewhere), "/", "{elsewhere}");
        }
    }
}
