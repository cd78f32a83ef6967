//! The connections to the API and their limits. No request is understood here.
//!
//! Answers are short and streams have time-outs of their own, so that a client that takes nothing needs no limit here.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use host::{
    clients::{Client, Clients, Complaints},
    tls,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::throttle::network;
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower_service::Service;

use crate::{metrics::Metrics, session::Session, tls::Door};

/// What clients may use up before they proved to be the panel: it has a connection for each stream, to thousands of servers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one address; further ones are closed at once.
    pub connections_per_client: usize,
    /// How long a client may take for a TLS handshake, or for the head of a request, an idle connection's next one included.
    pub head_timeout: Duration,
    /// How long an answer may go on when its connection was let in before pairing.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_client: 128,
            head_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// A request's head, and what one connection buffers of an answer.
const BUFFER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// After accept(2) failed for want of descriptors or memory, others get the time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A panel whose power was cut would be waited for: its streams have places, and boxes that join would be handed to it. After half a
/// minute the kernel knows (tcp(7)). TCP_USER_TIMEOUT would know sooner, and cut who is only slow to read.
const SILENCE: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// Serves a router to whom the door lets in.
#[derive(Debug, Clone)]
pub struct Server {
    limits: Limits,
    door: watch::Receiver<Arc<Door>>,
    metrics: Metrics,
    complaints: Complaints,
}

/// What a connection takes up until it proved to be the panel's.
type Place = (OwnedSemaphorePermit, Client);

impl Server {
    /// A server with these limits.
    pub fn new(limits: Limits, door: watch::Receiver<Arc<Door>>, metrics: Metrics) -> Self {
        Self { limits, door, metrics, complaints: Complaints::default() }
    }

    /// Serves for ever.
    pub async fn serve(self, listener: TcpListener, router: Router) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let clients = Clients::default();
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let limit = self.limits.connections_per_client;
            let Some(client) = clients.enter(network(peer.ip().to_canonical()), limit) else {
                if let Some(untold) = self.complaints.next(Instant::now()) {
                    tracing::warn!(from = %peer.ip(), limit, untold, "too many connections of one client, one was closed");
                }
                continue;
            };
            tokio::spawn(self.clone().connection(stream, peer, router.clone(), (place, client)));
        }
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, router: Router, place: Place) {
        let _held = self.metrics.connection();
        if let Err(error) = tune(&stream) {
            tracing::debug!(%peer, %error, "TCP options");
        }
        let mut door = self.door.clone();
        let config = door.borrow_and_update().config();
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = match tokio::time::timeout(self.limits.head_timeout, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.refused(peer, &error),
            Err(_elapsed) => return tracing::debug!(%peer, "TLS handshake took too long"),
        };
        match Session::new(peer, stream.get_ref().1, door) {
            Ok(session) => {
                let place = Some(place).filter(|_| !session.is_certified());
                self.requests(stream, session, router).await;
                drop(place);
            }
            Err(error) => tracing::warn!(%peer, %error, "a connection can't be bound to proofs"),
        }
    }

    /// A client that merely went away is nobody's fault; one that was turned away, or turns us away, is told of.
    fn refused(&self, peer: SocketAddr, error: &io::Error) {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(refusal) => {
                let reason = tls::refusal(refusal);
                self.metrics.refused(reason);
                if let Some(untold) = self.complaints.next(Instant::now()) {
                    tracing::warn!(%peer, reason, untold, error = %refusal, "TLS connection refused");
                }
            }
            None => tracing::debug!(%peer, %error, "TLS handshake broke"),
        }
    }

    async fn requests(&self, stream: TlsStream<TcpStream>, mut session: Session, router: Router) {
        let (peer, shown) = (session.peer, session.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(shown.clone());
            router.clone().call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_headers(HEADERS)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => Ok(ended),
            () = session.refused() => {
                if session.is_certified() {
                    return tracing::warn!(%peer, "a connection was cut: its certificate does not count any more");
                }
                // The one that paired has its answer to come.
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(self.limits.drain_timeout, connection).await
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%peer, %error, "connection broke"),
            Err(_elapsed) => tracing::debug!(%peer, "connection cut off after pairing"),
        }
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}
