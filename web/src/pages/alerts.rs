//! Alerts: all of them, how many there are, and where each is mended.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use panel::{
    alerts::{Alert, Cause},
    noun::{Id, Noun},
    operations::AlertCount,
};

use crate::{
    app::App,
    frame::{Frame, Seat, page, page_or_part},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "alerts.html", blocks = ["live"])]
struct Alerts {
    frame: Frame,
    alerts: Vec<Alert>,
}

/// All alerts that the actor may see.
///
/// # Errors
/// The store failed.
pub async fn list(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    let alerts = app.ask(move |panel| panel.alerts(seat.actor, None)).await?;
    let whole = Alerts { frame, alerts };
    page_or_part(&whole.frame, &whole, &whole.as_live())
}

#[derive(Debug, Template)]
#[template(path = "alert-count.html")]
struct Count {
    alerts: AlertCount,
}

/// How many there are, as it stands at the top of every page.
///
/// # Errors
/// The store failed.
pub async fn count(State(app): State<App>, seat: Seat) -> Result<Response, Problem> {
    let alerts = app.ask(move |panel| panel.count_alerts(seat.actor)).await?;
    page(StatusCode::OK, &Count { alerts })
}

/// Where an alert is mended.
pub fn solution(alert: &Alert) -> String {
    let network = alert.network_id().map(Id::number).unwrap_or_default();
    let id = alert.about.id;
    match &alert.cause {
        Cause::NeverJoined => {
            format!("/networks/{network}/servers/join?server={}", alert.about.name)
        }
        Cause::NeverSeen { .. }
        | Cause::Silent { .. }
        | Cause::ClockOff { .. }
        | Cause::Stranger { .. }
        | Cause::Refused { .. } => format!("/servers/{id}"),
        Cause::StepsFailed { .. } => format!("/servers/{id}#failed"),
        Cause::PoolUnsound { .. } | Cause::PoolFull { .. } => format!("/servers/{id}#pools"),
        Cause::CertificateEnds { .. } | Cause::CertificateFaulty { .. } => match alert.about.noun {
            Some(Noun::Server) => format!("/servers/{id}#certificates"),
            Some(Noun::User) => format!("/users/{id}"),
            _ => "/certificates".to_owned(),
        },
        Cause::ImportFailed { .. } => format!("/servers/{id}#imports"),
        Cause::BootsStuck { devices, .. } | Cause::BootsFailed { devices, .. } => {
            match devices.as_slice() {
                [(device, _)] => format!("/devices/{device}#boots"),
                _ => format!("/networks/{network}/devices"),
            }
        }
        Cause::MachinesWaiting { .. } => format!("/servers/{id}#machines"),
        Cause::AddressClash { .. } => format!("/devices/{id}"),
        Cause::TunnelDown { .. } | Cause::TunnelFaults { .. } => format!("/tunnels/{id}"),
        Cause::NoTunnel { .. } => format!("/networks/{network}/settings"),
        Cause::BackupNever | Cause::BackupOld { .. } => "/settings#backup".to_owned(),
        Cause::NoticesFail { .. } => format!("/channels/{id}"),
    }
}
