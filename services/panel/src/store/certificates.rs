//! The books of certificates: which were given to whom, and which count no more.

use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{OptionalExtension as _, Row, params_from_iter};
use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, Error as _},
};

use super::{Cursor, Error, FieldError, Owner, Page, Scope, Tx, listing::scope_condition};
use crate::{
    ca::{Certificate, Kind, Reason, Revoked, Serial},
    noun::{Id, Server, User},
};

/// A certificate on the books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Booked {
    /// Its number.
    pub serial: Serial,
    /// What it is for.
    pub kind: Kind,
    /// The server that it was given to, while that is there.
    pub server: Option<Id<Server>>,
    /// The person whose browser it is for, while they are there.
    pub user: Option<Id<User>>,
    /// What that person calls the browser.
    pub label: Option<String>,
    /// Its distinguished name.
    pub subject: String,
    /// When it was given, in milliseconds since 1970.
    pub issued_ms: u64,
    /// When it ends.
    pub ends_ms: u64,
    /// When somebody came in with it last.
    pub used_ms: Option<u64>,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
    /// Why.
    pub reason: Option<Reason>,
}

/// How a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BookedState {
    /// It counts.
    Good,
    /// It was taken back.
    Revoked,
    /// It ended by itself.
    Ended,
}

impl Booked {
    /// How it stands at that time.
    pub fn state(&self, now_ms: u64) -> BookedState {
        match self.revoked_ms {
            Some(_) => BookedState::Revoked,
            None if self.ends_ms <= now_ms => BookedState::Ended,
            None => BookedState::Good,
        }
    }
}

/// Which certificates shall be shown, the newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BookedQuery {
    /// Only for this use.
    pub kind: Option<Kind>,
    /// Only those that stand so.
    pub state: Option<BookedState>,
    /// Only those with this in their name, or at the beginning of their number.
    pub search: Option<String>,
    /// Where to go on.
    pub cursor: Option<Cursor>,
    /// Rows of the page, up to 200; absent means 50.
    pub limit: Option<usize>,
}

/// A word of a row as its type, through serde as everything else.
fn word<T: DeserializeOwned>(word: String) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(Error::Json)
}

fn serial(text: &str) -> Result<Serial, Error> {
    text.parse().map_err(|error| Error::Json(serde_json::Error::custom(error)))
}

pub(super) fn booked(row: &Row<'_>) -> Result<Booked, Error> {
    Ok(Booked {
        serial: serial(row.get_ref(0)?.as_str().map_err(|e| Error::Sqlite(e.into()))?)?,
        kind: word(row.get(1)?)?,
        server: row.get::<_, Option<i64>>(2)?.map(Id::new),
        subject: row.get(3)?,
        issued_ms: row.get(4)?,
        ends_ms: row.get(5)?,
        revoked_ms: row.get(6)?,
        reason: row.get::<_, Option<String>>(7)?.map(word).transpose()?,
        user: row.get::<_, Option<i64>>(8)?.map(Id::new),
        label: row.get(9)?,
        used_ms: row.get(10)?,
    })
}

pub(super) const BOOKED: &str =
    "SELECT serial, kind, server_id, subject, issued_ms, ends_ms, revoked_ms, reason,
    user_id, label, used_ms FROM certificates";

