//! TLS of a box's own servers: a certificate and its key become what a server offers, and an API learns to tell the panel from
//! everybody else. It reads no files and decides nothing but who is on the other end.

mod own;

use std::sync::Arc;

pub use own::{Leaf, leaf, verify, verify_chain};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{danger::HandshakeSignatureValid, verify_server_name},
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
        pem::PemObject,
    },
    server::{
        ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

/// The name that the panel's certificate carries, as a DNS name among its alternative names.
pub const PANEL: &str = "panel";

/// Why a server can't work with its certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain or the key is not PEM.
    #[error("the certificate chain or its key can't be read")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The revocation list is PEM, and no list.
    #[error("the revocation list can't be read")]
    List(#[from] webpki::Error),
    /// There is no list.
    #[error("there is no revocation list in it")]
    NoList,
    /// The file has no certificate in it.
    #[error("there is no certificate in it")]
    Empty,
    /// A certificate is PEM, and none.
    #[error("the certificate can't be read")]
    Leaf(#[from] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// The chain and the key don't go together, or are of a kind that is not supported.
    #[error("the certificate chain and its key can't be used")]
    Refused(#[from] Error),
    /// The panel's CA can't prove anybody's name.
    #[error("the panel's CA can't be used")]
    Ca(#[from] VerifierBuilderError),
}

impl TlsError {
    /// Whether the same files may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Pem(_)
            | Self::List(_)
            | Self::NoList
            | Self::Empty
            | Self::Leaf(_)
            | Self::Refused(_)
            | Self::Ca(_) => false,
        }
    }
}

/// A server for everybody. Takes a chain, leaf first, and its key. TLS 1.2 is offered too: iPXE speaks nothing newer before 2.0.
///
/// # Errors
/// When they can't be read or don't go together.
pub fn open_config(chain_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    let mut config = builder.with_single_cert(chain(chain_pem)?, key(key_pem)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Knows the panel: by a client certificate that chains to `ca_pem`, carries the name [`PANEL`], and is not on the lists
/// `revoked_pem`, nor is an authority between. A list that is too old counts still: a box goes on with its last one while it hears
/// of no other. What an authority signed of which there is no list is let in.
///
/// # Errors
/// When they can't be read.
pub fn panel_alone(
    ca_pem: &[u8],
    revoked_pem: Option<&[u8]>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(ca_pem)? {
        roots.add(certificate)?;
    }
    let chains = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(revoked_pem.map(revocation_lists).transpose()?.unwrap_or_default())
        .allow_unknown_revocation_status()
        .build()?;
    Ok(Arc::new(PanelOnly { chains }))
}

/// A server for those whom `clients` knows, see [`panel_alone`]; in TLS 1.3 alone.
///
/// # Errors
/// When chain and key can't be read or don't go together.
pub fn panel_config(
    chain_pem: &[u8],
    key_pem: &[u8],
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain(chain_pem)?, key(key_pem)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Each connection proves itself anew: a ticket would outlive the certificate that it was given for.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Reads revocation lists that stand one after the other, as the API does that is held to them.
///
/// # Errors
/// One is none, or there is none.
pub fn revocation_lists(
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    for list in &lists {
        webpki::OwnedCertRevocationList::from_der(list)?;
    }
    if lists.is_empty() { Err(TlsError::NoList) } else { Ok(lists) }
}

/// The word that a refused handshake is counted by: one of few.
pub fn refusal(refusal: &Error) -> &'static str {
    use CertificateError as Bad;
    match refusal {
        Error::NoCertificatesPresented => "no-certificate",
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => "issuer",
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "name"
        }
        Error::InvalidCertificate(
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. },
        ) => "time",
        Error::InvalidCertificate(_) => "certificate",
        Error::AlertReceived(_) => "by-client",
        _ => "protocol",
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() { Err(TlsError::Empty) } else { Ok(chain) }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    Ok(PrivateKeyDer::from_pem_slice(pem)?)
}

/// Lets the panel in: the CA issues certificates to others too, agents among them.
#[derive(Debug)]
struct PanelOnly {
    chains: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for PanelOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chains.verify_client_cert(end_entity, intermediates, now)?;
        let name = ServerName::try_from(PANEL)
            .map_err(|_| CertificateError::ApplicationVerificationFailure)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, &name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
