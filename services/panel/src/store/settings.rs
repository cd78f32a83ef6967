//! The panel's own settings, and when it was backed up and restored.

use super::{Error, Tx};
use crate::operations::Settings;

impl Tx<'_> {
    /// The settings, and their version.
    pub(crate) fn settings(self) -> Result<(u64, Settings), Error> {
        let sql = "SELECT version, value FROM settings";
        let mut statement = self.connection.prepare_cached(sql)?;
        let (version, value): (u64, String) =
            statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((version, serde_json::from_str(&value).map_err(Error::Json)?))
    }

    /// Keeps the settings, and raises their version.
    pub(crate) fn keep_settings(self, settings: &Settings) -> Result<(), Error> {
        let json = serde_json::to_string(settings).map_err(Error::Json)?;
        let sql = "UPDATE settings SET version = version + 1, value = ?";
        self.connection.prepare_cached(sql)?.execute([json])?;
        Ok(())
    }

    /// Notes that the panel was backed up.
    pub(crate) fn note_backup(self, now_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE settings SET backup_ms = ?";
        self.connection.prepare_cached(sql)?.execute([now_ms])?;
        Ok(())
    }

    /// Notes that the panel goes on from a backup that was made then.
    pub(crate) fn note_restored(self, made_ms: u64, now_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE settings SET restored_from_ms = ?, restored_ms = ?";
        self.connection.prepare_cached(sql)?.execute([made_ms, now_ms])?;
        Ok(())
    }

    /// From when to when the panel's past was lost, if it was restored.
    pub(crate) fn lost_past(self) -> Result<Option<(u64, u64)>, Error> {
        let sql = "SELECT restored_from_ms, restored_ms FROM settings";
        let mut statement = self.connection.prepare_cached(sql)?;
        let (from, until): (Option<u64>, Option<u64>) =
            statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(from.zip(until))
    }
}
