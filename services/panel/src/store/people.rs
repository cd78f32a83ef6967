//! What people prove themselves with: only digests, sealed secrets and opaque hashes ever come here. Making and checking them is
//! not the store's business.

use rusqlite::OptionalExtension;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Error, Tx};
use crate::{
    access::Limit,
    noun::{Id, User, UserName},
};

/// The SHA-256 digest of a secret that somebody holds: a session's cookie, an API token, a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a user proves themselves with. Shows nothing of it when printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The password's hash, as the hashing writes it.
    pub password_hash: Option<String>,
    /// The secret of the one-time passwords, sealed.
    pub totp_secret: Option<Vec<u8>>,
    /// The last time step whose one-time password was used: none is good twice.
    pub totp_last_step: Option<u64>,
    /// Whether a certificate is asked for.
    pub certificate_required: bool,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("password", &self.password_hash.is_some())
            .field("totp", &self.totp_secret.is_some())
            .field("certificate_required", &self.certificate_required)
            .finish_non_exhaustive()
    }
}

/// A session, as its owner sees it in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Session {
    /// Its number.
    pub id: i64,
    /// When it began, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was used last.
    pub seen_ms: u64,
    /// When it ends.
    pub expires_ms: u64,
    /// The address that it was used from last.
    pub address: String,
    /// What the browser calls itself.
    pub browser: String,
}

/// An API token, as its owner sees it in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What it is limited to.
    pub limit: Limit,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it ends.
    pub expires_ms: u64,
    /// When it was used last, to the minute; absent when it never was.
    pub used_ms: Option<u64>,
}

/// How often it is noted that a token is used: not every request of a script is worth a write to the disk.
const USED_EVERY_MS: u64 = 60_000;

