//! How servers were last known: when they answered, what is in the way, and the short of what they showed.

use super::{Error, Tx};
use crate::{
    alerts::Refusal,
    noun::{Id, Server},
    sighting::Sighting,
};

/// How exactly it is kept when a server answered last: not every answer is worth a write to the disk.
pub(crate) const SEEN_EVERY_MS: u64 = 30_000;

/// What the link to the fleet knows of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contact {
    /// When it answered last, in milliseconds since 1970.
    pub(crate) seen_ms: Option<u64>,
    /// How far its clock is ahead, where that was told.
    pub(crate) clock_ms: Option<i64>,
    /// Why there is no connection; absent while there is one.
    pub(crate) error: Option<String>,
    /// The document that it refused.
    pub(crate) refused: Option<Refusal>,
}

impl Tx<'_> {
    /// Keeps what is known of a server, where that says more than what is kept. A refusal stays until another comes: whether it
    /// still holds, what the server took tells.
    pub(crate) fn keep_contact(self, server: Id<Server>, contact: &Contact) -> Result<bool, Error> {
        let Contact { seen_ms, clock_ms, error, refused } = contact;
        let refused = refused.as_ref().map(serde_json::to_string).transpose();
        let refused = refused.map_err(Error::Json)?;
        let changed = self
            .connection
            .prepare_cached(
                "INSERT INTO contacts (server_id, seen_ms, clock_ms, error, refused) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (server_id) DO UPDATE SET seen_ms = coalesce(?2, seen_ms), clock_ms = coalesce(?3, clock_ms),
                    error = ?4, refused = coalesce(?5, refused)
                 WHERE ?2 > coalesce(seen_ms, 0) + ?6 OR error IS NOT ?4 OR refused IS NOT coalesce(?5, refused)
                    OR abs(coalesce(?3, 0) - coalesce(clock_ms, 0)) > ?6",
            )?
            .execute((server.number(), seen_ms, clock_ms, error, refused, SEEN_EVERY_MS))?;
        Ok(changed > 0)
    }

    /// Keeps the short of what a server showed, which it did now.
    pub(crate) fn keep_sighting(
        self,
        server: Id<Server>,
        sighting: &Sighting,
        now_ms: u64,
    ) -> Result<(), Error> {
        let json = serde_json::to_string(sighting).map_err(Error::Json)?;
        self.connection
            .prepare_cached(
                "INSERT INTO contacts (server_id, seen_ms, sighting) SELECT id, ?2, ?3 FROM servers WHERE id = ?1
                 ON CONFLICT (server_id) DO UPDATE SET seen_ms = ?2, sighting = ?3",
            )?
            .execute((server.number(), now_ms, json))?;
        Ok(())
    }

    /// Forgets all of a server: another box stands in its place.
    pub(crate) fn forget_contact(self, server: Id<Server>) -> Result<(), Error> {
        let sql = "DELETE FROM contacts WHERE server_id = ?";
        self.connection.prepare_cached(sql)?.execute([server.number()])?;
        Ok(())
    }
}

/// The short of what a server showed, as far as this version can read what was kept.
pub(crate) fn sighting(text: Option<String>) -> Sighting {
    let text = text.unwrap_or_else(|| "{}".to_owned());
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, "what was kept of a server can't be read; it shows itself again soon");
        Sighting::default()
    })
}
