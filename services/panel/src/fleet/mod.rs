//! The link to the fleet: one task for each server that joined keeps a connection to its agent, tells it its document when that
//! changes and whenever it comes back, and keeps what it shows. A server that is slow or dead costs nobody else anything: what
//! pages show of connections lies in memory, and the store is asked by a few at a time.

mod board;
mod link;
mod listen;
mod renewal;
mod server;
mod session;
mod sight;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

pub(crate) use board::Board;
pub use link::{Direct, Link, Opened};
use model::{validate::Fault, wire};
use schemars::JsonSchema;
use serde::Serialize;
pub use server::chain;
pub(crate) use server::{Never, STEADY, backoff};
pub(crate) use session::off_the_books;
pub use session::{Error, Identity};
use tokio::{
    sync::{Semaphore, broadcast, watch},
    task::{AbortHandle, JoinHandle, JoinSet},
};

use crate::{
    desired::Published,
    noun::{Id, Server, Tunnel},
    operations::{Panel, PublishedOf},
    store::Peer,
    tunnels::Authorities,
};

/// How many of the fleet's tasks may be at the store at once: pages ask it too.
const AT_THE_STORE: usize = 4;
/// How long until the servers are looked at again when nobody said that something changed: after a failure of the store.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How the connection to a server stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// Whether it is there.
    pub state: State,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// The address that the server was reached at.
    pub address: Option<IpAddr>,
    /// The tunnel that it was reached through; absent where it was reached straight.
    pub tunnel: Option<Id<Tunnel>>,
    /// When it answered last.
    pub seen_ms: Option<u64>,
    /// How long it took to answer when the connection was made, in milliseconds.
    pub latency_ms: Option<u64>,
    /// How far its clock is ahead of the panel's, in milliseconds, in whole tens of seconds.
    pub clock_ms: Option<i64>,
    /// Why there is no connection, or why the server can't be told its document, with the causes.
    pub error: Option<String>,
    /// The same as somebody can do something about it.
    pub trouble: Option<Trouble>,
    /// The document that it did not take, until it takes one.
    pub refused: Option<Refused>,
}

/// Whether a connection is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ConnectionState")]
pub enum State {
    /// It was not there yet since the panel started.
    #[default]
    Connecting,
    /// It is there.
    Connected,
    /// It was lost, or never came about; it is tried again and again.
    Lost,
}

/// What is between the panel and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Nothing answers at its addresses.
    Unreachable,
    /// One of both sides does not trust the other's certificate.
    Untrusted,
    /// Its certificate was taken back, or is not one that it was given.
    Certificate,
    /// It stopped to answer.
    Silent,
    /// It answers what it should not.
    Odd,
    /// The panel itself failed.
    Panel,
}

impl State {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Lost => "lost",
        }
    }
}

/// A document that a server did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its generation number.
    pub generation: u64,
    /// What the server found.
    pub faults: Vec<Fault>,
}

/// Something that happened on a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// The server.
    pub server: Id<Server>,
    /// What.
    pub event: wire::Event,
}

/// Connections by the server.
pub type Connections = BTreeMap<Id<Server>, Connection>;

/// The link to the fleet, at work until it is stopped or dropped.
#[derive(Debug)]
pub struct Fleet {
    board: Arc<Board>,
    identity: watch::Sender<Identity>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// What all tasks share.
struct Shared<L> {
    panel: Arc<Panel>,
    link: L,
    identity: watch::Receiver<Identity>,
    authorities: Authorities,
    board: Arc<Board>,
    store: Arc<Semaphore>,
}

impl Fleet {
    /// Begins to keep the servers of this panel over this link, and renews their certificates. Runs on the runtime that it is called
    /// in.
    pub fn start<L: Link>(
        panel: Arc<Panel>,
        authorities: Authorities,
        link: L,
        identity: Identity,
    ) -> Self {
        let board = panel.board();
        // What a link before this one saw says nothing of what this one will.
        board.retain(|_| false);
        let identity = watch::Sender::new(identity);
        let shared = Arc::new(Shared {
            panel,
            link,
            identity: identity.subscribe(),
            authorities,
            board: Arc::clone(&board),
            store: Arc::new(Semaphore::new(AT_THE_STORE)),
        });
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(supervise(shared, stop.subscribe()));
        Self { board, identity, stop, task: Some(task) }
    }

    /// How the connections stand; wakes when one changes.
    pub fn connections(&self) -> watch::Receiver<Connections> {
        self.board.connections()
    }

