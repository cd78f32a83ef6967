//! A box's own certificate: what stands in it, and whether it can be gone by.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rustls::{
    Error, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::{TlsError, chain, key, provider};

/// What stands in a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its serial number in hexadecimal: 32 digits, or more where it is longer.
    pub serial: String,
    /// When it ends, in milliseconds since 1970.
    pub ends_ms: u64,
    /// The DNS names and addresses that it is for.
    pub names: BTreeSet<String>,
}

/// Reads the first certificate of a chain in PEM.
///
/// # Errors
/// It is none.
pub fn leaf(chain_pem: &[u8]) -> Result<Leaf, TlsError> {
    let chain = chain(chain_pem)?;
    let first = chain.first().ok_or(TlsError::Empty)?;
    let (_, read) = parse_x509_certificate(first)?;
    let digits = hex::encode(read.raw_serial());
    let ends_s = u64::try_from(read.validity().not_after.timestamp()).unwrap_or_default();
    let names = read.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(name);
    Ok(Leaf {
        serial: format!("{:0>32}", digits.trim_start_matches('0')),
        ends_ms: ends_s.saturating_mul(1000),
        names: names.collect(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
            let v6 = <[u8; 16]>::try_from(*bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// Looks whether a chain in PEM, leaf first, is for this key, ends in this root and holds now. Names are not looked at.
///
/// # Errors
/// Something can't be read, or it is not so.
pub fn verify(
    chain_pem: &[u8],
    key_pem: &[u8],
    root_pem: &[u8],
    now: UnixTime,
) -> Result<(), TlsError> {
    let root = chain(root_pem)?.into_iter().next().ok_or(TlsError::Empty)?;
    Ok(verify_chain(chain(chain_pem)?, key(key_pem)?, root, now)?)
}

/// The same of what was read.
///
/// # Errors
/// It is not so.
pub fn verify_chain(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    root: CertificateDer<'static>,
    now: UnixTime,
) -> Result<(), Error> {
    let provider = provider();
    let own = CertifiedKey::from_der(certificates, key, &provider)?;
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    let leaf = ParsedCertificate::try_from(own.end_entity_cert()?)?;
    let above = own.cert.get(1..).unwrap_or_default();
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, above, now, algorithms)
}
