//! Adding a server: a code that is shown once, as text, as a picture for a camera, and as a seed file for the boot partition.

use std::time::{Duration, SystemTime};

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use model::code::{Address, Host, Way};
use panel::{
    access::Verb,
    codes::{self, SeedFile},
    noun::{Id, Noun, Server, Stored, Tunnel},
    secret::ExposeSecret as _,
    store::FieldError,
};

use super::{
    form::{FormView, Site},
    list::{Asked, names},
};
use crate::{
    app::App,
    fields::{Fields, Reader},
    format::ms,
    frame::{Frame, Seat, go, page},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "join.html")]
struct JoinPage {
    frame: Frame,
    site: Site,
    form: FormView,
    servers: Vec<String>,
    tunnels: Vec<String>,
}

/// The code, for the only time.
#[derive(Template)]
#[template(path = "join-made.html")]
struct Made {
    frame: Frame,
    site: Site,
    typed: String,
    svg: String,
    seed: String,
    fingerprint: String,
    expires_ms: u64,
}

/// Asks for what the code needs.
///
/// # Errors
/// The actor may not make servers there.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(network): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let mut fields = Fields::default();
    fields.put("host", &frame.host);
    fields.put("hours", 24);
    fields.put("confirm", "on");
    fields.put("server", asked.get("server"));
    let network_id = Id::new(network);
    let ways = app.ask(move |panel| panel.ways_of(seat.actor, network_id)).await?;
    fields.put_some("tunnel", ways.first().map(|way| &way.value.name));
    let form = FormView { fields, ..FormView::default() };
    draw(&app, frame, seat, Id::new(network), form, StatusCode::OK).await
}

async fn draw(
    app: &App,
    frame: Frame,
    seat: Seat,
    network: Id<panel::noun::Network>,
    form: FormView,
    status: StatusCode,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let found = app.ask(move |panel| {
        let ways = panel.ways_of(actor, network)?.into_iter();
        let tunnels: Vec<_> = ways.map(|way| way.value.name.to_string()).collect();
        let servers = names::<Server>(panel, actor, Some(network))?;
        Ok((Site::of(panel, actor, network)?, servers, tunnels))
    });
    let (site, servers, tunnels) = found.await?;
    if !frame.may_in(Verb::Create, Noun::Server, network) {
        return Err(Problem::forbidden(Verb::Create, Noun::Server));
    }
    page(status, &JoinPage { frame, site, form, servers, tunnels })
}

