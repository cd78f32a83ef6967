//! What people come in with: passwords, one-time passwords, sessions, API tokens. What is secret comes as a digest or sealed;
//! a password that changes ends the sessions, and a code is good once.

use serde_json::json;

use super::{Actor, Error, Panel, Work, invalid};
use crate::{
    access::{Limit, Verb},
    noun::{Id, Noun, Stored, User, UserName},
    store::{Credentials, Digest, FieldError, Session, Token},
};

impl Panel {
    /// The user of this name with what they prove themselves with; nothing when there is none, or when they may not sign in.
    ///
    /// # Errors
    /// The store failed.
    pub fn credentials(
        &self,
        name: &UserName,
    ) -> Result<Option<(Stored<User>, Credentials)>, Error> {
        self.store.read(|tx| {
            let Some(id) = tx.user_by_name(name)? else { return Ok(None) };
            let user = tx.get(id)?.filter(|user| !user.value.disabled);
            Ok(user.zip(tx.credentials(id)?))
        })
    }

    /// Sets a user's password, by its hash. Users do so for themselves, admins for others. Whoever had the one before is out:
    /// the sessions end and the API tokens are revoked.
    ///
    /// # Errors
    /// The actor may not change this user.
    pub fn set_password(&self, actor: Actor, user: Id<User>, hash: &str) -> Result<(), Error> {
        self.write(actor, |work| {
            work.may_answer_for(user)?;
            work.tx.set_password(user, hash, work.now_ms)?;
            work.tx.end_sessions(user, None)?;
            work.tx.revoke_tokens(user)?;
            work.changed(user, "password")
        })
    }

    /// Replaces the hash of the password that a user just proved to know, made by older rules; false when the password was
    /// changed meanwhile. It is the same password, so nothing ends.
    ///
    /// # Errors
    /// The store failed.
    pub fn rehash(&self, user: Id<User>, before: &str, hash: &str) -> Result<bool, Error> {
        self.store.write(|tx| Ok(tx.rehash(user, before, hash)?))
    }

    /// Sets the sealed secret of a user's one-time passwords, or takes it away, and ends their sessions.
    ///
    /// # Errors
    /// The actor may not change this user, or takes away the last that lets them in themselves.
    pub fn set_totp(
        &self,
        actor: Actor,
        user: Id<User>,
        sealed: Option<&[u8]>,
    ) -> Result<(), Error> {
        self.write(actor, |work| {
            work.may_answer_for(user)?;
            work.keeps_a_factor(user, sealed.is_some(), None)?;
            work.tx.set_totp(user, sealed)?;
            work.tx.end_sessions(user, None)?;
            work.changed(user, "one-time passwords")
        })
    }

    /// Uses the one-time password of a time step; false when it, or a later one, was used before.
    ///
    /// # Errors
    /// The store failed.
    pub fn use_totp_step(&self, user: Id<User>, step: u64) -> Result<bool, Error> {
        self.store.write(|tx| Ok(tx.use_totp_step(user, step)?))
    }

    /// Replaces a user's recovery codes.
    ///
    /// # Errors
    /// The actor may not change this user.
    pub fn set_recovery_codes(
        &self,
        actor: Actor,
        user: Id<User>,
        codes: &[Digest],
    ) -> Result<(), Error> {
        self.write(actor, |work| {
            work.may_answer_for(user)?;
            work.tx.set_recovery_codes(user, codes)?;
            work.changed(user, "recovery codes")
        })
    }

    /// Uses a recovery code; false when there is none, or when it was used.
    ///
    /// # Errors
    /// The store failed.
    pub fn use_recovery_code(&self, user: Id<User>, code: Digest) -> Result<bool, Error> {
        self.write(Actor::Panel("sign-in"), |work| {
            let used = work.tx.use_recovery_code(user, code, work.now_ms)?;
            if used {
                work.changed(user, "a recovery code used")?;
            }
            Ok(used)
        })
    }

    /// Begins a session of somebody who has proved who they are.
    ///
    /// # Errors
    /// The store failed.
    pub fn begin_session(
        &self,
        user: Id<User>,
        digest: Digest,
        lasts_ms: u64,
        address: &str,
        browser: &str,
    ) -> Result<(), Error> {
        let now_ms = (self.clock)();
        let session = Session {
            id: 0,
            created_ms: now_ms,
            seen_ms: now_ms,
            expires_ms: now_ms.saturating_add(lasts_ms),
            address: address.to_owned(),
            browser: browser.to_owned(),
        };
        self.store.write(|tx| Ok(tx.begin_session(user, digest, &session)?))
    }

    /// Who comes with this session, and its number; nothing when it is over or was revoked.
    ///
    /// # Errors
    /// The store failed.
    pub fn session(&self, digest: Digest) -> Result<Option<(Actor, i64)>, Error> {
        let now_ms = (self.clock)();
        let found = self.store.read(|tx| tx.session(digest, now_ms))?;
        Ok(found.map(|(user, session)| (Actor::User(user), session)))
    }

