//! One server's task: connects, looks, tells it its document, and begins anew, later and later, when that fails.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use model::wire;
use tokio::{
    sync::{Notify, watch},
    task::JoinError,
    time::Instant,
};

use super::{
    Happened, Link, Refused, Shared, State,
    session::{self, Session, Shown, Told},
};
use crate::{
    noun::{Id, Server},
    operations,
    store::Peer,
};

/// The first wait after a failure; each next one is twice as long, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A connection that stood for so long is begun anew at once when it breaks.
const STEADY: Duration = Duration::from_secs(10);
/// The least time between two statuses of one server, for each is kept: short while it works at a document that is new, then
/// twice as long each time, for some documents take hours, and longest while it changes for other reasons, as when a room boots.
const PACE: Duration = Duration::from_millis(100);
/// So long after news the pace is the short one.
const NEW: Duration = Duration::from_secs(3);
const BUSY_PACE: Duration = Duration::from_secs(1);
/// An event is a line of a few hundred bytes.
const MOST_LINE_BYTES: usize = 64 << 10;

/// Why a server is not kept up to date.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It can't be asked.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// What it shows can't be kept.
    #[error("what the server shows can't be kept")]
    Operation(#[from] operations::Error),
    /// A call of the store panicked.
    #[error("the store's work died")]
    Died(#[source] JoinError),
    /// Another certificate counts now.
    #[error("its certificate was replaced or revoked")]
    Recertified,
    /// It has another document of the same number.
    #[error("the server had another document of this number; it is told anew")]
    Conflict,
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// How long to wait after so many failures in a row: doubled each time, and of that between a half and all of it, so that a
/// hundred servers that were lost in one moment don't come back in one.
fn backoff(failures: u32, random: f64) -> Duration {
    let full = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + random / 2.0)
}

/// How long to wait for another status after one was waited for so long.
fn next_pace(pace: Duration, new: bool) -> Duration {
    if new { PACE } else { (pace * 2).min(BUSY_PACE) }
}

/// What of a server's events was passed on: since agents count anew in each life, the time tells first.
type Mark = (u64, u64);

/// Keeps a server for ever.
pub(super) async fn keep<L: Link>(
    shared: Arc<Shared<L>>,
    server: Id<Server>,
    mut peer: watch::Receiver<Peer>,
    wanted: watch::Receiver<u64>,
) {
    let mut failures = 0;
    let mut mark = Mark::default();
    loop {
        let now = peer.borrow_and_update().clone();
        let name = now.name.clone();
        let began = Instant::now();
        let mut link = Kept { shared: &shared, peer: now, wanted: wanted.clone(), mark: &mut mark };
        let failure = match link.run(peer.clone()).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        let why = chain(&failure);
        let now_ms = shared.panel.now_ms();
        let mut connected = false;
        shared.note(server, |connection| {
            connected = connection.state == State::Connected;
            if connection.state != State::Lost {
                (connection.state, connection.since_ms) = (State::Lost, now_ms);
            }
            connection.error = Some(why.clone());
        });
        if connected {
            tracing::warn!(%server, %name, error = why, "server lost");
        } else {
            tracing::debug!(%server, %name, error = why, "server not reached");
        }
        failures = if connected && began.elapsed() >= STEADY { 0 } else { failures + 1 };
        // Where it may be, or what counts of it, changed: what failed before says nothing.
        tokio::select! {
            () = tokio::time::sleep(backoff(failures, rand::random())) => {}
            changed = peer.changed() => {
                if changed.is_err() {
                    return;
                }
                failures = 0;
            }
        }
    }
}

/// What never is.
enum Never {}

struct Kept<'a, L> {
    shared: &'a Arc<Shared<L>>,
    peer: Peer,
    wanted: watch::Receiver<u64>,
    mark: &'a mut Mark,
}

impl<L: Link> Kept<'_, L> {
    /// Connects, and keeps the server up to date until something fails.
    async fn run(&mut self, peer: watch::Receiver<Peer>) -> Result<Never, Failure> {
        let server = self.peer.server;
        let shared = Arc::clone(self.shared);
        let mut watching = connect(&shared, &self.peer).await?;
        let asked = Instant::now();
        let first = watching.status(None).await?.ok_or(session::Error::TimedOut)?;
        let latency_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now_ms = shared.panel.now_ms();
        shared.note(server, |connection| {
            (connection.state, connection.since_ms) = (State::Connected, now_ms);
            (connection.latency_ms, connection.error) = (Some(latency_ms), None);
        });
        tracing::info!(%server, name = %self.peer.name, latency_ms, "server connected");
        let (shown, generations) = watch::channel(0);
        let tag = observe(&shared, server, first, &shown).await?;
        let (peer_now, wanted) = (self.peer.clone(), self.wanted.clone());
        let news = Notify::new();
        tokio::select! {
            failed = look(&shared, server, watching, tag, &shown, &news) => failed,
            failed = tell(&shared, &peer_now, wanted, generations, &news) => failed,
            never = keep_listening(&shared, &peer_now, self.mark) => Ok(never),
            () = recertified(&peer_now, peer) => Err(Failure::Recertified),
        }
    }
}

