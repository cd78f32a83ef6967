//! Lists: what was asked in the address, and a page of rows. Everything that a list shows can be linked to.

use std::collections::BTreeMap;

use axum::{extract::FromRequestParts, http::request::Parts};
use panel::{
    noun::{Id, Network, Stored},
    operations::{Actor, Error, Kind, Panel},
    store::{Cursor, ListQuery},
};

use crate::problem::Problem;

/// What the address asks for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    path: String,
    pairs: BTreeMap<String, String>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs: BTreeMap<String, String> = serde_urlencoded::from_str(query)
            .map_err(|_| Problem::Unreadable("the address has no question that can be read"))?;
        Ok(Self { path: parts.uri.path().to_owned(), pairs })
    }
}

impl Asked {
    /// What the address says of this.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.get(name).map(|value| value.trim()).unwrap_or_default()
    }

    /// Whether it says this of that.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    /// Whether the list is narrowed down.
    pub fn narrowed(&self) -> bool {
        let shown = ["sort", "descending", "cursor"];
        self.pairs.iter().any(|(name, value)| !shown.contains(&name.as_str()) && !value.is_empty())
    }

    /// This list with something else, from its beginning.
    pub fn with(&self, name: &str, value: &str) -> String {
        let mut pairs = self.pairs.clone();
        pairs.remove("cursor");
        pairs.insert(name.to_owned(), value.to_owned());
        self.link(pairs)
    }

    /// This list sorted by this, the other way round when it is so already.
    pub fn sorted(&self, by: &str, usual: &bool) -> String {
        let now = self.sort_of(by, usual);
        let mut pairs = self.pairs.clone();
        pairs.remove("cursor");
        pairs.insert("sort".to_owned(), by.to_owned());
        pairs.insert("descending".to_owned(), if now == "ascending" { "1" } else { "" }.to_owned());
        self.link(pairs)
    }

    /// How a column is sorted, in the words of `aria-sort`.
    pub fn sort_of(&self, by: &str, usual: &bool) -> &'static str {
        let sort = self.get("sort");
        match (sort == by || (sort.is_empty() && *usual), self.get("descending")) {
            (false, _) => "none",
            (true, "") => "ascending",
            (true, _) => "descending",
        }
    }

    fn link(&self, mut pairs: BTreeMap<String, String>) -> String {
        pairs.retain(|_, value| !value.is_empty());
        let query = serde_urlencoded::to_string(&pairs).unwrap_or_default();
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }

    /// As the store asks.
    pub fn query<T: Kind>(&self, network: Option<Id<Network>>) -> ListQuery {
        let filters = T::FILTERS.iter().map(|(name, _)| (*name, self.get(name)));
        let filters = filters.filter(|(_, value)| !value.is_empty());
        let some = |name: &str| Some(self.get(name).to_owned()).filter(|value| !value.is_empty());
        ListQuery {
            network,
            search: some("q"),
            filters: filters.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            sort: some("sort"),
            descending: !self.get("descending").is_empty(),
            cursor: some("cursor").map(Cursor::new),
            limit: None,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<Stored<T>>,
    /// The address of the next page.
    pub next: Option<String>,
    /// How many the list has in all.
    pub total: u64,
    /// What was asked for.
    pub asked: Asked,
}

/// Asks for a page.
///
/// # Errors
/// The filter, the sort or the cursor is unknown.
pub fn rows<T: Kind>(
    panel: &Panel,
    actor: Actor,
    asked: &Asked,
    network: Option<Id<Network>>,
) -> Result<Rows<T>, Error> {
    let query = asked.query::<T>(network);
    let page = panel.list::<T>(actor, &query)?;
    let total = panel.count::<T>(actor, &ListQuery { cursor: None, ..query })?;
    let next = page.next.map(|cursor| asked.with_cursor(cursor.as_str()));
    Ok(Rows { rows: page.rows, next, total, asked: asked.clone() })
}

impl Asked {
    fn with_cursor(&self, cursor: &str) -> String {
        let mut pairs = self.pairs.clone();
        pairs.insert("cursor".to_owned(), cursor.to_owned());
        self.link(pairs)
    }

    /// As [`Asked::with_cursor`], for lists that are no [`Rows`].
    pub fn next(&self, cursor: Option<&Cursor>) -> Option<String> {
        cursor.map(|cursor| self.with_cursor(cursor.as_str()))
    }
}

/// The names of all records of a noun, as far as a choice can show.
///
/// # Errors
/// The store failed.
pub fn names<T: Kind>(
    panel: &Panel,
    actor: Actor,
    network: Option<Id<Network>>,
) -> Result<Vec<String>, Error> {
    let query = ListQuery { network, limit: Some(panel::store::MOST_ROWS), ..ListQuery::default() };
    let rows = panel.list::<T>(actor, &query)?.rows;
    Ok(rows.into_iter().map(|row| row.value.name().to_owned()).collect())
}
