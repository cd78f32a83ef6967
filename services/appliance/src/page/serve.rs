//! The page's HTTPS server: few connections, each for a short time.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use super::Peer;
use crate::join::identity::PageIdentity;

/// One person with one browser; further connections wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// For a TLS handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a whole connection.
const LIFETIME: Duration = Duration::from_secs(60);
/// After accept(2) failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// What the page is served with.
#[derive(Debug, Clone)]
pub(super) struct Served {
    tls: Arc<ServerConfig>,
}

impl Served {
    /// Takes the page's certificate and key.
    ///
    /// # Errors
    /// They don't go together.
    pub(super) fn new(identity: &PageIdentity) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let chain = vec![identity.certificate.clone()];
        let mut config =
            builder.with_no_client_auth().with_single_cert(chain, identity.key.clone_key())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(config) })
    }
}

/// Serves until `shutdown`; connections that are open then are cut.
pub(super) async fn serve(
    served: Served,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(_ended) = connections.join_next() => {}
            accepted = accept(&listener, &places) => {
                let Some((place, stream, peer)) = accepted else { continue };
                let connection = connection(Arc::clone(&served.tls), stream, peer, router.clone());
                connections.spawn(async move {
                    if tokio::time::timeout(LIFETIME, connection).await.is_err() {
                        tracing::debug!(from = %peer.0, "connection cut off");
                    }
                    drop(place);
                });
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream, Peer)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((place, stream, Peer(peer.ip().to_canonical()))),
        Err(error) => {
            tracing::warn!(%error, "can't accept a connection");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

async fn connection(tls: Arc<ServerConfig>, stream: TcpStream, peer: Peer, router: Router) {
    let broke = |error: &dyn std::error::Error| {
        tracing::debug!(from = %peer.0, %error, "connection broke");
    };
    let handshake = tokio::time::timeout(PATIENCE, TlsAcceptor::from(tls).accept(stream)).await;
    let stream = match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        // A browser that does not know the certificate yet breaks off, and comes back when its user agreed.
        Err(error) => return broke(&error),
    };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        broke(&error);
    }
}
