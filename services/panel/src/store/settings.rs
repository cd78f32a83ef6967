//! The panel's own settings, and when it was backed up.

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
}
