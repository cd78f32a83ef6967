//! Keys of a box's own servers: made on it, and never sent. What leaves are requests for certificates. Where a key is kept is not
//! known here.

use aws_lc_rs::{encoding::AsDer as _, rsa};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256};
use rustls::pki_types::PrivatePkcs8KeyDer;

/// Why there is no key, or no request for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system gave no randomness.
    #[error("no key can be made")]
    Generate,
    /// What was kept is no key, or signs nothing.
    #[error("the key can't be used")]
    Unusable(#[from] rcgen::Error),
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Generate => true,
            Self::Unusable(_) => false,
        }
    }
}

/// A new key on P-256.
///
/// # Errors
/// There is no randomness.
pub fn ecdsa() -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(|_| Error::Generate)
}

/// A new RSA key of 2048 bits. Making one takes a second on a small machine. ring, which rcgen signs with, makes none.
///
/// # Errors
/// There is no randomness.
pub fn rsa() -> Result<KeyPair, Error> {
    let made = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(|_| Error::Generate)?;
    let der = made.as_der().map_err(|_| Error::Generate)?;
    let der = PrivatePkcs8KeyDer::from(der.as_ref().to_vec());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256)?)
}

/// Takes a key back from its PEM.
///
/// # Errors
/// It is none.
pub fn parse(pem: &[u8]) -> Result<KeyPair, Error> {
    Ok(KeyPair::from_pem(&String::from_utf8_lossy(pem))?)
}

/// A certificate request, PKCS#10 (RFC 2986) in PEM. It proves that the box has the key; names are the panel's affair.
///
/// # Errors
/// The key does not sign.
pub fn request(key: &KeyPair) -> Result<String, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "clusterducks");
    Ok(params.serialize_request(key)?.pem()?)
}
