//! One's own account: password, one-time passwords, sessions, API tokens.

use std::time::SystemTime;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use axum_extra::extract::CookieJar;
use panel::{
    access::{Limit, Rank},
    noun::{Id, Network, Stored, User},
    operations::Actor,
    password::Verdict,
    secret::{ExposeSecret as _, Purpose, SecretString},
    store::{Digest, FieldError, Session, Token},
    totp::{self, Totp},
};
use sha2::Digest as _;

use super::{
    first_start::new_password,
    form::FormView,
    sign_in::{self, totp_owner},
};
use crate::{
    app::App,
    fields::{Fields, Reader},
    format::ms,
    frame::{Frame, Seat, go, page},
    guard::Peer,
    problem::Problem,
    shapes::word,
};

#[derive(Debug, Template)]
#[template(path = "account.html")]
struct Account {
    frame: Frame,
    me: Stored<User>,
    standing: String,
    has_totp: bool,
    has_certificate: bool,
    sessions: Vec<Session>,
    this: i64,
    tokens: Vec<Token>,
    networks: Vec<(i64, String)>,
    password: FormView,
    token: FormView,
    now_ms: u64,
}

impl Account {
    fn rank(&self, rank: &Rank) -> String {
        word(rank)
    }

    fn network(&self, id: &Id<Network>) -> String {
        let found = self.networks.iter().find(|(number, _)| *number == id.number());
        found.map_or_else(|| id.to_string(), |(_, name)| name.clone())
    }
}

pub(super) fn user(seat: &Seat) -> Result<Id<User>, Problem> {
    match seat.actor {
        Actor::User(user) => Ok(user),
        Actor::Panel(_) | Actor::Token { .. } => Err(Problem::SignedOut),
    }
}

async fn draw(
    app: &App,
    frame: Frame,
    seat: Seat,
    status: StatusCode,
    password: FormView,
    token: FormView,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, user(&seat)?);
    let found = app.ask(move |panel| {
        let me = panel.myself(actor)?;
        let credentials = panel.credentials(&me.value.name)?;
        let query = panel::store::ListQuery { limit: Some(200), ..Default::default() };
        let networks = panel.list::<Network>(actor, &query)?.rows;
        Ok((me, credentials, panel.sessions(actor, id)?, panel.tokens(actor, id)?, networks))
    });
    let (me, credentials, sessions, tokens, networks) = found.await?;
    let known = credentials.map(|(_, known)| known).unwrap_or_default();
    let (has_totp, has_certificate) = (known.totp_secret.is_some(), known.certificate_required);
    let networks =
        networks.into_iter().map(|row| (row.id.number(), row.value.name.to_string())).collect();
    let standing = word(&me.value.standing);
    let now_ms = ms(SystemTime::now());
    let this = seat.session;
    page(
        status,
        &Account {
            frame,
            me,
            standing,
            has_totp,
            has_certificate,
            sessions,
            this,
            tokens,
            networks,
            password,
            token,
            now_ms,
        },
    )
}

/// The page.
///
/// # Errors
/// The store failed.
pub async fn show(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    draw(&app, frame, seat, StatusCode::OK, FormView::default(), FormView::default()).await
}

/// Whether this is the password that somebody has, counted as a sign-in: a session that was left open is no way to try passwords.
pub(super) async fn knows_password(
    app: &App,
    frame: &Frame,
    peer: Peer,
    seat: &Seat,
    typed: &str,
) -> Result<Option<FieldError>, Problem> {
    let name = frame.name().to_owned();
    if let Err(wait) = app.attempt(&name, peer.0) {
        return Ok(Some(FieldError::new("current", wait.to_string())));
    }
    let actor = seat.actor;
    let found = app.ask(move |panel| panel.credentials(&panel.myself(actor)?.value.name)).await?;
    let kept = found.and_then(|(_, credentials)| credentials.password_hash).map(SecretString::from);
    let typed = SecretString::from(typed);
    let verdict = app.hash(move |passwords| passwords.verify(&typed, kept.as_ref())).await;
    match verdict {
        Ok(Verdict::Right | Verdict::RightButOutdated) => {
            app.succeeded(&name);
            Ok(None)
        }
        Ok(Verdict::Wrong) | Err(Problem::Invalid(_)) => {
            Ok(Some(FieldError::new("current", "this is not your password")))
        }
        Err(problem) => Err(problem),
    }
}

