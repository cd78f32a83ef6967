//! One tunnel: how it is and who comes through it, making it the panel's by its code or by a seed file, closing its API to all
//! others, and forgetting that it is the panel's.

use std::net::IpAddr;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use ipnet::IpNet;
use model::{code::PairingCode, tunnel::AgentStatus};
use panel::{
    codes::TunnelSeedFile,
    fleet::{Trouble, chain},
    noun::{Id, Network, Server, Stored, Tunnel},
    operations::{Actor, Error, Panel},
    secret::ExposeSecret as _,
    store::{ListQuery, Pairing, PairingSeed},
    tunnels::{PairError, Presence, pair},
};

use super::form::FormView;
use crate::{
    app::App,
    fields::{Fields, Reader},
    frame::{Frame, Seat, go, page, page_or_part},
    problem::Problem,
};

/// So many servers of a tunnel are shown.
const MOST_AGENTS: usize = 200;

#[derive(Debug, Template)]
#[template(path = "tunnel.html", blocks = ["live"])]
struct TunnelPage {
    frame: Frame,
    form: FormView,
    seen: Seen,
    may_change: bool,
}

/// What is known of a tunnel, as far as the actor may see it.
#[derive(Debug)]
struct Seen {
    tunnel: Stored<Tunnel>,
    pairing: Option<Pairing>,
    presence: Option<Presence>,
    seed: Option<PairingSeed>,
    networks: Vec<Stored<Network>>,
    agents: Vec<(Stored<Server>, AgentStatus)>,
}

impl Seen {
    fn by(panel: &Panel, actor: Actor, id: Id<Tunnel>, may_change: bool) -> Result<Self, Error> {
        let tunnel = panel.get::<Tunnel>(actor, id)?;
        let pairing = panel.pairing(actor, id)?;
        let presence = panel.presences(actor)?.remove(&id);
        let seed = if may_change { panel.pairing_seed(actor, id)? } else { None };
        let filters = vec![("tunnel".to_owned(), tunnel.value.name.to_string())];
        let query = ListQuery { filters, limit: Some(200), ..ListQuery::default() };
        let networks = panel.list::<Network>(actor, &query)?.rows;
        let mut agents = Vec::new();
        let shown = presence.iter().filter_map(|presence| presence.status.as_ref());
        for (server, agent) in shown.flat_map(|status| &status.agents).take(MOST_AGENTS) {
            let server = i64::try_from(*server).map(Id::<Server>::new);
            // What it still shows of a server that is gone is nobody's.
            let Ok(Ok(server)) = server.map(|server| panel.get(actor, server)) else { continue };
            agents.push((server, agent.clone()));
        }
        Ok(Self { tunnel, pairing, presence, seed, networks, agents })
    }

    fn confirmed(&self) -> bool {
        self.pairing.as_ref().is_some_and(|pairing| pairing.confirmed_ms.is_some())
    }

    /// How many servers are there at this moment.
    fn connected(&self) -> usize {
        let shown = self.presence.iter().filter_map(|presence| presence.status.as_ref());
        shown.flat_map(|status| status.agents.values()).filter(|a| a.since_ms.is_some()).count()
    }

    /// The address that the tunnel sees the panel at, where no network that its API is to be open to has it: the one to propose.
    fn proposed(&self) -> Option<IpAddr> {
        let status = self.presence.as_ref().and_then(|presence| presence.status.as_ref())?;
        // As IPv6 it would be in no network of IPv4 (RFC 4291, 2.5.5.2).
        let address = status.panel_address?.to_canonical();
        let named = self.tunnel.value.panel_addresses.iter().any(|net| net.contains(&address));
        (!named).then_some(address)
    }

    /// Whether its API is open to everybody who has the panel's certificate.
    fn open(&self) -> bool {
        self.tunnel.value.panel_addresses.is_empty()
    }
}

async fn shown(
    app: &App,
    frame: Frame,
    actor: Actor,
    id: i64,
    (status, form): (StatusCode, FormView),
) -> Result<Response, Problem> {
    let may_change = frame.superadmin();
    let seen = app.ask(move |panel| Seen::by(panel, actor, Id::new(id), may_change)).await?;
    let whole = TunnelPage { frame, form, seen, may_change };
    if status == StatusCode::OK {
        return page_or_part(&whole.frame, &whole, &whole.as_live());
    }
    page(status, &whole)
}

/// A tunnel's page.
///
/// # Errors
/// There is none that the actor may see.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    shown(&app, frame, seat.actor, id, (StatusCode::OK, FormView::default())).await
}

/// Makes it the panel's by the code that it shows.
///
/// # Errors
/// There is none that the actor may see, or they may not change it.
pub async fn pair_by_code(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    allowed(&app, seat.actor, id).await?;
    let done = match PairingCode::parse(fields.get("code")) {
        Ok(code) => paired(&app, seat.actor, Id::new(id), &code).await,
        Err(error) => Err(Problem::field("code", chain(&error))),
    };
    match done {
        Ok(()) => Ok(go(format!("/tunnels/{id}"))),
        Err(Problem::Invalid(faults)) => {
            let form = FormView::faulty(fields, faults);
            shown(&app, frame, seat.actor, id, (StatusCode::UNPROCESSABLE_ENTITY, form)).await
        }
        Err(problem) => Err(problem),
    }
}

