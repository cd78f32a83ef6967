//! One record, or a list of them, whatever its noun: the operations of the panel as they are, with the version as ETag.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use panel::{
    noun::{Id, Network, Noun, Organization, Place, Stored},
    operations::{self, Data, Panel},
    store::{Cursor, Dependent, ListQuery, MOST_ROWS},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Line,
    caller::Caller,
    describe::Operation,
    receive::{Body, IfMatch, KEY, Key, Numbers, Query},
    refusal::Refusal,
};
use crate::{app::App, problem::word, shapes::Shape};

/// A part of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct List<T> {
    rows: Vec<Stored<T>>,
    /// The cursor of the part that follows; absent at the end.
    next: Option<String>,
    /// How many the list has in all.
    total: u64,
}

/// What a change would bring to one server.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Preview {
    server: i64,
    name: String,
    /// Whether its document would change at all.
    changes: bool,
    /// Whether it has shown itself, so that the steps say something.
    known: bool,
    /// What it would do beyond what it does anyway.
    steps: Vec<String>,
    /// What would wait, and for what.
    waiting: Vec<String>,
}

impl From<operations::Preview> for Preview {
    fn from(preview: operations::Preview) -> Self {
        let waiting = preview.plan.waiting.iter();
        let waiting = waiting.map(|one| format!("{} waits: {}", one.resource, one.reason));
        Self {
            server: preview.server.number(),
            name: preview.name,
            changes: preview.changes,
            known: preview.known,
            waiting: waiting.collect(),
            steps: preview.plan.steps.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What becomes of the data of what is deleted.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It stays on the servers, and they report it.
    #[default]
    Keep,
    /// The servers destroy it.
    Destroy,
}

impl From<Fate> for Data {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Keep => Self::Keep,
            Fate::Destroy => Self::Destroy,
        }
    }
}

/// What a noun of the API is.
pub trait Wire: Shape + JsonSchema {}
impl<T: Shape + JsonSchema> Wire for T {}

/// The routes of a noun.
pub fn lines<T: Wire>() -> Vec<Line> {
    let (noun, all) = (T::NOUN.word(), format!("/{}", T::PLURAL));
    let one = format!("{all}/{{id}}");
    let mut lines = vec![
        Line::get(&all, get(list::<T>), listing::<T>("list", "all networks")),
        Line::get(&one, get(show::<T>), getting::<T>()),
        Line::put(&one, put(change::<T>), changing::<T>()),
        Line::delete(&one, axum::routing::delete(delete::<T>), deleting::<T>()),
        Line::get(
            &format!("{one}/dependents"),
            get(dependents::<T>),
            Operation::new(noun, format!("dependentsOf{}", title(noun)), "What hangs on it")
                .answers::<Vec<Dependent>>(200, "A long list is cut.")
                .refuses([403]),
        ),
    ];
    match T::PARENT {
        None => lines.push(Line::post(&all, post(create_at::<T>), creating::<T>("make"))),
        Some("network_id") => {
            let there = format!("/networks/{{network}}{all}");
            let listed = listing::<T>("listNetwork", "one network");
            lines.push(Line::get(&there, get(list_in::<T>), listed));
            lines.push(Line::post(&there, post(create_in::<T>), creating::<T>("make")));
        }
        Some(_) => {
            let there = format!("/organizations/{{organization}}{all}");
            lines.push(Line::post(&there, post(create_in::<T>), creating::<T>("make")));
        }
    }
    if T::NOUN == Noun::User {
        lines.push(Line::post(&all, post(create_at::<T>), creating::<T>("makeTop")));
    }
    lines
}

