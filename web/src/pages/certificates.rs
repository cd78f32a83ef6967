//! The certificate authority, for people: the root to install, all that was given out, and how it is taken back.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use panel::{
    access::Verb,
    ca::{Certificate, Kind, Reason, Role, Serial},
    noun::{Id, Noun, Place, Server},
    operations::{Actor, Error, Panel},
    store::{Booked, BookedQuery, BookedState, Cursor, FieldError},
};
use serde::de::DeserializeOwned;

use super::{form::FormView, list::Asked};
use crate::{
    app::App,
    fields::Fields,
    format::ms,
    frame::{Frame, Seat, download, go, page, page_or_part},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "certificates.html", blocks = ["list"])]
struct Certificates {
    frame: Frame,
    authorities: Vec<Authority>,
    rows: Vec<Row>,
    next: Option<String>,
    asked: Asked,
    list: Option<List>,
}

impl Certificates {
    fn kinds(&self) -> [&'static str; 6] {
        [Kind::Agent, Kind::Boot, Kind::Tunnel, Kind::User, Kind::Panel, Kind::Fleet]
            .map(Kind::word)
    }
}

/// The revocation list of the moment.
#[derive(Debug)]
struct List {
    number: u64,
    entries: usize,
    until_ms: u64,
}

/// A certificate as the list shows it.
#[derive(Debug, Clone)]
struct Row {
    booked: Booked,
    state: &'static str,
    server: Option<String>,
}

impl Row {
    fn of(panel: &Panel, actor: Actor, booked: Booked) -> Result<Self, Error> {
        let name = |id: Id<Server>| Ok::<_, Error>(panel.get(actor, id)?.value.name.to_string());
        let state = match booked.state(panel.now_ms()) {
            BookedState::Good => "good",
            BookedState::Revoked => "revoked",
            BookedState::Ended => "ended",
        };
        Ok(Self { server: booked.server.map(name).transpose()?, state, booked })
    }

    /// What is typed to be sure: the server's name, what a person calls their browser, or what the panel's own is for.
    fn called(&self) -> &str {
        let named = self.server.as_deref().or(self.booked.label.as_deref());
        named.unwrap_or(self.booked.kind.word())
    }

    fn why(&self) -> &'static str {
        self.booked.reason.map_or("", Reason::word)
    }
}

#[derive(Debug)]
struct Authority {
    kind: &'static str,
    subject: String,
    fingerprint: String,
    serial: String,
    from_ms: u64,
    until_ms: u64,
}

impl Authority {
    fn of(kind: &'static str, certificate: &Certificate) -> Self {
        Self {
            kind,
            subject: certificate.subject().to_owned(),
            fingerprint: certificate.fingerprint().with_colons(),
            serial: certificate.serial().to_string(),
            from_ms: ms(certificate.validity().not_before),
            until_ms: ms(certificate.validity().not_after),
        }
    }
}

/// A word of the address or of a form as its type.
fn word<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

