//! The panel's records in SQLite: the only SQL of the workspace. One connection writes, a few read beside it (write-ahead log), and
//! a transaction that was acknowledged survives a power cut (`synchronous=FULL`, https://sqlite.org/pragma.html#pragma_synchronous).
//!
//! A row leaves as the JSON of its record and goes through the same serde door as a document that comes over the network; it
//! enters as that JSON too. So a noun of the store is a list of columns and no code; nothing outside this module knows a column.

mod addresses;
mod alerts;
mod audit;
mod boots;
mod certificates;
mod contacts;
mod creations;
mod documents;
mod errands;
mod error;
mod joins;
mod listing;
mod migrations;
mod notices;
mod nouns;
mod people;
mod record;
mod settings;
mod standings;
mod statistics;
mod tunnels;
mod user_certificates;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub use addresses::Holder;
pub use audit::{Entry, EntryQuery};
pub(crate) use boots::ToldStep;
pub use certificates::{Booked, BookedQuery, BookedState};
pub(crate) use contacts::{Contact, sighting};
pub use documents::{Document, Health};
pub use errands::{Job, JobState, JoinCode};
pub use error::{Error, FieldError};
pub use joins::{Decision, Join, JoinedBox, Peer};
pub use listing::{Cursor, ListQuery, MOST_ROWS, Page, Scope};
pub use people::{Credentials, Digest, Session, Token};
pub use record::{Dependent, Owner, Record};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, functions::FunctionFlags};
pub use tunnels::{Pairing, PairingSeed, Relay};

/// Readers that are kept open; one more than this is opened when they are all at work, and closed again.
const READERS: usize = 4;

/// The database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// A transaction, as the operations see it: only through the methods of this module's parts.
#[derive(Debug, Clone, Copy)]
pub struct Tx<'a> {
    connection: &'a Connection,
}

impl Store {
    /// Opens the database, makes it if it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// It can't be opened, or a newer panel made it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::Open { path: path.to_owned(), source };
        let mut writer = Connection::open(path).map_err(open)?;
        // Whoever holds the lock is another process: a command line on the box, or a backup tool.
        writer.busy_timeout(Duration::from_secs(10)).map_err(open)?;
        writer.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
        writer.pragma_update(None, "synchronous", "FULL").map_err(open)?;
        add_functions(&writer).map_err(open)?;
        migrations::migrate(&mut writer)?;
        writer.pragma_update(None, "foreign_keys", true).map_err(open)?;
        writer.set_prepared_statement_cache_capacity(256);
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
        })
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does this in one transaction. When it returns well, what it wrote survives a power cut; else nothing was written.
    ///
    /// # Errors
    /// Its own, or the database's.
    pub fn write<T, E: From<Error>>(
        &self,
        change: impl FnOnce(Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.in_transaction(change, true)
    }

    /// Does this in one transaction, and takes it back whatever comes of it.
    ///
    /// # Errors
    /// Its own, or the database's.
    pub fn try_out<T, E: From<Error>>(
        &self,
        change: impl FnOnce(Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.in_transaction(change, false)
    }

    fn in_transaction<T, E: From<Error>>(
        &self,
        change: impl FnOnce(Tx<'_>) -> Result<T, E>,
        keep: bool,
    ) -> Result<T, E> {
        // A panic in a change rolled its transaction back, so what it leaves behind is sound.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = writer
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| E::from(Error::from(source)))?;
        let done = change(Tx { connection: &transaction })?;
        if keep {
            transaction.commit().map_err(|source| E::from(Error::from(source)))?;
        }
        Ok(done)
    }

    /// Reads this from one moment's state, beside the writer.
    ///
    /// # Errors
    /// Its own, or the database's.
    pub fn read<T, E: From<Error>>(
        &self,
        look: impl FnOnce(Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match kept {
            Some(reader) => reader,
            None => self.open_reader()?,
        };
        let transaction = reader.transaction().map_err(|source| E::from(Error::from(source)))?;
        let done = look(Tx { connection: &transaction });
        drop(transaction);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS {
            readers.push(reader);
        }
        done
    }

    fn open_reader(&self) -> Result<Connection, Error> {
        let open = |source| Error::Open { path: self.path.clone(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags).map_err(open)?;
        reader.busy_timeout(Duration::from_secs(10)).map_err(open)?;
        add_functions(&reader).map_err(open)?;
        reader.set_prepared_statement_cache_capacity(64);
        Ok(reader)
    }

    /// Does what no operation does: a test's own fault.
    #[cfg(test)]
    pub(crate) fn run_sql(&self, sql: &str) {
        self.writer.lock().unwrap().execute_batch(sql).unwrap();
    }

    /// Looks at every page and every reference of the database: what came from elsewhere is not to be trusted.
    ///
    /// # Errors
    /// Something is wrong with it.
    pub fn check(&self) -> Result<(), Error> {
        let corrupt = |found| Error::Corrupt { path: self.path.clone(), found };
        let reader = self.open_reader()?;
        // https://sqlite.org/pragma.html#pragma_integrity_check
        let found: String = reader.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(corrupt(found));
        }
        let sql = "SELECT count(*) FROM pragma_foreign_key_check";
        match reader.query_row(sql, [], |row| row.get(0))? {
            0_i64 => Ok(()),
            rows => Err(corrupt(format!("{rows} rows refer to nothing"))),
        }
    }

    /// Writes a whole copy into a new file, while everything goes on.
    ///
    /// # Errors
    /// The file can't be written, or is there already.
    pub fn back_up(&self, to: &Path) -> Result<(), Error> {
        let reader = self.open_reader()?;
        let name = to.to_str().ok_or_else(|| Error::BackupPath { path: to.to_owned() })?;
        reader
            .execute("VACUUM INTO ?1", [name])
            .map_err(|source| Error::Backup { path: to.to_owned(), source })?;
        Ok(())
    }
}

impl Tx<'_> {
    /// Does this as a part that can be taken back by itself: when it fails, the transaction goes on without it.
    ///
    /// # Errors
    /// Its own, or the database's.
    pub(crate) fn savepoint<T, E: From<Error>>(
        self,
        part: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let run = |sql: &str| self.connection.execute_batch(sql).map_err(Error::from);
        run("SAVEPOINT part")?;
        let done = part();
        run(if done.is_ok() { "RELEASE part" } else { "ROLLBACK TO part; RELEASE part" })?;
        done
    }
}

/// IPv4 addresses are text in JSON and numbers in rows. The functions stand in no index, trigger or check, so that any tool can
/// open the file without them.
fn add_functions(connection: &Connection) -> Result<(), rusqlite::Error> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("ipv4_text", 1, flags, |context| {
        let number: Option<u32> = context.get(0)?;
        Ok(number.map(|number| std::net::Ipv4Addr::from(number).to_string()))
    })?;
    connection.create_scalar_function("ipv4_number", 1, flags, |context| {
        let text: Option<String> = context.get(0)?;
        let address = text.map(|text| text.parse::<std::net::Ipv4Addr>()).transpose();
        let address = address.map_err(|e| rusqlite::Error::UserFunctionError(Box::new(e)))?;
        Ok(address.map(u32::from))
    })?;
    connection.create_scalar_function("is_host", 1, flags, |context| {
        let text: String = context.get(0)?;
        Ok(text.parse::<crate::noun::HostName>().is_ok())
    })?;
    // What somebody searches for is rarely an address.
    connection.create_scalar_function("ipv4_searched", 1, flags, |context| {
        let text: String = context.get(0)?;
        Ok(text.parse::<std::net::Ipv4Addr>().ok().map(u32::from))
    })
}

#[cfg(test)]
mod tests;
