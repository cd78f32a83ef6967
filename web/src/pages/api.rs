//! The API for people who write programs: its document as a page.

use std::collections::BTreeMap;

use askama::Template;
use axum::{http::StatusCode, response::Response};
use schemars::SchemaGenerator;
use serde_json::Value;

use crate::{
    api::{
        Line,
        describe::{Parameter, SchemaOf},
        document, lines,
    },
    frame::{Frame, Seat, page},
    problem::Problem,
};

/// What of a body is shown: its type, and where the schema of that stands on the page.
#[derive(Debug)]
struct Content {
    kind: &'static str,
    schema: String,
    is_list: bool,
}

impl Content {
    fn of(schemas: &mut SchemaGenerator, (kind, schema): (&'static str, SchemaOf)) -> Self {
        let schema = schema(schemas).to_value();
        let name = |value: &Value| {
            let reference = value.get("$ref").and_then(Value::as_str);
            reference.and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned()
        };
        let items = schema.get("items");
        Self { kind, schema: name(items.unwrap_or(&schema)), is_list: items.is_some() }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    text: &'static str,
    content: Option<Content>,
    headers: Vec<(&'static str, &'static str)>,
}

#[derive(Debug)]
struct Shown {
    method: String,
    path: String,
    id: String,
    summary: String,
    parameters: Vec<Parameter>,
    body: Option<Content>,
    answers: Vec<Answer>,
    refusals: String,
}

impl Shown {
    fn of(schemas: &mut SchemaGenerator, Line { route, operation }: Line) -> Self {
        let answers = operation.answers.into_iter().map(|answer| Answer {
            status: answer.status,
            text: answer.text,
            content: answer.content.map(|content| Content::of(schemas, content)),
            headers: answer.headers,
        });
        let answers = answers.collect();
        let refusals = operation.refusals.iter().map(ToString::to_string);
        Self {
            method: route.method.to_string(),
            path: route.path,
            id: operation.id,
            summary: operation.summary,
            parameters: operation.parameters,
            answers,
            refusals: refusals.collect::<Vec<_>>().join(", "),
            body: operation.body.map(|body| Content::of(schemas, body)),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "api.html")]
struct Document {
    frame: Frame,
    tags: BTreeMap<&'static str, Vec<Shown>>,
    schemas: Vec<(String, String)>,
}

/// The page.
///
/// # Errors
/// The page can't be drawn.
pub async fn show(frame: Frame, _seat: Seat) -> Result<Response, Problem> {
    let mut schemas = document::schemas();
    let mut tags: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in lines() {
        let tag = line.operation.tag;
        tags.entry(tag).or_default().push(Shown::of(&mut schemas, line));
    }
    let written = |(name, schema): (String, Value)| {
        let text = serde_json::to_string_pretty(&schema);
        text.map(|text| (name, text)).map_err(Problem::broken)
    };
    let schemas =
        schemas.take_definitions(true).into_iter().map(written).collect::<Result<_, _>>()?;
    page(StatusCode::OK, &Document { frame, tags, schemas })
}
