//! Pairing: how a panel proves to have the code that the tunnel shows, and the tunnel that it made it. Proofs are bound to the
//! TLS connection that they come in: in the middle of two connections, either's is worthless to the other. The code never crosses
//! the wire.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use host::seam::chain;
use model::{
    code::PairingSecret,
    proof,
    throttle::{Rate, Throttle, Wait, network},
    tunnel::{Offer, Paired, Side},
};

use crate::{
    host_key,
    metrics::Metrics,
    owner::{self, Owner, Shown, on_thread},
    session::Session,
};

/// Wrong proofs of one address. A code has 64 bits: the limit is for the log and against a panel gone wild.
const OF_ADDRESS: Rate = Rate { burst: 5, every: Duration::from_secs(20) };
/// Wrong proofs in all. Who has many addresses can hold up a panel by as little as this.
const OF_ALL: Rate = Rate { burst: 200, every: Duration::from_millis(100) };
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

/// Why a panel was not paired with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Too many wrong proofs came.
    #[error("too many wrong proofs")]
    Throttled(#[from] Wait),
    /// The proof is wrong, or for another connection, or there is none.
    #[error("the proof is wrong: it needs the code that the tunnel shows now")]
    Proof,
    /// The host key can't be offered.
    #[error("the tunnel is not ready")]
    HostKey(#[from] host_key::Error),
    /// The tunnel is a panel's, or can't become one's.
    #[error("the tunnel can't be paired")]
    Owner(#[from] owner::Error),
}

impl Error {
    /// Whether the same may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Throttled(wait) => wait.retryable(),
            Self::Proof => false,
            Self::HostKey(error) => error.retryable(),
            Self::Owner(error) => error.retryable(),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Throttled(_) => "throttled",
            Self::Proof => "wrong-proof",
            Self::HostKey(_) => "not-ready",
            Self::Owner(owner::Error::Paired) => "paired",
            Self::Owner(_) => "failed",
        }
    }
}

/// Where panels pair.
#[derive(Debug)]
pub struct Desk {
    owner: Arc<Owner>,
    host_key: PathBuf,
    metrics: Metrics,
    tries: Mutex<Tries>,
}

#[derive(Debug)]
struct Tries {
    addresses: Throttle<IpAddr>,
    all: Throttle<()>,
}

/// Who proved to have the code.
#[derive(Debug)]
pub struct Proved {
    secret: PairingSecret,
}

impl Desk {
    /// A desk of this owner. `host_key` is the private one's file.
    pub fn new(owner: Arc<Owner>, host_key: PathBuf, metrics: Metrics) -> Self {
        let tries = Tries {
            addresses: Throttle::new(OF_ADDRESS, ADDRESSES),
            all: Throttle::new(OF_ALL, 1),
        };
        Self { owner, host_key, metrics, tries: Mutex::new(tries) }
    }

    /// Looks at a panel's proof.
    ///
    /// # Errors
    /// It is wrong, or too many were, or there is nothing to prove any more.
    pub async fn prove(&self, session: &Session, proof: Option<&[u8]>) -> Result<Proved, Error> {
        let checked = self.check(session, proof).await;
        if let Err(error) = &checked {
            self.metrics.pairing(error.word());
            tracing::warn!(from = %session.peer, error = chain(error), "a request to pair was refused");
        }
        checked
    }

    async fn check(&self, session: &Session, proof: Option<&[u8]>) -> Result<Proved, Error> {
        let secret = match on_thread(&self.owner, Owner::shown).await? {
            Shown::Unpaired(code, _) => code.secret,
            Shown::Paired(_) => return Err(owner::Error::Paired.into()),
        };
        let (address, now) = (network(session.peer.ip()), Instant::now());
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.addresses.look(&address, now)?;
        tries.all.look(&(), now)?;
        if proof::is_good(proof.unwrap_or_default(), &secret, Side::Panel, &session.exported) {
            return Ok(Proved { secret });
        }
        tries.addresses.attempt(&address, now)?;
        tries.all.attempt(&(), now)?;
        Err(Error::Proof)
    }

    /// What a panel gets that has the code.
    ///
    /// # Errors
    /// There is no host key yet.
    pub async fn offer(&self, session: &Session, proved: &Proved) -> Result<Offer, Error> {
        let file = self.host_key.clone();
        let host_key = on_thread(&self.owner, move |_| host_key::read(&file)).await?;
        self.metrics.pairing("offered");
        tracing::info!(from = %session.peer, "a panel that has the code was answered");
        Ok(Offer {
            proof: proof::make(&proved.secret, Side::Tunnel, &session.exported),
            certificate_request_pem: self.owner.request_pem().to_owned(),
            host_key,
        })
    }

    /// Makes the tunnel this panel's. The code is spent.
    ///
    /// # Errors
    /// Another one was faster, or what the panel gave is no good or can't be kept.
    pub async fn pair(
        &self,
        session: &Session,
        _proved: Proved,
        paired: Paired,
    ) -> Result<(), Error> {
        let from = session.peer.ip();
        let done = on_thread(&self.owner, move |owner| owner.pair(paired, from)).await;
        self.metrics.pairing(if done.is_ok() { "done" } else { "failed" });
        Ok(done?)
    }
}
