//! The certificate authority: whom the fleet trusts. It makes and signs values; it keeps none, reads no clock and opens no file.
//!
//! ```text
//! root (P-256, path length 1)            its SHA-256 is what a join code carries
//! └── issuing (P-256, path length 0)     may vouch for names of the fleet and private addresses only
//!     ├── panel      server, by the names that people use
//!     ├── fleet      client, named `panel`: the only one that agents answer
//!     ├── agent      server, <server>.agent.clusterducks.internal
//!     ├── tunnel     server and client
//!     └── user       client: second factor of a sign-in
//! boot root (RSA-2048, path length 0)    its SHA-256 is stamped into iPXE
//! └── boot           server, by its addresses
//! ```
//!
//! A server sends its chain with the root, because those who know a fingerprint alone must see the certificate that has it.
//! iPXE 2.0 (TLS 1.2 with ECDHE) verifies such chains of two. iPXE 1.21.1 would verify them too, but agrees only on a key by
//! RSA, which rustls does not offer: devices with that version boot over plain HTTP.

mod authority;
mod bundle;
mod certificate;
mod crl;
mod key;
mod subject;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use authority::{Authority, Role};
pub use bundle::bundle;
pub use certificate::{Certificate, Fingerprint, NotHex, Serial, Validity};
pub use crl::{Reason, RevocationList, Revoked};
pub use key::{Algorithm, Key, PublicKey};
use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
};
pub use subject::{DOMAIN, FLEET_CLIENT, Host, Kind, Subject, agent_host, tunnel_host};

/// When authorities hold from: 2000-01-01, before which no clock of a machine that boots from us begins.
fn beginning() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(946_684_800)
}

/// Why a certificate can't be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gave no randomness.
    #[error("no key can be made")]
    Generate,
    /// Not a private key in PKCS#8.
    #[error("the private key can't be used")]
    Key(#[source] rcgen::Error),
    /// Not a certificate of ours in DER.
    #[error("the certificate can't be read")]
    Certificate,
    /// Not a revocation list of ours in DER.
    #[error("the revocation list can't be read")]
    RevocationList,
    /// The certificate has another key.
    #[error("the authority's certificate and its key don't go together")]
    OtherKey,
    /// Only a root makes issuing authorities.
    #[error("only the root signs issuing authorities")]
    NotARoot,
    /// The authorities are not root, issuing and boot.
    #[error("the {0:?} authority is in another's place")]
    Role(Role),
    /// Not a certificate request in PEM.
    #[error("the certificate request can't be read")]
    Request,
    /// The request is not signed by the key that it is about.
    #[error("the certificate request does not prove that its sender has the key")]
    NotPossessed,
    /// Neither P-256, P-384 nor RSA of 2048 to 4096 bits.
    #[error("the certificate request is for a key of a kind or size that is not taken")]
    KeyKind,
    /// There is nothing that the server is reached by.
    #[error("a server's certificate needs a name or an address")]
    Nameless,
    /// The panel's name at its servers, or one of theirs.
    #[error("a tunnel can't have a name of the panel or its servers")]
    Reserved,
    /// The issuing authority was not made for this name.
    #[error("the issuing authority may not vouch for a name that the certificate shall have")]
    OutsideScope(#[source] rustls::Error),
    /// A time that no certificate can carry.
    #[error("the clock is beyond what a certificate can carry")]
    Clock,
    /// A name that can't stand in a certificate, or a signature that failed.
    #[error("the certificate can't be made")]
    Make(#[from] rcgen::Error),
    /// The bundle for a browser can't be written.
    #[error("the certificate and its key can't be bundled")]
    Bundle(#[from] p12_keystore::error::Error),
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Generate => true,
            Self::Key(_)
            | Self::Certificate
            | Self::RevocationList
            | Self::OtherKey
            | Self::NotARoot
            | Self::Role(_)
            | Self::Request
            | Self::NotPossessed
            | Self::KeyKind
            | Self::Nameless
            | Self::Reserved
            | Self::OutsideScope(_)
            | Self::Clock
            | Self::Make(_)
            | Self::Bundle(_) => false,
        }
    }
}

/// The authorities as they work day by day: the root's key is not among them.
#[derive(Debug)]
pub struct Ca {
    root: Certificate,
    issuing: Authority,
    boot: Authority,
}

/// A new certificate and those above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// Those above it, up to the root.
    pub above: Vec<Certificate>,
}

impl Ca {
    /// Puts the authorities together.
    ///
    /// # Errors
    /// One is in another's place.
    pub fn new(root: Certificate, issuing: Authority, boot: Authority) -> Result<Self, Error> {
        match (issuing.role(), boot.role()) {
            (Role::Issuing, Role::Boot) => Ok(Self { root, issuing, boot }),
            (Role::Issuing, other) | (other, _) => Err(Error::Role(other)),
        }
    }

    /// The root's certificate: what people install and join codes pin.
    pub fn root(&self) -> &Certificate {
        &self.root
    }

    /// The issuing authority.
    pub fn issuing(&self) -> &Authority {
        &self.issuing
    }

    /// The boot root.
    pub fn boot(&self) -> &Authority {
        &self.boot
    }

    /// Issues a certificate for a key.
    ///
    /// # Errors
    /// A server without a name, or a name for which a new issuing authority is needed first ([`Error::OutsideScope`]).
    pub fn issue(
        &self,
        subject: &Subject,
        key: &PublicKey,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        if subject.kind() == Kind::Boot {
            let certificate = self.boot.sign(subject, key, now)?;
            return Ok(Issued { certificate, above: vec![self.boot.certificate().clone()] });
        }
        let certificate = self.issuing.sign(subject, key, now)?;
        let above = vec![self.issuing.certificate().clone(), self.root.clone()];
        let issued = Issued { certificate, above };
        if matches!(subject.kind(), Kind::Panel | Kind::Tunnel) {
            issued.verify(&self.root, now).map_err(Error::OutsideScope)?;
        }
        Ok(issued)
    }
}

impl Issued {
    /// The chain as rustls takes it, the certificate first, the root last.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.all().map(|certificate| certificate.der().clone()).collect()
    }

    /// The chain in PEM, the certificate first, the root last.
    pub fn chain_pem(&self) -> String {
        self.all().map(Certificate::pem).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(&self.above)
    }

    /// Looks again, as a client would.
    fn verify(&self, root: &Certificate, now: SystemTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone())?;
        let chain = self.chain();
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(self.certificate.der())?,
            &roots,
            chain.get(1..).unwrap_or_default(),
            UnixTime::since_unix_epoch(now),
            rustls::crypto::ring::default_provider().signature_verification_algorithms.all,
        )
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}
