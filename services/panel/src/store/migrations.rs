//! The schema's versions, each a file that brings the one before it forward. A file that was released is never edited.

use rusqlite::Connection;

use super::Error;

/// What brings schema N to N + 1.
pub(super) const MIGRATIONS: [&str; 7] = [
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
    include_str!("migrations/0007.sql"),
];

/// Brings the schema up to date; each version in a transaction of its own, so that a power cut leaves a whole one.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    // Foreign keys can't be switched inside a transaction, and rebuilding a table needs them off
    // (https://sqlite.org/lang_altertable.html#otheralter); the check below makes up for it.
    connection.pragma_update(None, "foreign_keys", false).map_err(Error::Sqlite)?;
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(Error::Sqlite)?;
    let known = MIGRATIONS.len();
    if found > known {
        return Err(Error::Newer { found, known });
    }
    for (from, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let forward = |source| Error::Migrate { from, source };
        let transaction = connection.transaction().map_err(forward)?;
        transaction.execute_batch(migration).map_err(forward)?;
        let broken: i64 = transaction
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
            .map_err(forward)?;
        if broken > 0 {
            return Err(Error::BrokenReferences { from, rows: broken });
        }
        transaction.pragma_update(None, "user_version", from + 1).map_err(forward)?;
        transaction.commit().map_err(forward)?;
    }
    Ok(())
}
