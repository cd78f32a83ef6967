//! The connections of the console and their limits: how many, how slow, how long. No request is understood here.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use panel::throttle::network;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use crate::{browsers::Shown, guard::Peer};

/// What clients may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one client; further ones are closed at once. A browser opens six, and a whole room may sit behind one
    /// address.
    pub connections_per_client: usize,
    /// How long a client may take for a TLS handshake, or for the head of a request, an idle connection's next one included.
    pub head_timeout: Duration,
    /// How long requests may go on when the service stops.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_client: 128,
            head_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

const BUFFER_BYTES: usize = 32 * 1024;
const HEADERS: usize = 64;
/// After accept(2) failed for want of descriptors or memory, others get the time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The certificate of the moment: a renewed one is there for the next connection.
pub type Offer = watch::Receiver<Arc<ServerConfig>>;

/// Serves a router on a listener.
#[derive(Debug, Clone)]
pub struct Server {
    /// What clients may use up.
    pub limits: Limits,
    /// With it, the listener speaks HTTPS; without, HTTP.
    pub tls: Option<Offer>,
}

impl Server {
    /// Serves until `shutdown`, then lets requests end within the drain time-out. Returns when no connection is left.
    pub async fn serve(
        self,
        listener: TcpListener,
        router: Router,
        shutdown: impl Future<Output = ()>,
    ) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let clients = Clients::default();
        let (stop, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task died");
                    }
                }
                accepted = accept(&listener, &places) => {
                    let Some((place, stream, peer)) = accepted else { continue };
                    let limit = self.limits.connections_per_client;
                    let Some(client) = clients.enter(network(peer.ip()), limit) else {
                        tracing::warn!(from = %peer.ip(), limit, "too many connections of one client, one was closed");
                        continue;
                    };
                    let held = (place, client);
                    connections.spawn(self.clone().connection(stream, peer, router.clone(), stopped.clone(), held));
                }
            }
        }
        drop(listener);
        drop(stop);
        while connections.join_next().await.is_some() {}
    }

    /// Serves what comes over one stream that somebody else accepted, by TLS.
    pub(crate) async fn stream(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        from: IpAddr,
        router: Router,
    ) {
        let Some(offer) = &self.tls else { return };
        let (_stop, stopped) = watch::channel(());
        self.secure(offer, stream, SocketAddr::new(from, 0), router, stopped).await;
    }

    async fn connection(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        router: Router,
        stopped: watch::Receiver<()>,
        _held: (OwnedSemaphorePermit, Client),
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY");
        }
        match &self.tls {
            Some(offer) => self.secure(offer, stream, peer, router, stopped).await,
            None => self.requests(stream, (peer, Shown::default()), router, stopped).await,
        }
    }

    async fn secure(
        &self,
        offer: &Offer,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        peer: SocketAddr,
        router: Router,
        stopped: watch::Receiver<()>,
    ) {
        let tls = Arc::clone(&offer.borrow());
        let handshake = TlsAcceptor::from(tls).accept(stream);
        match tokio::time::timeout(self.limits.head_timeout, handshake).await {
            Ok(Ok(stream)) => {
                let shown = Shown::of(stream.get_ref().1.peer_certificates());
                self.requests(stream, (peer, shown), router, stopped).await;
            }
            // Browsers that do not know the authority yet say so here; it is nobody's fault.
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake broke"),
            Err(_elapsed) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }

    async fn requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        (peer, shown): (SocketAddr, Shown),
        router: Router,
        mut stopped: watch::Receiver<()>,
    ) {
        let address = peer.ip().to_canonical();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(address));
            request.extensions_mut().insert(shown.clone());
            router.clone().call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_headers(HEADERS)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => Ok(ended),
            // The channel's only message is its end.
            _end = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(self.limits.drain_timeout, connection).await
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%peer, %error, "connection broke"),
            Err(_elapsed) => tracing::debug!(%peer, "connection cut off at the end of the service"),
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((place, stream, peer)),
        Err(error) => {
            tracing::warn!(%error, "can't accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// How many connections each client has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Clients {
    pub(crate) fn enter(&self, address: IpAddr, limit: usize) -> Option<Client> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Client { clients: self.clone(), address })
    }
}

#[derive(Debug)]
pub(crate) struct Client {
    clients: Clients,
    address: IpAddr,
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut clients = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.address);
            }
        }
    }
}
