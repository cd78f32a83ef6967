//! The link to the tunnels: one task for each that is the panel's keeps a connection to its API, tells it who may come in when that
//! changes and whenever it comes back, renews its certificate, and waits there for boxes that join. Through them [`Through`] opens
//! streams to servers, and [`pair`] makes a tunnel the panel's.
//!
//! A tunnel carries ciphertext: who is at the other end of a stream is found out inside it. Nothing here decides who may come in.

mod board;
mod connection;
mod joins;
mod keep;
mod link;
mod pair;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

pub(crate) use board::Board;
pub use board::{Presence, Presences};
use connection::Api;
pub use connection::Error;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
pub use link::{Carried, Routed, Through};
pub use pair::{PairError, pair};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinError, JoinHandle, JoinSet},
};

use crate::{
    ca::Ca,
    fleet::{Identity, chain},
    noun::{Id, Tunnel},
    operations::{self, Panel},
    store::Relay,
};

/// How long until the tunnels are looked at again when nobody said that something changed: after a failure of the store.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How many boxes that join may wait for whoever serves them; further ones are turned away, and ask again.
const JOINS_WAITING: usize = 32;

/// Gives the authorities of the moment.
pub type Authorities = Arc<dyn Fn() -> Arc<Ca> + Send + Sync>;

/// A box that joins through a tunnel: its bytes, in which it speaks TLS.
#[derive(Debug)]
pub struct Arrival {
    /// The tunnel.
    pub tunnel: Id<Tunnel>,
    /// The address that the tunnel saw it come from.
    pub address: IpAddr,
    /// The stream.
    pub stream: TokioIo<Upgraded>,
}

/// The link to the tunnels, at work until it is stopped or dropped.
#[derive(Debug)]
pub struct Tunnels {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// What all tasks share.
struct Shared {
    panel: Arc<Panel>,
    authorities: Authorities,
    /// Of the tunnels' APIs.
    port: u16,
    identity: watch::Sender<Identity>,
    relays: watch::Sender<BTreeMap<Id<Tunnel>, Relay>>,
    board: Arc<Board>,
    joins: mpsc::Sender<Arrival>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Why something could not be done at the store.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Operation(#[from] operations::Error),
    #[error(transparent)]
    Certify(#[from] operations::CertifyError),
    #[error("the store's work died")]
    Died(#[from] JoinError),
}

impl Tunnels {
    /// Begins to keep the tunnels of this panel, whose APIs answer at this port, and gives the boxes that join through them. Runs on
    /// the runtime that it is called in.
    pub fn start(
        panel: Arc<Panel>,
        authorities: Authorities,
        identity: Identity,
        port: u16,
    ) -> (Self, mpsc::Receiver<Arrival>) {
        let (joins, arrivals) = mpsc::channel(JOINS_WAITING);
        let board = panel.tunnels_board();
        // What a link before this one saw says nothing of what this one will.
        board.retain(|_| false);
        let shared = Arc::new(Shared {
            panel,
            authorities,
            port,
            identity: watch::Sender::new(identity),
            relays: watch::Sender::default(),
            board,
            joins,
        });
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(supervise(Arc::clone(&shared), stop.subscribe()));
        (Self { shared, stop, task: Some(task) }, arrivals)
    }

    /// The way to servers through these tunnels.
    pub fn link(&self) -> Through {
        Through::new(Arc::clone(&self.shared))
    }

    /// How the tunnels are; wakes when one changes.
    pub fn presences(&self) -> watch::Receiver<Presences> {
        self.shared.board.presences()
    }

    /// Connects with another certificate from now on; connections that stand go on.
    pub fn renew(&self, identity: Identity) {
        self.shared.identity.send_replace(identity);
    }

    /// Ends all connections.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the link to the tunnels died");
        }
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Shared {
    /// Connects to a tunnel as it is known at this moment: a certificate that it was just given is among those that count.
    async fn connect(&self, tunnel: Id<Tunnel>) -> Result<Api, Error> {
        let relay =
            self.relays.borrow().get(&tunnel).cloned().ok_or(Error::Certificate(Vec::new()))?;
        let identity = self.identity.borrow().clone();
        Api::connect(&relay, self.port, &identity).await
    }

    /// Does this at the store, where blocking is allowed.
    async fn at_store<T: Send + 'static, E: Into<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&Panel) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StoreError> {
        let panel = Arc::clone(&self.panel);
        tokio::task::spawn_blocking(move || work(&panel)).await?.map_err(Into::into)
    }
}

/// A tunnel's task, and the way to tell it of news.
struct Kept {
    relay: watch::Sender<Relay>,
    task: AbortHandle,
}

async fn supervise(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut changes = shared.panel.changes();
    let mut kept: BTreeMap<Id<Tunnel>, Kept> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        changes.mark_unchanged();
        match shared.at_store(Panel::relays).await {
            Ok(relays) => follow(&shared, relays, &mut kept, &mut tasks),
            Err(error) => tracing::error!(error = chain(&error), "the tunnels can't be found"),
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            Some(Err(error)) = tasks.join_next() => if error.is_panic() {
                tracing::error!(%error, "a tunnel's task died");
            },
        }
    }
    tasks.shutdown().await;
    shared.board.retain(|_| false);
}

/// Begins a task for each tunnel, tells those that run of news, and ends those of tunnels that are forgotten.
fn follow(
    shared: &Arc<Shared>,
    relays: Vec<Relay>,
    kept: &mut BTreeMap<Id<Tunnel>, Kept>,
    tasks: &mut JoinSet<()>,
) {
    let there: BTreeMap<_, _> = relays.into_iter().map(|relay| (relay.tunnel, relay)).collect();
    kept.retain(|tunnel, kept| {
        let stays = there.contains_key(tunnel) && !kept.task.is_finished();
        if !stays {
            kept.task.abort();
        }
        stays
    });
    shared.board.retain(|tunnel| there.contains_key(tunnel));
    shared.relays.send_if_modified(|known| {
        let changed = *known != there;
        known.clone_from(&there);
        changed
    });
    for (tunnel, relay) in there {
        if let Some(kept) = kept.get(&tunnel) {
            kept.relay.send_if_modified(|known| {
                let changed = *known != relay;
                *known = relay;
                changed
            });
            continue;
        }
        let now_ms = shared.panel.now_ms();
        shared.board.note(tunnel, |presence| presence.since_ms = now_ms);
        let relay = watch::Sender::new(relay);
        let task = tasks.spawn(keep::keep(Arc::clone(shared), tunnel, relay.subscribe()));
        kept.insert(tunnel, Kept { relay, task });
    }
}
