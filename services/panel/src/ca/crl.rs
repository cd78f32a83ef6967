//! Revocation lists (RFC 5280, 5): which certificates of an authority don't count any more, signed by it.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateRevocationListDer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Authority, Error, Serial, certificate::from_unix, pem};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a list is good for: a server that can't reach its panel goes on with its last one.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why a certificate was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "RevocationReason")]
pub enum Reason {
    /// Nobody said.
    Unspecified,
    /// Somebody else may have its key.
    KeyCompromise,
    /// Another took its place.
    Superseded,
    /// Whom it was for is gone.
    Removed,
    /// Whom it was for lost the right to it.
    PrivilegeWithdrawn,
}

impl Reason {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::Superseded => "superseded",
            Self::Removed => "removed",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }
}

/// A revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Which one.
    pub serial: Serial,
    /// Since when.
    pub at: SystemTime,
    /// Why.
    pub reason: Reason,
}

/// A signed list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    der: CertificateRevocationListDer<'static>,
    issuer: String,
    number: u64,
    next_update: SystemTime,
    serials: BTreeSet<Serial>,
}

impl RevocationList {
    /// Takes a list back from its DER. Who signed it is not looked at.
    ///
    /// # Errors
    /// It is no list as ours are.
    pub fn parse(der: Vec<u8>) -> Result<Self, Error> {
        let (rest, read) = x509_parser::parse_x509_crl(&der).map_err(|_| Error::RevocationList)?;
        let next = read.next_update().map(|next| next.timestamp());
        let number = read.crl_number().and_then(|number| number.to_u64_digits().first().copied());
        let serials = read.iter_revoked_certificates();
        let serials = serials.map(|revoked| Serial::from_integer(revoked.raw_serial()));
        let (Some(next), true) = (next, rest.is_empty()) else {
            return Err(Error::RevocationList);
        };
        let issuer = read.issuer().to_string();
        let serials = serials.collect::<Option<_>>().ok_or(Error::RevocationList)?;
        let next_update = from_unix(next)?;
        let der = CertificateRevocationListDer::from(der.clone());
        Ok(Self { issuer, number: number.unwrap_or_default(), next_update, serials, der })
    }

    /// The distinguished name of the authority that signed it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Its number: each list has a higher one than those before.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The certificates that are on it.
    pub fn serials(&self) -> &BTreeSet<Serial> {
        &self.serials
    }

    /// The list in DER.
    pub fn der(&self) -> &CertificateRevocationListDer<'static> {
        &self.der
    }

    /// The list in PEM.
    pub fn pem(&self) -> String {
        pem("X509 CRL", &self.der)
    }

    /// When the next one must be there.
    pub fn next_update(&self) -> SystemTime {
        self.next_update
    }

    /// Whether a list that is good until `next_update` is to be signed anew now, though nothing was revoked: half its life is over.
    pub fn renewal_due(next_update: SystemTime, now: SystemTime) -> bool {
        now.checked_add(LIFETIME / 2).is_none_or(|horizon| horizon > next_update)
    }
}

impl Authority {
    /// The list of all its certificates that are revoked. `number` must be higher than that of every list before.
    ///
    /// # Errors
    /// The clock is beyond what a list can carry.
    pub fn revocation_list(
        &self,
        revoked: &[Revoked],
        number: u64,
        now: SystemTime,
    ) -> Result<RevocationList, Error> {
        let next_update = now.checked_add(LIFETIME).ok_or(Error::Clock)?;
        // openssl(1) refuses a list from the future, and clocks of servers may lag.
        let this_update = now.checked_sub(DAY).ok_or(Error::Clock)?;
        let params = CertificateRevocationListParams {
            this_update: this_update.into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list: CertificateRevocationListDer<'_> = params.signed_by(self.issuer())?.into();
        RevocationList::parse(list.to_vec())
    }
}

fn entry(revoked: &Revoked) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(revoked.serial.bytes()),
        revocation_time: revoked.at.into(),
        // "Unspecified" should be left out (RFC 5280, 5.3.1).
        reason_code: match revoked.reason {
            Reason::Unspecified => None,
            Reason::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Reason::Superseded => Some(RevocationReason::Superseded),
            Reason::Removed => Some(RevocationReason::CessationOfOperation),
            Reason::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        },
        invalidity_date: None,
    }
}
