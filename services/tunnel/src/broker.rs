//! Streams of the panel to the servers of the table. Bytes pass as they come, both ways, through buffers of fixed size; what they
//! mean, nobody here knows. A port that is not held by its server's own user is never connected to.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use host::seam::chain;
use model::tunnel::{Agent, AgentStatus};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::TcpStream,
    sync::watch,
};

use crate::{
    counted::Counted,
    metrics::{Held, Metrics},
    owner::Clock,
    ports::{self, Holder, Listeners, Ports},
    session::Session,
    table::InForce,
};

/// What streams may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams of one server.
    pub streams_per_agent: u32,
    /// Streams in all.
    pub streams: u32,
    /// How long a server's port may take to accept one.
    pub connect_timeout: Duration,
    /// How long nothing may pass, either way. It is looked at as often: a stream is cut before twice as long. The panel listens to a
    /// server's events on one that may be quiet for long; who went without a word is noticed by the probes of TCP and of SSH.
    pub idle_timeout: Duration,
    /// How long one may take in all.
    pub total_timeout: Duration,
    /// What is buffered of a stream, each way, beside the kernel's own buffers.
    pub buffer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_agent: 8,
            streams: 8192,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(3600),
            total_timeout: Duration::from_secs(24 * 3600),
            buffer_bytes: 16 << 10,
        }
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is not in the table.
    #[error("server {0} is not in the table")]
    Unknown(u64),
    /// It has as many streams as it may have.
    #[error("the server has {0} streams already")]
    TooMany(u32),
    /// There are as many streams as there may be.
    #[error("the tunnel has {0} streams already")]
    Full(u32),
    /// Its port is not there.
    #[error("the server is not connected")]
    NotConnected,
    /// Its port is held by another user.
    #[error("port {port} is held by user {uid}, not by the server's own")]
    Stranger {
        /// The port.
        port: u16,
        /// The user's number.
        uid: u32,
    },
    /// It is not known who holds its port.
    #[error("it is not known who holds the server's port")]
    Ports(#[from] ports::Error),
    /// The port is there, and refuses.
    #[error("the server's port can't be connected to")]
    Connect(#[source] io::Error),
    /// The port is there, and does not answer.
    #[error("the server's port did not accept the connection in time")]
    Late,
}

impl Error {
    /// Whether the same may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::TooMany(_)
            | Self::Full(_)
            | Self::NotConnected
            | Self::Stranger { .. }
            | Self::Connect(_)
            | Self::Late => true,
            Self::Unknown(_) => false,
            Self::Ports(error) => error.retryable(),
        }
    }

    /// The word for it in metrics and problems.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown-server",
            Self::TooMany(_) => "too-many-streams",
            Self::Full(_) => "full",
            Self::NotConnected | Self::Connect(_) | Self::Late => "not-connected",
            Self::Stranger { .. } => "stranger",
            Self::Ports(_) => "failed",
        }
    }
}

/// Why a stream ended.
#[derive(Debug)]
enum End {
    Closed,
    Broken(io::Error),
    Removed,
    Refused,
    Idle,
    Total,
}

impl End {
    fn word(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken(_) => "broken",
            Self::Removed => "removed",
            Self::Refused => "refused",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }
}

/// Opens streams, and knows how the servers are connected.
#[derive(Clone)]
pub struct Broker {
    table: watch::Receiver<Arc<InForce>>,
    ports: Ports,
    limits: Limits,
    metrics: Metrics,
    clock: Clock,
    tallies: Tallies,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What is counted of each server.
type Tallies = Arc<Mutex<BTreeMap<u64, Tally>>>;

#[derive(Debug, Default)]
struct Tally {
    since_ms: Option<u64>,
    streams: u32,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    last_error: Option<String>,
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    agent: Agent,
    stream: Counted,
    place: Place,
    table: watch::Receiver<Arc<InForce>>,
    limits: Limits,
    metrics: Metrics,
}

/// A stream's place among those of its server.
#[derive(Debug)]
struct Place {
    server: u64,
    tallies: Tallies,
    _held: Held,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(tally) = locked(&self.tallies).get_mut(&self.server) {
            tally.streams = tally.streams.saturating_sub(1);
        }
    }
}

