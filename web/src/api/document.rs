//! The OpenAPI document (3.1, whose schemas are JSON Schema 2020-12): made of the table of routes and of the types that go over the
//! wire, so that it can't say something else than they do.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    Line,
    describe::{Answer, JSON, Operation, SchemaOf},
    lines,
    refusal::{PROBLEM, Told},
};

/// Makes the schemas of what goes over the wire, that of a refusal first.
pub(crate) fn schemas() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    schemas.subschema_for::<Told>();
    schemas
}

/// The document.
pub fn document() -> Value {
    let mut schemas = schemas();
    let problem = json!(schemas.subschema_for::<Told>());
    let mut paths: Map<String, Value> = Map::new();
    for Line { route, operation } in lines() {
        let path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        let method = route.method.as_str().to_lowercase();
        let described = described(&mut schemas, &route.path, &operation);
        if let Value::Object(methods) = path {
            methods.insert(method, described);
        }
    }
    let refusal = json!({ "description": "Why it was refused.",
        "content": { PROBLEM: { "schema": problem } } });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "clusterducks",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that the console does, by the same operations and for whoever may.",
            "license": { "name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "responses": { "Problem": refusal },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer",
                    "description": "A token that was made on the page of an account." },
                "session": { "type": "apiKey", "in": "cookie", "name": crate::guard::SESSION,
                    "description": "A session of the console; a change needs the header x-csrf-token too." },
            },
        },
    })
}

fn described(schemas: &mut SchemaGenerator, path: &str, operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = in_path(path).map(path_parameter).collect();
    parameters.extend(operation.parameters.iter().map(|parameter| {
        json!({ "in": parameter.place, "name": parameter.name, "required": parameter.required,
            "description": parameter.text, "schema": parameter.schema })
    }));
    let mut responses: Map<String, Value> = Map::new();
    for answer in &operation.answers {
        responses.insert(answer.status.to_string(), answered(schemas, answer));
    }
    let missing = in_path(path).next().map(|_| 404);
    for status in operation.refusals.iter().copied().chain(missing) {
        responses.insert(status.to_string(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    let mut described = Map::from_iter([
        ("operationId".to_owned(), json!(operation.id)),
        ("tags".to_owned(), json!([operation.tag])),
        ("summary".to_owned(), json!(operation.summary)),
        ("parameters".to_owned(), json!(parameters)),
    ]);
    if let Some(body) = operation.body {
        let body = json!({ "required": true, "content": content(schemas, body) });
        described.insert("requestBody".to_owned(), body);
    }
    described.insert("responses".to_owned(), Value::Object(responses));
    Value::Object(described)
}

fn answered(schemas: &mut SchemaGenerator, answer: &Answer) -> Value {
    let headers = answer.headers.iter().map(|(name, text)| {
        let schema = json!({ "type": "string" });
        let header = json!({ "description": text, "required": true, "schema": schema });
        ((*name).to_owned(), header)
    });
    let headers: Map<String, Value> = headers.collect();
    let body = answer.content.map_or_else(|| json!({}), |body| content(schemas, body));
    json!({ "description": answer.text, "headers": headers, "content": body })
}

fn content(schemas: &mut SchemaGenerator, (kind, schema): (&str, SchemaOf)) -> Value {
    json!({ kind: { "schema": schema(schemas) } })
}

/// The names between braces.
fn in_path(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "serial" => json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        _ => json!({ "type": "integer", "format": "int64", "minimum": 1 }),
    };
    json!({ "in": "path", "name": name, "required": true, "schema": schema })
}

/// The document as it is sent; it is the same for everybody, and made once.
pub async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    let kind = HeaderValue::from_static(JSON);
    ([(header::CONTENT_TYPE, kind)], TEXT.as_str()).into_response()
}

/// What serving it is.
pub fn operation() -> Operation {
    Operation::new("panel", "getDocument", "This document").answers::<Value>(200, "The document.")
}
