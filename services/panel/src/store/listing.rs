//! Lists: filtered, sorted and paged in SQL. A page begins behind the last row of the one before it (keyset), so it costs the same
//! however far into the list it is, and rows that come and go meanwhile neither repeat nor hide others.

use rusqlite::{ToSql, params_from_iter, types::Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Error, FieldError, Owner, Record, Tx,
    record::{columns, parse},
};
use crate::noun::{Id, Network, Organization, Stored};

/// The most rows of a page.
pub const MOST_ROWS: usize = 200;

/// What a list shall show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only what lives in this network.
    pub network: Option<Id<Network>>,
    /// Only what has this in its name, or in what else a noun is searched by.
    pub search: Option<String>,
    /// Filters by name; see the noun's [`Record::FILTERS`].
    pub filters: Vec<(String, String)>,
    /// What to sort by; see the noun's [`Record::SORTS`].
    pub sort: Option<String>,
    /// Last first.
    pub descending: bool,
    /// Where to go on.
    pub cursor: Option<Cursor>,
    /// Rows of the page, up to [`MOST_ROWS`]; absent means 50.
    pub limit: Option<usize>,
}

/// Where a list goes on: opaque to everybody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Cursor(String);

impl Cursor {
    /// A cursor as it came back; whether it is one shows when it is used.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What to send back for the next page.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a cursor says: the sort it belongs to, and the last row.
#[derive(Serialize, Deserialize)]
struct Mark(String, bool, Key, i64);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Number(i64),
    Text(String),
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; absent at the end.
    pub next: Option<Cursor>,
}

/// What of a list somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Nothing.
    Nothing,
    /// All.
    All,
    /// What lives in an organization or its networks.
    Organization(Id<Organization>),
    /// What lives in these networks.
    Networks(Vec<Id<Network>>),
}

/// Conditions and their values.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, sql: impl Into<String>, values: impl IntoIterator<Item = Value>) {
        self.sql.push(sql.into());
        self.values.extend(values);
    }

    /// The `+` keeps SQLite from walking the column's index and sorting what it finds: the list's order has an index of its own,
    /// and a page is full long before its end.
    fn scope(&mut self, owner: Owner, scope: &Scope) {
        match (scope, owner) {
            (Scope::All, _) => {}
            (Scope::Nothing, _)
            | (_, Owner::Panel)
            | (Scope::Networks(_), Owner::Organization(_)) => {
                self.add("0", []);
            }
            (Scope::Organization(id), Owner::Organization(column)) => {
                self.add(format!("{column} = ?"), [id.number().into()]);
            }
            (Scope::Organization(id), Owner::Network(column)) => self.add(
                format!("+{column} IN (SELECT id FROM networks WHERE organization_id = ?)"),
                [id.number().into()],
            ),
            (Scope::Networks(ids), Owner::Network(column)) => {
                let marks = vec!["?"; ids.len()].join(", ");
                let values = ids.iter().map(|id| id.number().into());
                // One network has an index in the list's order.
                let plus = if ids.len() == 1 { "" } else { "+" };
                self.add(format!("{plus}{column} IN ({marks})"), values);
            }
        }
    }

    fn filters<T: Record>(&mut self, query: &ListQuery) -> Result<(), Error> {
        if let Some(network) = query.network {
            match T::OWNER {
                Owner::Network(column) => {
                    self.add(format!("{column} = ?"), [network.number().into()]);
                }
                Owner::Panel | Owner::Organization(_) => {
                    return Err(fault("network", "these do not live in a network"));
                }
            }
        }
        for (name, value) in &query.filters {
            let (_, sql) = T::FILTERS
                .iter()
                .find(|(known, _)| known == name)
                .ok_or_else(|| fault(name, "there is no such filter"))?;
            self.add(*sql, [value.clone().into()]);
        }
        if let Some(text) = query.search.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            let text = Value::from(text.to_lowercase());
            let marks = T::SEARCH.matches('?').count();
            self.add(format!("({})", T::SEARCH), std::iter::repeat_n(text, marks));
        }
        Ok(())
    }

    fn sql(&self) -> String {
        if self.sql.is_empty() { "1".to_owned() } else { self.sql.join(" AND ") }
    }

    fn values(&self) -> impl Iterator<Item = &dyn ToSql> {
        self.values.iter().map(|value| value as &dyn ToSql)
    }
}

/// The condition that holds for what lies in a scope, and its values.
pub(super) fn scope_condition(owner: Owner, scope: &Scope) -> (String, Vec<Value>) {
    let mut conditions = Conditions::default();
    conditions.scope(owner, scope);
    (conditions.sql(), conditions.values)
}

fn fault(field: &str, message: &str) -> Error {
    Error::Field(FieldError::new(field, message))
}

impl Tx<'_> {
    /// A page of a list.
    pub(crate) fn page<T: Record>(
        self,
        scope: &Scope,
        query: &ListQuery,
    ) -> Result<Page<Stored<T>>, Error> {
        let wanted = query.sort.as_deref();
        let (sort, column) = T::SORTS
            .iter()
            .find(|(name, _)| wanted.is_none_or(|wanted| wanted == *name))
            .ok_or_else(|| fault("sort", "these can't be sorted by this"))?;
        let mut conditions = Conditions::default();
        conditions.scope(T::OWNER, scope);
        conditions.filters::<T>(query)?;
        let (order, beyond) = if query.descending { ("DESC", "<") } else { ("ASC", ">") };
        if let Some(cursor) = &query.cursor {
            let bad = || fault("cursor", "this cursor belongs to another list: begin anew");
            let mark: Option<Mark> =
                hex::decode(&cursor.0).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let Some(Mark(of, descending, key, id)) = mark else { return Err(bad()) };
            if of != *sort || descending != query.descending {
                return Err(bad());
            }
            let key = match key {
                Key::Number(number) => Value::from(number),
                Key::Text(text) => Value::from(text),
            };
            conditions.add(format!("({column}, t.id) {beyond} (?, ?)"), [key, id.into()]);
        }
        let limit = query.limit.unwrap_or(50).clamp(1, MOST_ROWS);
        let sql = format!(
            "SELECT {}, {column} FROM {} t WHERE {} ORDER BY {column} {order}, t.id {order} LIMIT {}",
            columns::<T>(),
            T::TABLE,
            conditions.sql(),
            limit + 1,
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(conditions.values()))?;
        let mut page = Page { rows: Vec::new(), next: None };
        let mut last = None;
        while let Some(row) = rows.next()? {
            if page.rows.len() == limit {
                page.next = last;
                break;
            }
            let stored: Stored<T> = parse(row)?;
            if page.rows.len() + 1 == limit {
                let key = match row.get(4)? {
                    Value::Integer(number) => Key::Number(number),
                    Value::Text(text) => Key::Text(text),
                    Value::Null | Value::Real(_) | Value::Blob(_) => Key::Number(0),
                };
                let mark = Mark((*sort).to_owned(), query.descending, key, stored.id.number());
                last = Some(Cursor(hex::encode(serde_json::to_vec(&mark).map_err(Error::Json)?)));
            }
            page.rows.push(stored);
        }
        Ok(page)
    }

    /// How many rows a list has in all.
    pub(crate) fn count<T: Record>(self, scope: &Scope, query: &ListQuery) -> Result<u64, Error> {
        let mut conditions = Conditions::default();
        conditions.scope(T::OWNER, scope);
        conditions.filters::<T>(query)?;
        let sql = format!("SELECT count(*) FROM {} t WHERE {}", T::TABLE, conditions.sql());
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row(params_from_iter(conditions.values()), |row| row.get(0))?)
    }
}
