//! Boxes that wait for somebody to let them in: what they are made of, and the answer. Who may see and answer which is decided by
//! the operations.

use std::collections::{BTreeMap, btree_map::Entry};

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use panel::{
    noun::{Id, Network, Server},
    operations::{Actor, Error, Panel},
    store::{FieldError, Join},
};

use super::form::FormView;
use crate::{
    app::App,
    fields::Fields,
    frame::{Frame, Seat, go, page, page_or_part},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "joins.html", blocks = ["list"])]
struct Joins {
    frame: Frame,
    rows: Vec<Row>,
}

/// A box in the list.
#[derive(Debug, Clone)]
pub struct Row {
    /// The box.
    pub join: Join,
    /// The network that it is for.
    pub network: String,
    /// The server whose place it would take.
    pub takes: Option<String>,
}

impl Row {
    /// What people call the box before it is a server: what it brought along, or where it asks from.
    pub fn called(&self) -> String {
        let Join { name, address, .. } = &self.join;
        name.as_ref().map_or_else(|| address.to_string(), ToString::to_string)
    }
}

/// Names of what the boxes are for.
fn rows(panel: &Panel, actor: Actor, joins: Vec<Join>) -> Result<Vec<Row>, Error> {
    let mut networks: BTreeMap<Id<Network>, String> = BTreeMap::new();
    let one = |join: Join| {
        let network = match networks.entry(join.network) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                new.insert(panel.get(actor, join.network)?.value.name.to_string()).clone()
            }
        };
        let takes = join.server.map(|id| panel.get::<Server>(actor, id)).transpose()?;
        Ok(Row { join, network, takes: takes.map(|server| server.value.name.to_string()) })
    };
    joins.into_iter().map(one).collect()
}

/// The boxes that wait, of all networks whose servers the actor may make.
///
/// # Errors
/// The store failed.
pub async fn list(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    let actor = seat.actor;
    let found = app.ask(move |panel| rows(panel, actor, panel.waiting_joins(actor)?));
    let whole = Joins { rows: found.await?, frame };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

#[derive(Debug, Template)]
#[template(path = "join-waiting.html")]
struct Waiting {
    frame: Frame,
    row: Row,
    form: FormView,
}

async fn find(app: &App, actor: Actor, code: i64) -> Result<Row, Problem> {
    let found = app.ask(move |panel| rows(panel, actor, vec![panel.waiting_join(actor, code)?]));
    found.await?.pop().ok_or(Problem::NotFound)
}

/// One of them, with all that it says of itself.
///
/// # Errors
/// None waits with this code, or the actor may not make servers there.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(code): Path<i64>,
) -> Result<Response, Problem> {
    let row = find(&app, seat.actor, code).await?;
    page(StatusCode::OK, &Waiting { frame, row, form: FormView::default() })
}

/// Lets it in. One that takes a server's place takes it from the hardware that has it: the server's name is asked for.
///
/// # Errors
/// None waits with this code, or the actor may not make servers there.
pub async fn confirm(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(code): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let row = find(&app, actor, code).await?;
    if row.takes.as_deref().is_some_and(|name| fields.get("server") != name) {
        return again(frame, row, fields, "server", "this is not the server's name");
    }
    app.change(move |panel| panel.confirm_join(actor, code)).await?;
    Ok(go("/joins"))
}

/// Sends it away for good; what it is called is asked for.
///
/// # Errors
/// None waits with this code, or the actor may not make servers there.
pub async fn refuse(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(code): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let row = find(&app, actor, code).await?;
    if fields.get("name") != row.called() {
        return again(frame, row, fields, "name", "this is not what it is called");
    }
    app.change(move |panel| panel.refuse_join(actor, code)).await?;
    Ok(go("/joins"))
}

fn again(
    frame: Frame,
    row: Row,
    fields: Fields,
    field: &str,
    message: &str,
) -> Result<Response, Problem> {
    let form = FormView::faulty(fields, vec![FieldError::new(field, message)]);
    page(StatusCode::UNPROCESSABLE_ENTITY, &Waiting { frame, row, form })
}
