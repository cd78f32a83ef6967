//! What requests made that carry a key of their own. How long that is kept, and how much of it, is for the operation to say.

use rusqlite::OptionalExtension;

use super::{Digest, Error, Tx};
use crate::noun::{Id, User};

impl Tx<'_> {
    /// What a user asked for with this key, and what they were answered.
    pub(crate) fn creation(
        self,
        user: Id<User>,
        key: &str,
    ) -> Result<Option<(Digest, String)>, Error> {
        let sql = "SELECT request_hash, answer FROM creations WHERE user_id = ? AND key = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = |row: &rusqlite::Row<'_>| Ok((Digest(row.get(0)?), row.get(1)?));
        Ok(statement.query_row((user.number(), key), row).optional()?)
    }

    /// Keeps what a user asked for with this key, and what they were answered.
    pub(crate) fn keep_creation(
        self,
        user: Id<User>,
        key: &str,
        request: Digest,
        answer: &str,
        now_ms: u64,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO creations (user_id, key, request_hash, answer, made_ms) VALUES (?, ?, ?, ?, ?)";
        let values = (user.number(), key, request.0, answer, now_ms);
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Forgets what was made up to a moment, and of a user all but the newest.
    pub(crate) fn forget_creations(
        self,
        user: Id<User>,
        until_ms: u64,
        newest: usize,
    ) -> Result<(), Error> {
        let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
            self.connection.prepare_cached(sql)?.execute(values).map(drop)
        };
        run("DELETE FROM creations WHERE made_ms <= ?", &[&until_ms])?;
        let sql = "DELETE FROM creations WHERE user_id = ?1 AND id NOT IN
            (SELECT id FROM creations WHERE user_id = ?1 ORDER BY id DESC LIMIT ?2)";
        run(sql, &[&user.number(), &newest])?;
        Ok(())
    }
}