/// Where a new box shall find the panel.
pub(crate) fn address(text: &str) -> Option<Address> {
    let (host, port) = match text.rsplit_once(':') {
        // The last colon of an IPv6 address without brackets, or within them, is none before a port.
        Some((host, port))
            if !port.ends_with(']') && (host.ends_with(']') || !host.contains(':')) =>
        {
            (host, port.parse().ok()?)
        }
        _ => (text, 443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Address { host: Host::try_from(host).ok()?, port })
}

/// The way of a box to the panel: through this tunnel of its network, or straight to the panel where none is named; `None` where
/// that can't be read.
pub(crate) fn way(ways: &[Stored<Tunnel>], tunnel: &str, host: &str) -> Option<(Way, Address)> {
    if tunnel.is_empty() {
        return Some((Way::Panel, address(host)?));
    }
    let named = ways.iter().find(|way| way.value.name.as_str() == tunnel)?;
    Some((Way::Tunnel, named.value.address()))
}

/// Makes the code and shows it: the answer to this request alone has it.
///
/// # Errors
/// The actor may not make servers there.
pub async fn make(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(network): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, network) = (seat.actor, Id::new(network));
    let mut form = Reader::new(&fields);
    let ways = app.ask(move |panel| panel.ways_of(actor, network)).await?;
    let host = match way(&ways, fields.get("tunnel"), fields.get("host")) {
        Some(way) => Some(way),
        None if fields.has("tunnel") => form.fault("tunnel", "choose a tunnel of this network"),
        None => form.fault("host", "give a name or an address, with a port if it is not 443"),
    };
    let hours: Option<u64> = form.required("hours");
    let read = form.finish(host.zip(hours));
    let confirm = fields.has("confirm");
    let ((way, host), hours) = match read {
        Ok(read) => read,
        Err(faults) => {
            let form = FormView::faulty(fields, faults);
            return draw(&app, frame, seat, network, form, StatusCode::UNPROCESSABLE_ENTITY).await;
        }
    };
    let lifetime = Duration::from_secs(hours.saturating_mul(3600));
    let root = app.ca().root().fingerprint();
    let code = codes::join_code(way, host, &root, SystemTime::now(), lifetime);
    let digest = codes::digest(&code.secret);
    let lasts_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    let name = fields.get("server").to_owned();
    let made = app.change(move |panel| {
        let server = named(panel, actor, network, &name)?;
        panel.make_join_code(actor, network, server, digest, lasts_ms, confirm)?;
        Site::of(panel, actor, network)
    });
    let site = match made.await {
        Ok(site) => site,
        Err(Problem::Invalid(faults)) => {
            let told = |fault: FieldError| match fault.field.as_str() {
                "lasts_ms" => FieldError::new("hours", fault.message),
                _ => fault,
            };
            let form = FormView::faulty(fields, faults.into_iter().map(told).collect());
            return draw(&app, frame, seat, network, form, StatusCode::UNPROCESSABLE_ENTITY).await;
        }
        Err(problem) => return Err(problem),
    };
    let seed = SeedFile { hostname: None, join: &code }.render().map_err(Problem::broken)?;
    let seed = seed.expose_secret().to_owned();
    let shown = Made {
        frame,
        site,
        typed: code.typed().map_err(Problem::broken)?.expose_secret().to_owned(),
        svg: codes::svg(&code).map_err(Problem::broken)?.expose_secret().to_owned(),
        seed,
        fingerprint: root.with_colons(),
        expires_ms: ms(code.expires),
    };
    page(StatusCode::OK, &shown)
}

fn named(
    panel: &panel::operations::Panel,
    actor: panel::operations::Actor,
    network: Id<panel::noun::Network>,
    name: &str,
) -> Result<Option<Id<Server>>, panel::operations::Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let query = panel::store::ListQuery {
        network: Some(network),
        search: Some(name.to_owned()),
        limit: Some(200),
        ..panel::store::ListQuery::default()
    };
    let found = panel.list::<Server>(actor, &query)?.rows;
    let found = found.into_iter().find(|server| server.value.name.as_str() == name);
    found
        .map(|server| Some(server.id))
        .ok_or(panel::operations::Error::NotFound { noun: Noun::Server })
}

/// Takes a code back.
///
/// # Errors
/// The actor may not make servers there.
pub async fn revoke(
    State(app): State<App>,
    seat: Seat,
    Path((network, code)): Path<(i64, i64)>,
) -> Result<Response, Problem> {
    let (actor, network) = (seat.actor, Id::new(network));
    app.change(move |panel| panel.delete_join_code(actor, network, code)).await?;
    Ok(go(format!("/networks/{network}/servers")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panels_address_is_read_with_and_without_a_port() {
        let read = |text| address(text).map(|address| address.to_string());
        assert_eq!(read("panel.local").as_deref(), Some("panel.local:443"));
        assert_eq!(read("192.0.2.1:8443").as_deref(), Some("192.0.2.1:8443"));
        assert_eq!(read("[2001:db8::1]:8443").as_deref(), Some("[2001:db8::1]:8443"));
        assert_eq!(read("2001:db8::1").as_deref(), Some("[2001:db8::1]:443"));
        assert_eq!(read("[2001:db8::1]").as_deref(), Some("[2001:db8::1]:443"));
        for bad in ["", "a b", "panel.local:x", "panel.local:99999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
