//! One record as a form, whatever its noun: new, shown, changed. A form that is refused comes back filled in, with what is wrong
//! at its fields; one that somebody else overtook comes back with both values.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use panel::{
    access::Verb,
    noun::{Id, Network, Noun, Place, Stored, Subnet},
    operations::{Actor, Error, Panel},
    store::ListQuery,
};

use super::{
    form::{Choices, FormView, Site, choices, differences},
    list::Asked,
};
use crate::{
    app::App,
    fields::{Fields, Reader},
    frame::{Frame, Seat, go, page},
    problem::Problem,
    shapes::{Shape, list_path, path},
};

/// The page of a form.
#[derive(Debug, Template)]
#[template(path = "form.html")]
pub struct FormPage {
    frame: Frame,
    noun: Noun,
    id: Option<i64>,
    name: String,
    site: Option<Site>,
    form: FormView,
    choices: Choices,
    may_delete: bool,
    back: String,
}

/// Where a new record shall live, as the path or the form says.
fn parent<T: Shape>(network: Option<i64>, organization: &str, frame: &Frame) -> Place {
    match (network, T::NOUN) {
        (Some(network), _) => Place::Network(Id::new(network)),
        (None, Noun::Organization | Noun::Tunnel) => Place::Panel,
        (None, Noun::User) if organization == "-" => Place::Panel,
        (None, _) => match (organization.parse(), frame.home()) {
            (Ok(number), _) => Place::Organization(Id::new(number)),
            (Err(_), Some(home)) => Place::Organization(home),
            (Err(_), None) => Place::Panel,
        },
    }
}

/// What a form page needs beside the form.
struct Around {
    noun: Noun,
    id: Option<i64>,
    name: String,
    place: Place,
    back: String,
}

async fn draw(
    app: &App,
    frame: Frame,
    actor: Actor,
    status: StatusCode,
    around: Around,
    form: FormView,
) -> Result<Response, Problem> {
    let Around { noun, id, name, place, back } = around;
    // A network lives in itself, and its tabs are its own.
    let (site, choices) = app
        .ask(move |panel| {
            let site = match (noun, id) {
                (Noun::Network, None) => None,
                _ => Site::at(panel, actor, place)?,
            };
            Ok((site, choices(panel, actor, noun, place)?))
        })
        .await?;
    let may_delete = id.is_some() && frame.may(Verb::Delete, noun, place);
    page(status, &FormPage { frame, noun, id, name, site, form, choices, may_delete, back })
}

/// An empty form, in a network.
///
/// # Errors
/// The actor may not make one.
pub async fn new_in<T: Shape>(
    app: State<App>,
    frame: Frame,
    seat: Seat,
    Path(network): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    new::<T>(app, frame, seat, Some(network), asked).await
}

/// An empty form, elsewhere.
///
/// # Errors
/// The actor may not make one.
pub async fn new_at<T: Shape>(
    app: State<App>,
    frame: Frame,
    seat: Seat,
    asked: Asked,
) -> Result<Response, Problem> {
    new::<T>(app, frame, seat, None, asked).await
}

async fn new<T: Shape>(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    network: Option<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let place = parent::<T>(network, asked.get("organization"), &frame);
    let actor = seat.actor;
    may_create::<T>(&app, &frame, actor, place).await?;
    let fields = app.ask(move |panel| suggestions::<T>(panel, actor, place, &asked)).await?;
    let around = around_new::<T>(place);
    draw(&app, frame, actor, StatusCode::OK, around, FormView { fields, ..FormView::default() })
        .await
}

/// Whether a form is shown at all; the operations decide what is made of it.
async fn may_create<T: Shape>(
    app: &App,
    frame: &Frame,
    actor: Actor,
    place: Place,
) -> Result<(), Problem> {
    // Asked first: whoever may not even see the place learns nothing of it.
    app.ask(move |panel| Site::at(panel, actor, place)).await?;
    if frame.may(Verb::Create, T::NOUN, place) {
        Ok(())
    } else {
        Err(Problem::forbidden(Verb::Create, T::NOUN))
    }
}

fn around_new<T: Shape>(place: Place) -> Around {
    let back = list_path(T::NOUN, place);
    Around { noun: T::NOUN, id: None, name: String::new(), place, back }
}

/// What a new record most likely has.
fn suggestions<T: Shape>(
    panel: &Panel,
    actor: Actor,
    place: Place,
    asked: &Asked,
) -> Result<Fields, Error> {
    let mut fields = Fields::default();
    fields.put("organization", asked.get("organization"));
    for name in ["macs", "volume", "server"] {
        fields.put(name, asked.get(name));
    }
    match T::NOUN {
        Noun::Device => {
            fields.put("boot_mode", "overlay");
            fields.put("on_failure", "retry");
            if let Place::Network(network) = place
                && let Some((subnet, address)) =
                    free_address(panel, actor, network, asked.get("network"))?
            {
                fields.put("network", subnet);
                fields.put_some("address", address);
            }
        }
        Noun::Group => {
            fields.put("generations", 1);
            fields.put("production", 1);
        }
        Noun::Menu => {
            fields.put("timeout_s", 10);
            fields.put("default", 1);
        }
        Noun::Tunnel => fields.put("port", 22),
        Noun::Server => fields.put("role", "both"),
        Noun::Subnet => fields.put("dhcp", "authoritative"),
        Noun::User => fields.put("standing", "member"),
        Noun::Organization | Noun::Network | Noun::Volume | Noun::Vdisk => {}
    }
    Ok(fields)
}