    /// What happens on the servers from now on. After a connection was lost, and at the start, what the agents remember comes first.
    pub fn events(&self) -> broadcast::Receiver<Happened> {
        self.board.events()
    }

    /// Connects with another certificate from now on; connections that stand go on.
    pub fn renew(&self, identity: Identity) {
        self.identity.send_replace(identity);
    }

    /// Ends all connections. When this returns, nothing of it is at the store any more.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the link to the fleet died");
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl<L: Link> Shared<L> {
    /// Does this at the store, where blocking is allowed, when there is room.
    async fn at_store<T: Send + 'static, E: Into<server::Failure> + Send + 'static>(
        &self,
        work: impl FnOnce(&Panel) -> Result<T, E> + Send + 'static,
    ) -> Result<T, server::Failure> {
        let permit = Arc::clone(&self.store).acquire_owned().await;
        let panel = Arc::clone(&self.panel);
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&panel);
            drop(permit);
            done
        });
        match done.await {
            Ok(done) => done.map_err(Into::into),
            Err(error) => Err(server::Failure::Died(error)),
        }
    }

    fn note(&self, server: Id<Server>, change: impl FnOnce(&mut Connection)) {
        self.board.note(server, change);
    }
}

/// A server's task, and the way to tell it of news.
struct Kept {
    peer: watch::Sender<Peer>,
    wanted: watch::Sender<u64>,
    task: AbortHandle,
}

async fn supervise<L: Link>(shared: Arc<Shared<L>>, mut stop: watch::Receiver<bool>) {
    let mut changes = shared.panel.changes();
    let mut kept: BTreeMap<Id<Server>, Kept> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        changes.mark_unchanged();
        match shared.at_store(Panel::publish).await {
            Ok(published) => report(published),
            Err(error) => {
                tracing::error!(
                    error = server::chain(&error),
                    "the servers' documents can't be made"
                );
            }
        }
        // Apart from that, and after it: whatever becomes of one document, each server is followed, and told what is kept for it.
        match shared.at_store(Panel::peers).await {
            Ok(peers) => follow(&shared, peers, &mut kept, &mut tasks),
            Err(error) => {
                tracing::error!(error = server::chain(&error), "the servers can't be found");
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            Some(Err(error)) = tasks.join_next() => if error.is_panic() {
                tracing::error!(%error, "a server's task died");
            },
        }
    }
    tasks.shutdown().await;
    shared.board.retain(|_| false);
    // Whoever is at the store holds a permit.
    let _all = shared.store.acquire_many(u32::try_from(AT_THE_STORE).unwrap_or(1)).await;
}

/// Begins a task for each server that joined, tells those that run of news, and ends those of servers that are gone.
fn follow<L: Link>(
    shared: &Arc<Shared<L>>,
    peers: Vec<Peer>,
    kept: &mut BTreeMap<Id<Server>, Kept>,
    tasks: &mut JoinSet<()>,
) {
    let there: BTreeMap<_, _> = peers.into_iter().map(|peer| (peer.server, peer)).collect();
    kept.retain(|server, kept| {
        let stays = there.contains_key(server) && !kept.task.is_finished();
        if !stays {
            kept.task.abort();
        }
        stays
    });
    shared.board.retain(|server| there.contains_key(server));
    for (server, peer) in there {
        if let Some(kept) = kept.get(&server) {
            kept.wanted.send_if_modified(|wanted| {
                std::mem::replace(wanted, peer.generation) != peer.generation
            });
            kept.peer.send_if_modified(|known| {
                // A new document says nothing of where the server may be.
                known.generation = peer.generation;
                let changed = *known != peer;
                *known = peer;
                changed
            });
            continue;
        }
        let now_ms = shared.panel.now_ms();
        shared.note(server, |connection| connection.since_ms = now_ms);
        let wanted = watch::Sender::new(peer.generation);
        let peer = watch::Sender::new(peer);
        let task = server::keep(Arc::clone(shared), server, peer.subscribe(), wanted.subscribe());
        kept.insert(server, Kept { peer, wanted, task: tasks.spawn(task) });
    }
}

/// Says of which servers the document can't be made. Those that can be told find it in the store.
fn report(published: Vec<PublishedOf>) {
    for (server, published) in published {
        match published {
            Ok(Published::Unchanged | Published::Changed { .. }) => {}
            Ok(Published::Faulty { faults }) => {
                tracing::error!(%server, ?faults, "the server would refuse its document: it keeps the one before");
            }
            Err(error) => {
                let error = server::chain(&error);
                tracing::error!(%server, error, "the server's document can't be made: it keeps the one before");
            }
        }
    }
}

#[cfg(test)]
mod tests;
