//! One's own certificates, for the browsers that one signs in with: made, kept in a browser, asked for, taken back. The panel hands
//! a key out once, locked by a pass phrase, and keeps none.

use std::time::SystemTime;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use axum_extra::extract::CookieJar;
use model::code::JoinSecret;
use panel::{
    ca::{self, Algorithm, Key, PublicKey, Reason, Serial},
    noun::{Id, User},
    operations::{Actor, GiveError, Proof},
    secret::{ExposeSecret as _, Purpose, SecretString},
    store::{Booked, BookedState, FieldError},
};

use super::{
    account::{knows_password, user},
    form::FormView,
    sign_in,
};
use crate::{
    app::App,
    browsers::Shown,
    fields::{Fields, Reader},
    frame::{Frame, Seat, download, go, page},
    guard::Peer,
    problem::Problem,
};

/// So long before it ends somebody should make another one.
const SOON_MS: u64 = 30 * 24 * 3600 * 1000;

#[derive(Debug, Template)]
#[template(path = "user-certificates.html")]
struct Page {
    frame: Frame,
    rows: Vec<(&'static str, Booked)>,
    asked: bool,
    has_totp: bool,
    proof: Proof,
    form: FormView,
    ask: FormView,
}

impl Page {
    fn is_shown(&self, booked: &Booked) -> bool {
        self.proof == Proof::Good(booked.serial)
    }

    fn shows_one(&self) -> bool {
        matches!(self.proof, Proof::Good(_))
    }
}

fn state(booked: &Booked, now_ms: u64) -> &'static str {
    match booked.state(now_ms) {
        BookedState::Revoked => "revoked",
        BookedState::Ended => "ended",
        BookedState::Good if booked.ends_ms < now_ms.saturating_add(SOON_MS) => "ends soon",
        BookedState::Good => "good",
    }
}

/// The page, with a form that came back wrong, and with the switch that did.
async fn draw(
    app: &App,
    frame: Frame,
    seat: &Seat,
    shown: &Shown,
    (form, ask): (FormView, FormView),
) -> Result<Response, Problem> {
    let (actor, id, shown) = (seat.actor, user(seat)?, shown.clone());
    let found = app.ask(move |panel| {
        let me = panel.myself(actor)?;
        let known = panel.credentials(&me.value.name)?.map(|(_, known)| known);
        let proof = panel.weigh_certificate(id, shown.der())?;
        Ok((known.unwrap_or_default(), proof, panel.user_certificates(actor, id)?, panel.now_ms()))
    });
    let (known, proof, rows, now_ms) = found.await?;
    let (asked, has_totp) = (known.certificate_required, known.totp_secret.is_some());
    let rows = rows.into_iter().map(|booked| (state(&booked, now_ms), booked)).collect();
    let faulty = !form.faults.is_empty() || !ask.faults.is_empty();
    let status = if faulty { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    page(status, &Page { frame, rows, asked, has_totp, proof, form, ask })
}

/// The page.
///
/// # Errors
/// The store failed.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    shown: Shown,
) -> Result<Response, Problem> {
    draw(&app, frame, &seat, &shown, Default::default()).await
}

/// What was made, and the pass phrase of its bundle for the only time.
#[derive(Template)]
#[template(path = "user-certificate-made.html")]
struct Made {
    frame: Frame,
    label: String,
    serial: Serial,
    bundle: Option<Bundle>,
}

/// A key, its certificate and those above it, locked; sealed again, so that what comes back for the download is what was made.
struct Bundle {
    pass_phrase: String,
    sealed: String,
}

/// What a bundle is sealed for.
fn bundle_owner(user: Id<User>) -> String {
    format!("bundle of user {user}")
}

/// What the form asks for: a name, and a key where its owner keeps theirs.
fn asked_for(fields: &Fields) -> Result<(String, Option<PublicKey>), Vec<FieldError>> {
    let mut form = Reader::new(fields);
    let label: Option<String> = form.required("name");
    let request = ["request", "file"].map(|field| fields.get(field));
    let key = match request.into_iter().find(|pem| !pem.is_empty()) {
        None => Some(None),
        Some(pem) => match PublicKey::from_request(pem) {
            Ok(key) => Some(Some(key)),
            Err(error) => form.fault("request", error),
        },
    };
    form.finish(label.zip(key))
}

/// Makes a certificate, and the key where none came.
///
/// # Errors
/// The store failed, or the certificate can't be signed.
pub async fn make(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    (peer, shown): (Peer, Shown),
    fields: Fields,
) -> Result<Response, Problem> {
    let mut read = asked_for(&fields);
    if read.is_ok()
        && let Some(fault) =
            knows_password(&app, &frame, peer, &seat, fields.raw("current")).await?
    {
        read = Err(vec![fault]);
    }
    let done = match read {
        Ok((label, key)) => give(&app, &seat, label, key).await,
        Err(faults) => Err(Problem::Invalid(faults)),
    };
    match done {
        // As a token or recovery codes: what it shows is never shown again.
        Ok((label, serial, bundle)) => page(StatusCode::OK, &Made { frame, label, serial, bundle }),
        Err(Problem::Invalid(faults)) => {
            let form = FormView::faulty(fields, faults);
            draw(&app, frame, &seat, &shown, (form, FormView::default())).await
        }
        Err(problem) => Err(problem),
    }
}

