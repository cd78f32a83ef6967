//! One server's task: connects, looks, tells it its document, and begins anew, later and later, when that fails.

use std::{sync::Arc, time::Duration};

use model::validate::Fault;
use tokio::{
    sync::{Notify, watch},
    task::JoinError,
    time::Instant,
};

use super::{
    Link, Opened, Refused, Shared, State, Trouble,
    listen::{Mark, keep_listening},
    renewal::{Renewed, keep_certified},
    session::{self, Session, Shown, Told},
    sight::Sight,
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
pub(crate) const STEADY: Duration = Duration::from_secs(10);
/// The least time between two statuses of one server, for each is kept: short while it works at a document that is new, then
/// twice as long each time, for some documents take hours, and longest while it changes for other reasons, as when a room boots.
const PACE: Duration = Duration::from_millis(100);
/// So long after news the pace is the short one.
const NEW: Duration = Duration::from_secs(3);
const BUSY_PACE: Duration = Duration::from_secs(1);

/// Why a server is not kept up to date.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It can't be asked.
    #[error(transparent)]
    Session(#[from] session::Error),
    /// What it shows can't be kept.
    #[error("what the server shows can't be kept")]
    Operation(#[from] operations::Error),
    /// It is given no other certificate.
    #[error(transparent)]
    Renewal(#[from] operations::RenewError),
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

impl Failure {
    /// What somebody can do about it.
    fn trouble(&self) -> Trouble {
        use session::Error;
        match self {
            Self::Session(Error::Unreachable(_)) => Trouble::Unreachable,
            Self::Session(Error::Tls(_)) => Trouble::Untrusted,
            Self::Session(Error::Certificate(_)) | Self::Recertified => Trouble::Certificate,
            Self::Session(Error::Http(_) | Error::TimedOut) => Trouble::Silent,
            Self::Session(
                Error::Refused(_) | Error::Status(_) | Error::TooLong | Error::Answer(_),
            )
            | Self::Conflict => Trouble::Odd,
            Self::Operation(_) | Self::Renewal(_) | Self::Died(_) => Trouble::Panel,
        }
    }
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
pub(crate) fn backoff(failures: u32, random: f64) -> Duration {
    let full = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + random / 2.0)
}

/// How long to wait for another status after one was waited for so long.
fn next_pace(pace: Duration, new: bool) -> Duration {
    if new { PACE } else { (pace * 2).min(BUSY_PACE) }
}

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
        let (mut connected, mut seen_ms) = (false, None);
        shared.note(server, |connection| {
            connected = connection.state == State::Connected;
            seen_ms = connection.seen_ms;
            if connection.state != State::Lost {
                (connection.state, connection.since_ms) = (State::Lost, now_ms);
            }
            (connection.error, connection.trouble) = (Some(why.clone()), Some(failure.trouble()));
        });
        if connected {
            tracing::warn!(%server, %name, error = why, "server lost");
            keep_last_sight(&shared, server, seen_ms).await;
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

/// Keeps when a server answered last, for it may be long until it does again, and the panel may be started anew before.
async fn keep_last_sight<L: Link>(
    shared: &Arc<Shared<L>>,
    server: Id<Server>,
    seen_ms: Option<u64>,
) {
    let Some(seen_ms) = seen_ms else { return };
    if let Err(error) = shared.at_store(move |panel| panel.last_seen(server, seen_ms)).await {
        tracing::error!(%server, error = chain(&error), "when the server was last seen can't be kept");
    }
}

/// What never is.
#[derive(Debug)]
pub(crate) enum Never {}

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
            connection.latency_ms = Some(latency_ms);
            (connection.error, connection.trouble) = (None, None);
        });
        tracing::info!(%server, name = %self.peer.name, latency_ms, "server connected");
        let shown = Sight::default();
        let tag = observe(&shared, server, first, &shown).await?;
        let (generations, certificates) =
            (shown.generation.subscribe(), shown.certificates.subscribe());
        let (before, wanted) = (self.peer.clone(), self.wanted.clone());
        let renewed = Renewed { certificates, wanted: wanted.clone() };
        let news = Notify::new();
        tokio::select! {
            failed = look(&shared, server, watching, tag, &shown, &news) => failed,
            failed = tell(&shared, &peer, wanted, generations, &news) => failed,
            never = keep_listening(&shared, &peer, self.mark) => Ok(never),
            never = keep_certified(&shared, &peer, renewed) => Ok(never),
            () = recertified(&before, peer.clone()) => Err(Failure::Recertified),
        }
    }
}

pub(super) async fn connect<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &Peer,
) -> Result<Session, Failure> {
    let opened = shared.link.open(peer).await;
    let Opened { stream, address, tunnel } = opened.map_err(session::Error::Unreachable)?;
    let identity = shared.identity.borrow().clone();
    let session = match Session::begin(stream, peer, &identity).await {
        Err(session::Error::Certificate(shown)) => {
            let (whose, der) = (operations::Whose::Server(peer.server), shown.clone());
            // It may come in the next time.
            shared.at_store(move |panel| panel.recognise(whose, &der)).await?;
            return Err(session::Error::Certificate(shown).into());
        }
        begun => begun?,
    };
    shared.note(peer.server, |connection| {
        (connection.address, connection.tunnel) = (address.or(connection.address), tunnel);
    });
    if let Some(address) = address
        && peer.addresses.first() != Some(&address)
    {
        let server = peer.server;
        shared.at_store(move |panel| panel.reached(server, address)).await?;
    }
    Ok(session)
}

