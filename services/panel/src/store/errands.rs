//! What is under way: codes by which a server may join, and jobs, which outlive a restart.

use rusqlite::Row;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Digest, Error, Tx};
use crate::noun::{Id, Network, Server};

/// A code by which one server may join a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct JoinCode {
    /// Its number.
    pub id: i64,
    /// The network.
    pub network: Id<Network>,
    /// The server whose place it takes; absent makes a new one.
    pub server: Option<Id<Server>>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends.
    pub expires_ms: u64,
    /// When it was used.
    pub used_ms: Option<u64>,
    /// Whether a person confirms the server before it gets its certificates.
    pub confirm: bool,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It runs, or goes on after a restart.
    Running,
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// A long operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// The network it is about.
    pub network: Option<Id<Network>>,
    /// The server it is about.
    pub server: Option<Id<Server>>,
    /// Who asked for it.
    pub asked_by: String,
    /// What it does, as its worker knows it.
    pub kind: String,
    /// Where it stands.
    pub state: JobState,
    /// What it is at, or why it failed, in words.
    pub detail: String,
    /// How much is done.
    pub done: u64,
    /// Of how much, when that is known.
    pub total: Option<u64>,
    /// When it was asked for, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
}

const JOB: &str = "json_object('id', id, 'network', network_id, 'server', server_id, 'asked_by', asked_by,
    'kind', kind, 'state', state, 'detail', detail, 'done', done, 'total', total, 'created_ms', created_ms,
    'ended_ms', ended_ms)";

fn job(row: &Row<'_>) -> Result<Job, Error> {
    let json: String = row.get(0)?;
    serde_json::from_str(&json).map_err(Error::Json)
}

pub(super) fn join_code(row: &Row<'_>) -> Result<JoinCode, rusqlite::Error> {
    Ok(JoinCode {
        id: row.get(0)?,
        network: Id::new(row.get(1)?),
        server: row.get::<_, Option<i64>>(2)?.map(Id::new),
        created_ms: row.get(3)?,
        expires_ms: row.get(4)?,
        used_ms: row.get(5)?,
        confirm: row.get(6)?,
    })
}

pub(super) const JOIN_CODE: &str =
    "SELECT id, network_id, server_id, created_ms, expires_ms, used_ms, confirm FROM join_codes";

impl Tx<'_> {
    /// Keeps a join code; its number.
    pub(crate) fn insert_join_code(self, code: &JoinCode, digest: Digest) -> Result<i64, Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO join_codes (network_id, server_id, code_hash, created_ms, expires_ms, confirm)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute((
                code.network.number(),
                code.server.map(Id::number),
                digest.0,
                code.created_ms,
                code.expires_ms,
                code.confirm,
            ))?;
        Ok(self.connection.last_insert_rowid())
    }

    /// The join codes of a network, the newest first.
    pub(crate) fn join_codes(self, network: Id<Network>) -> Result<Vec<JoinCode>, Error> {
        let sql = format!("{JOIN_CODE} WHERE network_id = ? ORDER BY id DESC");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([network.number()], join_code)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Deletes a join code of a network; false when there is none.
    pub(crate) fn delete_join_code(self, network: Id<Network>, id: i64) -> Result<bool, Error> {
        let sql = "DELETE FROM join_codes WHERE network_id = ? AND id = ?";
        Ok(self.connection.prepare_cached(sql)?.execute((network.number(), id))? == 1)
    }

    /// Begins a job; its number.
    pub(crate) fn insert_job(self, job: &Job) -> Result<i64, Error> {
        let json = serde_json::to_string(job).map_err(Error::Json)?;
        self.connection
            .prepare_cached(
                "INSERT INTO jobs (network_id, server_id, asked_by, kind, state, detail, done, total, created_ms)
                 VALUES (?1 ->> 'network', ?1 ->> 'server', ?1 ->> 'asked_by', ?1 ->> 'kind', ?1 ->> 'state',
                    ?1 ->> 'detail', ?1 ->> 'done', ?1 ->> 'total', ?1 ->> 'created_ms')",
            )?
            .execute([json])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Notes where a job stands; false when it has ended, which nothing changes any more.
    pub(crate) fn update_job(self, job: &Job) -> Result<bool, Error> {
        let json = serde_json::to_string(job).map_err(Error::Json)?;
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE jobs SET version = version + 1, state = ?1 ->> 'state', detail = ?1 ->> 'detail',
                    done = ?1 ->> 'done', total = ?1 ->> 'total', ended_ms = ?1 ->> 'ended_ms'
                 WHERE id = ?1 ->> 'id' AND ended_ms IS NULL",
            )?
            .execute([json])?;
        Ok(changed == 1)
    }

    /// A job.
    pub(crate) fn job(self, id: i64) -> Result<Option<Job>, Error> {
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {JOB} FROM jobs WHERE id = ?"))?;
        let mut rows = statement.query([id])?;
        rows.next()?.map(job).transpose()
    }

    /// The newest jobs, of a network or of all; those that run first.
    pub(crate) fn jobs(self, network: Option<Id<Network>>, most: usize) -> Result<Vec<Job>, Error> {
        let sql = format!(
            "SELECT {JOB} FROM jobs WHERE ?1 IS NULL OR network_id = ?1
             ORDER BY ended_ms IS NOT NULL, id DESC LIMIT ?2"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query((network.map(Id::number), most))?;
        let mut jobs = Vec::new();
        while let Some(row) = rows.next()? {
            jobs.push(job(row)?);
        }
        Ok(jobs)
    }
}
