//! What the API's port offers, and whom it lets in: before pairing everybody, under a certificate that the tunnel signed itself;
//! afterwards the panel. It reads no files.

use std::sync::Arc;

use host::tls::{self, TlsError};
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime, pem::PemObject as _},
    server::danger::ClientCertVerifier,
};
use sha2::{Digest as _, Sha256};
use x509_parser::{error::X509Error, nom, parse_x509_certificate};

use crate::state::Papers;

/// Why there is nothing to offer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the panel gave can't be used with the tunnel's key.
    #[error("the certificates can't be used")]
    Tls(#[from] TlsError),
    /// The tunnel's key does not sign.
    #[error("the tunnel's key can't be used")]
    Key(#[from] rcgen::Error),
    /// The leaf is PEM, and no certificate.
    #[error("the certificate can't be read")]
    Leaf(#[from] nom::Err<X509Error>),
}

impl Error {
    /// Whether the same may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Tls(error) => error.retryable(),
            Self::Key(_) | Self::Leaf(_) => false,
        }
    }
}

/// What the port offers at one time.
#[derive(Debug)]
pub struct Door {
    config: Arc<ServerConfig>,
    panel: Option<Arc<dyn ClientCertVerifier>>,
    /// When the tunnel's certificate ends, in milliseconds since 1970; 0 before pairing.
    pub ends_ms: u64,
}

impl Door {
    /// Before pairing. Who the tunnel is, its key says; the certificate says nothing.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn unpaired(key: &KeyPair) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "clusterducks tunnel");
        let certificate = params.self_signed(key)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Proofs are bound to the connection by its exporter, which is only sound so in TLS 1.3 (RFC 9266, 4.2).
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::from)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .map_err(TlsError::from)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), panel: None, ends_ms: 0 })
    }

    /// For the panel that gave these papers, unless its certificate is on the list `revoked_pem`.
    ///
    /// # Errors
    /// They can't be read or are not for this key.
    pub fn paired(
        key: &KeyPair,
        papers: &Papers,
        revoked_pem: Option<&str>,
    ) -> Result<Self, Error> {
        let chain = papers.chain_pem.as_bytes();
        let panel = tls::panel_alone(papers.root_pem.as_bytes(), revoked_pem.map(str::as_bytes))?;
        let key_pem = key.serialize_pem();
        let config = tls::panel_config(chain, key_pem.as_bytes(), Arc::clone(&panel))?;
        let leaf = CertificateDer::from_pem_slice(chain).map_err(TlsError::from)?;
        let (_, leaf) = parse_x509_certificate(&leaf)?;
        let ends_s = leaf.validity().not_after.timestamp();
        let ends_ms = u64::try_from(ends_s).unwrap_or_default().saturating_mul(1000);
        Ok(Self { config, panel: Some(panel), ends_ms })
    }

    /// Whether it is a panel's.
    pub fn is_paired(&self) -> bool {
        self.panel.is_some()
    }

    /// What to offer.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether who showed this chain, leaf first, is the panel. Connections outlive the table that they were let in by.
    pub fn lets_in(&self, chain: &[CertificateDer<'static>]) -> bool {
        let (Some(panel), Some((leaf, rest))) = (&self.panel, chain.split_first()) else {
            return false;
        };
        panel.verify_client_cert(leaf, rest, UnixTime::now()).is_ok()
    }
}

/// What a pairing code says of a key: the SHA-256 digest of its SubjectPublicKeyInfo.
pub fn fingerprint(key: &KeyPair) -> [u8; 32] {
    Sha256::digest(key.subject_public_key_info()).into()
}

/// A request for the tunnel's certificate, PKCS#10 in PEM. What it shall say is for the panel to know.
///
/// # Errors
/// The key does not sign.
pub fn request(key: &KeyPair) -> Result<String, Error> {
    Ok(CertificateParams::default().serialize_request(key)?.pem()?)
}
