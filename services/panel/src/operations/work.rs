//! One operation under way, inside its transaction: every record that is seen, made, changed or deleted passes here, and nothing
//! else asks for access or writes the audit log.

use serde_json::{Value, json};

use super::{Data, Error, Kind};
use crate::{
    access::{Limit, Rank, Standing, Standings, Verb, least},
    ca::Reason,
    noun::{Id, Network, Noun, Organization, Place, Server, Stored},
    store::{self, Entry, FieldError, Owner, Record, Scope, Tx},
};

/// An operation under way: its transaction, who asked, and when.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    pub(crate) tx: Tx<'a>,
    pub(crate) who: &'a Standings,
    pub(crate) now_ms: u64,
}

/// What the log says of an act; who did it and when is known.
pub(crate) struct Note {
    pub(crate) verb: Verb,
    pub(crate) noun: Noun,
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

impl Work<'_> {
    /// Whether the actor may do this there. What they may not even see is not there for them.
    pub(crate) fn allow(self, verb: Verb, noun: Noun, place: Place) -> Result<(), Error> {
        let owner = match place {
            Place::Network(network) => {
                Some(self.tx.owner(network)?.ok_or(Error::NotFound { noun: Noun::Network })?)
            }
            Place::Panel | Place::Organization(_) => None,
        };
        if self.who.may(verb, noun, place, owner) {
            return Ok(());
        }
        if self.who.may(Verb::Read, noun, place, owner) {
            Err(Error::Forbidden { verb, noun })
        } else {
            Err(Error::NotFound { noun })
        }
    }

    /// A record that the actor may see.
    pub(crate) fn seen<T: Record>(self, id: Id<T>) -> Result<Stored<T>, Error> {
        self.fetch(id, Verb::Read)
    }

    /// A record that the actor may do this to.
    pub(crate) fn fetch<T: Record>(self, id: Id<T>, verb: Verb) -> Result<Stored<T>, Error> {
        let stored = self.tx.get(id)?.ok_or(Error::NotFound { noun: T::NOUN })?;
        self.allow(verb, T::NOUN, stored.place)?;
        Ok(stored)
    }

    /// A record at the version that the actor knows.
    fn fetch_at<T: Record>(self, id: Id<T>, verb: Verb, version: u64) -> Result<Stored<T>, Error> {
        let stored = self.fetch(id, verb)?;
        if stored.version != version {
            let current = serde_json::to_value(&stored.value).map_err(store::Error::Json)?;
            return Err(Error::Conflict { noun: T::NOUN, version: stored.version, current });
        }
        Ok(stored)
    }

    /// Makes a record.
    pub(crate) fn create<T: Kind>(self, parent: Place, value: &T) -> Result<Stored<T>, Error> {
        let fits = match (parent, T::PARENT) {
            (Place::Panel, parent) => parent.is_none() || T::NOUN == Noun::User,
            (Place::Organization(id), Some("organization_id")) => self.tx.get(id)?.is_some(),
            (Place::Network(id), Some("network_id")) => self.tx.get(id)?.is_some(),
            (Place::Organization(_) | Place::Network(_), _) => false,
        };
        if !fits {
            return Err(Error::NotFound { noun: T::NOUN });
        }
        self.allow(Verb::Create, T::NOUN, parent)?;
        invalid(value.check(self, parent, None)?)?;
        let id = self.tx.insert(parent, value)?;
        invalid(value.check_after(self, id)?)?;
        self.done(Verb::Create, id, None, value, parent)?;
        self.tx.get(id)?.ok_or(Error::NotFound { noun: T::NOUN })
    }

    /// Changes a record.
    pub(crate) fn change<T: Kind>(
        self,
        id: Id<T>,
        version: u64,
        value: &T,
    ) -> Result<Stored<T>, Error> {
        let before = self.fetch_at(id, Verb::Change, version)?;
        invalid(value.check(self, before.place, Some(&before))?)?;
        self.tx.update(id, before.place, value)?;
        invalid(value.check_after(self, id)?)?;
        self.done(Verb::Change, id, Some(&before.value), value, before.place)?;
        self.tx.get(id)?.ok_or(Error::NotFound { noun: T::NOUN })
    }