/// Whether the actor may change a tunnel, before anything else is looked at.
///
/// # Errors
/// There is none that the actor may see, or they may not change it.
pub(crate) async fn allowed(app: &App, actor: Actor, id: i64) -> Result<(), Problem> {
    app.ask(move |panel| panel.pairing_seed(actor, Id::new(id)).map(drop)).await
}

/// Makes a tunnel the panel's; what stands against it is told at the code.
///
/// # Errors
/// It was not paired.
pub(crate) async fn paired(
    app: &App,
    actor: Actor,
    tunnel: Id<Tunnel>,
    code: &PairingCode,
) -> Result<(), Problem> {
    let done = pair(&app.shared(), actor, app.ca(), (tunnel, app.tunnels_port()), code).await;
    app.changed();
    match done {
        Ok(()) => Ok(()),
        Err(PairError::Operation(error)) => Err(error.into()),
        Err(error) => {
            let why = chain(&error);
            tracing::warn!(%tunnel, error = why, "a tunnel was not paired");
            Err(Problem::field("code", why))
        }
    }
}

/// The seed file, for the only time.
#[derive(Template)]
#[template(path = "tunnel-seed.html")]
struct Made {
    frame: Frame,
    tunnel: Stored<Tunnel>,
    seed: String,
    expires_ms: u64,
}

/// Makes a seed file and shows it: the answer to this request alone has it.
///
/// # Errors
/// There is none that the actor may see, or they may not change it; it is paired.
pub async fn make_seed(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    allowed(&app, actor, id).await?;
    let mut form = Reader::new(&fields);
    let hours: Option<u64> = form.required("hours");
    let done = match form.finish(hours) {
        Ok(hours) => seed(&app, actor, Id::new(id), hours).await,
        Err(faults) => Err(Problem::Invalid(faults)),
    };
    match done {
        Ok((tunnel, made, seed)) => {
            page(StatusCode::OK, &Made { frame, tunnel, seed, expires_ms: made.expires_ms })
        }
        Err(Problem::Invalid(faults)) => {
            let form = FormView::faulty(fields, faults);
            shown(&app, frame, actor, id, (StatusCode::UNPROCESSABLE_ENTITY, form)).await
        }
        Err(problem) => Err(problem),
    }
}

/// Makes the code of a seed file that is good for so long, and the file.
///
/// # Errors
/// The actor may not; it is paired; it would be good for too long.
pub(crate) async fn seed(
    app: &App,
    actor: Actor,
    id: Id<Tunnel>,
    hours: u64,
) -> Result<(Stored<Tunnel>, PairingSeed, String), Problem> {
    let lasts_ms = hours.saturating_mul(3_600_000);
    let shared = app.clone();
    let made = app.change(move |panel| {
        let made = panel.make_pairing_seed(actor, id, lasts_ms, shared.box_key());
        let told = |error| match error {
            Error::Invalid(mut faults) => {
                for fault in faults.iter_mut().filter(|fault| fault.field == "lasts_ms") {
                    "hours".clone_into(&mut fault.field);
                }
                Error::Invalid(faults)
            }
            other => other,
        };
        Ok((panel.get::<Tunnel>(actor, id)?, made.map_err(told)?))
    });
    let (tunnel, (made, code)) = made.await?;
    let file =
        TunnelSeedFile { name: &tunnel.value.name, code: &code, expires_ms: made.expires_ms };
    let file = file.render().expose_secret().to_owned();
    Ok((tunnel, made, file))
}

/// Opens its API to an address of the panel, and so closes it to all that are not named: what somebody confirms who saw which one
/// the tunnel sees. One that is named already changes nothing.
///
/// # Errors
/// There is none that the actor may see, or they may not change it; this is no address.
pub async fn open_to(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    allowed(&app, actor, id).await?;
    let mut form = Reader::new(&fields);
    let address: Option<IpAddr> = form.required("address");
    let address = match form.finish(address) {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(faults) => {
            let form = FormView::faulty(fields, faults);
            return shown(&app, frame, actor, id, (StatusCode::UNPROCESSABLE_ENTITY, form)).await;
        }
    };
    let opened = app.change(move |panel| {
        let mut stored = panel.get::<Tunnel>(actor, Id::new(id))?;
        let open = &mut stored.value.panel_addresses;
        if !open.iter().any(|net| net.contains(&address)) {
            open.push(address);
            panel.change(actor, stored.id, stored.version, stored.value)?;
        }
        Ok(())
    });
    opened.await?;
    Ok(go(format!("/tunnels/{id}")))
}

/// Forgets that it is the panel's.
///
/// # Errors
/// There is none that the actor may see, or they may not change it; its name was not typed.
pub async fn forget(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    allowed(&app, actor, id).await?;
    let tunnel = app.ask(move |panel| panel.get::<Tunnel>(actor, Id::new(id))).await?;
    if fields.get("name") != tunnel.value.name.as_str() {
        let fault = panel::store::FieldError::new("name", "type the name of the tunnel");
        let form = FormView::faulty(fields, vec![fault]);
        return shown(&app, frame, actor, id, (StatusCode::UNPROCESSABLE_ENTITY, form)).await;
    }
    app.change(move |panel| panel.forget_pairing(actor, tunnel.id)).await?;
    Ok(go(format!("/tunnels/{id}")))
}
