//! What the link knows of the servers at this moment: connections, and what happened last. It lies in memory alone: after a start
//! the agents tell again what they remember. Who may see what of it is for the operations to say.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use model::wire::Event;
use tokio::sync::{broadcast, watch};

use super::{Connection, Connections, Happened};
use crate::noun::{Id, Server};

/// How many events a slow listener may be late; then it misses some.
const EVENTS: usize = 1024;
/// How many events of a server are remembered: a room of devices that boots has six each.
const REMEMBERED: usize = 1024;

/// What is known of the servers.
#[derive(Debug)]
pub(crate) struct Board {
    connections: watch::Sender<Connections>,
    events: broadcast::Sender<Happened>,
    remembered: Mutex<BTreeMap<Id<Server>, VecDeque<Event>>>,
    sights: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            connections: watch::Sender::default(),
            events: broadcast::Sender::new(EVENTS),
            remembered: Mutex::default(),
            sights: watch::Sender::default(),
        }
    }
}

impl Board {
    pub(crate) fn connections(&self) -> watch::Receiver<Connections> {
        self.connections.subscribe()
    }

    pub(crate) fn connection(&self, server: Id<Server>) -> Option<Connection> {
        self.connections.borrow().get(&server).cloned()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Happened> {
        self.events.subscribe()
    }

    /// Rises whenever a server shows something else than before.
    pub(crate) fn sights(&self) -> watch::Receiver<u64> {
        self.sights.subscribe()
    }

    pub(crate) fn seen(&self) {
        self.sights.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// Notes how a connection is. That a server answered once more as before is no news.
    pub(crate) fn note(&self, server: Id<Server>, change: impl FnOnce(&mut Connection)) {
        let mut news = false;
        self.connections.send_modify(|all| {
            let connection = all.entry(server).or_default();
            let before = connection.clone();
            change(connection);
            let plain =
                |c: &Connection| Connection { seen_ms: None, latency_ms: None, ..c.clone() };
            news = plain(&before) != plain(connection);
        });
        if news {
            self.seen();
        }
    }

    /// Forgets the servers that are not kept any more.
    pub(crate) fn retain(&self, kept: impl Fn(&Id<Server>) -> bool) {
        let gone = self.connections.send_if_modified(|all| {
            let before = all.len();
            all.retain(|server, _| kept(server));
            all.len() != before
        });
        if gone {
            self.remembered().retain(|server, _| kept(server));
            self.seen();
        }
    }

    pub(crate) fn happened(&self, happened: Happened) {
        {
            let mut remembered = self.remembered();
            let events = remembered.entry(happened.server).or_default();
            if events.len() == REMEMBERED {
                events.pop_front();
            }
            events.push_back(happened.event.clone());
        }
        // Nobody may be listening.
        let _heard = self.events.send(happened);
        self.seen();
    }

    /// The last events of a server, the newest first.
    pub(crate) fn last(&self, server: Id<Server>, most: usize) -> Vec<Event> {
        let remembered = self.remembered();
        let events = remembered.get(&server).into_iter().flatten().rev();
        events.take(most).cloned().collect()
    }

    fn remembered(&self) -> MutexGuard<'_, BTreeMap<Id<Server>, VecDeque<Event>>> {
        // Events that were half put in are events.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use model::wire::EventKind;

    use super::*;
    use crate::fleet::State;

    fn server() -> Id<Server> {
        Id::new(7)
    }

    fn event(number: u64) -> Happened {
        let kind = EventKind::Applied { generation: number };
        Happened { server: server(), event: Event { number, time_ms: number, kind } }
    }

    #[test]
    fn that_a_server_answered_once_more_is_no_news() {
        let board = Board::default();
        let mut sights = board.sights();
        board.note(server(), |connection| connection.state = State::Connected);
        assert!(sights.has_changed().unwrap());
        sights.mark_unchanged();
        board.note(server(), |connection| connection.seen_ms = Some(1));
        assert!(!sights.has_changed().unwrap());
        assert_eq!(board.connection(server()).unwrap().seen_ms, Some(1));
    }

    #[test]
    fn the_last_events_are_remembered_and_a_server_that_is_gone_is_forgotten() {
        let board = Board::default();
        board.note(server(), |_| {});
        let most = u64::try_from(REMEMBERED).unwrap();
        for number in 0..=most {
            board.happened(event(number));
        }
        let numbers = |most| -> Vec<u64> {
            board.last(server(), most).iter().map(|event| event.number).collect()
        };
        assert_eq!(numbers(2), [most, most - 1]);
        assert_eq!(numbers(REMEMBERED + 1).last(), Some(&1), "the first was pushed out");
        assert_eq!(board.last(Id::new(8), 9), []);
        board.retain(|_| false);
        assert!(numbers(1).is_empty() && board.connection(server()).is_none());
    }
}
