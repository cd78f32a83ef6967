//! A TLS connection to the API, as those see it who answer on it: who it comes from, what it is bound to, and whether it is the
//! panel's still.

use std::{io, net::SocketAddr, sync::Arc};

use model::tunnel::EXPORTER;
use rustls::{ServerConnection, pki_types::CertificateDer};
use tokio::sync::watch;

use crate::tls::Door;

/// A connection. Its copies are the same one.
#[derive(Debug, Clone)]
pub struct Session {
    /// Where it comes from; an IPv4 address as such, also where the listener is an IPv6 one.
    pub peer: SocketAddr,
    /// What it exports for proofs.
    pub exported: [u8; 32],
    chain: Arc<[CertificateDer<'static>]>,
    door: watch::Receiver<Arc<Door>>,
}

impl Session {
    /// Takes what the handshake left. `door` was opened no later than the handshake began.
    ///
    /// # Errors
    /// The connection exports nothing.
    pub fn new(
        peer: SocketAddr,
        tls: &ServerConnection,
        door: watch::Receiver<Arc<Door>>,
    ) -> io::Result<Self> {
        let exported =
            tls.export_keying_material([0; 32], EXPORTER, None).map_err(io::Error::other)?;
        let chain = tls.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok(Self { peer, exported, chain, door })
    }

    /// Whether the tunnel is a panel's now.
    pub fn is_paired(&self) -> bool {
        self.door.borrow().is_paired()
    }

    /// Whether the panel is at the other end: asked of what is in force now.
    pub fn is_panel(&self) -> bool {
        let door = Arc::clone(&self.door.borrow());
        door.lets_in(&self.chain)
    }

    /// Whether it came with a certificate: otherwise it is from before the tunnel was paired.
    pub fn is_certified(&self) -> bool {
        !self.chain.is_empty()
    }

    /// Waits until it is not, or not any more, the panel's by what came into force meanwhile.
    pub async fn refused(&mut self) {
        while self.door.changed().await.is_ok() {
            if !self.is_panel() {
                return;
            }
        }
        // The owner is gone, and nothing can change any more.
        std::future::pending().await
    }
}
