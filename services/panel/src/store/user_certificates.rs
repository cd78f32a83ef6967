//! The books of certificates that people's browsers sign in with: whose they are, and whether one is asked for. Keys never come
//! here.

use rusqlite::OptionalExtension as _;

use super::{
    Error, Tx,
    certificates::{BOOKED, Booked, booked},
};
use crate::{
    ca::{Certificate, Kind, Reason, Serial},
    noun::{Id, User},
};

impl Tx<'_> {
    /// Puts a person's certificate on the books.
    pub(crate) fn keep_user_certificate(
        self,
        user: Id<User>,
        label: &str,
        certificate: &Certificate,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.keep_certificate(Kind::User, None, certificate, now_ms)?;
        let sql = "UPDATE certificates SET user_id = ?2, label = ?3 WHERE serial = ?1";
        let serial = certificate.serial().to_string();
        self.connection.prepare_cached(sql)?.execute((serial, user.number(), label))?;
        Ok(())
    }

    /// What a person was given, the newest first.
    pub(crate) fn certificates_of_user(self, user: Id<User>) -> Result<Vec<Booked>, Error> {
        let sql = format!("{BOOKED} WHERE user_id = ? ORDER BY id DESC");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([user.number()])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(booked(row)?);
        }
        Ok(found)
    }

    /// A certificate on the books in DER.
    pub(crate) fn certificate_der(self, serial: Serial) -> Result<Option<Vec<u8>>, Error> {
        let sql = "SELECT der FROM certificates WHERE serial = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([serial.to_string()], |row| row.get(0)).optional()?)
    }

    /// Notes that somebody came in with a certificate.
    pub(crate) fn note_certificate_use(self, serial: Serial, now_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE certificates SET used_ms = ?2 WHERE serial = ?1";
        self.connection.prepare_cached(sql)?.execute((serial.to_string(), now_ms))?;
        Ok(())
    }

    /// Says whether a person is asked for a certificate; false when it was so before.
    pub(crate) fn require_certificate(self, user: Id<User>, required: bool) -> Result<bool, Error> {
        let sql = "UPDATE users SET certificate_required = ?2 WHERE id = ?1 AND certificate_required != ?2";
        Ok(self.connection.prepare_cached(sql)?.execute((user.number(), required))? == 1)
    }

    /// Revokes all that a person was given; how many it was.
    pub(crate) fn revoke_user(
        self,
        user: Id<User>,
        reason: Reason,
        now_ms: u64,
    ) -> Result<usize, Error> {
        let sql = "UPDATE certificates SET revoked_ms = ?2, reason = ?3 WHERE user_id = ?1 AND revoked_ms IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute((user.number(), now_ms, reason.word()))?)
    }
}