async fn give(
    app: &App,
    seat: &Seat,
    label: String,
    asked: Option<PublicKey>,
) -> Result<(String, Serial, Option<Bundle>), Problem> {
    let (actor, id, of) = (seat.actor, user(seat)?, app.clone());
    let made = tokio::task::spawn_blocking(move || -> Result<_, GiveError> {
        let own = match asked {
            Some(_) => None,
            None => Some(Key::generate(Algorithm::EcdsaP256)?),
        };
        let Some(key) = asked.or_else(|| own.as_ref().map(Key::public)) else {
            return Err(ca::Error::Generate.into());
        };
        let given =
            of.panel().give_certificate(&of.ca(), actor, &label, &key, SystemTime::now())?;
        let serial = given.certificate.serial();
        let Some(key) = own else { return Ok((label, serial, None)) };
        let pass_phrase: SecretString = JoinSecret::new(rand::random()).text();
        let bytes = ca::bundle(&given, &key, &pass_phrase)?;
        let sealed = of.box_key().seal(Purpose::CertificateKey, &bundle_owner(id), &bytes);
        let pass_phrase = pass_phrase.expose_secret().to_owned();
        Ok((label, serial, Some(Bundle { pass_phrase, sealed: hex::encode(sealed) })))
    });
    match made.await.map_err(Problem::broken)? {
        Ok(made) => {
            app.changed();
            Ok(made)
        }
        Err(GiveError::Operation(error)) => Err(error.into()),
        Err(error) => Err(Problem::broken(error)),
    }
}

/// The bundle that was made, as a file.
///
/// # Errors
/// Nobody is signed in.
pub async fn bundle(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    fields: Fields,
) -> Result<Response, Problem> {
    let sealed = hex::decode(fields.get("bundle")).unwrap_or_default();
    let owner = bundle_owner(user(&seat)?);
    let Ok(bytes) = app.box_key().open(Purpose::CertificateKey, &owner, &sealed) else {
        return Ok(go("/account/certificates"));
    };
    let name = format!("clusterducks-{}.p12", frame.name());
    Ok(download(&name, "application/x-pkcs12", bytes.expose_secret().to_vec()))
}

/// One of them with the authority that signed it, in PEM.
///
/// # Errors
/// There is no such one.
pub async fn pem(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(serial): Path<String>,
) -> Result<Response, Problem> {
    let serial: Serial = serial.parse().map_err(|_| Problem::NotFound)?;
    let actor = seat.actor;
    let own = app.ask(move |panel| panel.own_certificate(actor, serial)).await?;
    let name = format!("clusterducks-{}.pem", frame.name());
    let chain = own.pem() + &app.ca().issuing().certificate().pem();
    Ok(download(&name, "application/x-pem-file", chain))
}

/// Asks for a certificate at each sign-in from now on, or no more; other sessions end.
///
/// # Errors
/// The store failed.
pub async fn ask(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    (peer, shown): (Peer, Shown),
    headers: axum::http::HeaderMap,
    jar: CookieJar,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, id, on) = (seat.actor, user(&seat)?, fields.has("on"));
    let fault = knows_password(&app, &frame, peer, &seat, fields.raw("current")).await?;
    let done = match fault {
        Some(fault) => Err(Problem::Invalid(vec![fault])),
        None => switch(&app, actor, id, on.then(|| shown.clone())).await,
    };
    match done {
        Ok(()) => {
            let jar = sign_in::begin(&app, id, peer, &headers, jar).await?;
            Ok((jar, go("/account/certificates")).into_response())
        }
        Err(Problem::Invalid(faults)) => {
            let ask = FormView::faulty(Fields::default(), faults);
            draw(&app, frame, &seat, &shown, (FormView::default(), ask)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn switch(app: &App, actor: Actor, id: Id<User>, on: Option<Shown>) -> Result<(), Problem> {
    let done = app.change(move |panel| match on {
        Some(shown) => panel.ask_for_certificate(actor, id, shown.der()),
        None => panel.stop_asking(actor, id),
    });
    done.await
}

/// Takes one of them back; other sessions end, for it may have opened them.
///
/// # Errors
/// There is no such one.
pub async fn revoke(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    shown: Shown,
    Path(serial): Path<String>,
) -> Result<Response, Problem> {
    let serial: Serial = serial.parse().map_err(|_| Problem::NotFound)?;
    let (actor, id, this) = (seat.actor, user(&seat)?, seat.session);
    let done = app.change(move |panel| {
        panel.own_certificate(actor, serial)?;
        if panel.revoke(actor, serial, Reason::Unspecified)? {
            let all = panel.sessions(actor, id)?;
            for session in all.iter().filter(|session| session.id != this) {
                panel.end_sessions(actor, id, Some(session.id))?;
            }
        }
        Ok(())
    });
    match done.await {
        Ok(()) => Ok(go("/account/certificates")),
        Err(Problem::Invalid(faults)) => {
            let ask = FormView::faulty(Fields::default(), faults);
            draw(&app, frame, &seat, &shown, (FormView::default(), ask)).await
        }
        Err(problem) => Err(problem),
    }
}
