//! Channels of notices, what each was told, and the queue. Secrets come sealed.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row};

use super::{Error, Scope, Tx};
use crate::{
    alerts::Alert,
    notices::{Channel, KeptChannel, Notice, Queued},
    noun::{Id, Organization},
};

/// How many notices may wait in a channel; the eldest is given up for a new one.
const MOST_WAITING: u64 = 100;
/// How many delivered ones are kept to be looked at.
const MOST_SENT: u64 = 20;

const CHANNEL: &str = "SELECT id, version, organization_id, value, secret, dropped FROM channels";
const QUEUED: &str =
    "SELECT id, channel_id, body, made_ms, due_ms, attempts, error, sent_ms FROM notices";

fn channel(row: &Row<'_>) -> Result<KeptChannel, Error> {
    let value: String = row.get(3)?;
    Ok(KeptChannel {
        id: row.get(0)?,
        version: row.get(1)?,
        organization: Id::new(row.get(2)?),
        value: serde_json::from_str(&value).map_err(Error::Json)?,
        sealed: row.get(4)?,
        dropped: row.get(5)?,
    })
}

fn queued(row: &Row<'_>) -> Result<Queued, Error> {
    let body: String = row.get(2)?;
    Ok(Queued {
        id: row.get(0)?,
        channel: row.get(1)?,
        notice: serde_json::from_str(&body).map_err(Error::Json)?,
        made_ms: row.get(3)?,
        due_ms: row.get(4)?,
        attempts: row.get(5)?,
        error: row.get(6)?,
        sent_ms: row.get(7)?,
    })
}

fn all<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

