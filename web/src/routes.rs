//! The one table of what is answered: method, path, and whether somebody has to be signed in. What they may do is decided by the
//! operations, never here.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::Method,
    middleware::{from_fn, from_fn_with_state},
    routing::{MethodRouter, get, post},
};
use panel::noun::{
    Device, Group, Menu, Network, Organization, Server, Subnet, Tunnel, User, Vdisk, Volume,
};

use crate::{
    api,
    app::App,
    assets, boxes, guard,
    pages::{
        account, alerts, api as pages_api, audit, certificates, channels, dashboard, device,
        first_start, jobs, join, joins, live, network, password, people, record, remove, restore,
        search, server, settings, sign_in, statistics, theme, tunnel, user_certificates,
    },
    problem::Problem,
    shapes::Shape,
};

/// Who is let through to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Anybody.
    Open,
    /// Anybody; the page reads by itself what they send, for it is a file.
    Upload,
    /// Whoever is signed in.
    SignedIn,
    /// Boxes: there is no page, no cookie and no form, and the request itself says who sent it.
    Box,
    /// Programs with a token, and whoever is signed in: there is no page, and nobody is led to one.
    Api,
}

/// A line of the table.
#[derive(Debug)]
pub struct Route {
    /// How it is asked for.
    pub method: Method,
    /// Where.
    pub path: String,
    /// By whom.
    pub door: Door,
    pub(crate) answer: MethodRouter<App>,
}

/// The table.
pub fn table() -> Vec<Route> {
    let mut table = open();
    table.push(Route { door: Door::Box, ..done(model::join::PATH, post(boxes::join)) });
    table.extend(own());
    table.extend(api::lines().into_iter().map(|line| line.route));
    table.extend(networks());
    table.extend(
        [
            records_elsewhere::<Organization>(),
            records_elsewhere::<User>(),
            records_elsewhere::<Network>(),
            records_elsewhere::<Tunnel>(),
            records_in_networks::<Subnet>(),
            records_in_networks::<Server>(),
            records_in_networks::<Volume>(),
            records_in_networks::<Group>(),
            records_in_networks::<Vdisk>(),
            records_in_networks::<Menu>(),
            records_in_networks::<Device>(),
        ]
        .into_iter()
        .flatten(),
    );
    table
}

fn shown(path: &str, answer: MethodRouter<App>) -> Route {
    Route { method: Method::GET, path: path.to_owned(), door: Door::SignedIn, answer }
}

fn done(path: &str, answer: MethodRouter<App>) -> Route {
    Route { method: Method::POST, path: path.to_owned(), door: Door::SignedIn, answer }
}

/// What somebody needs who is not signed in.
fn open() -> Vec<Route> {
    let routes = vec![
        shown("/static/{file}", get(assets::serve)),
        shown("/first-start", get(first_start::show)),
        done("/first-start", post(first_start::enter)),
        shown("/first-start/restore", get(restore::show)),
        shown("/sign-in", get(sign_in::show)),
        done("/sign-in", post(sign_in::enter)),
        shown("/sign-in/code", get(sign_in::show_code)),
        done("/sign-in/code", post(sign_in::enter_code)),
        done("/theme", post(theme::choose)),
        shown("/certificates/root.pem", get(certificates::root_pem)),
        shown("/certificates/root.crt", get(certificates::root_der)),
        shown("/crl.der", get(certificates::list_der)),
        shown("/crl.pem", get(certificates::list_pem)),
        shown("/root-crl.der", get(certificates::root_list_der)),
        shown("/boot-crl.der", get(certificates::boot_list_der)),
    ];
    let mut routes: Vec<_> =
        routes.into_iter().map(|route| Route { door: Door::Open, ..route }).collect();
    let restore = post(restore::enter).layer(DefaultBodyLimit::max(restore::MOST_BYTES));
    routes.push(Route { door: Door::Upload, ..done("/first-start/restore", restore) });
    routes
}

/// What is nobody's record.
fn own() -> Vec<Route> {
    vec![
        shown("/", get(dashboard::show)),
        shown("/alerts", get(alerts::list)),
        shown("/alerts/count", get(alerts::count)),
        shown("/events", get(live::events)),
        shown("/search", get(search::find)),
        shown("/jobs", get(jobs::list)),
        done("/jobs/{id}/cancel", post(jobs::cancel)),
        shown("/audit", get(audit::list)),
        shown("/certificates", get(certificates::show)),
        shown("/certificates/issued/{serial}", get(certificates::show_one)),
        done("/certificates/issued/{serial}/revoke", post(certificates::revoke)),
        shown("/joins", get(joins::list)),
        shown("/joins/{code}", get(joins::show)),
        done("/joins/{code}/confirm", post(joins::confirm)),
        done("/joins/{code}/refuse", post(joins::refuse)),
        shown("/channels", get(channels::list)),
        shown("/channels/new", get(channels::new)),
        done("/channels/new", post(channels::create)),
        shown("/channels/{id}", get(channels::show)),
        done("/channels/{id}", post(channels::change)),
        done("/channels/{id}/test", post(channels::test)),
        done("/channels/{id}/delete", post(channels::delete)),
        shown("/settings", get(settings::show)),
        done("/settings", post(settings::change)),
        done("/settings/backup", post(settings::back_up)),
        done("/sign-out", post(sign_in::leave)),
        shown("/api/v1/docs", get(pages_api::show)),
        shown("/account", get(account::show)),
        done("/account/password", post(account::change_password)),
        shown("/account/totp", get(account::show_totp)),
        done("/account/totp", post(account::set_totp)),
        done("/account/totp/remove", post(account::drop_totp)),
        shown("/account/certificates", get(user_certificates::show)),
        done("/account/certificates", post(user_certificates::make)),
        done("/account/certificates/bundle", post(user_certificates::bundle)),
        done("/account/certificates/ask", post(user_certificates::ask)),
        shown("/account/certificates/{serial}/pem", get(user_certificates::pem)),
        done("/account/certificates/{serial}/revoke", post(user_certificates::revoke)),
        done("/account/sessions/end", post(account::end_session)),
        done("/account/tokens", post(account::make_token)),
        done("/account/tokens/{id}/revoke", post(account::revoke_token)),
        shown("/organizations", get(people::organizations)),
        shown("/users", get(people::users)),
        shown("/users/{id}/password", get(password::show)),
        done("/users/{id}/password", post(password::make)),
        shown("/tunnels", get(people::tunnels)),
        shown("/tunnels/{id}", get(tunnel::show)),
        done("/tunnels/{id}/pair", post(tunnel::pair_by_code)),
        done("/tunnels/{id}/seed", post(tunnel::make_seed)),
        done("/tunnels/{id}/open-to", post(tunnel::open_to)),
        done("/tunnels/{id}/forget", post(tunnel::forget)),
        shown("/networks", get(network::networks)),
    ]
}