async fn connect<L: Link>(shared: &Arc<Shared<L>>, peer: &Peer) -> Result<Session, Failure> {
    let opened = shared.link.open(peer).await;
    let (stream, address) = opened.map_err(session::Error::Unreachable)?;
    let identity = shared.identity.borrow().clone();
    let session = Session::begin(stream, peer, &identity).await?;
    if let Some(address) = address {
        shared.note(peer.server, |connection| connection.address = Some(address));
        if peer.addresses.first() != Some(&address) {
            let server = peer.server;
            shared.at_store(move |panel| panel.reached(server, address)).await?;
        }
    }
    Ok(session)
}

/// Keeps what a server shows; its tag.
async fn observe<L: Link>(
    shared: &Arc<Shared<L>>,
    server: Id<Server>,
    seen: Shown,
    shown: &watch::Sender<u64>,
) -> Result<String, Failure> {
    let Shown { tag, status } = seen;
    let generation = status.generation;
    shared.at_store(move |panel| panel.observe(server, &status)).await?;
    shown.send_if_modified(|last| std::mem::replace(last, generation) != generation);
    let now_ms = shared.panel.now_ms();
    shared.note(server, |connection| connection.seen_ms = Some(now_ms));
    Ok(tag)
}

/// Follows the server's status; at once when there are `news`.
async fn look<L: Link>(
    shared: &Arc<Shared<L>>,
    server: Id<Server>,
    mut session: Session,
    mut tag: String,
    shown: &watch::Sender<u64>,
    news: &Notify,
) -> Result<Never, Failure> {
    let (mut pace, mut new_until) = (PACE, Instant::now() + NEW);
    loop {
        let mut works = false;
        match session.status(Some(&tag)).await? {
            Some(seen) => {
                works = !seen.status.converged;
                tag = observe(shared, server, seen, shown).await?;
            }
            None => {
                let now_ms = shared.panel.now_ms();
                shared.note(server, |connection| connection.seen_ms = Some(now_ms));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(if works { pace } else { BUSY_PACE }) => {
                pace = next_pace(pace, Instant::now() < new_until);
            }
            () = news.notified() => (pace, new_until) = (PACE, Instant::now() + NEW),
        }
    }
}

/// Tells the server its document: at once, for nobody knows what it has, and then each one that is new.
async fn tell<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &Peer,
    mut wanted: watch::Receiver<u64>,
    shown: watch::Receiver<u64>,
    news: &Notify,
) -> Result<Never, Failure> {
    let server = peer.server;
    let mut told = 0;
    loop {
        wanted.mark_unchanged();
        let document = shared.at_store(move |panel| panel.told(server)).await?;
        if let Some((generation, body)) = document.filter(|(generation, _)| *generation > told) {
            // Agents hang up on who is silent for long: a document goes by itself.
            let mut session = connect(shared, peer).await?;
            let answer = session.tell(body).await?;
            told = generation;
            news.notify_one();
            let ahead = *shown.borrow() > generation;
            let faults = match answer {
                Told::Accepted => Vec::new(),
                Told::Refused(faults) => faults,
                // What it showed says so too, and the next document has a higher number.
                Told::Conflict if ahead => Vec::new(),
                Told::Conflict => {
                    shared.at_store(move |panel| panel.retell(server, generation)).await?;
                    return Err(Failure::Conflict);
                }
            };
            if !faults.is_empty() {
                tracing::error!(%server, generation, ?faults, "the server refused its document");
            }
            let refused = Some(Refused { generation, faults }).filter(|r| !r.faults.is_empty());
            shared.note(server, |connection| connection.refused = refused);
        }
        // A sender that is gone took this task's handle with it.
        if wanted.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Passes on what happens on the server. That its events can't be heard ends nothing else.
async fn keep_listening<L: Link>(shared: &Arc<Shared<L>>, peer: &Peer, mark: &mut Mark) -> Never {
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

/// Waits until another certificate counts for the server than when the connection was made.
async fn recertified(before: &Peer, mut peer: watch::Receiver<Peer>) {
    let changed = peer.wait_for(|now| now.serials != before.serials).await.map(drop);
    if changed.is_err() {
        std::future::pending().await
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

    #[test]
    fn the_pace_is_quick_while_a_document_is_new_and_slows_down() {
        assert_eq!(next_pace(BUSY_PACE, true), PACE);
        assert_eq!(next_pace(PACE, false), 2 * PACE);
        assert_eq!(next_pace(BUSY_PACE, false), BUSY_PACE);
    }

    #[test]
    fn waits_double_up_to_the_longest_and_differ_by_chance() {
        assert_eq!(backoff(0, 1.0), FIRST_WAIT);
        assert_eq!(backoff(1, 1.0), FIRST_WAIT * 2);
        assert_eq!(backoff(1, 0.0), FIRST_WAIT);
        for failures in [10, 31, 32, 1000, u32::MAX] {
            assert_eq!(backoff(failures, 1.0), LONGEST_WAIT);
            assert_eq!(backoff(failures, 0.0), LONGEST_WAIT / 2);
        }
    }
}
