//! Reading what a request brought: its body, its query, the number in its path, and the version that a change was made from. Every
//! fault is told, by the place where it stands; what is not known is refused, so that a misspelt word never passes for none.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use panel::store::MOST_ROWS;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path as JsonPath, Segment};

use super::{
    describe::JSON,
    refusal::{Fault, Refusal},
};
use crate::problem::Problem;

/// A CSV file of 100,000 devices, as at the console.
pub(super) const MOST_BYTES: usize = 16 << 20;

/// A body as JSON of a type.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = bytes(request, JSON).await?;
        parse(&bytes).map(Self)
    }
}

/// A body as CSV.
#[derive(Debug)]
pub struct Csv(pub String);

/// The content type of [`Csv`].
pub const CSV: &str = "text/csv";

impl<S: Sync> FromRequest<S> for Csv {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = bytes(request, CSV).await?;
        let text = String::from_utf8(bytes.to_vec());
        let text = text.map_err(|_| Refusal::Unreadable("it is not text in UTF-8".to_owned()))?;
        Ok(Self(text.trim_start_matches('\u{feff}').to_owned()))
    }
}

async fn bytes(request: Request, wanted: &'static str) -> Result<Bytes, Refusal> {
    let kind = text(request.headers(), &header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(wanted) {
        return Err(Refusal::Type(wanted));
    }
    let body = axum::body::to_bytes(request.into_body(), MOST_BYTES).await;
    body.map_err(|_| Refusal::TooLong)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    // serde takes a list for a struct too, by the order of the fields, which nobody was told.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::Faulty(vec![Fault::at("", "give an object")]));
    }
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let cause = error.inner();
        if cause.is_data() {
            Refusal::Faulty(vec![Fault::at(pointer(error.path()), what(cause))])
        } else {
            Refusal::Unreadable(cause.to_string())
        }
    })?;
    json.end().map_err(|error| Refusal::Unreadable(error.to_string()))?;
    Ok(value)
}

/// The message without the line, which a pointer says better.
fn what(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

fn pointer(path: &JsonPath) -> String {
    let parts = path.iter().map(|segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } | Segment::Enum { variant: key } => {
            format!("/{}", key.replace('~', "~0").replace('/', "~1"))
        }
        Segment::Unknown => String::new(),
    });
    parts.collect()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The version that a change was made from. A tag that we never gave matches none.
#[derive(Debug, Clone, Copy)]
pub struct IfMatch(pub u64);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let tag = parts.headers.get(header::IF_MATCH).ok_or(Refusal::Unconditional)?;
        let tag = tag.to_str().ok().and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
        Ok(Self(tag.and_then(|tag| tag.parse().ok()).unwrap_or(u64::MAX)))
    }
}

/// The key of a request that may come again.
#[derive(Debug, Clone)]
pub struct Key(pub Option<String>);

/// What carries it (draft-ietf-httpapi-idempotency-key-header).
pub const KEY: &str = "idempotency-key";

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Some(key) = parts.headers.get(KEY) else { return Ok(Self(None)) };
        let visible = |key: &&str| {
            (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        };
        let key = key.to_str().ok().filter(visible);
        let bad =
            || Refusal::Faulty(vec![Fault::of_header(KEY, "give 1 to 255 visible characters")]);
        Ok(Self(Some(key.ok_or_else(bad)?.to_owned())))
    }
}

/// The numbers in a path, in their order.
#[derive(Debug, Clone)]
pub struct Numbers<const N: usize, T = i64>(pub [T; N]);

impl<const N: usize, T: FromStr, S: Send + Sync> FromRequestParts<S> for Numbers<N, T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let missing = || Refusal::Problem(Problem::NotFound);
        let path = RawPathParams::from_request_parts(parts, state).await.map_err(|_| missing())?;
        let numbers: Option<Vec<T>> = path.iter().map(|(_, text)| text.parse().ok()).collect();
        numbers.and_then(|numbers| numbers.try_into().ok()).map(Self).ok_or_else(missing)
    }
}

/// The query.
#[derive(Debug)]
pub struct Query {
    pairs: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let sent: Vec<(String, String)> =
            serde_urlencoded::from_str(parts.uri.query().unwrap_or_default())
                .map_err(|error| Refusal::Unreadable(error.to_string()))?;
        let mut query = Self { pairs: BTreeMap::new(), faults: Vec::new() };
        for (name, value) in sent {
            if query.pairs.insert(name.clone(), value).is_some() {
                query.fault(&name, "say this once");
            }
        }
        Ok(query)
    }
}

impl Query {
    fn fault(&mut self, name: &str, detail: impl Display) {
        self.faults.push(Fault::of_parameter(name, detail));
    }

    /// A parameter as it came.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.pairs.remove(name)
    }

    /// A parameter of a type.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        match self.text(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, error);
                None
            }
        }
    }

    /// One of the words of a type.
    pub fn word<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let word = self.text(name)?;
        match serde_json::from_value(serde_json::Value::String(word)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, error);
                None
            }
        }
    }

    /// `true` or `false`; what is not there is `false`.
    pub fn flag(&mut self, name: &str) -> bool {
        self.parsed(name).unwrap_or_default()
    }

    /// A number within bounds.
    pub fn within(&mut self, name: &str, least: i64, most: i64) -> Option<i64> {
        let number = self.parsed(name)?;
        if !(least..=most).contains(&number) {
            self.fault(name, format!("give a number from {least} to {most}"));
            return None;
        }
        Some(number)
    }

    /// How many rows a part of a list shall have.
    pub fn limit(&mut self) -> Option<usize> {
        self.within("limit", 1, MOST_ROWS as i64)?.try_into().ok()
    }

    /// Nothing was wrong, and nothing is left over.
    ///
    /// # Errors
    /// The faults.
    pub fn finish(mut self) -> Result<(), Refusal> {
        for name in std::mem::take(&mut self.pairs).into_keys() {
            self.fault(&name, "there is no such parameter");
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Refusal::Faulty(self.faults)) }
    }
}

#[cfg(test)]
mod tests {
    use panel::noun::Server;

    use super::*;

    #[test]
    fn a_value_that_does_not_fit_is_told_by_its_pointer() {
        let told = |text: &str| match parse::<Server>(text.as_bytes()) {
            Err(Refusal::Faulty(faults)) => faults[0].pointer.clone().unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(r#"{"name":"agent-1","role":"cook"}"#), "/role");
        let pool = r#"{"name":"a","role":"both","pools":[{"name":"tank","disks":[{"serial":7}]}]}"#;
        assert_eq!(told(pool), "/pools/0/disks/0/serial");
        assert_eq!(told("[]"), "");
        for bad in ["{", "", "{} {}", "\u{0}"] {
            let refused = parse::<serde_json::Value>(bad.as_bytes());
            assert!(matches!(refused, Err(Refusal::Unreadable(_))), "{bad}: {refused:?}");
        }
    }
}
