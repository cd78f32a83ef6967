//! Certificates as values: what was issued, how it is told apart, until when it holds.

use std::{
    collections::BTreeSet,
    fmt,
    net::IpAddr,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::CertificateDer;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;

use super::{Error, pem};

/// A certificate of ours, whole and parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    serial: Serial,
    subject: String,
    validity: Validity,
}

/// From when until when a certificate holds, both inclusive (RFC 5280, 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: SystemTime,
    /// The last second.
    pub not_after: SystemTime,
}

impl Validity {
    /// Whether the certificate holds at that time.
    pub fn holds(self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

impl Certificate {
    /// Takes a certificate back from its DER.
    ///
    /// # Errors
    /// It is no certificate, or its serial number is longer than ours are.
    pub fn parse(der: Vec<u8>) -> Result<Self, Error> {
        let der = CertificateDer::from(der);
        let (rest, read) =
            x509_parser::parse_x509_certificate(&der).map_err(|_| Error::Certificate)?;
        if !rest.is_empty() {
            return Err(Error::Certificate);
        }
        let serial = Serial::from_integer(read.raw_serial()).ok_or(Error::Certificate)?;
        let validity = Validity {
            not_before: from_unix(read.validity().not_before.timestamp())?,
            not_after: from_unix(read.validity().not_after.timestamp())?,
        };
        let subject = read.subject().to_string();
        Ok(Self { serial, subject, validity, der: der.clone().into_owned() })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Its number, by which it is revoked.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Its distinguished name, for people.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The DNS names and addresses that it is for.
    ///
    /// # Errors
    /// They can't be read.
    pub fn names(&self) -> Result<BTreeSet<String>, Error> {
        let (_, read) =
            x509_parser::parse_x509_certificate(&self.der).map_err(|_| Error::Certificate)?;
        let names = read.subject_alternative_name().map_err(|_| Error::Certificate)?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        names.map(|name| text_of(name).ok_or(Error::Certificate)).collect()
    }

    /// From when until when it holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What it is pinned by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }
}

fn text_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

pub(super) fn from_unix(seconds: i64) -> Result<SystemTime, Error> {
    let seconds = u64::try_from(seconds).map_err(|_| Error::Certificate)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(Error::Certificate)
}

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {bytes} bytes in hexadecimal")]
pub struct NotHex {
    text: String,
    bytes: usize,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], NotHex> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let bytes = hex::decode(&digits).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| NotHex { text: text.to_owned(), bytes: N })
}

/// The serial number of a certificate: 128 random bits, so that it can't be guessed and never repeats (CA/Browser Forum
/// Baseline Requirements, 7.1, want 64).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Serial([u8; 16]);

impl Serial {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// Takes what a certificate carries: an integer of the shortest form.
    pub(super) fn from_integer(integer: &[u8]) -> Option<Self> {
        let digits = match integer {
            [0, rest @ ..] => rest,
            all => all,
        };
        let mut serial = [0; 16];
        serial.get_mut(16_usize.checked_sub(digits.len())?..)?.copy_from_slice(digits);
        Some(Self(serial))
    }

    /// The bytes, highest first.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Serial {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        parse_hex(text).map(Self)
    }
}

/// The SHA-256 of a certificate's DER. Printed as 64 digits in lower case, as seed files and the agent's `boot-ca.sha256` have
/// it; read with colons and capitals too, as openssl(1) prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Pairs of digits in capitals with colons between, for people who compare it.
    pub fn with_colons(&self) -> String {
        let pairs: Vec<_> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        parse_hex(text).map(Self)
    }
}
