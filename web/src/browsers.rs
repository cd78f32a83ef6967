//! What browsers are asked for when they connect: a certificate, if they have one of this panel's. TLS makes sure that who shows
//! one has its key; what it is worth is weighed at a sign-in, by the books.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use panel::ca::Ca;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::problem::Problem;

/// Asks for a certificate and hangs up on nobody for the one that is shown. A browser whose certificate has ended or was taken back
/// would else see a broken connection, and its owner no page that says why, nor the one that takes their code.
#[derive(Debug)]
pub struct Asking {
    authorities: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Asking {
    /// Asks for what these authorities signed: browsers let people choose among such certificates, and say nothing where there is
    /// none.
    ///
    /// # Errors
    /// An authority's certificate can't be read.
    pub fn new(ca: &Ca) -> Result<Self, Error> {
        let mut authorities = RootCertStore::empty();
        authorities.add(ca.issuing().certificate().der().clone())?;
        authorities.add(ca.root().der().clone())?;
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { authorities: authorities.subjects(), algorithms })
    }
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The certificate that the connection of a request came with, whose key its client has; absent where none was shown.
#[derive(Debug, Clone, Default)]
pub struct Shown(Option<Arc<CertificateDer<'static>>>);

impl Shown {
    /// The first of what a client showed.
    pub fn of(chain: Option<&[CertificateDer<'static>]>) -> Self {
        Self(chain.and_then(<[_]>::first).cloned().map(Arc::new))
    }

    /// The certificate in DER.
    pub fn der(&self) -> Option<&[u8]> {
        self.0.as_deref().map(AsRef::as_ref)
    }
}

impl<S: Sync> FromRequestParts<S> for Shown {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}
