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

/// Whether tunnels are there: what streams through them are bound to, which need not wake for anything else.
pub(super) type States = BTreeMap<Id<Tunnel>, State>;

/// What is known of the tunnels.
#[derive(Debug, Default)]
pub(crate) struct Board {
    presences: watch::Sender<Presences>,
    states: watch::Sender<States>,
}

impl Board {
    pub(crate) fn presences(&self) -> watch::Receiver<Presences> {
        self.presences.subscribe()
    }

    /// How all are now.
    pub(crate) fn all(&self) -> Presences {
        self.presences.borrow().clone()
    }

    pub(super) fn states(&self) -> watch::Receiver<States> {
        self.states.subscribe()
    }

    /// Notes how a tunnel is. That it answered once more as before is no news.
    pub(crate) fn note(&self, tunnel: Id<Tunnel>, change: impl FnOnce(&mut Presence)) {
        let mut state = State::default();
        self.presences.send_if_modified(|all| {
            let presence = all.entry(tunnel).or_default();
            let before = presence.clone();
            change(presence);
            state = presence.state;
            let seen_ms = before.seen_ms;
            before != Presence { seen_ms, ..presence.clone() }
        });
        self.states.send_if_modified(|all| all.insert(tunnel, state) != Some(state));
    }

    /// Forgets the tunnels that are not kept any more.
    pub(crate) fn retain(&self, kept: impl Fn(&Id<Tunnel>) -> bool) {
        self.presences.send_if_modified(|all| {
            let before = all.len();
            all.retain(|tunnel, _| kept(tunnel));
            all.len() != before
        });
        self.states.send_if_modified(|all| {
            let before = all.len();
            all.retain(|tunnel, _| kept(tunnel));
            all.len() != before
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_tunnel_answered_once_more_is_no_news_and_streams_hear_of_its_state_alone() {
        let board = Board::default();
        let tunnel = Id::new(7);
        let (mut presences, mut states) = (board.presences(), board.states());
        let mut news = || {
            let news = (presences.has_changed().unwrap(), states.has_changed().unwrap());
            presences.mark_unchanged();
            states.mark_unchanged();
            news
        };
        board.note(tunnel, |presence| presence.state = State::Connected);
        assert_eq!(news(), (true, true));
        board.note(tunnel, |presence| presence.seen_ms = Some(1));
        assert_eq!((news(), board.all()[&tunnel].seen_ms), ((false, false), Some(1)));
        board.note(tunnel, |presence| presence.status = Some(Status::default()));
        assert_eq!(news(), (true, false));
        board.retain(|_| false);
        assert_eq!((news(), board.all().len()), ((true, true), 0));
    }
}
