//! Why a request to the API was refused, as `application/problem+json` (RFC 9457) that names what is wrong: by a pointer into the
//! body (RFC 6901), by the parameter, or by the header. What is our fault shows the id alone under which it was logged.

use std::fmt::Display;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use panel::store::{Dependent, FieldError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::problem::Problem;

/// The content type of every refusal.
pub const PROBLEM: &str = "application/problem+json";

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// Where in the body, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Which parameter of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Which header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl Fault {
    fn new(detail: impl Display) -> Self {
        Self { pointer: None, parameter: None, header: None, detail: detail.to_string() }
    }

    /// In the body.
    pub fn at(pointer: impl Into<String>, detail: impl Display) -> Self {
        Self { pointer: Some(pointer.into()), ..Self::new(detail) }
    }

    /// In the query.
    pub fn of_parameter(name: impl Into<String>, detail: impl Display) -> Self {
        Self { parameter: Some(name.into()), ..Self::new(detail) }
    }

    /// In a header.
    pub fn of_header(name: impl Into<String>, detail: impl Display) -> Self {
        Self { header: Some(name.into()), ..Self::new(detail) }
    }
}

/// The pointer to a field as the operations name it: `pools[0].disks` is `/pools/0/disks`.
pub fn pointer(field: &str) -> String {
    let parts = field.split(['.', '[', ']']).filter(|part| !part.is_empty());
    parts.map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

/// A refused request, as it is told (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct Told {
    /// What kind of problem it is, in one word.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What kind of problem it is, in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What it is this time, and what would help.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What is wrong, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    /// What hangs on a record that was to be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<Dependent>,
    /// The version that a record has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The value that a record has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<serde_json::Value>,
}

/// Why a request was refused.
#[derive(Debug)]
pub enum Refusal {
    /// As a page would tell it.
    Problem(Problem),
    /// What was sent can't be: each fault of it.
    Faulty(Vec<Fault>),
    /// The body is no JSON.
    Unreadable(String),
    /// The body is of another type.
    Type(&'static str),
    /// The body is too long.
    TooLong,
    /// A change has to say by `If-Match` which version it was made from.
    Unconditional,
    /// Something in the body has another version now.
    Overtaken,
    /// It has ended, or was decided, before.
    Over(&'static str),
    /// There is no such method here.
    Method,
}

impl<P: Into<Problem>> From<P> for Refusal {
    fn from(problem: P) -> Self {
        Self::Problem(problem.into())
    }
}

impl Refusal {
    /// Faults of the operations as those of the query.
    pub fn of_query(problem: Problem) -> Self {
        match problem {
            Problem::Invalid(faults) => {
                let told = |fault: FieldError| Fault::of_parameter(fault.field, fault.message);
                Self::Faulty(faults.into_iter().map(told).collect())
            }
            other => Self::Problem(other),
        }
    }

    /// What is told.
    pub fn told(self) -> Told {
        let told = |status, kind, title, detail: &str| {
            let (errors, dependents) = (Vec::new(), Vec::new());
            let detail = detail.to_owned();
            Told { kind, title, status, detail, errors, dependents, version: None, current: None }
        };
        let faulty = |errors| Told { errors, ..told(422, "invalid", "Something is wrong", "") };
        match self {
            Self::Problem(problem) => told_of(problem),
            Self::Faulty(faults) => faulty(faults),
            Self::Unreadable(why) => told(400, "unreadable", "The request can't be read", &why),
            Self::Type(wanted) => told(415, "type", "The body is of another type", wanted),
            Self::TooLong => told(413, "too-long", "The body is too long", ""),
            Self::Unconditional => {
                let help = "say by If-Match which version the change was made from: its ETag";
                told(428, "unconditional", "A change needs its version", help)
            }
            Self::Overtaken => {
                told(409, "overtaken", "Somebody else changed it meanwhile", "look at it again")
            }
            Self::Over(why) => told(409, "over", "It is over", why),
            Self::Method => told(405, "method", "There is no such method here", ""),
        }
    }
}

fn told_of(problem: Problem) -> Told {
    let told = |status, kind, title, detail| Told {
        kind,
        title,
        status,
        detail,
        errors: Vec::new(),
        dependents: Vec::new(),
        version: None,
        current: None,
    };
    match problem {
        Problem::SignedOut => {
            let help = "send a token, or the cookie of a session".to_owned();
            told(401, "signed-out", "Sign in first", help)
        }
        Problem::NotFound => told(404, "not-found", "There is no such thing", String::new()),
        Problem::Forbidden(detail) => told(403, "forbidden", "You may not do this", detail),
        Problem::Invalid(faults) => {
            let known = faults.into_iter().map(|fault| match fault.field.as_str() {
                "idempotency-key" => Fault::of_header(fault.field, fault.message),
                field => Fault::at(pointer(field), fault.message),
            });
            let errors = known.collect();
            Told { errors, ..told(422, "invalid", "Something is wrong", String::new()) }
        }
        Problem::Conflict { version, current } => Told {
            version: Some(version),
            current: Some(current),
            ..told(412, "overtaken", "Somebody else changed it meanwhile", String::new())
        },
        Problem::InUse(dependents) => {
            Told { dependents, ..told(409, "in-use", "Something hangs on it", String::new()) }
        }
        Problem::Wait(wait) => told(429, "wait", "There were too many tries", wait.to_string()),
        Problem::Foreign => {
            let help = "a change by a session needs the header x-csrf-token".to_owned();
            told(403, "foreign", "The request does not come from the console", help)
        }
        Problem::Unreadable(why) => {
            told(400, "unreadable", "The request can't be read", why.to_owned())
        }
        Problem::Broken(id) => {
            told(500, "failed", "The panel failed", format!("see its log: {id}"))
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let wait = match &self {
            Self::Problem(Problem::Wait(wait)) => Some(wait.0.as_secs().saturating_add(1)),
            _ => None,
        };
        let told = self.told();
        let status = StatusCode::from_u16(told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&told).unwrap_or_default();
        let kind = HeaderValue::from_static(PROBLEM);
        let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = wait {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_operations_is_a_pointer() {
        for (field, expected) in [
            ("name", "/name"),
            ("pools[0].disks", "/pools/0/disks"),
            ("a/b~c", "/a~1b~0c"),
            ("", ""),
        ] {
            assert_eq!(pointer(field), expected);
        }
    }
}