    /// A user's sessions, the one used last first.
    ///
    /// # Errors
    /// The actor may not change this user.
    pub fn sessions(&self, actor: Actor, user: Id<User>) -> Result<Vec<Session>, Error> {
        self.read(actor, |work| {
            work.may_answer_for(user)?;
            Ok(work.tx.sessions(user, work.now_ms)?)
        })
    }

    /// Ends one session of a user, or all of them; how many it was.
    ///
    /// # Errors
    /// The actor may not change this user.
    pub fn end_sessions(
        &self,
        actor: Actor,
        user: Id<User>,
        only: Option<i64>,
    ) -> Result<usize, Error> {
        self.write(actor, |work| {
            work.may_answer_for(user)?;
            let ended = work.tx.end_sessions(user, only)?;
            if ended > 0 && work.who.user != Some(user) {
                work.changed(user, "sessions ended")?;
            }
            Ok(ended)
        })
    }

    /// Keeps an API token of the actor's own; its number.
    ///
    /// # Errors
    /// The actor is no user, or came with a token, or does not see the network that it is limited to; the name is taken; it
    /// would be over at once.
    pub fn make_token(
        &self,
        actor: Actor,
        name: &str,
        digest: Digest,
        limit: Limit,
        expires_ms: u64,
    ) -> Result<i64, Error> {
        let Actor::User(user) = actor else {
            return Err(Error::Forbidden { verb: Verb::Create, noun: Noun::User });
        };
        self.write(actor, |work| {
            if let Some(network) = limit.network {
                work.seen(network)?;
            }
            let mut faults = Vec::new();
            if name.trim().is_empty() || name.len() > 80 {
                faults.push(FieldError::new("name", "say what it is for, in 1 to 80 characters"));
            }
            if expires_ms <= work.now_ms {
                faults.push(FieldError::new("expires_ms", "this moment has passed"));
            }
            invalid(faults)?;
            let (name, created_ms) = (name.to_owned(), work.now_ms);
            let token = Token { id: 0, name, limit, created_ms, expires_ms, used_ms: None };
            let id = work.tx.insert_token(user, digest, &token)?;
            work.changed(user, "a new API token")?;
            Ok(id)
        })
    }

    /// Who comes with this token; nothing when it is over or was revoked.
    ///
    /// # Errors
    /// The store failed.
    pub fn token(&self, digest: Digest) -> Result<Option<Actor>, Error> {
        let now_ms = (self.clock)();
        let found = self.store.read(|tx| {
            let Some((user, token)) = tx.token(digest, now_ms)? else { return Ok(None) };
            Ok::<_, Error>(Some((user, token, tx.token_use_due(token, now_ms)?)))
        })?;
        let Some((user, token, due)) = found else { return Ok(None) };
        if due {
            self.store.write(|tx| tx.note_token_use(token, now_ms))?;
        }
        Ok(Some(Actor::Token { user, token }))
    }

    /// A user's API tokens, the newest first, for themselves and for whoever may read the user.
    ///
    /// # Errors
    /// There is no such user that the actor may see.
    pub fn tokens(&self, actor: Actor, user: Id<User>) -> Result<Vec<Token>, Error> {
        self.read(actor, |work| {
            if work.who.user != Some(user) || work.who.limit.is_some() {
                work.seen(user)?;
            }
            Ok(work.tx.tokens(user)?)
        })
    }

    /// Revokes a token; false when there is none.
    ///
    /// # Errors
    /// The actor may not change this user.
    pub fn revoke_token(&self, actor: Actor, user: Id<User>, token: i64) -> Result<bool, Error> {
        self.write(actor, |work| {
            work.may_answer_for(user)?;
            let revoked = work.tx.revoke_token(user, token)?;
            if revoked {
                work.changed(user, "an API token revoked")?;
            }
            Ok(revoked)
        })
    }
}

impl Work<'_> {
    /// Logs that what a user comes in with was changed: that it was, and never what it is.
    pub(super) fn changed(self, user: Id<User>, what: &str) -> Result<(), Error> {
        self.note_of(user, json!({ "changed": what }))
    }

    /// Whether the actor is this user, signed in by themselves, or may change them. A lower standing never answers for a higher
    /// one: else an organization's admin would take over a superadmin by setting their password.
    pub(super) fn may_answer_for(self, user: Id<User>) -> Result<(), Error> {
        if self.who.user == Some(user) && self.who.limit.is_none() {
            return Ok(());
        }
        let other = self.seen(user)?;
        self.allow(Verb::Change, Noun::User, other.place)?;
        // A token answers for nobody: it would outlive itself as a password.
        if self.who.limit.is_none() && self.who.standing >= other.value.standing {
            Ok(())
        } else {
            Err(Error::Forbidden { verb: Verb::Change, noun: Noun::User })
        }
    }
}

#[cfg(test)]
mod tests;
