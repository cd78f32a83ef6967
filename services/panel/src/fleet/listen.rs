//! What happens on a server, as its agent tells it: passed on once each, though it is told again after each loss of the connection.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use model::wire;
use tokio::time::Instant;

use super::{
    Happened, Link, Shared,
    server::{Failure, Never, STEADY, backoff, chain, connect},
    session,
};
use crate::store::Peer;

/// An event is a line of a few hundred bytes.
const MOST_LINE_BYTES: usize = 64 << 10;

/// What of a server's events was passed on: since agents count anew in each life, the time tells first.
pub(super) type Mark = (u64, u64);

/// Passes on what happens on the server. That its events can't be heard ends nothing else.
pub(super) async fn keep_listening<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &Peer,
    mark: &mut Mark,
) -> Never {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let failure = match listen(shared, peer, mark).await {
            Ok(never) => return never,
            Err(failure) => chain(&failure),
        };
        tracing::debug!(server = %peer.server, error = failure, "the server's events are not heard");
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
    let (mut lines, mut warned) = (Lines::default(), false);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(session::Error::Http)?.into_data() else { continue };
        for event in lines.feed(&data) {
            match event {
                Ok(event) if (event.time_ms, event.number) > *mark => {
                    *mark = (event.time_ms, event.number);
                    shared.board.happened(Happened { server: peer.server, event });
                }
                Ok(_) => {}
                Err(error) if !warned => {
                    warned = true;
                    tracing::warn!(server = %peer.server, %error, "an event can't be read and is left out, like others of its kind");
                }
                Err(_) => {}
            }
        }
    }
    Err(session::Error::TimedOut.into())
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
