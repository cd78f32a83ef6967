//! The connections of the boot service and their limits: how many, how slow, how long. No request is understood here.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::Router;
use host::clients::{Client, Clients, Complaints};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::Sleep,
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::{
    metrics::{Connections, Held},
    routes::Peer,
};
use crate::{certificates::Offer, clock};

/// What clients may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one client; further ones are closed at once.
    pub connections_per_client: usize,
    /// How long a client may take for a TLS handshake, or for the head of a request, an idle connection's next one included.
    pub head_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub stall_timeout: Duration,
    /// How long requests may go on when the service stops.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            connections_per_client: 16,
            head_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// The request's head, and what one connection buffers of an answer beside the chunk at hand.
const BUFFER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// After accept(2) failed for want of descriptors or memory, others get the time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a router on a listener.
#[derive(Debug, Clone)]
pub struct Server {
    /// What clients may use up.
    pub limits: Limits,
    /// With it, the listener speaks HTTPS, each connection with what is offered as it begins; without, HTTP.
    pub tls: Option<Offer>,
    /// Where connections are counted.
    pub connections: Connections,
    /// What is logged of clients that were turned away.
    complaints: Complaints,
}

impl Server {
    /// A server with these limits: HTTPS where something is offered.
    pub fn new(limits: Limits, tls: Option<Offer>, connections: Connections) -> Self {
        Self { limits, tls, connections, complaints: Complaints::default() }
    }

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
                    let Some(client) = clients.enter(peer.ip(), limit) else {
                        if let Some(untold) = self.complaints.next(Instant::now()) {
                            tracing::warn!(from = %peer.ip(), limit, untold, "too many connections of one client, one was closed");
                        }
                        continue;
                    };
                    let held = (place, client, self.connections.held());
                    connections.spawn(self.clone().connection(stream, peer, router.clone(), stopped.clone(), held));
                }
            }
        }
        drop(listener);
        drop(stop);
        while connections.join_next().await.is_some() {}
    }

    async fn connection(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        router: Router,
        stopped: watch::Receiver<()>,
        _held: (OwnedSemaphorePermit, Client, Held),
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY");
        }
        let stream = Patient { stream, limit: self.limits.stall_timeout, waiting: None };
        let Some(mut offer) = self.tls.clone() else {
            return self.requests(stream, peer, router, stopped).await;
        };
        let Some(offered) = offer.borrow_and_update().clone() else { return };
        let handshake = TlsAcceptor::from(Arc::clone(&offered.config)).accept(stream);
        match tokio::time::timeout(self.limits.head_timeout, handshake).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let shown = shown.iter().map(|one| one.clone().into_owned()).collect();
                tokio::select! {
                    () = self.requests(stream, peer, router, stopped) => {}
                    () = turned_away(offer, shown) => {
                        tracing::warn!(%peer, "a connection was cut: its certificate does not count any more");
                    }
                }
            }
            Ok(Err(error)) => self.refused(peer, &error),
            Err(_elapsed) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }

    /// A client that merely went away is nobody's fault; one that was turned away, or turns us away, is told of.
    fn refused(&self, peer: SocketAddr, error: &io::Error) {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(refusal) => {
                let reason = self.connections.count_refusal(refusal, peer.ip(), clock::now_ms());
                if let Some(untold) = self.complaints.next(Instant::now()) {
                    tracing::warn!(%peer, reason, untold, error = %refusal, "TLS connection refused");
                }
            }
            None => tracing::debug!(%peer, %error, "TLS handshake broke"),
        }
    }

    async fn requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        peer: SocketAddr,
        router: Router,
        mut stopped: watch::Receiver<()>,
    ) {
        let address = match peer.ip() {
            IpAddr::V4(address) => Some(Peer(address)),
            IpAddr::V6(address) => address.to_ipv4_mapped().map(Peer),
        };
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(address.unwrap_or(Peer(Ipv4Addr::UNSPECIFIED)));
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

/// Waits until who showed this chain would not be let in any more, by what is offered then. `offer` was looked at before it was.
async fn turned_away(mut offer: Offer, shown: Vec<CertificateDer<'static>>) {
    while offer.changed().await.is_ok() {
        let offered = offer.borrow_and_update().clone();
        if offered.is_some_and(|offered| !offered.lets_in(&shown)) {
            return;
        }
    }
    // The keeper of certificates is gone, and nothing can change any more.
    std::future::pending().await
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

/// A stream whose writes fail when the other side takes nothing for too long: a device that was switched off in the middle of
/// its kernel would hold its place until TCP gives up.
#[derive(Debug)]
struct Patient {
    stream: TcpStream,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn written(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.waiting = None;
            return result;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
