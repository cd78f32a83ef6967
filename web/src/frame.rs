//! What every page stands in: who is signed in, the theme, where the page is. Handlers take a [`Frame`] or a [`Seat`] out of the
//! request; the guard put them there.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use panel::{
    access::{Standing, Standings, Verb},
    noun::{Id, Network, Noun, Organization, Place},
    operations::{Actor, AlertCount},
};

use crate::problem::Problem;

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct Seat {
    /// As the operations know them.
    pub actor: Actor,
    /// The number of their session.
    pub session: i64,
    /// What they are.
    pub who: Arc<Standings>,
    /// What their forms carry to be known as ours.
    pub csrf: String,
    /// How much they have to look after.
    pub alerts: AlertCount,
}

/// Light, dark, or as the browser wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// As the browser wants it.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// The word of its cookie.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Self {
        match word {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }
}

/// What a page stands in.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Who is signed in.
    pub seat: Option<Seat>,
    /// Light or dark.
    pub theme: Theme,
    /// The path and query of this page.
    pub path: String,
    /// The host that the browser asked for, with its port.
    pub host: String,
    /// Only the part of the page that htmx asks for is to be sent.
    pub part: bool,
}

impl Frame {
    /// The token for forms; empty for somebody who is not signed in, whose forms need none.
    pub fn csrf(&self) -> &str {
        self.seat.as_ref().map(|seat| seat.csrf.as_str()).unwrap_or_default()
    }

    /// The name of who is signed in.
    pub fn name(&self) -> &str {
        self.seat.as_ref().map(|seat| seat.who.name.as_str()).unwrap_or_default()
    }

    /// Whether this page lies below a path: the entry of the navigation that is marked.
    pub fn at(&self, path: &str) -> bool {
        let own = self.path.split('?').next().unwrap_or_default();
        own == path || own.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether this page is of a network, or of something in one.
    pub fn in_networks(&self) -> bool {
        let inside =
            ["networks", "subnets", "servers", "volumes", "groups", "vdisks", "menus", "devices"];
        let first = self.path.split(['/', '?']).nth(1).unwrap_or_default();
        inside.contains(&first)
    }

    /// Whether who is signed in is a superadmin.
    pub fn superadmin(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.who.is_superadmin())
    }

    /// Whether who is signed in looks after an organization, or all.
    pub fn people(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.who.standing >= Standing::OrganizationAdmin)
    }

    /// Whether who is signed in may read the log of anything.
    pub fn audit(&self) -> bool {
        let admin = |seat: &Seat| {
            seat.who.roles.iter().any(|(_, role)| *role == panel::access::Role::Admin)
        };
        self.people() || self.seat.as_ref().is_some_and(admin)
    }

    /// Whether a page shall offer this. The operations decide; `place` is one that the person sees.
    pub fn may(&self, verb: Verb, noun: Noun, place: Place) -> bool {
        let Some(Seat { who, .. }) = &self.seat else { return false };
        who.may(verb, noun, place, who.organization)
    }

    /// As [`Frame::may`], in a network.
    pub fn may_in(&self, verb: Verb, noun: Noun, network: Id<Network>) -> bool {
        self.may(verb, noun, network.place())
    }

    /// Where who is signed in belongs.
    pub fn home(&self) -> Option<Id<Organization>> {
        self.seat.as_ref()?.who.organization
    }
}

impl<S: Sync> FromRequestParts<S> for Frame {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl<S: Sync> FromRequestParts<S> for Seat {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Frame>()
            .and_then(|frame| frame.seat.clone())
            .ok_or(Problem::SignedOut)
    }
}

/// A page as an answer.
///
/// # Errors
/// The template failed.
pub fn page(status: StatusCode, template: &impl Template) -> Result<Response, Problem> {
    let html = template.render()?;
    let html_type = HeaderValue::from_static("text/html; charset=utf-8");
    Ok((status, [(header::CONTENT_TYPE, html_type)], html).into_response())
}

/// A page, or the part of it that htmx asked for.
///
/// # Errors
/// The template failed.
pub fn page_or_part(
    frame: &Frame,
    whole: &impl Template,
    part: &impl Template,
) -> Result<Response, Problem> {
    if frame.part { page(StatusCode::OK, part) } else { page(StatusCode::OK, whole) }
}

/// To another page, after a change: `303 See Other`.
pub fn go(path: impl AsRef<str>) -> Response {
    let path = HeaderValue::from_str(path.as_ref());
    let path = path.unwrap_or_else(|_| HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

/// A file to keep.
pub fn download(name: &str, kind: &'static str, bytes: impl Into<axum::body::Body>) -> Response {
    let safe: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    let attachment = HeaderValue::from_str(&format!("attachment; filename=\"{safe}\""));
    let attachment = attachment.unwrap_or_else(|_| HeaderValue::from_static("attachment"));
    let kind: (HeaderName, _) = (header::CONTENT_TYPE, HeaderValue::from_static(kind));
    ([kind, (header::CONTENT_DISPOSITION, attachment)], bytes.into()).into_response()
}
