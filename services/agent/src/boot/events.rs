//! What happened, numbered from 1 in each life of the agent: a bounded ring for those who ask later, a broadcast for those
//! who listen. Nothing here is ever written to disk.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use model::wire::{Event, EventKind};
use tokio::sync::broadcast;

/// How many events are kept for those who ask later.
pub const KEPT: usize = 4096;
const UNREAD: usize = 1024;

/// The agent's events.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    listeners: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Ring {
    next: u64,
    kept: VecDeque<Event>,
}

impl Default for Events {
    fn default() -> Self {
        let ring = Mutex::new(Ring { next: 1, kept: VecDeque::new() });
        Self { ring, listeners: broadcast::channel(UNREAD).0 }
    }
}

impl Events {
    /// Adds an event and returns its number.
    pub fn publish(&self, time_ms: u64, kind: EventKind) -> u64 {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event { number: ring.next, time_ms, kind };
        let number = event.number;
        ring.next += 1;
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(event.clone());
        // Sent under the lock, so that listeners hear them in the order of their numbers; an error says that nobody listens.
        let _nobody = self.listeners.send(event);
        number
    }

    /// The kept events with a number above `after`, at most `limit`, oldest first.
    pub fn since(&self, after: u64, limit: usize) -> Vec<Event> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.kept.iter().filter(|event| event.number > after).take(limit).cloned().collect()
    }

    /// Listens to the events from now on. One who falls behind by 1,024 is told so and finds the missed ones by [`Self::since`].
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.listeners.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_and_numbers_them_without_gaps() {
        let events = Events::default();
        for generation in 1..=KEPT as u64 + 10 {
            assert_eq!(events.publish(0, EventKind::Applied { generation }), generation);
        }
        let kept: Vec<u64> = events.since(0, usize::MAX).iter().map(|e| e.number).collect();
        assert_eq!(kept, (11..=KEPT as u64 + 10).collect::<Vec<_>>());
        assert_eq!(events.since(KEPT as u64 + 9, 5).len(), 1);
    }

    #[test]
    fn a_listener_hears_each_event_once() {
        let events = Events::default();
        let mut listener = events.subscribe();
        events.publish(7, EventKind::Converged { generation: 3 });
        let heard = listener.try_recv().unwrap();
        assert_eq!((heard.number, heard.time_ms), (1, 7));
        assert!(matches!(listener.try_recv(), Err(broadcast::error::TryRecvError::Empty)));
    }
}