fn locked(tallies: &Tallies) -> MutexGuard<'_, BTreeMap<u64, Tally>> {
    tallies.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// A broker for the servers of a table.
    pub fn new(
        table: watch::Receiver<Arc<InForce>>,
        ports: Ports,
        limits: Limits,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self { table, ports, limits, metrics, clock, tallies: Tallies::default() }
    }

    /// Opens a stream to a server.
    ///
    /// # Errors
    /// It is not in the table, not connected, or has too many.
    pub async fn open(&self, server: u64) -> Result<Stream, Error> {
        let opened = self.open_if_there(server).await;
        if let Err(error) = &opened {
            self.metrics.stream_ended(error.word());
            tracing::info!(server, error = chain(error), "no stream");
            self.note(server, chain(error));
        }
        opened
    }

    async fn open_if_there(&self, server: u64) -> Result<Stream, Error> {
        let mut table = self.table.clone();
        let agent = table.borrow_and_update().agent(server).cloned();
        let agent = agent.ok_or(Error::Unknown(server))?;
        let (place, sent, received) = self.place(server)?;
        let port = agent.forward;
        match self.ports.holder(&self.ports.look().await?, port) {
            Holder::Own => {}
            Holder::Nobody => return Err(Error::NotConnected),
            Holder::Stranger { uid } => return Err(Error::Stranger { port: port.get(), uid }),
        }
        let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port.get()));
        let connected = tokio::time::timeout(self.limits.connect_timeout, connecting).await;
        let stream = connected.map_err(|_elapsed| Error::Late)?.map_err(Error::Connect)?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(server, %error, "TCP_NODELAY");
        }
        let stream = Counted::new(stream, sent, received, &self.metrics);
        let (limits, metrics) = (self.limits, self.metrics.clone());
        Ok(Stream { agent, stream, place, table, limits, metrics })
    }

    fn place(&self, server: u64) -> Result<(Place, Arc<AtomicU64>, Arc<AtomicU64>), Error> {
        let mut tallies = locked(&self.tallies);
        let open: u32 = tallies.values().map(|tally| tally.streams).sum();
        if open >= self.limits.streams {
            return Err(Error::Full(open));
        }
        let tally = tallies.entry(server).or_default();
        if tally.streams >= self.limits.streams_per_agent {
            return Err(Error::TooMany(tally.streams));
        }
        tally.streams += 1;
        let counters = (Arc::clone(&tally.sent), Arc::clone(&tally.received));
        drop(tallies);
        let place =
            Place { server, tallies: Arc::clone(&self.tallies), _held: self.metrics.stream() };
        Ok((place, counters.0, counters.1))
    }

    fn note(&self, server: u64, error: String) {
        if let Some(tally) = locked(&self.tallies).get_mut(&server) {
            tally.last_error = Some(error);
        }
    }

    /// Looks who is connected now. What is counted of servers that left the table is forgotten.
    ///
    /// # Errors
    /// It is not known.
    pub async fn look(&self) -> Result<Vec<String>, ports::Error> {
        let listeners = self.ports.look().await?;
        let table = Arc::clone(&self.table.borrow());
        let mut tallies = locked(&self.tallies);
        tallies.retain(|server, tally| table.agent(*server).is_some() || tally.streams > 0);
        let mut faults = Vec::new();
        for agent in &table.table().agents {
            self.judge(agent, &listeners, &mut tallies, &mut faults);
        }
        self.metrics.set_agents(tallies.values().filter(|tally| tally.since_ms.is_some()).count());
        Ok(faults)
    }

    fn judge(
        &self,
        agent: &Agent,
        listeners: &Listeners,
        tallies: &mut BTreeMap<u64, Tally>,
        faults: &mut Vec<String>,
    ) {
        let Agent { server, forward, .. } = agent;
        let holder = self.ports.holder(listeners, *forward);
        if let Holder::Stranger { uid } = holder {
            faults.push(format!("port {forward} of server {server} is held by user {uid}"));
        }
        let there = holder == Holder::Own;
        let known = tallies.get(server).is_some_and(|tally| tally.since_ms.is_some());
        if there != known {
            tracing::info!(server, connected = there, "server");
            tallies.entry(*server).or_default().since_ms = there.then(|| (self.clock)());
        }
    }

    /// How the servers are connected.
    pub fn agents(&self) -> BTreeMap<u64, AgentStatus> {
        let tallies = locked(&self.tallies);
        let shown = |tally: &Tally| AgentStatus {
            since_ms: tally.since_ms,
            streams: tally.streams,
            sent_bytes: tally.sent.load(Ordering::Relaxed),
            received_bytes: tally.received.load(Ordering::Relaxed),
            last_error: tally.last_error.clone(),
        };
        tallies.iter().map(|(server, tally)| (*server, shown(tally))).collect()
    }
}

impl Stream {
    /// Carries bytes both ways until either side is done, or the stream is cut.
    pub async fn carry(self, mut panel: impl AsyncRead + AsyncWrite + Unpin, mut session: Session) {
        let Self { agent, mut stream, place, mut table, limits, metrics } = self;
        let moved = stream.moved();
        let size = limits.buffer_bytes;
        let end = tokio::select! {
            copied = copy_bidirectional_with_sizes(&mut panel, &mut stream, size, size) => match copied {
                Ok(_bytes) => End::Closed,
                Err(error) => End::Broken(error),
            },
            () = removed(&mut table, &agent) => End::Removed,
            () = session.refused() => End::Refused,
            () = idle(&moved, limits.idle_timeout) => End::Idle,
            () = tokio::time::sleep(limits.total_timeout) => End::Total,
        };
        let word = end.word();
        tracing::debug!(server = agent.server, ?end, "stream ended");
        // What the panel breaks, and what is cut here, says nothing of the server.
        if let (End::Broken(error), true) = (end, stream.failed())
            && let Some(tally) = locked(&place.tallies).get_mut(&agent.server)
        {
            tally.last_error = Some(format!("a stream broke: {error}"));
        }
        drop(place);
        metrics.stream_ended(word);
    }
}

/// Waits until the server is not in the table any more as it was.
async fn removed(table: &mut watch::Receiver<Arc<InForce>>, agent: &Agent) {
    if table.wait_for(|table| table.agent(agent.server) != Some(agent)).await.is_err() {
        // The owner is gone, and nothing can change any more.
        std::future::pending().await
    }
}

async fn idle(moved: &AtomicU64, limit: Duration) {
    let mut last = None;
    loop {
        let now = moved.load(Ordering::Relaxed);
        if last.replace(now) == Some(now) {
            return;
        }
        tokio::time::sleep(limit).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_on_which_something_passes_is_not_idle_and_another_is_cut_in_time() {
        let limit = Duration::from_secs(60);
        let moved = AtomicU64::new(0);
        let begin = tokio::time::Instant::now();
        let traffic = async {
            for _ in 0..10 {
                tokio::time::sleep(limit / 2).await;
                moved.fetch_add(1, Ordering::Relaxed);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = traffic => {}
            () = idle(&moved, limit) => {}
        }
        let quiet = begin.elapsed() - limit * 5;
        assert!(quiet >= limit && quiet <= limit * 2, "{quiet:?}");
    }
}