impl Tx<'_> {
    /// Puts a certificate on the books.
    pub(crate) fn keep_certificate(
        self,
        kind: Kind,
        server: Option<Id<Server>>,
        certificate: &Certificate,
        now_ms: u64,
    ) -> Result<(), Error> {
        let end = certificate.validity().not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ends_ms = u64::try_from(end.as_millis()).unwrap_or(u64::MAX >> 1);
        self.connection
            .prepare_cached(
                "INSERT INTO certificates (serial, kind, server_id, subject, der, issued_ms, ends_ms)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute((
                certificate.serial().to_string(),
                kind.word(),
                server.map(Id::number),
                certificate.subject(),
                certificate.der().as_ref(),
                now_ms,
                ends_ms,
            ))?;
        Ok(())
    }

    /// A certificate on the books.
    pub(crate) fn booked(self, serial: Serial) -> Result<Option<Booked>, Error> {
        let sql = format!("{BOOKED} WHERE serial = ?");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([serial.to_string()])?;
        rows.next()?.map(booked).transpose()
    }

    /// When a server was given its newest certificate of a kind that counts, and that in DER.
    pub(crate) fn newest_certificate(
        self,
        server: Id<Server>,
        kind: Kind,
    ) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let sql = "SELECT issued_ms, der FROM certificates
             WHERE server_id = ? AND kind = ? AND revoked_ms IS NULL ORDER BY id DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(statement.query_row((server.number(), kind.word()), found).optional()?)
    }

    /// A server's certificate of this number in DER, if it counts.
    pub(crate) fn certificate_of(
        self,
        server: Id<Server>,
        serial: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        let sql = "SELECT der FROM certificates WHERE server_id = ? AND serial = ? AND revoked_ms IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row((server.number(), serial), |row| row.get(0)).optional()?)
    }

    /// What a server was given, the newest first.
    pub(crate) fn certificates_of(self, server: Id<Server>) -> Result<Vec<Booked>, Error> {
        let sql = format!("{BOOKED} WHERE server_id = ? ORDER BY id DESC");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([server.number()])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(booked(row)?);
        }
        Ok(found)
    }

    /// A page of those of a scope's servers, and of a scope's people; those of neither for whom the first scope is all.
    pub(crate) fn issued(
        self,
        (servers, people): (&Scope, &Scope),
        query: &BookedQuery,
        now_ms: u64,
    ) -> Result<Page<Booked>, Error> {
        let (servers, mut values) = scope_condition(Owner::Network("t.network_id"), servers);
        let (people, of_people) = scope_condition(Owner::Organization("u.organization_id"), people);
        values.extend(of_people);
        let mut sql = vec![format!("({servers} OR c.user_id IS NOT NULL AND {people})")];
        if let Some(kind) = query.kind {
            sql.push("c.kind = ?".to_owned());
            values.push(kind.word().to_owned().into());
        }
        if let Some(state) = query.state {
            let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
            let (is, looks_at_clock) = match state {
                BookedState::Good => ("c.revoked_ms IS NULL AND c.ends_ms > ?", true),
                BookedState::Ended => ("c.revoked_ms IS NULL AND c.ends_ms <= ?", true),
                BookedState::Revoked => ("c.revoked_ms IS NOT NULL", false),
            };
            sql.push(is.to_owned());
            values.extend(looks_at_clock.then(|| now.into()));
        }
        if let Some(text) = &query.search {
            sql.push("(instr(lower(c.subject), ?) OR instr(c.serial, ?) = 1)".to_owned());
            values.extend([text.to_lowercase().into(), text.to_lowercase().into()]);
        }
        if let Some(cursor) = &query.cursor {
            let last: i64 = cursor.as_str().parse().map_err(|_| {
                Error::Field(FieldError::new("cursor", "this is no cursor: begin anew"))
            })?;
            sql.push("c.id < ?".to_owned());
            values.push(last.into());
        }
        let limit = query.limit.unwrap_or(50).clamp(1, 200);
        let sql = format!(
            "SELECT c.serial, c.kind, c.server_id, c.subject, c.issued_ms, c.ends_ms, c.revoked_ms, c.reason,
                c.user_id, c.label, c.used_ms, c.id
             FROM certificates c LEFT JOIN servers t ON t.id = c.server_id LEFT JOIN users u ON u.id = c.user_id
             WHERE {} ORDER BY c.id DESC LIMIT {}",
            sql.join(" AND "),
            limit + 1
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query(params_from_iter(values))?;
        let (mut rows, mut last, mut next) = (Vec::new(), 0_i64, None);
        while let Some(row) = found.next()? {
            if rows.len() == limit {
                next = Some(Cursor::new(last.to_string()));
                break;
            }
            rows.push(booked(row)?);
            last = row.get(11)?;
        }
        Ok(Page { rows, next })
    }

    /// Revokes a certificate; false when it was before.
    pub(crate) fn revoke(self, serial: Serial, reason: Reason, now_ms: u64) -> Result<bool, Error> {
        let sql = "UPDATE certificates SET revoked_ms = ?2, reason = ?3 WHERE serial = ?1 AND revoked_ms IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute((serial.to_string(), now_ms, reason.word()))? == 1)
    }

    /// Revokes all that a server was given.
    pub(crate) fn revoke_server(
        self,
        server: Id<Server>,
        reason: Reason,
        now_ms: u64,
    ) -> Result<(), Error> {
        let sql = "UPDATE certificates SET revoked_ms = ?2, reason = ?3 WHERE server_id = ?1 AND revoked_ms IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute((server.number(), now_ms, reason.word()))?;
        Ok(())
    }

    /// What is revoked and would hold still, for a list: of boot endpoints, or of all others, for these have another authority.
    pub(crate) fn revoked(self, boot: bool, now_ms: u64) -> Result<Vec<Revoked>, Error> {
        let sql = format!(
            "{BOOKED} WHERE revoked_ms IS NOT NULL AND (kind = 'boot') = ? AND ends_ms > ? ORDER BY id"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query((boot, now_ms))?;
        let mut revoked = Vec::new();
        while let Some(row) = rows.next()? {
            let Booked { serial, revoked_ms, reason, .. } = booked(row)?;
            let at = UNIX_EPOCH + Duration::from_millis(revoked_ms.unwrap_or_default());
            revoked.push(Revoked { serial, at, reason: reason.unwrap_or(Reason::Unspecified) });
        }
        Ok(revoked)
    }
}