impl Tx<'_> {
    /// The channels of a scope of organizations, by name.
    pub(crate) fn channels(self, scope: &Scope) -> Result<Vec<KeptChannel>, Error> {
        let (condition, of) = match scope {
            Scope::All => ("?1 IS NULL", None),
            Scope::Organization(id) => ("organization_id = ?1", Some(id.number())),
            Scope::Nothing | Scope::Networks(_) => ("?1 IS NOT NULL AND 0", None),
        };
        let sql = format!("{CHANNEL} WHERE {condition} ORDER BY name, id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        all(statement.query([of])?, channel)
    }

    /// A channel.
    pub(crate) fn channel(self, id: i64) -> Result<Option<KeptChannel>, Error> {
        let sql = format!("{CHANNEL} WHERE id = ?");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([id])?;
        rows.next()?.map(channel).transpose()
    }

    /// Keeps a new channel; its number.
    pub(crate) fn insert_channel(
        self,
        organization: Id<Organization>,
        value: &Channel,
    ) -> Result<i64, Error> {
        let json = serde_json::to_string(value).map_err(Error::Json)?;
        let sql = "INSERT INTO channels (organization_id, name, value) VALUES (?, ?, ?)";
        let row = (organization.number(), value.name.as_str(), json);
        self.connection.prepare_cached(sql)?.execute(row)?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Gives a channel a new value. What waits in it is tried at once: what was in the way may be mended.
    pub(crate) fn update_channel(self, id: i64, value: &Channel, now_ms: u64) -> Result<(), Error> {
        let json = serde_json::to_string(value).map_err(Error::Json)?;
        let sql = "UPDATE channels SET version = version + 1, name = ?2, value = ?3 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((id, value.name.as_str(), json))?;
        let sql = "UPDATE notices SET due_ms = ?2 WHERE channel_id = ?1 AND sent_ms IS NULL";
        self.connection.prepare_cached(sql)?.execute((id, now_ms))?;
        Ok(())
    }

    /// Keeps a channel's sealed secret, or takes it away.
    pub(crate) fn set_channel_secret(self, id: i64, sealed: Option<&[u8]>) -> Result<(), Error> {
        let sql = "UPDATE channels SET secret = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((id, sealed))?;
        Ok(())
    }

    /// Deletes a channel with all that waits in it.
    pub(crate) fn delete_channel(self, id: i64) -> Result<(), Error> {
        self.connection.prepare_cached("DELETE FROM channels WHERE id = ?")?.execute([id])?;
        Ok(())
    }

    /// What a channel was told and not told the end of.
    pub(crate) fn told(self, channel: i64) -> Result<BTreeMap<String, Alert>, Error> {
        let sql = "SELECT key, body FROM told WHERE channel_id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = all(statement.query([channel])?, |row| {
            let body: String = row.get(1)?;
            Ok((row.get(0)?, serde_json::from_str(&body).map_err(Error::Json)?))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Puts a notice in the queue, and notes what the channel knows by it.
    pub(crate) fn enqueue(self, channel: i64, notice: &Notice, now_ms: u64) -> Result<(), Error> {
        let json = serde_json::to_string(notice).map_err(Error::Json)?;
        self.connection
            .prepare_cached(
                "INSERT INTO notices (channel_id, body, made_ms, due_ms) VALUES (?1, ?2, ?3, ?3)",
            )?
            .execute((channel, json, now_ms))?;
        for alert in &notice.began {
            let body = serde_json::to_string(alert).map_err(Error::Json)?;
            self.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO told (channel_id, key, body) VALUES (?, ?, ?)",
                )?
                .execute((channel, alert.key.as_str(), body))?;
        }
        for alert in &notice.ended {
            self.connection
                .prepare_cached("DELETE FROM told WHERE channel_id = ? AND key = ?")?
                .execute((channel, alert.key.as_str()))?;
        }
        self.bound_queue(channel)
    }

    fn bound_queue(self, channel: i64) -> Result<(), Error> {
        let given_up = self
            .connection
            .prepare_cached(
                "DELETE FROM notices WHERE channel_id = ?1 AND sent_ms IS NULL AND id NOT IN (
                    SELECT id FROM notices WHERE channel_id = ?1 AND sent_ms IS NULL ORDER BY id DESC LIMIT ?2)",
            )?
            .execute((channel, MOST_WAITING))?;
        if given_up > 0 {
            let sql = "UPDATE channels SET dropped = dropped + ?2 WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute((channel, given_up))?;
        }
        self.connection
            .prepare_cached(
                "DELETE FROM notices WHERE channel_id = ?1 AND sent_ms IS NOT NULL AND id NOT IN (
                    SELECT id FROM notices WHERE channel_id = ?1 AND sent_ms IS NOT NULL ORDER BY id DESC LIMIT ?2)",
            )?
            .execute((channel, MOST_SENT))?;
        Ok(())
    }

    /// The eldest notice of each channel, where that is due: they are sent in their order.
    pub(crate) fn due_notices(self, now_ms: u64) -> Result<Vec<Queued>, Error> {
        let sql = format!(
            "{QUEUED} WHERE sent_ms IS NULL AND due_ms <= ?
             AND id IN (SELECT min(id) FROM notices WHERE sent_ms IS NULL GROUP BY channel_id) ORDER BY id"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        all(statement.query([now_ms])?, queued)
    }

    /// The notices of a channel, the newest first.
    pub(crate) fn notices_of(self, channel: i64) -> Result<Vec<Queued>, Error> {
        let most = MOST_WAITING + MOST_SENT;
        let sql = format!("{QUEUED} WHERE channel_id = ? ORDER BY id DESC LIMIT ?");
        let mut statement = self.connection.prepare_cached(&sql)?;
        all(statement.query((channel, most))?, queued)
    }

    /// Notes that a notice was delivered.
    pub(crate) fn notice_sent(self, id: i64, now_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE notices SET sent_ms = ?2, attempts = attempts + 1, error = NULL
            WHERE id = ?1 AND sent_ms IS NULL";
        self.connection.prepare_cached(sql)?.execute((id, now_ms))?;
        Ok(())
    }

    /// Notes that a notice was not delivered, and when it is tried again; how often it was tried.
    pub(crate) fn notice_failed(
        self,
        id: i64,
        error: &str,
        due_ms: impl FnOnce(u32) -> u64,
    ) -> Result<(), Error> {
        let sql = "SELECT attempts FROM notices WHERE id = ? AND sent_ms IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let tried: Option<u32> = statement.query_row([id], |row| row.get(0)).optional()?;
        let Some(tried) = tried else { return Ok(()) };
        let sql = "UPDATE notices SET attempts = ?2, error = ?3, due_ms = ?4 WHERE id = ?1";
        let attempts = tried.saturating_add(1);
        self.connection.prepare_cached(sql)?.execute((id, attempts, error, due_ms(attempts)))?;
        Ok(())
    }

    /// Gives up what was made before this moment and is not delivered.
    pub(crate) fn give_up_notices(self, before_ms: u64) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "UPDATE channels SET dropped = dropped + (SELECT count(*) FROM notices n
                    WHERE n.channel_id = channels.id AND n.sent_ms IS NULL AND n.made_ms < ?1)
                 WHERE id IN (SELECT channel_id FROM notices WHERE sent_ms IS NULL AND made_ms < ?1)",
            )?
            .execute([before_ms])?;
        let sql = "DELETE FROM notices WHERE sent_ms IS NULL AND made_ms < ?";
        self.connection.prepare_cached(sql)?.execute([before_ms])?;
        Ok(())
    }
}
