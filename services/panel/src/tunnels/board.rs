//! What the link knows of the tunnels at this moment. It lies in memory alone: after a start the tunnels tell it again.

use std::collections::BTreeMap;

use model::tunnel::Status;
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    fleet::{State, Trouble},
    noun::{Id, Tunnel},
};

/// How a tunnel is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// Whether the connection to its API is there.
    pub state: State,
    /// Since when it is so, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it answered last.
    pub seen_ms: Option<u64>,
    /// Why there is no connection, or why it can't be told who may come in, with the causes.
    pub error: Option<String>,
    /// The same as somebody can do something about it.
    pub trouble: Option<Trouble>,
    /// What it showed of itself last.
    pub status: Option<Status>,
}

/// The tunnels that are the panel's, or may be.
pub type Presences = BTreeMap<Id<Tunnel>, Presence>;

/// What is known of the tunnels.
#[derive(Debug, Default)]
pub(crate) struct Board {
    presences: watch::Sender<Presences>,
}

impl Board {
    pub(crate) fn presences(&self) -> watch::Receiver<Presences> {
        self.presences.subscribe()
    }

    /// How all are now.
    pub(crate) fn all(&self) -> Presences {
        self.presences.borrow().clone()
    }

    /// Notes how a tunnel is.
    pub(crate) fn note(&self, tunnel: Id<Tunnel>, change: impl FnOnce(&mut Presence)) {
        self.presences.send_modify(|all| change(all.entry(tunnel).or_default()));
    }

    /// Forgets the tunnels that are not kept any more.
    pub(crate) fn retain(&self, kept: impl Fn(&Id<Tunnel>) -> bool) {
        self.presences.send_if_modified(|all| {
            let before = all.len();
            all.retain(|tunnel, _| kept(tunnel));
            all.len() != before
        });
    }
}