/// The subnet of this name, or the first, and the next address that nobody has there.
///
/// # Errors
/// The store failed.
pub fn free_address(
    panel: &Panel,
    actor: Actor,
    network: Id<Network>,
    name: &str,
) -> Result<Option<(String, Option<std::net::Ipv4Addr>)>, Error> {
    let query = ListQuery { network: Some(network), limit: Some(200), ..ListQuery::default() };
    let subnets = panel.list::<Subnet>(actor, &query)?.rows;
    let named = subnets.iter().find(|subnet| subnet.value.name.as_str() == name);
    let Some(subnet) = named.or(subnets.first()) else { return Ok(None) };
    let address = panel.next_free_address(actor, subnet.id)?;
    Ok(Some((subnet.value.name.to_string(), address)))
}

/// Makes one, in a network.
///
/// # Errors
/// The actor may not make one.
pub async fn create_in<T: Shape>(
    app: State<App>,
    frame: Frame,
    seat: Seat,
    Path(network): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    create::<T>(app, frame, seat, Some(network), fields).await
}

/// Makes one, elsewhere.
///
/// # Errors
/// The actor may not make one.
pub async fn create_at<T: Shape>(
    app: State<App>,
    frame: Frame,
    seat: Seat,
    fields: Fields,
) -> Result<Response, Problem> {
    create::<T>(app, frame, seat, None, fields).await
}

async fn create<T: Shape>(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    network: Option<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, place) = (seat.actor, parent::<T>(network, fields.get("organization"), &frame));
    may_create::<T>(&app, &frame, actor, place).await?;
    let mut reader = Reader::new(&fields);
    let read = T::read(&mut reader);
    let done = match reader.finish(read) {
        Err(faults) => Err(Problem::Invalid(faults)),
        Ok(value) if fields.has("preview") => {
            let previews = app.ask(move |panel| panel.preview_create(actor, place, &value)).await;
            match previews {
                Ok(previews) => {
                    let form = FormView { fields, previews: Some(previews), ..FormView::default() };
                    return draw(&app, frame, actor, StatusCode::OK, around_new::<T>(place), form)
                        .await;
                }
                Err(problem) => Err(problem),
            }
        }
        Ok(value) => app.change(move |panel| panel.create(actor, place, value)).await,
    };
    match done {
        // A new user has no password yet.
        Ok(made) if T::NOUN == Noun::User => {
            Ok(go(format!("{}/password", path(T::NOUN, made.id.number()))))
        }
        Ok(made) if T::HAS_PAGE => Ok(go(path(T::NOUN, made.id.number()))),
        Ok(made) => Ok(go(list_path(T::NOUN, made.place))),
        Err(Problem::Invalid(faults)) => {
            let form = FormView::faulty(fields, faults);
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            draw(&app, frame, actor, status, around_new::<T>(place), form).await
        }
        Err(problem) => Err(problem),
    }
}

fn around<T: Shape>(stored: &Stored<T>) -> Around {
    let id = stored.id.number();
    Around {
        noun: T::NOUN,
        id: Some(id),
        name: stored.value.name().to_owned(),
        place: stored.place,
        back: if T::HAS_PAGE { path(T::NOUN, id) } else { list_path(T::NOUN, stored.place) },
    }
}

/// A record's form; locked for whoever may only see it.
///
/// # Errors
/// There is none that the actor may see.
pub async fn show<T: Shape>(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let stored = app.ask(move |panel| panel.get::<T>(actor, Id::new(id))).await?;
    let form = FormView {
        fields: stored.value.fields(),
        version: Some(stored.version),
        locked: !frame.may(Verb::Change, T::NOUN, stored.place),
        ..FormView::default()
    };
    draw(&app, frame, actor, StatusCode::OK, around(&stored), form).await
}

/// Gives a record a new value, or shows what that would bring.
///
/// # Errors
/// The actor may not change it.
pub async fn change<T: Shape>(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, Id::<T>::new(id));
    let before = app.ask(move |panel| panel.get(actor, id)).await?;
    if !frame.may(Verb::Change, T::NOUN, before.place) {
        return Err(Problem::forbidden(Verb::Change, T::NOUN));
    }
    let version = fields.get("version").parse().unwrap_or(0);
    let mut reader = Reader::new(&fields);
    let read = T::read(&mut reader);
    let done = match reader.finish(read) {
        Err(faults) => Err(Problem::Invalid(faults)),
        Ok(value) if fields.has("preview") => {
            let ask = move |panel: &Panel| panel.preview_change(actor, id, version, &value);
            app.ask(ask).await.map(Some)
        }
        Ok(value) => {
            app.change(move |panel| panel.change(actor, id, version, value)).await.map(|_| None)
        }
    };
    let form = FormView { fields, version: Some(version), ..FormView::default() };
    let (status, form) = match done {
        Ok(None) => return Ok(go(around(&before).back)),
        Ok(previews) => (StatusCode::OK, FormView { previews, ..form }),
        Err(Problem::Invalid(faults)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, FormView { faults, ..form })
        }
        Err(Problem::Conflict { version, current }) => {
            let overtaken = differences::<T>(&form.fields, current)?;
            (StatusCode::CONFLICT, FormView { version: Some(version), overtaken, ..form })
        }
        Err(problem) => return Err(problem),
    };
    draw(&app, frame, actor, status, around(&before), form).await
}