/// The authorities, and what they gave out, as far as the actor may see it.
///
/// # Errors
/// The cursor is unknown.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    asked: Asked,
) -> Result<Response, Problem> {
    let ca = app.ca();
    let authorities = vec![
        Authority::of("root", ca.root()),
        Authority::of("issuing", ca.issuing().certificate()),
        Authority::of("boot", ca.boot().certificate()),
    ];
    let some = |name: &str| Some(asked.get(name).to_owned()).filter(|value| !value.is_empty());
    let query = BookedQuery {
        kind: word(asked.get("kind")),
        state: word(asked.get("state")),
        search: some("q"),
        cursor: some("cursor").map(Cursor::new),
        limit: None,
    };
    let actor = seat.actor;
    let found = app.ask(move |panel| {
        let found = panel.issued(actor, &query)?;
        let rows = found.rows.into_iter().map(|booked| Row::of(panel, actor, booked));
        Ok((rows.collect::<Result<Vec<_>, _>>()?, found.next))
    });
    let (rows, next) = found.await?;
    let next = asked.next(next.as_ref());
    let list = app.panel().revocation_list(Role::Issuing).map(|list| List {
        number: list.number(),
        entries: list.serials().len(),
        until_ms: ms(list.next_update()),
    });
    let whole = Certificates { frame, authorities, rows, next, asked, list };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

#[derive(Debug, Template)]
#[template(path = "certificate.html")]
struct One {
    frame: Frame,
    row: Row,
    form: FormView,
    may_revoke: bool,
}

/// A certificate, and of what noun and where that lives whose it is.
type Found = (Row, (Noun, Place));

async fn find(app: &App, actor: Actor, serial: &str) -> Result<Found, Problem> {
    let serial: Serial = serial.parse().map_err(|_| Problem::NotFound)?;
    let found = app.ask(move |panel| {
        let row = Row::of(panel, actor, panel.certificate(actor, serial)?)?;
        let lives = match (row.booked.server, row.booked.user) {
            (Some(server), _) => (Noun::Server, panel.get(actor, server)?.place),
            (None, Some(user)) => (Noun::User, panel.get(actor, user)?.place),
            (None, None) => (Noun::Server, Place::Panel),
        };
        Ok((row, lives))
    });
    found.await
}

fn draw(
    status: StatusCode,
    frame: Frame,
    (row, (noun, place)): Found,
    form: FormView,
) -> Result<Response, Problem> {
    let may_revoke = frame.may(Verb::Change, noun, place);
    page(status, &One { frame, row, form, may_revoke })
}

/// One certificate.
///
/// # Errors
/// There is none that the actor may see.
pub async fn show_one(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(serial): Path<String>,
) -> Result<Response, Problem> {
    let found = find(&app, seat.actor, &serial).await?;
    draw(StatusCode::OK, frame, found, FormView::default())
}

/// Takes it back. Its name is asked for.
///
/// # Errors
/// There is none that the actor may see, or they may not take it back.
pub async fn revoke(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(serial): Path<String>,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let found = find(&app, actor, &serial).await?;
    let (noun, place) = found.1;
    if !frame.may(Verb::Change, noun, place) {
        return Err(Problem::forbidden(Verb::Change, noun));
    }
    let mut faults = Vec::new();
    if fields.get("name") != found.0.called() {
        faults.push(FieldError::new("name", "this is not its name"));
    }
    let Some(reason) = word::<Reason>(fields.get("reason")).filter(|_| faults.is_empty()) else {
        if faults.is_empty() {
            faults.push(FieldError::new("reason", "choose one"));
        }
        let form = FormView::faulty(fields, faults);
        return draw(StatusCode::UNPROCESSABLE_ENTITY, frame, found, form);
    };
    let number = found.0.booked.serial;
    app.change(move |panel| panel.revoke(actor, number, reason)).await?;
    Ok(go(format!("/certificates/issued/{number}")))
}

/// The root in PEM. It is open: a browser that does not know it yet can't sign in safely.
pub async fn root_pem(State(app): State<App>) -> Response {
    download("clusterducks-root.pem", "application/x-pem-file", app.ca().root().pem())
}

/// The root in DER, which Windows and Android install.
pub async fn root_der(State(app): State<App>) -> Response {
    let der = app.ca().root().der().to_vec();
    download("clusterducks-root.crt", "application/x-x509-ca-cert", der)
}

/// What the issuing authority took back, in DER (RFC 2585, 4). It is open: whoever verifies a certificate needs it.
///
/// # Errors
/// There is no list yet.
pub async fn list_der(State(app): State<App>) -> Result<Response, Problem> {
    list_of(&app, Role::Issuing, "clusterducks.crl")
}

/// What the root took back.
///
/// # Errors
/// There is no list yet.
pub async fn root_list_der(State(app): State<App>) -> Result<Response, Problem> {
    list_of(&app, Role::Root, "clusterducks-root.crl")
}

/// What the boot root took back.
///
/// # Errors
/// There is no list yet.
pub async fn boot_list_der(State(app): State<App>) -> Result<Response, Problem> {
    list_of(&app, Role::Boot, "clusterducks-boot.crl")
}

fn list_of(app: &App, role: Role, name: &str) -> Result<Response, Problem> {
    let list = app.panel().revocation_list(role).ok_or(Problem::NotFound)?;
    Ok(download(name, "application/pkix-crl", list.der().to_vec()))
}

/// The lists of all authorities in PEM, as openssl(1) takes them (`verify -crl_check_all -CRLfile`).
///
/// # Errors
/// There is no list yet.
pub async fn list_pem(State(app): State<App>) -> Result<Response, Problem> {
    let of = |role| app.panel().revocation_list(role);
    // The issuing authority's comes first, for what reads one list alone.
    let lists = [Role::Issuing, Role::Root, Role::Boot].into_iter().filter_map(of);
    let pem: String = lists.map(|list| list.pem()).collect();
    if pem.is_empty() {
        return Err(Problem::NotFound);
    }
    Ok(download("clusterducks-crl.pem", "application/x-pem-file", pem))
}
