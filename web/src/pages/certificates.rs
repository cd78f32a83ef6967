//! The certificate authority, for people: the root to install, and its fingerprint to compare.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use panel::ca::Certificate;

use crate::{
    app::App,
    format::ms,
    frame::{Frame, Seat, download, page},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "certificates.html")]
struct Certificates {
    frame: Frame,
    authorities: Vec<Authority>,
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

/// The authorities.
///
/// # Errors
/// The page can't be drawn.
pub async fn show(State(app): State<App>, frame: Frame, _seat: Seat) -> Result<Response, Problem> {
    let ca = app.ca();
    let authorities = vec![
        Authority::of("root", ca.root()),
        Authority::of("issuing", ca.issuing().certificate()),
        Authority::of("boot", ca.boot().certificate()),
    ];
    page(StatusCode::OK, &Certificates { frame, authorities })
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
