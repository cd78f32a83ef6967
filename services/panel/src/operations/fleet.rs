//! Between the store and the servers: what each shall be, what it said, and what a change would bring.

use model::{desired::Desired, name::Mark, plan::Plan, wire::Status};
use serde::Serialize;
use serde_json::json;

use super::{Actor, Data, Error, Kind, Panel, Work};
use crate::{
    access::Verb,
    desired::{Published, about_to_change, publish, rendered, to_do},
    noun::{Id, Network, Noun, Place, Server, Stored},
    sighting::Sighting,
    store::{self, Document},
};

/// The highest number that a server may show of a document that we never gave: far above what panels give in their lives, and so
/// far below the database's highest that there is room above it.
const MOST_SHOWN: u64 = 1 << 53;

/// What became of the document of one server.
pub type PublishedOf = (Id<Server>, Result<Published, Error>);

/// What a change would bring to one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// The server.
    pub server: Id<Server>,
    /// Its name.
    pub name: String,
    /// What it would do beyond what it does anyway. Empty until the server has shown itself for the first time.
    pub plan: Plan,
    /// Whether its document would change at all.
    pub changes: bool,
    /// Whether the server has shown itself, so that the plan says something.
    pub known: bool,
}

impl Panel {
    /// Renders the documents of all servers for which something changed; the link to the fleet calls it after each operation, and
    /// at its start. One that can't be made holds no other up.
    ///
    /// # Errors
    /// The store failed.
    pub fn publish(&self) -> Result<Vec<PublishedOf>, Error> {
        let stale = self.store.read(|tx| tx.stale_servers())?;
        let now_ms = (self.clock)();
        let list = self.revocations_pem();
        let list = list.as_deref();
        let one = |id| (id, self.store.write(|tx| Ok(publish(tx, id, list, now_ms)?)));
        Ok(stale.into_iter().map(one).collect())
    }

    /// Keeps what a server showed of itself; the link to the fleet calls it. What was to be destroyed and is seen gone leaves
    /// the server's document.
    ///
    /// # Errors
    /// The store failed; the server shows a document by a number that no panel gives, and nothing of it is kept.
    pub fn observe(&self, server: Id<Server>, status: &Status) -> Result<(), Error> {
        let generation = status.generation;
        let stale = self.store.write(|tx| {
            // The next document goes above the number that is kept, and must fit the database.
            let told = tx.body(server)?.map_or(0, |(generation, _)| generation);
            if generation > told.max(MOST_SHOWN) {
                return Err(Error::Generation { generation });
            }
            let now_ms = (self.clock)();
            tx.keep_status(server, status, now_ms)?;
            tx.keep_sighting(server, &Sighting::of(status), now_ms)?;
            let Some(document) = tx.document(server)? else { return Ok(false) };
            if status.generation > document.generation {
                // It has a document that we don't know: it is told ours anew, above its own number.
                tx.mark_server_stale(server)?;
                return Ok(true);
            }
            if !status.converged || status.generation < document.generation {
                return Ok(false);
            }
            let mut gone = false;
            for mark in tx.destroys(server)? {
                let there =
                    status.datasets.values().any(|state| state.mark.as_ref() == Some(&mark));
                gone |= !there && tx.forget_destroy(server, &mark)?;
            }
            if gone && let Some(Stored { place: Place::Network(network), .. }) = tx.get(server)? {
                tx.mark_stale(network)?;
            }
            Ok::<_, Error>(gone)
        })?;
        self.sight();
        if stale {
            self.announce();
        }
        Ok(())
    }