/// One network's tabs, and what is done from them.
fn networks() -> Vec<Route> {
    vec![
        shown("/networks/{network}", get(network::network)),
        shown("/networks/{network}/devices", get(network::devices)),
        done("/networks/{network}/devices/bulk", post(device::bulk)),
        shown("/networks/{network}/devices/import", get(device::show_import)),
        done("/networks/{network}/devices/import", post(device::import)),
        shown("/networks/{network}/devices.csv", get(device::export)),
        shown("/networks/{network}/free-address", get(device::offer_address)),
        shown("/networks/{network}/tree", get(network::tree)),
        shown("/networks/{network}/vdisks", get(network::vdisks)),
        shown("/networks/{network}/servers", get(server::servers)),
        shown("/networks/{network}/servers/join", get(join::show)),
        done("/networks/{network}/servers/join", post(join::make)),
        done("/networks/{network}/servers/join/{code}/revoke", post(join::revoke)),
        shown("/networks/{network}/menus", get(network::menus)),
        shown("/networks/{network}/statistics", get(statistics::network)),
        shown("/networks/{network}/settings", get(network::settings)),
        shown("/servers/{id}", get(server::show)),
        shown("/devices/{id}", get(device::show)),
    ]
}

fn records<T: Shape>() -> Vec<Route> {
    let one = format!("/{}/{{id}}", T::PLURAL);
    let form = if T::HAS_PAGE { format!("{one}/edit") } else { one.clone() };
    let delete = format!("{one}/delete");
    vec![
        shown(&form, get(record::show::<T>)),
        done(&form, post(record::change::<T>)),
        shown(&delete, get(remove::show::<T>)),
        done(&delete, post(remove::remove::<T>)),
    ]
}

fn records_in_networks<T: Shape>() -> Vec<Route> {
    let new = format!("/networks/{{network}}/{}/new", T::PLURAL);
    let mut routes = records::<T>();
    routes.push(shown(&new, get(record::new_in::<T>)));
    routes.push(done(&new, post(record::create_in::<T>)));
    routes
}

fn records_elsewhere<T: Shape>() -> Vec<Route> {
    let new = format!("/{}/new", T::PLURAL);
    let mut routes = records::<T>();
    routes.push(shown(&new, get(record::new_at::<T>)));
    routes.push(done(&new, post(record::create_at::<T>)));
    routes
}

/// What boxes ask, and nothing else: for streams that come through tunnels.
pub(crate) fn for_boxes(app: App) -> Router {
    let boxes = table().into_iter().filter(|route| route.door == Door::Box);
    let router =
        boxes.fold(Router::new(), |router, Route { path, answer, .. }| router.route(&path, answer));
    router.layer(from_fn(guard::headers)).with_state(app)
}

/// All of the table. What is no page (a box that joins, the JSON API) stands beside the console, and does not pass its guard.
pub fn router(app: App) -> Router {
    let (mut console, mut uploads) = (Router::new(), Router::new());
    let (mut boxes, mut api) = (Router::new(), Router::new());
    for Route { path, door, answer, .. } in table() {
        match door {
            Door::Open => console = console.route(&path, answer),
            Door::Upload => uploads = uploads.route(&path, answer),
            Door::SignedIn => {
                console = console.route(&path, answer.route_layer(from_fn(guard::signed_in)));
            }
            Door::Box => boxes = boxes.route(&path, answer),
            Door::Api => api = api.route(path.strip_prefix(api::PREFIX).unwrap_or(&path), answer),
        }
    }
    console
        .fallback(|| async { Problem::NotFound })
        .method_not_allowed_fallback(|| async { Problem::NotFound })
        .layer(from_fn(guard::changes))
        .merge(uploads.layer(from_fn(guard::uploads)))
        .layer(from_fn_with_state(app.clone(), guard::problems))
        .layer(from_fn_with_state(app.clone(), guard::seat))
        .merge(boxes)
        .layer(from_fn(guard::headers))
        .with_state(app.clone())
        .nest(api::PREFIX, api::guarded(api, app))
}