/// Changes the password; other sessions end, and this browser gets a new one.
///
/// # Errors
/// The store failed.
pub async fn change_password(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    peer: Peer,
    headers: HeaderMap,
    jar: CookieJar,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let me = app.ask(move |panel| panel.myself(actor)).await?;
    let mail = me.value.mail.as_deref().unwrap_or_default();
    let about = [me.value.name.as_str(), me.value.full_name.as_str(), mail];
    let mut form = Reader::new(&fields);
    let read = new_password(&mut form, "password", "again", &about);
    let mut read = form.finish(read);
    if read.is_ok()
        && let Some(fault) =
            knows_password(&app, &frame, peer, &seat, fields.raw("current")).await?
    {
        read = Err(vec![fault]);
    }
    let password = match read {
        Ok(password) => password,
        Err(faults) => {
            let form = FormView::faulty(Fields::default(), faults);
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return draw(&app, frame, seat, status, form, FormView::default()).await;
        }
    };
    let hash = app.hash(move |passwords| passwords.hash(&password)).await?;
    app.change(move |panel| panel.set_password(actor, me.id, hash.expose_secret())).await?;
    let jar = sign_in::begin(&app, me.id, peer, &headers, jar).await?;
    Ok((jar, go("/account")).into_response())
}

#[derive(Template)]
#[template(path = "totp.html")]
struct TotpPage {
    frame: Frame,
    form: FormView,
    svg: String,
    typed: String,
    sealed: String,
}

/// Recovery codes, or an API token, for the only time.
#[derive(Template)]
#[template(path = "once.html")]
struct Once {
    frame: Frame,
    kind: &'static str,
    secrets: Vec<String>,
}

fn totp_page(
    app: &App,
    frame: Frame,
    seat: &Seat,
    totp: &Totp,
    form: FormView,
    status: StatusCode,
) -> Result<Response, Problem> {
    let issuer = format!("clusterducks {}", frame.host.split(':').next().unwrap_or_default());
    let shown = totp.enrolment(&issuer, frame.name()).map_err(Problem::broken)?;
    let owner = offered_to(user(seat)?);
    let sealed = app.box_key().seal(Purpose::TotpSecret, &owner, totp.secret().expose_secret());
    let svg = shown.svg.expose_secret().to_owned();
    let typed = shown.typed.expose_secret().to_owned();
    page(status, &TotpPage { frame, form, svg, typed, sealed: hex::encode(sealed) })
}

/// What a secret is sealed for that was shown and is not in force yet.
fn offered_to(user: Id<User>) -> String {
    format!("offered to user {user}")
}

/// Shows a new secret for an authenticator app.
///
/// # Errors
/// The page can't be drawn.
pub async fn show_totp(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
) -> Result<Response, Problem> {
    totp_page(&app, frame, &seat, &Totp::generate(), FormView::default(), StatusCode::OK)
}

