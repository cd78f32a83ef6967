//! What an operation of the API is, said once beside its route: what it takes, what it answers, how it refuses. The document is
//! made of these and of the types' own schemas.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// Makes the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The content type of everything that is not said to be another.
pub const JSON: &str = "application/json";

/// A parameter of the query, or a header.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// `query` or `header`.
    pub place: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Whether it has to be there.
    pub required: bool,
    /// What it does.
    pub text: &'static str,
    /// What it may be.
    pub schema: Value,
}

/// An answer of an operation.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// When it is given.
    pub text: &'static str,
    /// The type of its body and the schema of that.
    pub content: Option<(&'static str, SchemaOf)>,
    /// Headers that it has.
    pub headers: Vec<(&'static str, &'static str)>,
}

/// An operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its name for programs.
    pub id: String,
    /// The noun that it is about.
    pub tag: &'static str,
    /// What it does.
    pub summary: String,
    /// What it takes beside the path and the body.
    pub parameters: Vec<Parameter>,
    /// The type of the body and its schema.
    pub body: Option<(&'static str, SchemaOf)>,
    /// What it answers.
    pub answers: Vec<Answer>,
    /// With what it refuses.
    pub refusals: BTreeSet<u16>,
}

impl Operation {
    /// An operation for whoever is signed in.
    pub fn new(tag: &'static str, id: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            tag,
            summary: summary.into(),
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: BTreeSet::from([401]),
        }
    }

    /// Takes a parameter of the query.
    pub fn asked(mut self, name: &'static str, schema: Value, text: &'static str) -> Self {
        self.parameters.push(Parameter { place: "query", name, required: false, text, schema });
        self.refuses([422])
    }

    /// Takes a header.
    pub fn header(mut self, name: &'static str, schema: Value, text: &'static str) -> Self {
        self.parameters.push(Parameter { place: "header", name, required: false, text, schema });
        self
    }

    /// Takes the version that a change was made from.
    pub fn versioned(mut self) -> Self {
        self.parameters.push(Parameter {
            place: "header",
            name: "If-Match",
            required: true,
            text: "The ETag of the version that the change was made from.",
            schema: json!({ "type": "string", "pattern": "^\"[0-9]{1,18}\"$" }),
        });
        self.refuses([412, 428])
    }

    /// Takes JSON.
    pub fn takes<T: JsonSchema>(self) -> Self {
        self.takes_as::<T>(JSON)
    }

    /// Takes another type.
    pub fn takes_as<T: JsonSchema>(mut self, kind: &'static str) -> Self {
        self.body = Some((kind, |generator| generator.subschema_for::<T>()));
        self.refuses([400, 413, 415, 422])
    }

    /// Answers JSON.
    pub fn answers<T: JsonSchema>(self, status: u16, text: &'static str) -> Self {
        self.answers_as::<T>(status, JSON, text)
    }

    /// Answers another type.
    pub fn answers_as<T: JsonSchema>(
        mut self,
        status: u16,
        kind: &'static str,
        text: &'static str,
    ) -> Self {
        let content: (_, SchemaOf) = (kind, |generator| generator.subschema_for::<T>());
        self.answers.push(Answer { status, text, content: Some(content), headers: Vec::new() });
        self
    }

    /// Answers without a body.
    pub fn done(mut self, text: &'static str) -> Self {
        self.answers.push(Answer { status: 204, text, content: None, headers: Vec::new() });
        self
    }

    /// The last answer has this header.
    pub fn with(mut self, name: &'static str, text: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, text));
        }
        self
    }

    /// Refuses with these.
    pub fn refuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.refusals.extend(statuses);
        self
    }

    /// Changes something: who may not is told, and a session has to prove that it comes from the console.
    pub fn changes(self) -> Self {
        self.refuses([403])
    }
}