    /// Keeps when a server answered last; the link to the fleet calls it when a connection is lost.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn last_seen(&self, server: Id<Server>, seen_ms: u64) -> Result<(), Error> {
        self.store.write(|tx| Ok(tx.keep_sight(server, seen_ms)?))
    }

    /// The document that a server is to be told, and its number; absent before the first. For the link to the fleet.
    ///
    /// # Errors
    /// The store failed.
    pub fn told(&self, server: Id<Server>) -> Result<Option<(u64, String)>, Error> {
        self.store.read(|tx| Ok(tx.body(server)?))
    }

    /// Gives a server's document a higher number: it has another one of this number, as after a restore from a backup. For the
    /// link to the fleet.
    ///
    /// # Errors
    /// The store failed; the document can't be made, so that the one before stays.
    pub(crate) fn retell(&self, server: Id<Server>, generation: u64) -> Result<(), Error> {
        let now_ms = (self.clock)();
        let list = self.revocations_pem();
        self.store.write(|tx| {
            if !tx.forget_body(server, generation)? {
                return Ok(());
            }
            match publish(tx, server, list.as_deref(), now_ms)? {
                Published::Changed { .. } => Ok(()),
                // What was forgotten is not: nobody is told a document that says nothing.
                published @ (Published::Unchanged | Published::Faulty { .. }) => {
                    Err(Error::Untold { published })
                }
            }
        })
    }

    /// What a server was told last, and what it said to that; absent before the first document.
    ///
    /// # Errors
    /// There is no such server that the actor may see.
    pub fn document(&self, actor: Actor, server: Id<Server>) -> Result<Option<Document>, Error> {
        self.read(actor, |work| {
            work.seen(server)?;
            Ok(work.tx.document(server)?)
        })
    }

    /// What a server still has to do for the document that it was told last; absent until it has shown itself.
    ///
    /// # Errors
    /// There is no such server that the actor may see.
    pub fn to_do(&self, actor: Actor, server: Id<Server>) -> Result<Option<Plan>, Error> {
        let Some(document) = self.document(actor, server)? else { return Ok(None) };
        let Some(status) = document.status else { return Ok(None) };
        if status.converged && status.generation == document.generation {
            return Ok(Some(Plan::default()));
        }
        let told: Desired = serde_json::from_str(&document.body).map_err(store::Error::Json)?;
        Ok(Some(to_do(&told, &status)))
    }

    /// What making this would bring to the servers, without making it.
    ///
    /// # Errors
    /// As [`Panel::create`].
    pub fn preview_create<T: Kind>(
        &self,
        actor: Actor,
        parent: Place,
        value: &T,
    ) -> Result<Vec<Preview>, Error> {
        self.try_out(actor, |work| {
            let made = work.create(parent, value)?;
            previews(work, made.place)
        })
    }

    /// What this change would bring to the servers, without making it.
    ///
    /// # Errors
    /// As [`Panel::change`].
    pub fn preview_change<T: Kind>(
        &self,
        actor: Actor,
        id: Id<T>,
        version: u64,
        value: &T,
    ) -> Result<Vec<Preview>, Error> {
        self.try_out(actor, |work| {
            let changed = work.change(id, version, value)?;
            previews(work, changed.place)
        })
    }

    /// What deleting this would bring to the servers, without deleting it.
    ///
    /// # Errors
    /// As [`Panel::delete`].
    pub fn preview_delete<T: Kind>(
        &self,
        actor: Actor,
        id: Id<T>,
        version: u64,
        data: Data,
    ) -> Result<Vec<Preview>, Error> {
        self.try_out(actor, |work| {
            let place = work.seen(id)?.place;
            work.delete(id, version, data)?;
            previews(work, place)
        })
    }

    /// Allows a server to destroy what it reports and nothing asks for any more.
    ///
    /// # Errors
    /// The actor may not change the network's servers; a record of this mark is still there.
    pub fn destroy(&self, actor: Actor, network: Id<Network>, mark: &Mark) -> Result<(), Error> {
        self.write(actor, |work| {
            work.allow(Verb::Change, Noun::Server, network.place())?;
            if work.wanted(network, mark)? {
                let message = format!("{mark} is still in use: delete it first");
                return Err(Error::Invalid(vec![store::FieldError::new("mark", message)]));
            }
            work.tx.allow_destroy(network, mark)?;
            work.note_errand(Some(network), None, json!({ "destroy": mark.to_string() }))?;
            work.tx.mark_stale(network)?;
            Ok(())
        })
    }
}

impl Work<'_> {
    /// Whether a record has this mark.
    fn wanted(self, network: Id<Network>, mark: &Mark) -> Result<bool, Error> {
        use crate::noun::{Device, Group, Vdisk, Volume};
        let (tx, at) = (self.tx, network.place());
        Ok(match mark {
            // The folders of the tree are always wanted.
            Mark::Tree(_) => true,
            Mark::Volume(name) => tx.find::<Volume>(at, name.as_str())?.is_some(),
            Mark::Group(name) => tx.find::<Group>(at, name.as_str())?.is_some(),
            Mark::Vdisk(name) => tx.find::<Vdisk>(at, name.as_str())?.is_some(),
            Mark::Device(name) => tx.find::<Device>(at, name.as_str())?.is_some(),
        })
    }
}

/// What the state of this transaction would bring to the servers of a place.
fn previews(work: Work<'_>, place: Place) -> Result<Vec<Preview>, Error> {
    let Place::Network(network) = place else { return Ok(Vec::new()) };
    let mut previews = Vec::new();
    for server in work.tx.all::<Server>(network.place())? {
        let document = work.tx.document(server.id)?;
        let parse = |text: &str| serde_json::from_str::<Desired>(text).map_err(store::Error::Json);
        let before = document.as_ref().map(|document| parse(&document.body)).transpose()?;
        let before = before.unwrap_or_default();
        let mut after = rendered(work.tx, &server)?;
        after.generation = before.generation;
        // It is made anew now and then, whatever somebody changes.
        after.revocation_list_pem.clone_from(&before.revocation_list_pem);
        let status = document.and_then(|document| document.status);
        let plan = match &status {
            Some(status) => about_to_change(&before, &after, status),
            None => Plan::default(),
        };
        previews.push(Preview {
            server: server.id,
            name: server.value.name.to_string(),
            plan,
            changes: before != after,
            known: status.is_some(),
        });
    }
    Ok(previews)
}
