//! Documents: what each server was told last, and what it said to that.

use model::{name::Mark, wire::Status};
use rusqlite::OptionalExtension;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Error, Owner, Scope, Tx, listing::scope_condition};
use crate::{
    fleet::State,
    noun::{Id, Network, Noun, Server},
};

/// A server's document, as it was told last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// Its generation number.
    pub generation: u64,
    /// The document as JSON, byte for byte as it is sent.
    pub body: String,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// The generation that the server took last; 0 before the first.
    pub acknowledged: u64,
    /// The generation that the server was last seen to be converged to; 0 before the first.
    pub applied: u64,
    /// What the server showed last; absent too when this panel can't read it.
    pub status: Option<Status>,
    /// When it showed that.
    pub status_ms: Option<u64>,
}

/// How a server is, in short: what lists and the dashboard show without reading all that it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Health {
    /// The server.
    pub server: Id<Server>,
    /// Its name.
    pub name: String,
    /// The network it stands in.
    pub network: Id<Network>,
    /// The generation of its document; 0 before the first.
    pub generation: u64,
    /// The generation that it was last seen to be converged to; 0 before the first.
    pub applied: u64,
    /// When it answered last, in milliseconds since 1970; absent when it never did.
    pub seen_ms: Option<u64>,
    /// How the connection to it stands; absent for one that never joined, and while the link does not run.
    pub connection: Option<State>,
    /// How many of its resources failed then.
    pub failures: u64,
    /// How many of its resources waited for something then.
    pub waiting: u64,
    /// How many of its pools were not sound then.
    pub unsound_pools: u64,
    /// How many sessions its targets had then.
    pub sessions: u64,
}

