//! Join codes: all that a new box needs to find the panel, to know it, and to be let in once.
//!
//! Form: one byte of flags, the expiry in minutes since 1970 (4 bytes), the secret (8), the pin (12, or 32 with the whole
//! fingerprint), the host (4 or 16 bytes of address, or a length and a DNS name), and the port unless it is the way's own, 443 or 22 (2
//! bytes).

use std::{
    fmt,
    net::IpAddr,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::ConstantTimeEq as _;

use super::{Error, JoinSecret, alphabet};
use crate::tunnel::SSH_PORT;

/// A DNS name or an address that something is reached by.
pub type Host = ServerName<'static>;

const VERSION: u8 = 0b0100_0000;
const VERSION_BITS: u8 = 0b1110_0000;
const TUNNEL: u8 = 0b0001_0000;
const WHOLE_PIN: u8 = 0b0000_1000;
const HAS_PORT: u8 = 0b0000_0100;
const HOST_BITS: u8 = 0b0000_0011;
const V4: u8 = 0;
const V6: u8 = 1;
const DNS: u8 = 2;

const HTTPS: u16 = 443;
const MINUTE: u64 = 60;

/// The way to the panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The panel itself is asked, over HTTPS.
    Panel,
    /// A tunnel's SSH server is asked for a stream to the panel, and the panel inside it over HTTPS.
    Tunnel,
}

impl Way {
    /// The port that a code need not name.
    fn port(self) -> u16 {
        match self {
            Self::Panel => HTTPS,
            Self::Tunnel => SSH_PORT,
        }
    }
}

/// Where somebody is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its name or address.
    pub host: Host,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::IpAddress(address) => match IpAddr::from(*address) {
                IpAddr::V4(address) => write!(f, "{address}:{}", self.port),
                IpAddr::V6(address) => write!(f, "[{address}]:{}", self.port),
            },
            other => write!(f, "{}:{}", other.to_str(), self.port),
        }
    }
}

/// Not an address with a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an address or a DNS name, a colon and a port; an IPv6 address stands in brackets")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = Host::try_from(v6.unwrap_or(host).to_owned()).map_err(|_| AddressError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(AddressError)?;
        let address = Self { host, port };
        // Brackets around nothing else, and none missing.
        if address.to_string().eq_ignore_ascii_case(text) { Ok(address) } else { Err(AddressError) }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The beginning of the root's fingerprint. 96 bits where it is typed: to pose as the panel, somebody would need a certificate
/// with the very same beginning (a second preimage, 2^96 hashes), and before the code expires.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// 96 bits.
    Typed([u8; 12]),
    /// All 256.
    Whole([u8; 32]),
}

