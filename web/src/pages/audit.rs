//! The audit log: who did what, before and after.

use askama::Template;
use axum::{extract::State, response::Response};
use panel::{
    access::Verb,
    noun::Noun,
    store::{Cursor, Entry, EntryQuery},
};

use super::list::Asked;
use crate::{
    app::App,
    frame::{Frame, Seat, page_or_part},
    problem::{Problem, word},
};

#[derive(Debug, Template)]
#[template(path = "audit.html", blocks = ["list"])]
struct Audit {
    frame: Frame,
    entries: Vec<Entry>,
    next: Option<String>,
    asked: Asked,
}

/// What of a record changed.
struct Change {
    field: String,
    before: String,
    after: String,
}

impl Audit {
    fn nouns(&self) -> [(&'static str, &'static str); 11] {
        Noun::ALL.map(|noun| (noun.word(), word(noun)))
    }

    fn changes(&self, entry: &Entry) -> Vec<Change> {
        let object = |value: &Option<serde_json::Value>| match value {
            Some(serde_json::Value::Object(object)) => object.clone(),
            Some(other) => [("value".to_owned(), other.clone())].into_iter().collect(),
            None => serde_json::Map::new(),
        };
        let (before, after) = (object(&entry.before), object(&entry.after));
        let text = |value: Option<&serde_json::Value>| match value {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let change = |name: &String| Change {
            field: name.clone(),
            before: text(before.get(name)),
            after: text(after.get(name)),
        };
        let changes = names.into_iter().map(change);
        changes.filter(|change| change.before != change.after).collect()
    }
}

/// The log, as far as the actor may read it.
///
/// # Errors
/// The store failed.
pub async fn list(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    asked: Asked,
) -> Result<Response, Problem> {
    if !frame.audit() {
        return Err(Problem::forbidden(Verb::Read, Noun::Network));
    }
    let some = |name: &str| Some(asked.get(name).to_owned()).filter(|value| !value.is_empty());
    let query = EntryQuery {
        noun: Noun::ALL.into_iter().find(|noun| asked.is("noun", noun.word())),
        object_id: asked.get("object").parse().ok(),
        search: some("q"),
        cursor: some("cursor").map(Cursor::new),
        limit: None,
    };
    let found = app.ask(move |panel| panel.audit(seat.actor, &query)).await?;
    let next = asked.next(found.next.as_ref());
    let whole = Audit { frame, entries: found.rows, next, asked };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}
