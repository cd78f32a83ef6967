//! Whether what a panel gave can be gone by: it is kept for good, and the code that brought it is thrown away.

use host::tls;
use model::{code::Pin, join::Joined};
use rustls::{
    CertificateError,
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{self, PemObject as _},
    },
};
use sha2::{Digest as _, Sha256};

use super::{identity::Identity, pin::OtherRoot};

/// Why an answer is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its root is not the one that the code names.
    #[error("it gave the root of another panel")]
    OtherRoot(#[from] OtherRoot),
    /// Something in it is no certificate.
    #[error("the {what} that it gave can't be read")]
    Pem {
        /// Which of its files.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// A chain does not go with this box's key, or does not end in its root.
    #[error("the {what} that it gave is not good")]
    Chain {
        /// Which of its files.
        what: &'static str,
        /// Why.
        source: rustls::Error,
    },
}

impl Error {
    /// Whether the same answer may be good later: only this box's clock can make it so.
    pub fn retryable(&self) -> bool {
        match self {
            Self::OtherRoot(_) | Self::Pem { .. } => false,
            Self::Chain { source, .. } => matches!(
                source,
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidYet
                        | CertificateError::NotValidYetContext { .. }
                        | CertificateError::Expired
                        | CertificateError::ExpiredContext { .. }
                )
            ),
        }
    }
}

/// Looks whether the certificates are of the panel that the code names, and for this box's keys.
///
/// # Errors
/// They are not.
pub fn verify(joined: &Joined, pin: Pin, identity: &Identity, now: UnixTime) -> Result<(), Error> {
    let root = root("panel-ca.crt", &joined.root_pem)?;
    if !pin.matches(&Sha256::digest(&root).into()) {
        return Err(OtherRoot.into());
    }
    chain("api.crt", &joined.api_chain_pem, &identity.api_key(), root, now)?;
    let root = self::root("boot-ca.crt", &joined.boot_root_pem)?;
    match &joined.boot_chain_pem {
        Some(pem) => chain("boot.crt", pem, &identity.boot_key(), root, now),
        None => Ok(()),
    }
}

fn root(what: &'static str, pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|source| Error::Pem { what, source })
}

/// Names are left to who connects: a server's API is known by its number, and devices know the address.
fn chain(
    what: &'static str,
    pem: &str,
    key: &str,
    root: CertificateDer<'static>,
    now: UnixTime,
) -> Result<(), Error> {
    let unread = |source| Error::Pem { what, source };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(unread)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unread)?;
    tls::verify_chain(certificates, key, root, now).map_err(|source| Error::Chain { what, source })
}
