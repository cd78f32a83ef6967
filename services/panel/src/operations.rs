//! The only way in. An operation checks that its actor may, checks the value, changes the store in one transaction together with
//! the audit log, and marks the servers whose document may differ. Nothing here is secret, so nothing has to be redacted: passwords
//! and keys are not part of any record's value.

mod addresses;
mod boots;
mod bulk;
mod certificates;
mod check;
mod errands;
mod fleet;
mod import;
mod join;
mod lookout;
mod notices;
mod once;
mod people;
mod renewals;
mod restore;
mod search;
mod seat;
mod settings;
mod sights;
mod statistics;
mod tunnels;
mod user_certificates;
mod work;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

pub use addresses::first_free;
pub use bulk::DevicePatch;
pub use check::Kind;
pub use fleet::{Preview, PublishedOf};
pub use import::{COLUMNS, Import, ImportLine, Outcome};
pub use join::{JoinError, Refusal};
pub use lookout::{AlertCount, Own};
pub use notices::{ChannelSecret, Due, open_channel_secret};
pub use renewals::RenewError;
pub(crate) use restore::Whose;
pub use search::Hit;
pub use settings::Settings;
use tokio::sync::watch;
pub use tunnels::CertifyError;
pub use user_certificates::{GiveError, Proof};
pub use work::Work;
pub(crate) use work::{invalid, organization_of};

use crate::{
    access::{Standing, Standings, Verb},
    ca::{RevocationList, Role},
    desired::Published,
    fleet::Board,
    noun::{Id, Noun, Place, Stored, User},
    store::{self, Dependent, Entry, EntryQuery, FieldError, ListQuery, Page, Store, Tx},
};

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The actor is not known, may not sign in, or came with a token that is not good any more.
    #[error("sign in first")]
    SignedOut,
    /// There is none, or none that the actor may see.
    #[error("there is no such {noun}")]
    NotFound {
        /// What was looked for.
        noun: Noun,
    },
    /// The actor sees it, and may not do this to it.
    #[error("you may not {} this {noun}", .verb.word())]
    Forbidden {
        /// What was to be done.
        verb: Verb,
        /// To what.
        noun: Noun,
    },
    /// Fields are wrong.
    #[error("{} wrong", count(.0.len()))]
    Invalid(Vec<FieldError>),
    /// Somebody else changed it meanwhile.
    #[error("this {noun} was changed meanwhile")]
    Conflict {
        /// What.
        noun: Noun,
        /// Its version now.
        version: u64,
        /// Its value now, as JSON of its type.
        current: serde_json::Value,
    },
    /// Something hangs on what was to be deleted.
    #[error("something still hangs on this {noun}")]
    InUse {
        /// What was to be deleted.
        noun: Noun,
        /// What hangs on it; a long list is cut.
        dependents: Vec<Dependent>,
    },
    /// A server shows a document by a number that no panel ever gives.
    #[error("it shows document {generation}, and no panel gives that number")]
    Generation {
        /// The number.
        generation: u64,
    },
    /// A server's document can't be made anew: it is faulty, or the server is gone.
    #[error("the document can't be made anew: {published:?}")]
    Untold {
        /// What became of it.
        published: Published,
    },
    /// The database refused or failed.
    #[error("the store failed")]
    Store(#[source] store::Error),
}

fn count(fields: usize) -> String {
    if fields == 1 { "one field is".to_owned() } else { format!("{fields} fields are") }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Field(field) => Self::Invalid(vec![field]),
            other => Self::Store(other),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The panel itself, for a job or at the first start; the log has this name.
    Panel(&'static str),
    /// A user who signed in.
    User(Id<User>),
    /// A user's API token.
    Token {
        /// Whose.
        user: Id<User>,
        /// Its number.
        token: i64,
    },
}

/// What becomes of the data of something that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Data {
    /// It stays on the servers, and they report it.
    #[default]
    Keep,
    /// The servers destroy it.
    Destroy,
}

/// Tells the time in milliseconds since 1970; a test brings its own.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The panel's operations over its store.
pub struct Panel {
    store: Store,
    clock: Clock,
    joins: Mutex<join::Tries>,
    changes: watch::Sender<u64>,
    board: Arc<Board>,
    tunnels_board: Arc<crate::tunnels::Board>,
    revocations: Mutex<BTreeMap<Role, Arc<RevocationList>>>,
}