/// Puts it in force once a code proves that the app has it, and shows the recovery codes.
///
/// # Errors
/// The store failed.
pub async fn set_totp(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    peer: Peer,
    headers: HeaderMap,
    jar: CookieJar,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, user(&seat)?);
    let sealed = hex::decode(fields.get("secret")).unwrap_or_default();
    let opened = app.box_key().open(Purpose::TotpSecret, &offered_to(id), &sealed);
    let Ok(secret) = opened else { return Ok(go("/account/totp")) };
    let totp = Totp::new(secret);
    let wrong = match totp.check(fields.get("code"), SystemTime::now(), None) {
        Ok(_) => knows_password(&app, &frame, peer, &seat, fields.raw("current")).await?,
        Err(error) => Some(FieldError::new("code", error.to_string())),
    };
    if let Some(fault) = wrong {
        let form = FormView::faulty(Fields::default(), vec![fault]);
        return totp_page(&app, frame, &seat, &totp, form, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let kept =
        app.box_key().seal(Purpose::TotpSecret, &totp_owner(id), totp.secret().expose_secret());
    let codes = totp::recovery_codes();
    let digests: Vec<Digest> = codes.iter().map(|(_, digest)| *digest).collect();
    app.change(move |panel| {
        panel.set_recovery_codes(actor, id, &digests)?;
        panel.set_totp(actor, id, Some(&kept))
    })
    .await?;
    let jar = sign_in::begin(&app, id, peer, &headers, jar).await?;
    let secrets = codes.iter().map(|(code, _)| code.expose_secret().to_owned()).collect();
    // The only place where a change is answered by a page: what it shows is never shown again.
    let shown = page(StatusCode::OK, &Once { frame, kind: "recovery", secrets })?;
    Ok((jar, shown).into_response())
}

/// Takes the one-time passwords away.
///
/// # Errors
/// The store failed.
pub async fn drop_totp(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    peer: Peer,
    headers: HeaderMap,
    jar: CookieJar,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, user(&seat)?);
    if let Some(fault) = knows_password(&app, &frame, peer, &seat, fields.raw("current")).await? {
        let fault = FieldError::new("totp", fault.message);
        let form = FormView::faulty(Fields::default(), vec![fault]);
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return draw(&app, frame, seat, status, form, FormView::default()).await;
    }
    app.change(move |panel| panel.set_totp(actor, id, None)).await?;
    let jar = sign_in::begin(&app, id, peer, &headers, jar).await?;
    Ok((jar, go("/account")).into_response())
}

/// Ends one session, or all but this one.
///
/// # Errors
/// The store failed.
pub async fn end_session(
    State(app): State<App>,
    seat: Seat,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, id, this) = (seat.actor, user(&seat)?, seat.session);
    let only: Option<i64> = fields.get("session").parse().ok();
    app.ask(move |panel| {
        let ended = match only {
            Some(session) => vec![session],
            None => panel.sessions(actor, id)?.iter().map(|session| session.id).collect(),
        };
        for session in ended.into_iter().filter(|session| *session != this) {
            panel.end_sessions(actor, id, Some(session))?;
        }
        Ok(())
    })
    .await?;
    app.changed();
    Ok(go("/account"))
}

/// What an API token begins with, so that tools that look for leaked secrets know it.
pub const TOKEN_PREFIX: &str = "cdk_";

/// What the store keeps of an API token.
pub fn token_digest(token: &str) -> Digest {
    let digest = sha2::Sha256::new().chain_update(b"clusterducks token\0").chain_update(token);
    Digest(digest.finalize().into())
}

/// A new API token, and what the store keeps of it.
pub(crate) fn new_token() -> (String, Digest) {
    let token = format!("{TOKEN_PREFIX}{}", hex::encode(rand::random::<[u8; 32]>()));
    let digest = token_digest(&token);
    (token, digest)
}

/// Makes an API token and shows it.
///
/// # Errors
/// The store failed.
pub async fn make_token(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    fields: Fields,
) -> Result<Response, Problem> {
    let mut form = Reader::new(&fields);
    let name: Option<String> = form.required("name");
    let most: Option<Rank> = form.word("most");
    let network: Option<Option<i64>> = form.optional("network");
    let days: Option<u64> = form.required("days");
    let read = (|| Some((name?, Limit { most: most?, network: network?.map(Id::new) }, days?)))();
    let (actor, (token, digest)) = (seat.actor, new_token());
    let done = match form.finish(read) {
        Ok((name, limit, days)) => {
            let lasts_ms = days.saturating_mul(24 * 3600 * 1000);
            let expires_ms = ms(SystemTime::now()).saturating_add(lasts_ms);
            app.change(move |panel| panel.make_token(actor, &name, digest, limit, expires_ms)).await
        }
        Err(faults) => Err(Problem::Invalid(faults)),
    };
    match done {
        Ok(_) => page(StatusCode::OK, &Once { frame, kind: "token", secrets: vec![token] }),
        Err(Problem::Invalid(faults)) => {
            let form = FormView::faulty(fields, faults);
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            draw(&app, frame, seat, status, FormView::default(), form).await
        }
        Err(problem) => Err(problem),
    }
}

/// Revokes an API token.
///
/// # Errors
/// The store failed.
pub async fn revoke_token(
    State(app): State<App>,
    seat: Seat,
    Path(token): Path<i64>,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, user(&seat)?);
    app.change(move |panel| panel.revoke_token(actor, id, token)).await?;
    Ok(go("/account"))
}