impl Tx<'_> {
    /// How servers are, by name.
    pub(crate) fn health(
        self,
        scope: &Scope,
        network: Option<Id<Network>>,
    ) -> Result<Vec<Health>, Error> {
        let (condition, values) = scope_condition(Owner::Network("t.network_id"), scope);
        // What is taken out of the JSON is what [`Sighting`](crate::sighting::Sighting) has; a field that is not there counts as 0.
        let sql = format!(
            "SELECT t.id, t.name, t.network_id, coalesce(d.generation, 0), coalesce(d.applied, 0),
                nullif(max(coalesce(c.seen_ms, 0), coalesce(d.status_ms, 0)), 0),
                coalesce(c.sighting ->> 'failed', 0), coalesce(c.sighting ->> 'waiting', 0),
                (SELECT count(*) FROM json_each(c.sighting, '$.pools') WHERE value ->> 'health' <> 'ONLINE'),
                coalesce(c.sighting ->> 'sessions', 0)
             FROM servers t LEFT JOIN documents d ON d.server_id = t.id LEFT JOIN contacts c ON c.server_id = t.id
             WHERE {condition} AND (?{last} IS NULL OR t.network_id = ?{last}) ORDER BY t.name, t.id",
            last = values.len() + 1,
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let values = values.into_iter().chain([network.map(Id::number).into()]);
        let rows = statement.query_map(rusqlite::params_from_iter(values), |row| {
            Ok(Health {
                server: Id::new(row.get(0)?),
                name: row.get(1)?,
                network: Id::new(row.get(2)?),
                generation: row.get(3)?,
                applied: row.get(4)?,
                seen_ms: row.get(5)?,
                connection: None,
                failures: row.get(6)?,
                waiting: row.get(7)?,
                unsound_pools: row.get(8)?,
                sessions: row.get(9)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes when a server answered last, where it showed itself before.
    pub(crate) fn keep_sight(self, server: Id<Server>, seen_ms: u64) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "UPDATE documents SET status_ms = ?2 WHERE server_id = ?1 AND status_ms < ?2",
            )?
            .execute((server.number(), seen_ms))?;
        Ok(())
    }

    /// The servers of a scope, in one network or all.
    pub(crate) fn servers_of(
        self,
        scope: &Scope,
        network: Option<Id<Network>>,
    ) -> Result<Vec<Id<Server>>, Error> {
        let (condition, values) = scope_condition(Owner::Network("t.network_id"), scope);
        let sql = format!(
            "SELECT t.id FROM servers t
             WHERE {condition} AND (?{last} IS NULL OR t.network_id = ?{last}) ORDER BY t.id",
            last = values.len() + 1,
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let values = values.into_iter().chain([network.map(Id::number).into()]);
        let ids = statement
            .query_map(rusqlite::params_from_iter(values), |row| row.get(0).map(Id::new))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Notes that the documents of a network's servers may have changed. Rendering them says whether they have.
    pub(crate) fn mark_stale(self, network: Id<Network>) -> Result<(), Error> {
        self.connection
            .prepare_cached("UPDATE servers SET stale = 1 WHERE network_id = ? AND stale = 0")?
            .execute([network.number()])?;
        Ok(())
    }

    /// Notes that the document of this server alone may have changed.
    pub(crate) fn mark_server_stale(self, server: Id<Server>) -> Result<(), Error> {
        self.connection
            .prepare_cached("UPDATE servers SET stale = 1 WHERE id = ? AND stale = 0")?
            .execute([server.number()])?;
        Ok(())
    }

    /// Notes that the documents of all servers may have changed.
    pub(crate) fn mark_all_stale(self) -> Result<(), Error> {
        self.connection
            .prepare_cached("UPDATE servers SET stale = 1 WHERE stale = 0")?
            .execute([])?;
        Ok(())
    }

    /// Notes that this server's document is up to date.
    pub(crate) fn mark_fresh(self, server: Id<Server>) -> Result<(), Error> {
        self.connection
            .prepare_cached("UPDATE servers SET stale = 0 WHERE id = ?")?
            .execute([server.number()])?;
        Ok(())
    }

    /// Servers whose document may have changed.
    pub(crate) fn stale_servers(self) -> Result<Vec<Id<Server>>, Error> {
        let mut statement =
            self.connection.prepare_cached("SELECT id FROM servers WHERE stale = 1 ORDER BY id")?;
        let ids = statement.query_map([], |row| row.get(0).map(Id::new))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// A server's document; absent before the first.
    pub(crate) fn document(self, server: Id<Server>) -> Result<Option<Document>, Error> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT generation, body, made_ms, acknowledged, applied, status_ms, status
                 FROM documents WHERE server_id = ?",
            )?
            .query_row([server.number()], |row| {
                let document = Document {
                    generation: row.get(0)?,
                    body: row.get(1)?,
                    made_ms: row.get(2)?,
                    acknowledged: row.get(3)?,
                    applied: row.get(4)?,
                    status: None,
                    status_ms: row.get(5)?,
                };
                Ok((document, row.get::<_, Option<String>>(6)?))
            })
            .optional()?;
        let Some((mut document, status)) = found else { return Ok(None) };
        // A panel of another version may have kept it. The server shows it again soon.
        let parse = |text: String| {
            serde_json::from_str(&text)
                .inspect_err(|error| tracing::warn!(%server, %error, "the status that is kept can't be read"))
                .ok()
        };
        document.status = status.and_then(parse);
        Ok(Some(document))
    }

    /// A server's document as it is sent, and its number; absent before the first.
    pub(crate) fn body(self, server: Id<Server>) -> Result<Option<(u64, String)>, Error> {
        let sql = "SELECT generation, body FROM documents WHERE server_id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(statement.query_row([server.number()], row).optional()?)
    }

    /// Forgets what the document of this number says, so that the next one has a higher number; false when there is another.
    pub(crate) fn forget_body(self, server: Id<Server>, generation: u64) -> Result<bool, Error> {
        let sql = "UPDATE documents SET body = '' WHERE server_id = ? AND generation = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute((server.number(), generation))? == 1)
    }

    /// Keeps a new document.
    pub(crate) fn keep_document(
        self,
        server: Id<Server>,
        generation: u64,
        body: &str,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO documents (server_id, generation, body, made_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (server_id) DO UPDATE SET generation = ?2, body = ?3, made_ms = ?4",
            )?
            .execute((server.number(), generation, body, now_ms))?;
        Ok(())
    }

    /// Keeps what a server showed of itself; false when it has no document yet. A number that we never gave says nothing of ours.
    pub(crate) fn keep_status(
        self,
        server: Id<Server>,
        status: &Status,
        now_ms: u64,
    ) -> Result<bool, Error> {
        let json = serde_json::to_string(status).map_err(Error::Json)?;
        let kept = self
            .connection
            .prepare_cached(
                "UPDATE documents SET status = ?2, status_ms = ?3,
                    acknowledged = iif(?4 <= generation, max(acknowledged, ?4), acknowledged),
                    applied = iif(?5 AND ?4 <= generation, max(applied, ?4), applied) WHERE server_id = ?1",
            )?
            .execute((server.number(), json, now_ms, status.generation, status.converged))?;
        Ok(kept == 1)
    }

    /// What may be destroyed on a server.
    pub(crate) fn destroys(self, server: Id<Server>) -> Result<Vec<Mark>, Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT mark FROM destroys WHERE server_id = ? ORDER BY mark")?;
        let mut rows = statement.query([server.number()])?;
        let mut marks = Vec::new();
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            let mark = serde_json::from_value(serde_json::Value::String(text));
            marks.push(mark.map_err(|source| Error::Damaged {
                noun: Noun::Server,
                id: server.number(),
                source,
            })?);
        }
        Ok(marks)
    }

    /// Allows this mark to be destroyed on every server of a network.
    pub(crate) fn allow_destroy(self, network: Id<Network>, mark: &Mark) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO destroys (server_id, mark) SELECT id, ?2 FROM servers WHERE network_id = ?1",
            )?
            .execute((network.number(), mark.to_string()))?;
        Ok(())
    }

    /// Takes that back, for what has this mark is wanted again.
    pub(crate) fn forbid_destroy(self, network: Id<Network>, mark: &Mark) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "DELETE FROM destroys WHERE mark = ?2 AND server_id IN (SELECT id FROM servers WHERE network_id = ?1)",
            )?
            .execute((network.number(), mark.to_string()))?;
        Ok(())
    }

    /// Takes all of that back, on every server.
    pub(crate) fn forget_destroys(self) -> Result<(), Error> {
        self.connection.prepare_cached("DELETE FROM destroys")?.execute([])?;
        Ok(())
    }

    /// Forgets the mark of what a server showed to be gone.
    pub(crate) fn forget_destroy(self, server: Id<Server>, mark: &Mark) -> Result<bool, Error> {
        let gone = self
            .connection
            .prepare_cached("DELETE FROM destroys WHERE server_id = ? AND mark = ?")?
            .execute((server.number(), mark.to_string()))?;
        Ok(gone == 1)
    }
}
