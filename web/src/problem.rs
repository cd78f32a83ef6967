//! Why a page could not be shown, or a change not made, as the person who asked is told. What is nobody's fault but ours is
//! logged once with an id, and the page has the id alone.

use std::{borrow::Borrow, fmt::Display};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use panel::{
    access::Verb,
    noun::Noun,
    operations,
    store::{Dependent, FieldError},
    throttle::Wait,
};

/// What is told.
#[derive(Debug)]
pub enum Problem {
    /// Sign in first.
    SignedOut,
    /// There is none, or none that the person may see.
    NotFound,
    /// They see it, and may not do this to it.
    Forbidden(String),
    /// Fields are wrong; a form comes back with them.
    Invalid(Vec<FieldError>),
    /// Somebody else changed it meanwhile; a form comes back with both values.
    Conflict {
        /// Its version now.
        version: u64,
        /// Its value now, as JSON of its type.
        current: serde_json::Value,
    },
    /// Something hangs on what was to be deleted.
    InUse(Vec<Dependent>),
    /// There were too many tries.
    Wait(Wait),
    /// The request did not come from a page of ours.
    Foreign,
    /// What was sent can't be read, or is too much.
    Unreadable(&'static str),
    /// Our fault; the id under which it was logged.
    Broken(String),
}

impl Problem {
    /// Logs what is our fault.
    pub fn broken(error: impl Into<anyhow::Error>) -> Self {
        let error: anyhow::Error = error.into();
        let id = hex::encode(rand::random::<[u8; 4]>());
        tracing::error!(id, error = format!("{error:#}"), "a request failed");
        Self::Broken(id)
    }

    /// The actor sees such a record, and may not do this: in the words of the operations, which say so when they are asked.
    pub fn forbidden(verb: Verb, noun: Noun) -> Self {
        operations::Error::Forbidden { verb, noun }.into()
    }

    /// One field is wrong.
    pub fn field(field: &str, message: impl Display) -> Self {
        Self::Invalid(vec![FieldError::new(field, message.to_string())])
    }
}

impl From<operations::Error> for Problem {
    fn from(error: operations::Error) -> Self {
        match error {
            operations::Error::SignedOut => Self::SignedOut,
            operations::Error::NotFound { .. } => Self::NotFound,
            operations::Error::Forbidden { .. } => Self::Forbidden(error.to_string()),
            operations::Error::Invalid(faults) => Self::Invalid(faults),
            operations::Error::Conflict { version, current, .. } => {
                Self::Conflict { version, current }
            }
            operations::Error::InUse { dependents, .. } => Self::InUse(dependents),
            operations::Error::Store(panel::store::Error::InUse) => Self::InUse(Vec::new()),
            operations::Error::Generation { .. }
            | operations::Error::Untold { .. }
            | operations::Error::Store(_) => Self::broken(error),
        }
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        Self::broken(error)
    }
}

impl From<Wait> for Problem {
    fn from(wait: Wait) -> Self {
        Self::Wait(wait)
    }
}

/// What the page of a problem says; the outermost layer draws it into the frame of whoever asked.
#[derive(Debug, Clone)]
pub struct Told {
    /// What kind of answer it is.
    pub status: StatusCode,
    /// Which words of the template.
    pub kind: &'static str,
    /// What else there is to say.
    pub detail: String,
}

impl Problem {
    /// What is told.
    pub fn told(self) -> Told {
        let told = |status, kind, detail| Told { status, kind, detail };
        let fields = |faults: Vec<FieldError>| {
            let lines = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message));
            lines.collect::<Vec<_>>().join("; ")
        };
        match self {
            Self::SignedOut => told(StatusCode::UNAUTHORIZED, "signed-out", String::new()),
            Self::NotFound => told(StatusCode::NOT_FOUND, "not-found", String::new()),
            Self::Forbidden(detail) => told(StatusCode::FORBIDDEN, "forbidden", detail),
            Self::Invalid(faults) => {
                told(StatusCode::UNPROCESSABLE_ENTITY, "invalid", fields(faults))
            }
            Self::Conflict { .. } => told(StatusCode::CONFLICT, "conflict", String::new()),
            Self::InUse(dependents) => {
                let names = dependents.iter().map(|one| format!("{} {}", word(one.noun), one.name));
                told(StatusCode::CONFLICT, "in-use", names.collect::<Vec<_>>().join(", "))
            }
            Self::Wait(wait) => told(StatusCode::TOO_MANY_REQUESTS, "wait", wait.to_string()),
            Self::Foreign => told(StatusCode::FORBIDDEN, "foreign", String::new()),
            Self::Unreadable(what) => told(StatusCode::BAD_REQUEST, "unreadable", what.to_owned()),
            Self::Broken(id) => told(StatusCode::INTERNAL_SERVER_ERROR, "broken", id),
        }
    }
}

/// A noun's word as people write it.
pub fn word(noun: impl Borrow<Noun>) -> &'static str {
    match *noun.borrow() {
        Noun::Vdisk => "vDisk",
        other => other.word(),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let wait = match &self {
            Self::Wait(Wait(wait)) => Some(wait.as_secs().saturating_add(1)),
            _ => None,
        };
        let told = self.told();
        let mut response = told.status.into_response();
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(told);
        response
    }
}
