//! What happens on a server, as its agent tells it: passed on once each, though it is told again after each loss of the connection.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame};
use model::wire;
use tokio::{sync::watch, time::Instant};

use super::{
    Happened, Link, Shared,
    server::{Failure, Never, STEADY, backoff, chain, connect},
    session,
};
use crate::store::Peer;

/// An event is a line of a few hundred bytes.
const MOST_LINE_BYTES: usize = 64 << 10;
/// A room that boots tells hundreds of steps in a moment; those of so long, and so many, are kept together.
const GATHER: Duration = Duration::from_millis(100);
const MOST_GATHERED: usize = 512;

/// What of a server's events was passed on: since agents count anew in each life, the time tells first.
pub(super) type Mark = (u64, u64);

/// Passes on what happens on the server. That its events can't be heard ends nothing else.
pub(super) async fn keep_listening<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &watch::Receiver<Peer>,
    mark: &mut Mark,
) -> Never {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let now = peer.borrow().clone();
        let failure = match listen(shared, &now, mark).await {
            Ok(never) => return never,
            Err(failure) => chain(&failure),
        };
        tracing::debug!(server = %now.server, error = failure, "the server's events are not heard");
        failures = if began.elapsed() >= STEADY { 0 } else { failures + 1 };
        tokio::time::sleep(backoff(failures, rand::random())).await;
    }
}

async fn listen<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &Peer,
    mark: &mut Mark,
) -> Result<Never, Failure> {
    let mut session = connect(shared, peer).await?;
    let mut body = session.events().await?;
    let mut heard = Heard { lines: Lines::default(), warned: false, mark: *mark };
    while let Some(frame) = body.frame().await {
        let mut fresh = heard.fresh(peer, frame.map_err(session::Error::Http)?);
        let until = Instant::now() + GATHER;
        while !fresh.is_empty() && fresh.len() < MOST_GATHERED {
            match tokio::time::timeout_at(until, body.frame()).await {
                Ok(Some(frame)) => {
                    fresh.extend(heard.fresh(peer, frame.map_err(session::Error::Http)?));
                }
                Ok(None) | Err(_) => break,
            }
        }
        if !fresh.is_empty() {
            let (server, events) = (peer.server, fresh.clone());
            shared.at_store(move |panel| panel.keep_boots(server, &events)).await?;
            // What could not be kept is heard again.
            *mark = heard.mark;
            for event in fresh {
                shared.board.happened(Happened { server, event });
            }
        }
    }
    Err(session::Error::TimedOut.into())
}

/// What was heard of a server's events.
struct Heard {
    lines: Lines,
    warned: bool,
    mark: Mark,
}

impl Heard {
    /// The events that a frame ends and that were not heard before.
    fn fresh(&mut self, peer: &Peer, frame: Frame<Bytes>) -> Vec<wire::Event> {
        let Ok(data) = frame.into_data() else { return Vec::new() };
        let mut fresh = Vec::new();
        for event in self.lines.feed(&data) {
            match event {
                Ok(event) if (event.time_ms, event.number) > self.mark => {
                    self.mark = (event.time_ms, event.number);
                    fresh.push(event);
                }
                Ok(_) => {}
                Err(error) if !self.warned => {
                    self.warned = true;
                    tracing::warn!(server = %peer.server, %error, "an event can't be read and is left out, like others of its kind");
                }
                Err(_) => {}
            }
        }
        fresh
    }
}

/// Events, a line each.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// The events that these bytes end; one that can't be read leaves the next as they are.
    fn feed(&mut self, data: &[u8]) -> Vec<Result<wire::Event, serde_json::Error>> {
        let mut events = Vec::new();
        for byte in data {
            if *byte == b'\n' {
                events.push(serde_json::from_slice(&self.line));
                self.line.clear();
            } else if self.line.len() < MOST_LINE_BYTES {
                // What is longer is cut, and no object any more.
                self.line.push(*byte);
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_cannot_be_read_leaves_the_next_as_they_are() {
        let event = |number: u64| {
            format!(
                "{{\"number\":{number},\"time_ms\":7,\"event\":\"converged\",\"generation\":1}}\n"
            )
        };
        let long = format!("{{\"message\":\"{}\"}}\n", "x".repeat(2 * MOST_LINE_BYTES));
        let news = "{\"number\":2,\"time_ms\":7,\"event\":\"of a newer agent\"}\n".to_owned();
        let text = [event(1), news, "\u{fffd}\n".to_owned(), long, event(5)].concat();
        for size in [1, 7, text.len()] {
            let mut lines = Lines::default();
            let events: Vec<_> =
                text.as_bytes().chunks(size).flat_map(|data| lines.feed(data)).collect();
            let numbers: Vec<_> =
                events.iter().map(|event| event.as_ref().ok().map(|event| event.number)).collect();
            assert_eq!(numbers, [Some(1), None, None, None, Some(5)]);
            assert!(lines.line.is_empty());
        }
    }
}
