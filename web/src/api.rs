//! The JSON API, `/api/v1`: what the console does, by the same operations and for whoever may. A tour: [`caller`] finds out who
//! asks, [`receive`] reads what was sent, [`records`] has the nouns, and what goes wrong is a [`refusal`]. Each route is described
//! once, beside it ([`describe`]); the OpenAPI [`document`] is made of that.

pub mod caller;
mod channels;
pub mod describe;
pub mod devices;
pub mod document;
mod lookout;
pub mod own;
pub mod receive;
pub mod records;
pub mod refusal;
pub mod servers;
mod settings;
mod tunnels;

use axum::{
    Router,
    http::Method,
    middleware::{from_fn, from_fn_with_state},
    routing::{MethodRouter, get},
};
use describe::Operation;
use panel::noun::{
    Device, Group, Menu, Network, Organization, Server, Subnet, Tunnel, User, Vdisk, Volume,
};
use refusal::Refusal;

use crate::{
    app::App,
    guard,
    problem::Problem,
    routes::{Door, Route},
};

/// What every path of it begins with.
pub const PREFIX: &str = "/api/v1";

/// A route and what it is.
#[derive(Debug)]
pub struct Line {
    /// The route, for the one table.
    pub route: Route,
    /// What it does.
    pub operation: Operation,
}

impl Line {
    fn new(method: Method, path: &str, answer: MethodRouter<App>, operation: Operation) -> Self {
        let path = format!("{PREFIX}{path}");
        Self { route: Route { method, path, door: Door::Api, answer }, operation }
    }

    fn get(path: &str, answer: MethodRouter<App>, operation: Operation) -> Self {
        Self::new(Method::GET, path, answer, operation)
    }

    fn post(path: &str, answer: MethodRouter<App>, operation: Operation) -> Self {
        Self::new(Method::POST, path, answer, operation)
    }

    fn put(path: &str, answer: MethodRouter<App>, operation: Operation) -> Self {
        Self::new(Method::PUT, path, answer, operation)
    }

    fn delete(path: &str, answer: MethodRouter<App>, operation: Operation) -> Self {
        Self::new(Method::DELETE, path, answer, operation)
    }
}

/// The routes, each with what it is.
pub fn lines() -> Vec<Line> {
    let itself = vec![Line::get("/openapi.json", get(document::serve), document::operation())];
    [
        itself,
        own::lines(),
        servers::lines(),
        devices::lines(),
        tunnels::lines(),
        lookout::lines(),
        channels::lines(),
        settings::lines(),
        records::lines::<Organization>(),
        records::lines::<User>(),
        records::lines::<Network>(),
        records::lines::<Tunnel>(),
        records::lines::<Subnet>(),
        records::lines::<Server>(),
        records::lines::<Volume>(),
        records::lines::<Group>(),
        records::lines::<Vdisk>(),
        records::lines::<Menu>(),
        records::lines::<Device>(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Puts the API's own guard before its routes.
pub(crate) fn guarded(routes: Router<App>, app: App) -> Router {
    routes
        .route_layer(from_fn(caller::known))
        .fallback(|| async { Refusal::Problem(Problem::NotFound) })
        .method_not_allowed_fallback(|| async { Refusal::Method })
        .layer(from_fn_with_state(app.clone(), caller::find))
        .layer(from_fn(guard::headers))
        .with_state(app)
}