impl Tx<'_> {
    /// The user of this name, wherever they belong.
    pub(crate) fn user_by_name(self, name: &UserName) -> Result<Option<Id<User>>, Error> {
        let sql = "SELECT id FROM users WHERE name = ?";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row([name.as_str()], |row| row.get(0).map(Id::new));
        Ok(found.optional()?)
    }

    /// What a user proves themselves with; nothing when there is no such user.
    pub(crate) fn credentials(self, user: Id<User>) -> Result<Option<Credentials>, Error> {
        let sql = "SELECT password_hash, totp_secret, totp_last_step, certificate_required
            FROM users WHERE id = ?";
        let found = self.connection.prepare_cached(sql)?.query_row([user.number()], |row| {
            Ok(Credentials {
                password_hash: row.get(0)?,
                totp_secret: row.get(1)?,
                totp_last_step: row.get(2)?,
                certificate_required: row.get(3)?,
            })
        });
        Ok(found.optional()?)
    }

    /// Sets a user's password.
    pub(crate) fn set_password(self, user: Id<User>, hash: &str, now_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE users SET password_hash = ?2, password_changed_ms = ?3 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((user.number(), hash, now_ms))?;
        Ok(())
    }

    /// Replaces the hash of the password that a user has; false when the password was changed meanwhile.
    pub(crate) fn rehash(self, user: Id<User>, before: &str, hash: &str) -> Result<bool, Error> {
        let sql = "UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2";
        Ok(self.connection.prepare_cached(sql)?.execute((user.number(), before, hash))? == 1)
    }

    /// Sets the sealed secret of a user's one-time passwords, or takes it away. Only a new one begins with no step used.
    pub(crate) fn set_totp(self, user: Id<User>, sealed: Option<&[u8]>) -> Result<(), Error> {
        let sql = "UPDATE users SET totp_secret = ?2,
            totp_last_step = iif(?2 IS NULL OR ?2 IS totp_secret, totp_last_step, NULL) WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((user.number(), sealed))?;
        Ok(())
    }

    /// Uses the one-time password of a time step; false when it, or a later one, was used before.
    pub(crate) fn use_totp_step(self, user: Id<User>, step: u64) -> Result<bool, Error> {
        let sql = "UPDATE users SET totp_last_step = ?2 WHERE id = ?1 AND coalesce(totp_last_step, -1) < ?2";
        Ok(self.connection.prepare_cached(sql)?.execute((user.number(), step))? == 1)
    }

    /// Replaces a user's recovery codes.
    pub(crate) fn set_recovery_codes(self, user: Id<User>, codes: &[Digest]) -> Result<(), Error> {
        self.connection
            .prepare_cached("DELETE FROM recovery_codes WHERE user_id = ?")?
            .execute([user.number()])?;
        let sql = "INSERT INTO recovery_codes (user_id, code_hash) VALUES (?, ?)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for code in codes {
            statement.execute((user.number(), code.0))?;
        }
        Ok(())
    }

    /// Uses a recovery code; false when there is none, or when it was used.
    pub(crate) fn use_recovery_code(
        self,
        user: Id<User>,
        code: Digest,
        now_ms: u64,
    ) -> Result<bool, Error> {
        let sql = "UPDATE recovery_codes SET used_ms = ?3 WHERE user_id = ?1 AND code_hash = ?2 AND used_ms IS NULL";
        Ok(self.connection.prepare_cached(sql)?.execute((user.number(), code.0, now_ms))? == 1)
    }

    /// Begins a session, and forgets those that are over.
    pub(crate) fn begin_session(
        self,
        user: Id<User>,
        digest: Digest,
        session: &Session,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached("DELETE FROM sessions WHERE expires_ms <= ?")?
            .execute([session.created_ms])?;
        self.connection
            .prepare_cached(
                "INSERT INTO sessions (user_id, token_hash, created_ms, seen_ms, expires_ms, address, browser)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute((
                user.number(),
                digest.0,
                session.created_ms,
                session.seen_ms,
                session.expires_ms,
                &session.address,
                &session.browser,
            ))?;
        Ok(())
    }

    /// Whose session this is, and its number; nothing when it is over or was revoked.
    pub(crate) fn session(
        self,
        digest: Digest,
        now_ms: u64,
    ) -> Result<Option<(Id<User>, i64)>, Error> {
        let sql = "SELECT user_id, id FROM sessions WHERE token_hash = ? AND expires_ms > ?";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row((digest.0, now_ms), |row| Ok((Id::new(row.get(0)?), row.get(1)?)));
        Ok(found.optional()?)
    }

    /// Ends everybody's sessions; how many it was.
    pub(crate) fn end_all_sessions(self) -> Result<usize, Error> {
        Ok(self.connection.prepare_cached("DELETE FROM sessions")?.execute([])?)
    }

    /// A user's sessions, the one used last first.
    pub(crate) fn sessions(self, user: Id<User>, now_ms: u64) -> Result<Vec<Session>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, created_ms, seen_ms, expires_ms, address, browser FROM sessions
             WHERE user_id = ? AND expires_ms > ? ORDER BY seen_ms DESC, id DESC",
        )?;
        let rows = statement.query_map((user.number(), now_ms), |row| {
            Ok(Session {
                id: row.get(0)?,
                created_ms: row.get(1)?,
                seen_ms: row.get(2)?,
                expires_ms: row.get(3)?,
                address: row.get(4)?,
                browser: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Ends one session of a user, or all of them; how many it was.
    pub(crate) fn end_sessions(self, user: Id<User>, only: Option<i64>) -> Result<usize, Error> {
        let sql = "DELETE FROM sessions WHERE user_id = ?1 AND (?2 IS NULL OR id = ?2)";
        Ok(self.connection.prepare_cached(sql)?.execute((user.number(), only))?)
    }

    /// Keeps an API token.
    pub(crate) fn insert_token(
        self,
        user: Id<User>,
        digest: Digest,
        token: &Token,
    ) -> Result<i64, Error> {
        let most = serde_json::to_value(token.limit.most).map_err(Error::Json)?;
        self.connection
            .prepare_cached(
                "INSERT INTO api_tokens (user_id, name, token_hash, most_rank, network_id, created_ms, expires_ms)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute((
                user.number(),
                &token.name,
                digest.0,
                most.as_str(),
                token.limit.network.map(Id::number),
                token.created_ms,
                token.expires_ms,
            ))?;
        Ok(self.connection.last_insert_rowid())
    }

    /// A user's tokens, the newest first; those that are over too, until they are revoked.
    pub(crate) fn tokens(self, user: Id<User>) -> Result<Vec<Token>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT json_object('id', id, 'name', name, 'limit', json_object('most', most_rank, 'network', network_id),
                'created_ms', created_ms, 'expires_ms', expires_ms, 'used_ms', used_ms)
             FROM api_tokens WHERE user_id = ? ORDER BY id DESC",
        )?;
        let mut rows = statement.query([user.number()])?;
        let mut tokens = Vec::new();
        while let Some(row) = rows.next()? {
            let json: String = row.get(0)?;
            tokens.push(serde_json::from_str(&json).map_err(Error::Json)?);
        }
        Ok(tokens)
    }

    /// Whether it is time to note that a token is used.
    pub(crate) fn token_use_due(self, token: i64, now_ms: u64) -> Result<bool, Error> {
        let sql = "SELECT coalesce(used_ms + ?3 <= ?2, 1) FROM api_tokens WHERE id = ?1";
        let due = self
            .connection
            .prepare_cached(sql)?
            .query_row((token, now_ms, USED_EVERY_MS), |row| row.get(0));
        Ok(due.optional()?.unwrap_or(false))
    }

    /// Notes that a token is used.
    pub(crate) fn note_token_use(self, token: i64, now_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE api_tokens SET used_ms = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((token, now_ms))?;
        Ok(())
    }

    /// Revokes all tokens of a user.
    pub(crate) fn revoke_tokens(self, user: Id<User>) -> Result<(), Error> {
        let sql = "DELETE FROM api_tokens WHERE user_id = ?";
        self.connection.prepare_cached(sql)?.execute([user.number()])?;
        Ok(())
    }

    /// Whose token this is, and its number; nothing when it is over or was revoked.
    pub(crate) fn token(
        self,
        digest: Digest,
        now_ms: u64,
    ) -> Result<Option<(Id<User>, i64)>, Error> {
        let sql = "SELECT user_id, id FROM api_tokens WHERE token_hash = ? AND expires_ms > ?";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row((digest.0, now_ms), |row| Ok((Id::new(row.get(0)?), row.get(1)?)));
        Ok(found.optional()?)
    }

    /// Revokes a token of a user; false when there is none.
    pub(crate) fn revoke_token(self, user: Id<User>, token: i64) -> Result<bool, Error> {
        let sql = "DELETE FROM api_tokens WHERE user_id = ? AND id = ?";
        Ok(self.connection.prepare_cached(sql)?.execute((user.number(), token))? == 1)
    }
}
