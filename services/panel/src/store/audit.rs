//! The audit log: who did what, before and after. Rows are only ever added; triggers refuse the rest.

use rusqlite::{Row, params_from_iter, types::Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cursor, Error, FieldError, Page, Scope, Tx};
use crate::{
    access::Verb,
    noun::{Id, Network, Noun, Organization, User},
};

/// One change that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its number; rises. 0 before it is written.
    #[serde(default)]
    pub number: i64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who; absent for the panel itself.
    pub actor_id: Option<Id<User>>,
    /// Who, by name.
    pub actor: String,
    /// What was done.
    pub verb: Verb,
    /// To a record of which kind.
    pub noun: Noun,
    /// Its number.
    pub object_id: i64,
    /// Its name then.
    pub object: String,
    /// The organization that it belonged to.
    pub organization: Option<Id<Organization>>,
    /// The network that it lived in.
    pub network: Option<Id<Network>>,
    /// Its value before.
    pub before: Option<serde_json::Value>,
    /// Its value after; or what was done about it, where that is no change of its value.
    pub after: Option<serde_json::Value>,
}

/// What of the log shall be shown, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryQuery {
    /// Only of this kind of record.
    pub noun: Option<Noun>,
    /// Only of this record; with `noun`.
    pub object_id: Option<i64>,
    /// Only what has this in the name of who did it, or of what it was done to.
    pub search: Option<String>,
    /// Where to go on.
    pub cursor: Option<Cursor>,
    /// Rows of the page, up to 200; absent means 50.
    pub limit: Option<usize>,
}

/// The entry as JSON, so that it is read through its type.
const VALUE: &str = "json_object('number', id, 'time_ms', time_ms, 'actor_id', actor_id, 'actor', actor, 'verb', verb,
    'noun', noun, 'object_id', object_id, 'object', object, 'organization', organization_id,
    'network', network_id, 'before', json(before), 'after', json(after))";

fn parse(row: &Row<'_>) -> Result<Entry, Error> {
    let json: String = row.get(0)?;
    serde_json::from_str(&json).map_err(Error::Json)
}

impl Tx<'_> {
    /// Adds an entry.
    pub(crate) fn log(self, entry: &Entry) -> Result<(), Error> {
        let json = serde_json::to_string(entry).map_err(Error::Json)?;
        self.connection
            .prepare_cached(
                "INSERT INTO audit (time_ms, actor_id, actor, verb, noun, object_id, object, organization_id,
                    network_id, before, after)
                 VALUES (?1 ->> 'time_ms', ?1 ->> 'actor_id', ?1 ->> 'actor', ?1 ->> 'verb', ?1 ->> 'noun',
                    ?1 ->> 'object_id', ?1 ->> 'object', ?1 ->> 'organization', ?1 ->> 'network',
                    ?1 ->> 'before', ?1 ->> 'after')",
            )?
            .execute([json])?;
        Ok(())
    }

    /// A page of the log.
    pub(crate) fn entries(self, scope: &Scope, query: &EntryQuery) -> Result<Page<Entry>, Error> {
        let mut sql = vec!["1".to_owned()];
        let mut values: Vec<Value> = Vec::new();
        match scope {
            Scope::All => {}
            Scope::Nothing => sql.push("0".to_owned()),
            Scope::Organization(id) => {
                sql.push("organization_id = ?".to_owned());
                values.push(id.number().into());
            }
            Scope::Networks(ids) => {
                sql.push(format!("network_id IN ({})", vec!["?"; ids.len()].join(", ")));
                values.extend(ids.iter().map(|id| Value::from(id.number())));
            }
        }
        if let Some(noun) = query.noun {
            sql.push("noun = ?".to_owned());
            values.push(noun.word().to_owned().into());
        }
        if let Some(id) = query.object_id {
            sql.push("object_id = ?".to_owned());
            values.push(id.into());
        }
        if let Some(text) = &query.search {
            sql.push("(instr(lower(actor), ?) OR instr(lower(object), ?))".to_owned());
            values.extend([text.to_lowercase().into(), text.to_lowercase().into()]);
        }
        if let Some(cursor) = &query.cursor {
            let last: i64 = cursor.as_str().parse().map_err(|_| {
                Error::Field(FieldError::new("cursor", "this is no cursor: begin anew"))
            })?;
            sql.push("id < ?".to_owned());
            values.push(last.into());
        }
        let limit = query.limit.unwrap_or(50).clamp(1, 200);
        let sql = format!(
            "SELECT {VALUE} FROM audit WHERE {} ORDER BY id DESC LIMIT {}",
            sql.join(" AND "),
            limit + 1
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query(params_from_iter(values))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push(parse(row)?);
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more);
        let next = last.map(|entry| Cursor::new(entry.number.to_string()));
        Ok(Page { rows, next })
    }
}