fn title(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn named<T: Wire>(verb: &str) -> String {
    format!("{verb}{}", title(T::NOUN.word()))
}

fn text(text: &str) -> Value {
    json!({ "type": "string", "description": text })
}

fn listing<T: Wire>(verb: &str, of: &str) -> Operation {
    let sorts: Vec<_> = T::SORTS.iter().map(|(name, _)| *name).collect();
    let summary = format!("The {} that the caller may see, of {of}", T::PLURAL);
    let mut operation = Operation::new(T::NOUN.word(), format!("{}s", named::<T>(verb)), summary)
        .asked(
            "q",
            text("What to search for."),
            "Only what has this in its name, or is found by it.",
        )
        .asked("sort", json!({ "enum": sorts }), "What to sort by.")
        .asked("descending", json!({ "type": "boolean" }), "Last first.")
        .asked("cursor", json!({ "type": "string" }), "Where to go on: `next` of the part before.")
        .asked(
            "limit",
            json!({ "type": "integer", "minimum": 1, "maximum": MOST_ROWS }),
            "How many rows; 50 unless told.",
        );
    for (name, _) in T::FILTERS {
        operation = operation.asked(name, json!({ "type": "string" }), "Only what is like this.");
    }
    operation.answers::<List<T>>(200, "A part of the list.")
}

fn getting<T: Wire>() -> Operation {
    Operation::new(T::NOUN.word(), named::<T>("get"), format!("One {}", word(T::NOUN)))
        .answers::<Stored<T>>(200, "The record.")
        .with("ETag", "Its version.")
}

fn previewed(operation: Operation) -> Operation {
    let help = "Change nothing, and answer what it would bring to the servers.";
    operation
        .asked("preview", json!({ "type": "boolean" }), help)
        .answers::<Vec<Preview>>(200, "With `preview`: what it would bring.")
}

fn creating<T: Wire>(verb: &str) -> Operation {
    let made =
        Operation::new(T::NOUN.word(), named::<T>(verb), format!("Makes one {}", word(T::NOUN)));
    let key = json!({ "type": "string", "pattern": "^[!-~]{1,255}$" });
    let help = "The same key with the same request makes nothing more, and is answered as before; for a day.";
    previewed(made.takes::<T>().header(KEY, key, help).refuses([403, 404]))
        .answers::<Stored<T>>(201, "It was made.")
        .with("ETag", "Its version.")
        .with("Location", "Where it is.")
}

fn changing<T: Wire>() -> Operation {
    Operation::new(
        T::NOUN.word(),
        named::<T>("change"),
        format!("Gives a {} a new value", word(T::NOUN)),
    )
    .takes::<T>()
    .versioned()
    .refuses([403])
    .asked(
        "preview",
        json!({ "type": "boolean" }),
        "Change nothing, and answer what it would bring.",
    )
    .answers::<Changed<T>>(200, "The record, or with `preview` what it would bring.")
}

/// What is answered to a change.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Changed{T}")]
enum Changed<T> {
    Record(Stored<T>),
    Previews(Vec<Preview>),
}

fn deleting<T: Wire>() -> Operation {
    let summary = format!("Deletes a {} on which nothing hangs", word(T::NOUN));
    let deleted = Operation::new(T::NOUN.word(), named::<T>("delete"), summary);
    previewed(deleted)
        .versioned()
        .refuses([403, 409])
        .asked(
            "data",
            json!({ "enum": ["keep", "destroy"] }),
            "What becomes of its data on servers.",
        )
        .done("It is gone.")
}

pub(super) fn tagged(version: u64) -> [(HeaderName, HeaderValue); 1] {
    let tag = HeaderValue::from_str(&format!("\"{version}\""));
    [(header::ETAG, tag.unwrap_or_else(|_| HeaderValue::from_static("\"0\"")))]
}

fn record<T: Wire>(status: StatusCode, stored: Stored<T>) -> Response {
    (status, tagged(stored.version), Json(stored)).into_response()
}

fn previews(found: Vec<operations::Preview>) -> Response {
    Json(found.into_iter().map(Preview::from).collect::<Vec<_>>()).into_response()
}

/// All networks' list.
async fn list<T: Wire>(
    state: State<App>,
    caller: Caller,
    query: Query,
) -> Result<Response, Refusal> {
    rows::<T>(state, caller, query, None).await
}

/// One network's list.
async fn list_in<T: Wire>(
    State(app): State<App>,
    caller: Caller,
    Numbers([network]): Numbers<1>,
    query: Query,
) -> Result<Response, Refusal> {
    let network = Id::<Network>::new(network);
    app.ask(move |panel| panel.get(caller.actor, network)).await?;
    rows::<T>(State(app), caller, query, Some(network)).await
}

async fn rows<T: Wire>(
    State(app): State<App>,
    caller: Caller,
    mut asked: Query,
    network: Option<Id<Network>>,
) -> Result<Response, Refusal> {
    let filters =
        T::FILTERS.iter().filter_map(|(name, _)| Some(((*name).to_owned(), asked.text(name)?)));
    let query = ListQuery {
        network,
        filters: filters.collect(),
        search: asked.text("q"),
        sort: asked.text("sort"),
        descending: asked.flag("descending"),
        cursor: asked.text("cursor").map(Cursor::new),
        limit: asked.limit(),
    };
    asked.finish()?;
    let found = app.ask(move |panel| {
        let page = panel.list::<T>(caller.actor, &query)?;
        let total = panel.count::<T>(caller.actor, &ListQuery { cursor: None, ..query })?;
        let next = page.next.map(|cursor| cursor.as_str().to_owned());
        Ok(List { rows: page.rows, next, total })
    });
    Ok(Json(found.await.map_err(Refusal::of_query)?).into_response())
}

async fn show<T: Wire>(
    State(app): State<App>,
    caller: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Response, Refusal> {
    let stored = app.ask(move |panel| panel.get::<T>(caller.actor, Id::new(id))).await?;
    Ok(record(StatusCode::OK, stored))
}

async fn dependents<T: Wire>(
    State(app): State<App>,
    caller: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Json<Vec<Dependent>>, Refusal> {
    let ask = move |panel: &Panel| panel.dependents::<T>(caller.actor, Id::new(id));
    Ok(Json(app.ask(ask).await?))
}

/// Makes one where its path says.
async fn create_in<T: Wire>(
    state: State<App>,
    caller: Caller,
    Numbers([parent]): Numbers<1>,
    query: Query,
    key: Key,
    body: Body<T>,
) -> Result<Response, Refusal> {
    let place = match T::PARENT {
        Some("network_id") => Place::Network(Id::<Network>::new(parent)),
        _ => Place::Organization(Id::<Organization>::new(parent)),
    };
    create(state, caller, place, query, key, body).await
}

/// Makes one at the panel.
async fn create_at<T: Wire>(
    state: State<App>,
    caller: Caller,
    query: Query,
    key: Key,
    body: Body<T>,
) -> Result<Response, Refusal> {
    create(state, caller, Place::Panel, query, key, body).await
}

async fn create<T: Wire>(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    place: Place,
    mut query: Query,
    Key(key): Key,
    Body(value): Body<T>,
) -> Result<Response, Refusal> {
    let preview = query.flag("preview");
    query.finish()?;
    if preview {
        let found = app.ask(move |panel| panel.preview_create(actor, place, &value));
        return Ok(previews(found.await?));
    }
    let made = app.change(move |panel| match key {
        Some(key) => panel.create_once(actor, place, &value, &key),
        None => panel.create(actor, place, value),
    });
    let made = made.await?;
    let location = format!("{}/{}/{}", super::PREFIX, T::PLURAL, made.id);
    Ok(([(header::LOCATION, location)], record(StatusCode::CREATED, made)).into_response())
}

async fn change<T: Wire>(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
    IfMatch(version): IfMatch,
    mut query: Query,
    Body(value): Body<T>,
) -> Result<Response, Refusal> {
    let (id, preview) = (Id::<T>::new(id), query.flag("preview"));
    query.finish()?;
    if preview {
        let found = app.ask(move |panel| panel.preview_change(actor, id, version, &value));
        let found = found.await?.into_iter().map(Preview::from).collect();
        return Ok(Json(Changed::<T>::Previews(found)).into_response());
    }
    let changed = app.change(move |panel| panel.change(actor, id, version, value)).await?;
    Ok((tagged(changed.version), Json(Changed::Record(changed))).into_response())
}

async fn delete<T: Wire>(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
    IfMatch(version): IfMatch,
    mut query: Query,
) -> Result<Response, Refusal> {
    let (id, preview) = (Id::<T>::new(id), query.flag("preview"));
    let data = query.word::<Fate>("data").unwrap_or_default().into();
    query.finish()?;
    if preview {
        let found = app.ask(move |panel| panel.preview_delete(actor, id, version, data));
        return Ok(previews(found.await?));
    }
    app.change(move |panel| panel.delete(actor, id, version, data)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