/// Keeps what a server shows; its tag.
async fn observe<L: Link>(
    shared: &Arc<Shared<L>>,
    server: Id<Server>,
    seen: Shown,
    shown: &Sight,
) -> Result<String, Failure> {
    let Shown { tag, status } = seen;
    let status = Arc::new(status);
    let kept = Arc::clone(&status);
    shared.at_store(move |panel| panel.observe(server, &kept)).await?;
    shown.keep(&status);
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
    shown: &Sight,
    news: &Notify,
) -> Result<Never, Failure> {
    let (mut pace, mut new_until) = (PACE, Instant::now() + NEW);
    loop {
        let mut works = false;
        let seen = session.status(Some(&tag)).await?;
        let clock_ms = session.clock_ms();
        shared.note(server, |connection| connection.clock_ms = clock_ms);
        match seen {
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

/// Tells the server its document: at once, for nobody knows what it has, and then each one that is new. That it can't be told is
/// shown, and tried again; what the server shows meanwhile is looked at all the same.
async fn tell<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &watch::Receiver<Peer>,
    mut wanted: watch::Receiver<u64>,
    shown: watch::Receiver<u64>,
    news: &Notify,
) -> Result<Never, Failure> {
    let server = peer.borrow().server;
    let (mut told, mut failures) = (0, 0);
    loop {
        wanted.mark_unchanged();
        let now = peer.borrow().clone();
        let again = match tell_once(shared, &now, told, &shown).await {
            Ok(None) => false,
            Ok(Some(done)) => {
                news.notify_one();
                let Done { generation, faults, again } = done;
                if !faults.is_empty() {
                    tracing::error!(%server, generation, ?faults, "the server did not take its document");
                }
                let refused = Some(Refused { generation, faults }).filter(|r| !r.faults.is_empty());
                shared.note(server, |connection| {
                    connection.refused = refused;
                    (connection.error, connection.trouble) = (None, None);
                });
                told = if again { told } else { generation };
                again
            }
            Err(failure @ Failure::Conflict) => return Err(failure),
            Err(failure) => {
                let why = chain(&failure);
                tracing::warn!(%server, error = why, "the server can't be told its document");
                shared.note(server, |connection| {
                    (connection.error, connection.trouble) = (Some(why), Some(failure.trouble()));
                });
                true
            }
        };
        let wait = again.then(|| backoff(failures, rand::random()));
        failures = if again { failures + 1 } else { 0 };
        tokio::select! {
            () = pause(wait) => {}
            changed = wanted.changed() => if changed.is_err() {
                // A sender that is gone took this task's handle with it.
                return std::future::pending().await;
            },
        }
    }
}

/// For ever, where nothing is to be waited for.
async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// What became of a document.
struct Done {
    generation: u64,
    faults: Vec<Fault>,
    /// Whether the same may be taken later.
    again: bool,
}

/// Tells the server the document that is kept, where that has a higher number than what it was told.
async fn tell_once<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &Peer,
    told: u64,
    shown: &watch::Receiver<u64>,
) -> Result<Option<Done>, Failure> {
    let server = peer.server;
    let document = shared.at_store(move |panel| panel.told(server)).await?;
    let Some((generation, body)) = document.filter(|(generation, _)| *generation > told) else {
        return Ok(None);
    };
    // Agents hang up on who is silent for long: a document goes by itself.
    let mut session = connect(shared, peer).await?;
    let answer = session.tell(body).await?;
    let ahead = *shown.borrow() > generation;
    let done = |faults, again| Done { generation, faults, again };
    Ok(Some(match answer {
        Told::Accepted => done(Vec::new(), false),
        Told::Refused(faults) => done(faults, false),
        Told::NotKept(faults) => done(faults, true),
        // What it showed says so too, and the next document has a higher number.
        Told::Conflict if ahead => done(Vec::new(), false),
        Told::Conflict => {
            shared.at_store(move |panel| panel.retell(server, generation)).await?;
            return Err(Failure::Conflict);
        }
    }))
}

/// Waits until a certificate was taken back from the server that it had when the connection was made. One more takes nothing back.
async fn recertified(before: &Peer, mut peer: watch::Receiver<Peer>) {
    let lost = |now: &Peer| before.serials.iter().any(|serial| !now.serials.contains(serial));
    let changed = peer.wait_for(lost).await.map(drop);
    if changed.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