impl fmt::Debug for Panel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panel").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Panel {
    /// Operations over this store.
    pub fn new(store: Store, clock: Clock) -> Self {
        let changes = watch::Sender::new(0);
        Self {
            store,
            clock,
            joins: Mutex::default(),
            changes,
            board: Arc::default(),
            tunnels_board: Arc::default(),
            revocations: Mutex::default(),
        }
    }

    /// The store, for backups.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Rises with every operation that changed something: for those who show or send what is there.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The time, as the panel has it.
    pub fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    fn announce(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    fn who(&self, tx: Tx<'_>, actor: Actor) -> Result<Standings, Error> {
        let user = |id| tx.standings(id)?.ok_or(Error::SignedOut);
        match actor {
            Actor::Panel(name) => Ok(Standings {
                user: None,
                name: name.to_owned(),
                standing: Standing::Superadmin,
                organization: None,
                roles: Vec::new(),
                limit: None,
            }),
            Actor::User(id) => user(id),
            Actor::Token { user: id, token } => {
                let found = tx.token_limit(id, token, (self.clock)())?;
                let (limit, named) = found.ok_or(Error::SignedOut)?;
                let owner = user(id)?;
                let name = format!("{} by token {named}", owner.name);
                Ok(Standings { limit: Some(limit), name, ..owner })
            }
        }
    }

    pub(crate) fn read<T>(
        &self,
        actor: Actor,
        look: impl FnOnce(Work<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.store.read(|tx| {
            let who = self.who(tx, actor)?;
            look(Work { tx, who: &who, now_ms: (self.clock)() })
        })
    }

    pub(crate) fn write<T>(
        &self,
        actor: Actor,
        change: impl FnOnce(Work<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let done = self.store.write(|tx| {
            let who = self.who(tx, actor)?;
            change(Work { tx, who: &who, now_ms: (self.clock)() })
        });
        if done.is_ok() {
            self.announce();
        }
        done
    }

    pub(crate) fn try_out<T>(
        &self,
        actor: Actor,
        change: impl FnOnce(Work<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.store.try_out(|tx| {
            let who = self.who(tx, actor)?;
            change(Work { tx, who: &who, now_ms: (self.clock)() })
        })
    }

    /// One record.
    ///
    /// # Errors
    /// There is none that the actor may see.
    pub fn get<T: Kind>(&self, actor: Actor, id: Id<T>) -> Result<Stored<T>, Error> {
        self.read(actor, |work| work.seen(id))
    }

    /// A page of what the actor may see.
    ///
    /// # Errors
    /// A filter, the sort or the cursor is unknown.
    pub fn list<T: Kind>(&self, actor: Actor, query: &ListQuery) -> Result<Page<Stored<T>>, Error> {
        self.read(actor, |work| Ok(work.tx.page(&work.scope::<T>(), query)?))
    }

    /// How many the list has in all.
    ///
    /// # Errors
    /// A filter is unknown.
    pub fn count<T: Kind>(&self, actor: Actor, query: &ListQuery) -> Result<u64, Error> {
        self.read(actor, |work| Ok(work.tx.count::<T>(&work.scope::<T>(), query)?))
    }

    /// Makes a record in a network, in an organization, or at the panel.
    ///
    /// # Errors
    /// The actor may not; fields are wrong.
    pub fn create<T: Kind>(
        &self,
        actor: Actor,
        parent: Place,
        value: T,
    ) -> Result<Stored<T>, Error> {
        self.write(actor, |work| work.create(parent, &value))
    }

    /// Gives a record a new value. `version` is the one that the change was made from.
    ///
    /// # Errors
    /// The actor may not; somebody else changed it meanwhile; fields are wrong.
    pub fn change<T: Kind>(
        &self,
        actor: Actor,
        id: Id<T>,
        version: u64,
        value: T,
    ) -> Result<Stored<T>, Error> {
        self.write(actor, |work| work.change(id, version, &value))
    }

    /// Deletes a record on which nothing hangs.
    ///
    /// # Errors
    /// The actor may not; somebody else changed it meanwhile; something hangs on it.
    pub fn delete<T: Kind>(
        &self,
        actor: Actor,
        id: Id<T>,
        version: u64,
        data: Data,
    ) -> Result<(), Error> {
        self.write(actor, |work| work.delete(id, version, data))
    }

    /// What hangs on a record, for whoever may delete it: what hangs on a tunnel or an organization is not for all who see these.
    /// A long list is cut.
    ///
    /// # Errors
    /// There is none that the actor may see, or they may not delete it.
    pub fn dependents<T: Kind>(&self, actor: Actor, id: Id<T>) -> Result<Vec<Dependent>, Error> {
        self.read(actor, |work| {
            work.fetch(id, Verb::Delete)?;
            Ok(work.tx.dependents(id)?)
        })
    }

    /// A page of the audit log, as far as it speaks of what the actor administers.
    ///
    /// # Errors
    /// The cursor is unknown.
    pub fn audit(&self, actor: Actor, query: &EntryQuery) -> Result<Page<Entry>, Error> {
        self.read(actor, |work| Ok(work.tx.entries(&work.audit_scope()?, query)?))
    }
}

#[cfg(test)]
mod tests;
