//! Deleting a record: what hangs on it is shown first, what it would bring to the servers too, and its name is asked for.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use panel::{
    access::Verb,
    noun::{Id, Noun, Stored},
    operations::{Actor, Data, Error, Panel, Preview},
    store::{Dependent, FieldError},
};

use super::form::{FormView, Site};
use crate::{
    app::App,
    fields::Fields,
    frame::{Frame, Seat, go, page},
    problem::Problem,
    shapes::{Shape, list_path, path},
};

#[derive(Debug, Template)]
#[template(path = "delete.html")]
struct DeletePage {
    frame: Frame,
    noun: Noun,
    name: String,
    site: Option<Site>,
    form: FormView,
    dependents: Vec<Dependent>,
    has_data: bool,
    back: String,
}

async fn draw<T: Shape>(
    app: &App,
    frame: Frame,
    actor: Actor,
    stored: Stored<T>,
    form: FormView,
    status: StatusCode,
) -> Result<Response, Problem> {
    let (id, place, version) = (stored.id, stored.place, stored.version);
    let has_data = stored.value.mark().is_some();
    let look = move |panel: &Panel| {
        let dependents = panel.dependents(actor, id)?;
        let previews =
            if dependents.is_empty() { preview(panel, actor, id, version)? } else { None };
        let site = if T::NOUN == Noun::Network { None } else { Site::at(panel, actor, place)? };
        Ok((dependents, previews, site))
    };
    let (dependents, previews, site) = app.ask(look).await?;
    let name = stored.value.name().to_owned();
    let back = path(T::NOUN, id.number());
    let form = FormView { version: Some(version), previews, ..form };
    let noun = T::NOUN;
    page(status, &DeletePage { frame, noun, name, site, form, dependents, has_data, back })
}

/// A delete that would be refused is told when it is tried.
fn preview<T: Shape>(
    panel: &Panel,
    actor: Actor,
    id: Id<T>,
    version: u64,
) -> Result<Option<Vec<Preview>>, Error> {
    match panel.preview_delete(actor, id, version, Data::Keep) {
        Ok(previews) => Ok(Some(previews)),
        Err(Error::Invalid(_) | Error::Conflict { .. } | Error::InUse { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks.
///
/// # Errors
/// There is none that the actor may see, or they may not delete it.
pub async fn show<T: Shape>(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let stored = app.ask(move |panel| panel.get::<T>(actor, Id::new(id))).await?;
    draw(&app, frame, actor, stored, FormView::default(), StatusCode::OK).await
}

/// Deletes.
///
/// # Errors
/// There is none that the actor may see, or they may not delete it.
pub async fn remove<T: Shape>(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, Id::<T>::new(id));
    let stored = app.ask(move |panel| panel.get(actor, id)).await?;
    if !frame.may(Verb::Delete, T::NOUN, stored.place) {
        return Err(Problem::forbidden(Verb::Delete, T::NOUN));
    }
    let again = |faults, status| {
        let form = FormView::faulty(fields.clone(), faults);
        draw(&app, frame.clone(), actor, stored.clone(), form, status)
    };
    if fields.get("name") != stored.value.name() {
        let fault = FieldError::new("name", "this is not its name");
        return again(vec![fault], StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    let version = fields.get("version").parse().unwrap_or(0);
    let data = if fields.get("data") == "destroy" { Data::Destroy } else { Data::Keep };
    match app.change(move |panel| panel.delete(actor, id, version, data)).await {
        Ok(()) => Ok(go(list_path(T::NOUN, stored.place))),
        Err(Problem::Invalid(faults)) => again(faults, StatusCode::UNPROCESSABLE_ENTITY).await,
        Err(Problem::InUse(_)) => again(Vec::new(), StatusCode::CONFLICT).await,
        Err(Problem::Conflict { .. }) => {
            let message = "somebody changed it meanwhile: look at it again before you delete it";
            again(vec![FieldError::new("name", message)], StatusCode::CONFLICT).await
        }
        Err(problem) => Err(problem),
    }
}
