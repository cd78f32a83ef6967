//! Keys: private ones that the panel makes and signs with, and public ones that others ask certificates for.

use aws_lc_rs::{encoding::AsDer as _, rsa};
use rcgen::{KeyPair, PublicKeyData as _, SubjectPublicKeyInfo};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use x509_parser::{
    certification_request::X509CertificationRequest, prelude::FromDer as _,
    public_key::PublicKey as Parsed,
};

use super::Error;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256: everything but iPXE's boot endpoint.
    EcdsaP256,
    /// RSA of 2048 bits: any iPXE verifies it, also one built before ECDSA came to it.
    Rsa2048,
}

/// A private key. Its text leaves it only to be sealed, or to be sent to the one whom it is for.
pub struct Key {
    pkcs8: SecretSlice<u8>,
    pair: KeyPair,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&hex::encode(self.pair.public_key_raw())).finish()
    }
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<Self, Error> {
        match algorithm {
            Algorithm::EcdsaP256 => {
                let pair = KeyPair::generate()?;
                Ok(Self { pkcs8: pair.serialize_der().into(), pair })
            }
            // ring, which the rest of the house signs with, makes no RSA keys.
            Algorithm::Rsa2048 => {
                let made =
                    rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(|_| Error::Generate)?;
                let pkcs8 = made.as_der().map_err(|_| Error::Generate)?;
                Self::parse(pkcs8.as_ref().to_vec().into())
            }
        }
    }

    /// Takes a key back, as [`Key::pkcs8`] gave it.
    ///
    /// # Errors
    /// It is not a private key that can be used.
    pub fn parse(pkcs8: SecretSlice<u8>) -> Result<Self, Error> {
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(pkcs8.expose_secret()))
            .map_err(Error::Key)?;
        Ok(Self { pkcs8, pair })
    }

    /// The key as PKCS#8 in DER (RFC 5958).
    pub fn pkcs8(&self) -> &SecretSlice<u8> {
        &self.pkcs8
    }

    /// The key as PKCS#8 in PEM.
    pub fn pem(&self) -> SecretString {
        self.pair.serialize_pem().into()
    }

    /// The key as rustls takes it.
    pub fn rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.expose_secret().to_vec()).into()
    }

    /// What others may know of it.
    pub fn public(&self) -> PublicKey {
        PublicKey::of(&self.pair.subject_public_key_info())
            .expect("a key that was made or parsed has a public one")
    }

    pub(super) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(super) fn into_pair(self) -> KeyPair {
        self.pair
    }
}

/// The key that a certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(SubjectPublicKeyInfo);

impl PublicKey {
    fn of(spki: &[u8]) -> Result<Self, rcgen::Error> {
        SubjectPublicKeyInfo::from_der(spki).map(Self)
    }

    /// Whether it is an RSA key.
    pub fn is_rsa(&self) -> bool {
        let der = self.der();
        let spki = x509_parser::x509::SubjectPublicKeyInfo::from_der(&der);
        spki.is_ok_and(|(_, spki)| matches!(spki.parsed(), Ok(Parsed::RSA(_))))
    }

    /// The key and its kind in DER (RFC 5280, 4.1).
    pub fn der(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    pub(super) fn spki(&self) -> &SubjectPublicKeyInfo {
        &self.0
    }

    /// Takes the key out of a certificate request (PKCS#10, RFC 2986) in PEM, whose signature proves that the asker has the
    /// private one. Everything else that stands in it, names above all, is not read.
    ///
    /// # Errors
    /// It is no request, not signed by its own key, or its key is weak or of a kind that is not supported.
    pub fn from_request(pem: &str) -> Result<Self, Error> {
        let der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| Error::Request)?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| Error::Request)?;
        if !rest.is_empty() {
            return Err(Error::Request);
        }
        let spki = &request.certification_request_info.subject_pki;
        match spki.parsed().map_err(|_| Error::Request)? {
            Parsed::EC(point) if [256, 384].contains(&point.key_size()) => {}
            Parsed::RSA(key) if (2048..=4096).contains(&key.key_size()) => {}
            _ => return Err(Error::KeyKind),
        }
        request.verify_signature().map_err(|_| Error::NotPossessed)?;
        Self::of(spki.raw).map_err(|_| Error::KeyKind)
    }
}