    /// Deletes a record.
    pub(crate) fn delete<T: Kind>(self, id: Id<T>, version: u64, data: Data) -> Result<(), Error> {
        let before = self.fetch_at(id, Verb::Delete, version)?;
        invalid(before.value.check_delete(self, &before)?)?;
        let dependents = self.tx.dependents(id)?;
        if !dependents.is_empty() {
            return Err(Error::InUse { noun: T::NOUN, dependents });
        }
        // Logged first: a network's own organization can't be told once it is gone.
        let mark = before.value.mark().filter(|_| data == Data::Destroy);
        self.note(Note {
            verb: Verb::Delete,
            noun: T::NOUN,
            id: id.number(),
            name: before.value.name().to_owned(),
            place: before.place,
            before: Some(serde_json::to_value(&before.value).map_err(store::Error::Json)?),
            after: mark.as_ref().map(|mark| json!({ "destroy": mark.to_string() })),
        })?;
        if T::NOUN == Noun::Server {
            self.tx.revoke_server(Id::new(id.number()), Reason::Removed, self.now_ms)?;
        }
        if T::NOUN == Noun::Tunnel {
            self.tx.revoke_tunnel(Id::new(id.number()), Reason::Removed, self.now_ms)?;
        }
        if T::NOUN == Noun::User {
            self.tx.revoke_user(Id::new(id.number()), Reason::Removed, self.now_ms)?;
        }
        self.tx.delete(id)?;
        self.ways_changed::<T>()?;
        if let Place::Network(network) = before.place {
            if let Some(mark) = mark {
                self.tx.allow_destroy(network, &mark)?;
            }
            self.tx.mark_stale(network)?;
        }
        Ok(())
    }

    /// Writes the audit log of what is there now, and marks the servers concerned.
    fn done<T: Kind>(
        self,
        verb: Verb,
        id: Id<T>,
        before: Option<&T>,
        after: &T,
        place: Place,
    ) -> Result<(), Error> {
        let before = before.map(serde_json::to_value).transpose().map_err(store::Error::Json)?;
        self.note(Note {
            verb,
            noun: T::NOUN,
            id: id.number(),
            name: after.name().to_owned(),
            place,
            before,
            after: Some(serde_json::to_value(after).map_err(store::Error::Json)?),
        })?;
        if let Place::Network(network) = place {
            if let Some(mark) = after.mark() {
                self.tx.forbid_destroy(network, &mark)?;
            }
            self.tx.mark_stale(network)?;
        }
        self.ways_changed::<T>()
    }

    /// Marks who is told of tunnels, where a change of this noun may concern them.
    fn ways_changed<T: Record>(self) -> Result<(), Error> {
        if matches!(T::NOUN, Noun::Tunnel | Noun::Network | Noun::Server) {
            self.tx.mark_tables_stale()?;
        }
        if T::NOUN == Noun::Tunnel {
            self.tx.mark_tunnelled_stale()?;
        }
        Ok(())
    }

    /// Writes the audit log.
    pub(crate) fn note(self, note: Note) -> Result<(), Error> {
        let Note { verb, noun, id, name, place, before, after } = note;
        let (organization, network) = match place {
            Place::Panel => (None, None),
            Place::Organization(organization) => (Some(organization), None),
            Place::Network(network) => (self.tx.owner(network)?, Some(network)),
        };
        self.tx.log(&Entry {
            number: 0,
            time_ms: self.now_ms,
            actor_id: self.who.user,
            actor: self.who.name.clone(),
            verb,
            noun,
            object_id: id,
            object: name,
            organization,
            network,
            before,
            after,
        })?;
        Ok(())
    }

    /// Writes to the log what was done about a record beside its value, in words, and never a secret.
    pub(crate) fn note_of<T: Record>(self, id: Id<T>, what: Value) -> Result<(), Error> {
        let Some(stored) = self.tx.get(id)? else { return Ok(()) };
        self.note(Note {
            verb: Verb::Change,
            noun: T::NOUN,
            id: id.number(),
            name: stored.value.name().to_owned(),
            place: stored.place,
            before: None,
            after: Some(what),
        })
    }

