//! The way to servers through tunnels, and the one that takes it where a server has tunnels and goes straight where not.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{Shared, connection};
use crate::{
    fleet::{Direct, Link, Opened, State, chain},
    noun::{Id, Server, Tunnel},
    store::Peer,
};

/// How long one tunnel may take to open a stream.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a tunnel is tried after the others once a server was mute behind it: its SSH server misses the server well before.
const MUTE: Duration = Duration::from_secs(60);
/// How long to wait for tunnels that are not connected yet, as after a start.
const FIRST_CONNECTION: Duration = Duration::from_secs(5);

/// Through the tunnels of a server's network.
#[derive(Debug)]
pub struct Through {
    shared: Arc<Shared>,
    mutes: Arc<Mutes>,
}

/// The ways on which a server did not say a word, and when. A tunnel that is there says nothing of its link to a site: until its SSH
/// server misses the server, streams to it are opened, and lead nowhere.
#[derive(Debug, Default)]
struct Mutes(Mutex<BTreeMap<Way, Instant>>);

/// A server, and a tunnel that it may be reached through.
type Way = (Id<Server>, Id<Tunnel>);

impl Mutes {
    fn note(&self, way: Way) {
        let mut mutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mutes.retain(|_, since| since.elapsed() < MUTE);
        mutes.insert(way, Instant::now());
    }

    fn has(&self, way: Way) -> bool {
        let mutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mutes.get(&way).is_some_and(|since| since.elapsed() < MUTE)
    }
}

impl Through {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, mutes: Arc::default() }
    }

    /// The tunnels to try: those that are there, in the order of the pool; last those behind which the server was mute.
    async fn order(&self, peer: &Peer) -> io::Result<Vec<Id<Tunnel>>> {
        let mut states = self.shared.board.states();
        // The favourite of those that are not known to be lost may take its time.
        let settled = states.wait_for(|all| {
            let mut states = peer.ways.iter().map(|way| all.get(way));
            let first = states.find(|state| *state != Some(&State::Lost));
            first.is_none_or(|state| state == Some(&State::Connected))
        });
        // Whoever is not there by then is not there.
        let _settled = timeout(FIRST_CONNECTION, settled).await.map(|settled| settled.map(drop));
        let there = |way: &Id<Tunnel>| states.borrow().get(way) == Some(&State::Connected);
        let mut order: Vec<_> = peer.ways.iter().copied().filter(there).collect();
        if order.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, self.why_none(peer)));
        }
        order.sort_by_cached_key(|way| self.mutes.has((peer.server, *way)));
        Ok(order)
    }

    fn why_none(&self, peer: &Peer) -> String {
        let presences = self.shared.board.presences();
        let all = presences.borrow();
        let why = peer.ways.iter().map(|way| {
            let error = all.get(way).and_then(|presence| presence.error.as_deref());
            format!("{}: {}", self.name(*way), error.unwrap_or("not connected yet"))
        });
        format!("none of its tunnels is there: {}", why.collect::<Vec<_>>().join("; "))
    }

    fn name(&self, tunnel: Id<Tunnel>) -> String {
        let relays = self.shared.relays.borrow();
        relays.get(&tunnel).map_or_else(|| tunnel.to_string(), |relay| relay.name.to_string())
    }

    async fn open_through(
        &self,
        tunnel: Id<Tunnel>,
        server: u64,
    ) -> Result<TokioIo<Upgraded>, connection::Error> {
        let opened = async { self.shared.connect(tunnel).await?.stream(server).await };
        timeout(ATTEMPT, opened).await.map_err(|_| connection::Error::TimedOut)?
    }

    /// A stream that ends when the tunnel is lost: nobody else says so of one whose power was cut.
    fn bound(&self, way: Way, stream: TokioIo<Upgraded>) -> Tunnelled {
        let (_, tunnel) = way;
        let mut states = self.shared.board.states();
        let lost = async move {
            // Without a board there is no link either.
            let lost = states.wait_for(|all| all.get(&tunnel) != Some(&State::Connected));
            let _lost = lost.await.map(drop);
        };
        Tunnelled { stream, lost: Box::pin(lost), unheard: Some((way, Arc::clone(&self.mutes))) }
    }
}

impl Link for Through {
    type Stream = Tunnelled;

    async fn open(&self, peer: &Peer) -> io::Result<Opened<Tunnelled>> {
        let server = u64::try_from(peer.server.number()).unwrap_or_default();
        let mut failures = Vec::new();
        for tunnel in self.order(peer).await? {
            match self.open_through(tunnel, server).await {
                Ok(stream) => {
                    let stream = self.bound((peer.server, tunnel), stream);
                    return Ok(Opened { stream, address: None, tunnel: Some(tunnel) });
                }
                Err(error) => {
                    if matches!(error, connection::Error::TimedOut) {
                        self.mutes.note((peer.server, tunnel));
                    }
                    failures.push(format!("{}: {}", self.name(tunnel), chain(&error)));
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::HostUnreachable, failures.join("; ")))
    }
}

/// A stream through a tunnel.
pub struct Tunnelled {
    stream: TokioIo<Upgraded>,
    lost: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Its way, until a byte came.
    unheard: Option<(Way, Arc<Mutes>)>,
}

impl Drop for Tunnelled {
    fn drop(&mut self) {
        if let Some((way, mutes)) = &self.unheard {
            mutes.note(*way);
        }
    }
}

impl AsyncRead for Tunnelled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.lost.as_mut().poll(cx).is_ready() {
            let lost = io::Error::new(io::ErrorKind::ConnectionReset, "the tunnel was lost");
            return Poll::Ready(Err(lost));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.unheard = None;
        }
        read
    }
}

impl AsyncWrite for Tunnelled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Through the tunnels where a server has some, and straight where it has none, or where its box still lets the panel come so: one
/// that joined straight learns of its tunnels over that way.
#[derive(Debug)]
pub struct Routed {
    /// Through tunnels.
    pub through: Through,
    /// Straight.
    pub direct: Direct,
}

impl Link for Routed {
    type Stream = Carried;

    async fn open(&self, peer: &Peer) -> io::Result<Opened<Carried>> {
        if peer.ways.is_empty() {
            return Ok(self.direct.open(peer).await?.map(Carried::Direct));
        }
        match self.through.open(peer).await {
            Ok(opened) => Ok(opened.map(Carried::Tunnelled)),
            Err(error) if !peer.direct => Err(error),
            Err(through) => match self.direct.open(peer).await {
                Ok(opened) => Ok(opened.map(Carried::Direct)),
                Err(direct) => {
                    let why = format!("{through}; straight: {direct}");
                    Err(io::Error::new(direct.kind(), why))
                }
            },
        }
    }
}

/// A stream by one way or the other.
pub enum Carried {
    /// Straight.
    Direct(TcpStream),
    /// Through a tunnel.
    Tunnelled(Tunnelled),
}

impl AsyncRead for Carried {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tunnelled(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Carried {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tunnelled(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tunnelled(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tunnelled(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
