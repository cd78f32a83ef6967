//! Lists of whoever stands above networks: organizations, users, tunnels.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};
use panel::{
    access::{Standing, Verb},
    noun::{Id, Network, Noun, Organization, Stored, Tunnel, User},
    store::{ListQuery, Pairing},
    tunnels::Presences,
};

use super::list::{Asked, Rows, rows};
use crate::{
    app::App,
    frame::{Frame, Seat, page_or_part},
    problem::Problem,
    shapes::word,
};

#[derive(Debug, Template)]
#[template(path = "organizations.html", blocks = ["list"])]
struct Organizations {
    frame: Frame,
    list: Rows<Organization>,
    organizations: Vec<(Stored<Organization>, u64)>,
}

/// The organizations.
///
/// # Errors
/// The store failed.
pub async fn organizations(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    asked: Asked,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let found = app.ask(move |panel| {
        let list = rows::<Organization>(panel, actor, &asked, None)?;
        let mut organizations = Vec::new();
        for organization in list.rows.clone() {
            let name = organization.value.name.to_string();
            let filters = vec![("organization".to_owned(), name)];
            let query = ListQuery { filters, ..ListQuery::default() };
            organizations.push((organization, panel.count::<Network>(actor, &query)?));
        }
        Ok((list, organizations))
    });
    let (list, organizations) = found.await?;
    let whole = Organizations { frame, list, organizations };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

#[derive(Debug, Template)]
#[template(path = "users.html", blocks = ["list"])]
struct Users {
    frame: Frame,
    list: Rows<User>,
    networks: Vec<String>,
}

impl Users {
    fn standing(&self, standing: &Standing) -> String {
        word(standing)
    }

    fn role(&self, role: &panel::access::Role) -> String {
        word(role)
    }
}

/// The users.
///
/// # Errors
/// The store failed.
pub async fn users(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    asked: Asked,
) -> Result<Response, Problem> {
    if !frame.people() {
        return Err(Problem::forbidden(Verb::Read, Noun::User));
    }
    let actor = seat.actor;
    let found = app.ask(move |panel| {
        let list = rows::<User>(panel, actor, &asked, None)?;
        Ok((list, super::list::names::<Network>(panel, actor, None)?))
    });
    let (list, networks) = found.await?;
    let whole = Users { frame, list, networks };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

#[derive(Debug, Template)]
#[template(path = "tunnels.html", blocks = ["list"])]
struct Tunnels {
    frame: Frame,
    list: Rows<Tunnel>,
    pairings: BTreeMap<Id<Tunnel>, Pairing>,
    presences: Presences,
}

impl Tunnels {
    /// How a tunnel is paired, in a word.
    fn paired(&self, tunnel: &Id<Tunnel>) -> &'static str {
        match self.pairings.get(tunnel) {
            Some(Pairing { confirmed_ms: Some(_), .. }) => "paired",
            Some(_) | None => "waiting",
        }
    }

    /// Whether a tunnel is there.
    fn there(&self, tunnel: &Id<Tunnel>) -> Option<&'static str> {
        self.presences.get(tunnel).map(|presence| presence.state.word())
    }
}

/// The tunnels.
///
/// # Errors
/// The store failed.
pub async fn tunnels(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    asked: Asked,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let found = app.ask(move |panel| {
        let list = rows::<Tunnel>(panel, actor, &asked, None)?;
        Ok((list, panel.pairings(actor)?, panel.presences(actor)?))
    });
    let (list, pairings, presences) = found.await?;
    let whole = Tunnels { frame, list, pairings, presences };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}