    /// Writes to the log what was done about a server, a network, or all of them.
    pub(crate) fn note_errand(
        self,
        network: Option<Id<Network>>,
        server: Option<Id<Server>>,
        what: Value,
    ) -> Result<(), Error> {
        match (server, network) {
            (Some(server), _) => self.note_of(server, what),
            // A network's own record lives in its organization; what is done in it is for its admins to see.
            (None, network) => self.note(Note {
                verb: Verb::Change,
                noun: network.map_or(Noun::Server, |_| Noun::Network),
                id: network.map_or(0, Id::number),
                name: match network {
                    Some(network) => self.tx.get(network)?.map(|stored| stored.value.name),
                    None => None,
                }
                .map(|name| name.to_string())
                .unwrap_or_default(),
                place: network.map_or(Place::Panel, Id::place),
                before: None,
                after: Some(what),
            }),
        }
    }

    /// What of a noun the actor may see.
    pub(crate) fn scope<T: Record>(self) -> Scope {
        self.scope_to::<T>(Verb::Read)
    }

    /// What of a noun the actor may do this to.
    pub(crate) fn scope_to<T: Record>(self, verb: Verb) -> Scope {
        self.scope_of(T::OWNER, least(verb, T::NOUN))
    }

    /// The log shows what was, so it takes the admin of what it speaks of. What it has of no network speaks of users too: a
    /// token that counts for less than what sees these is shown its networks alone.
    pub(crate) fn audit_scope(self) -> Result<Scope, Error> {
        let below = |limit: Limit| limit.most < least(Verb::Read, Noun::User);
        let narrow = self.who.limit.is_some_and(below);
        Ok(match self.scope_of(Owner::Network("network_id"), Rank::Admin) {
            Scope::All if narrow => Scope::Networks(self.tx.networks_of(None)?),
            Scope::Organization(home) if narrow => {
                Scope::Networks(self.tx.networks_of(Some(home))?)
            }
            scope => scope,
        })
    }

    fn scope_of(self, owner: Owner, least: Rank) -> Scope {
        let who = self.who;
        let enough = |place, of| who.rank(place, of).is_some_and(|rank| rank >= least);
        let everywhere = who.standing == Standing::Superadmin;
        match (owner, who.limit) {
            (Owner::Network(_), Some(Limit { network: Some(network), .. })) => {
                let of = self.tx.owner(network).ok().flatten();
                if enough(Place::Network(network), of) {
                    Scope::Networks(vec![network])
                } else {
                    Scope::Nothing
                }
            }
            (Owner::Panel, _) if enough(Place::Panel, None) => Scope::All,
            (Owner::Panel, _) => Scope::Nothing,
            (Owner::Organization(_) | Owner::Network(_), _) if everywhere => {
                if enough(Place::Panel, None) { Scope::All } else { Scope::Nothing }
            }
            (Owner::Organization(_), _) => self.home_scope(enough),
            (Owner::Network(_), _) if who.standing == Standing::OrganizationAdmin => {
                self.home_scope(enough)
            }
            (Owner::Network(_), _) => Scope::Networks(
                who.roles
                    .iter()
                    .map(|(network, _)| *network)
                    .filter(|network| enough(Place::Network(*network), None))
                    .collect(),
            ),
        }
    }

    fn home_scope(self, enough: impl Fn(Place, Option<Id<Organization>>) -> bool) -> Scope {
        match self.who.organization {
            Some(home) if enough(Place::Organization(home), None) => Scope::Organization(home),
            _ => Scope::Nothing,
        }
    }
}

/// Refuses when there are faults.
pub(crate) fn invalid(faults: Vec<FieldError>) -> Result<(), Error> {
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// The organization of a place, for limits.
pub(crate) fn organization_of(
    tx: Tx<'_>,
    place: Place,
) -> Result<Option<Id<Organization>>, store::Error> {
    match place {
        Place::Panel => Ok(None),
        Place::Organization(organization) => Ok(Some(organization)),
        Place::Network(network) => tx.owner(network),
    }
}