impl Pin {
    /// Whether a certificate is the one, by the SHA-256 digest of its DER.
    pub fn matches(&self, fingerprint: &[u8; 32]) -> bool {
        match self {
            Self::Typed(pin) => {
                fingerprint.first_chunk::<12>().is_some_and(|first| first.ct_eq(pin).into())
            }
            Self::Whole(pin) => fingerprint.ct_eq(pin).into(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Typed(pin) => pin,
            Self::Whole(pin) => pin,
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A join code.
#[derive(Debug)]
pub struct JoinCode {
    /// How to go to the panel with it.
    pub way: Way,
    /// Where: the panel's address, or the tunnel's.
    pub address: Address,
    /// Whom to trust at the end: a chain must end in a certificate with this fingerprint.
    pub root: Pin,
    /// What to prove oneself with, once.
    pub secret: JoinSecret,
    /// Until when the panel takes it, in whole minutes. A box whose clock may be wrong shows it and leaves the decision to the panel.
    pub expires: SystemTime,
}

impl JoinCode {
    /// A new code with the whole fingerprint. It expires with the last full minute of `lifetime`.
    pub fn new(
        way: Way,
        address: Address,
        root: &[u8; 32],
        secret: JoinSecret,
        now: SystemTime,
        lifetime: Duration,
    ) -> Self {
        let end = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(lifetime);
        let minutes = end.as_secs() / MINUTE;
        Self {
            way,
            address,
            root: Pin::Whole(*root),
            secret,
            expires: UNIX_EPOCH + Duration::from_secs(minutes * MINUTE),
        }
    }

    /// Whether it is too late.
    pub fn expired(&self, now: SystemTime) -> bool {
        now >= self.expires
    }

    /// The code for typing: with the beginning of the fingerprint.
    ///
    /// # Errors
    /// The host's name is too long or the expiry out of bounds.
    pub fn typed(&self) -> Result<SecretString, Error> {
        self.render(&shortened(self.root))
    }

    /// The code for seed files and cameras: with the fingerprint as it is.
    ///
    /// # Errors
    /// The host's name is too long or the expiry out of bounds.
    pub fn text(&self) -> Result<SecretString, Error> {
        self.render(&self.root)
    }

    fn render(&self, pin: &Pin) -> Result<SecretString, Error> {
        let (host_kind, host) = host_bytes(&self.address.host)?;
        let mut flags = VERSION | host_kind;
        if self.way == Way::Tunnel {
            flags |= TUNNEL;
        }
        if matches!(pin, Pin::Whole(_)) {
            flags |= WHOLE_PIN;
        }
        let mut port = Vec::new();
        if self.address.port != self.way.port() {
            flags |= HAS_PORT;
            port.extend(self.address.port.to_be_bytes());
        }
        let end = self.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / MINUTE;
        let minutes = u32::try_from(end).map_err(|_| Error::Unencodable("expiry"))?.to_be_bytes();
        let parts = [&[flags][..], &minutes, self.secret.bytes(), pin.bytes(), &host, &port];
        Ok(alphabet::encode(&parts.concat()).into())
    }

    /// Reads a code.
    ///
    /// # Errors
    /// It is mistyped, of another kind, or says nothing sensible.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let bytes = alphabet::decode(typed)?;
        let mut rest = bytes.as_slice();
        let [flags] = take(&mut rest)?;
        if flags & VERSION_BITS != VERSION {
            return Err(Error::Kind);
        }
        let minutes = u64::from(u32::from_be_bytes(take(&mut rest)?));
        let secret = JoinSecret::new(take(&mut rest)?);
        let root = match flags & WHOLE_PIN {
            0 => Pin::Typed(take(&mut rest)?),
            _ => Pin::Whole(take(&mut rest)?),
        };
        let host = take_host(flags & HOST_BITS, &mut rest)?;
        let way = if flags & TUNNEL == 0 { Way::Panel } else { Way::Tunnel };
        let port = match flags & HAS_PORT {
            0 => way.port(),
            _ => u16::from_be_bytes(take(&mut rest)?),
        };
        if !rest.is_empty() || port == 0 {
            return Err(Error::Content("end"));
        }
        Ok(Self {
            way,
            address: Address { host, port },
            root,
            secret,
            expires: UNIX_EPOCH + Duration::from_secs(minutes * MINUTE),
        })
    }
}

/// As it stands in the table `[join]` of a seed file: `code = "..."`.
impl<'de> Deserialize<'de> for JoinCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretString::from(String::deserialize(deserializer)?);
        Self::parse(text.expose_secret()).map_err(de::Error::custom)
    }
}

fn shortened(pin: Pin) -> Pin {
    match pin {
        Pin::Typed(_) => pin,
        Pin::Whole(whole) => whole.first_chunk().map_or(pin, |first| Pin::Typed(*first)),
    }
}

fn host_bytes(host: &Host) -> Result<(u8, Vec<u8>), Error> {
    match host {
        Host::IpAddress(address) => match IpAddr::from(*address) {
            IpAddr::V4(address) => Ok((V4, address.octets().to_vec())),
            IpAddr::V6(address) => Ok((V6, address.octets().to_vec())),
        },
        other => {
            let name = other.to_str();
            let length =
                u8::try_from(name.len()).map_err(|_| Error::Unencodable("name of the host"))?;
            Ok((DNS, [&[length], name.as_bytes()].concat()))
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let (taken, left) = rest.split_first_chunk().ok_or(Error::Content("length"))?;
    *rest = left;
    Ok(*taken)
}

fn take_host(kind: u8, rest: &mut &[u8]) -> Result<Host, Error> {
    match kind {
        V4 => Ok(IpAddr::from(take::<4>(rest)?).into()),
        V6 => Ok(IpAddr::from(take::<16>(rest)?).into()),
        DNS => {
            let [length] = take(rest)?;
            let (name, left) =
                rest.split_at_checked(usize::from(length)).ok_or(Error::Content("length"))?;
            *rest = left;
            let name = std::str::from_utf8(name).map_err(|_| Error::Content("name of the host"))?;
            Host::try_from(name.to_owned()).map_err(|_| Error::Content("name of the host"))
        }
        _ => Err(Error::Kind),
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
