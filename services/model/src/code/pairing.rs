//! Pairing codes: what a tunnel shows on its screen, and a panel needs to make it its own.
//!
//! Form: one byte of flags, the secret (8 bytes, or 16), and the beginning of the fingerprint of the tunnel's key (12), which a code
//! from a seed file lacks: whoever wrote it could not know the key. For that its secret is the longer one, which nobody types.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::ConstantTimeEq as _;

use super::{Error, JoinSecret, OneTime, Pin, alphabet};

const VERSION: u8 = 0b0110_0000;
const HAS_PIN: u8 = 0b0000_0001;
const IS_LONG: u8 = 0b0000_0010;

/// What both sides of a pairing prove themselves with.
#[derive(Debug)]
pub enum PairingSecret {
    /// 64 bits, to type: beside the fingerprint of the key, and for a day.
    Short(JoinSecret),
    /// 128 bits, for a seed file: whoever answers there may be anybody, and takes our proof away to guess at for as long as they like.
    Long(OneTime<16>),
}

impl PairingSecret {
    /// Takes bytes that were kept; nothing where no secret is so long.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let short = bytes.try_into().ok().map(|bytes| Self::Short(OneTime::new(bytes)));
        short.or_else(|| bytes.try_into().ok().map(|bytes| Self::Long(OneTime::new(bytes))))
    }

    /// The bytes, to prove oneself with.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(secret) => secret.bytes(),
            Self::Long(secret) => secret.bytes(),
        }
    }

    /// Whether both are the same; it takes as long when they are not.
    pub fn is(&self, other: &Self) -> bool {
        self.bytes().ct_eq(other.bytes()).into()
    }
}

impl Clone for PairingSecret {
    fn clone(&self) -> Self {
        match self {
            Self::Short(secret) => Self::Short(OneTime::new(*secret.bytes())),
            Self::Long(secret) => Self::Long(OneTime::new(*secret.bytes())),
        }
    }
}

impl From<JoinSecret> for PairingSecret {
    fn from(secret: JoinSecret) -> Self {
        Self::Short(secret)
    }
}

impl From<OneTime<16>> for PairingSecret {
    fn from(secret: OneTime<16>) -> Self {
        Self::Long(secret)
    }
}

/// A pairing code. Its secret never crosses the wire: each side proves to have it, bound to the TLS connection between them
/// ([`crate::tunnel::proven`]).
pub struct PairingCode {
    /// What both sides prove themselves with, once.
    pub secret: PairingSecret,
    /// The tunnel's key: the SHA-256 digest of its SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) begins like this.
    pub key: Option<Pin>,
}

impl PairingCode {
    /// The text to show and to type.
    pub fn text(&self) -> SecretString {
        let (has_pin, pin) = match self.key {
            None => (0, Vec::new()),
            Some(Pin::Typed(pin)) => (HAS_PIN, pin.to_vec()),
            Some(Pin::Whole(whole)) => (HAS_PIN, whole.iter().copied().take(12).collect()),
        };
        let is_long = match self.secret {
            PairingSecret::Short(_) => 0,
            PairingSecret::Long(_) => IS_LONG,
        };
        let flags = VERSION | has_pin | is_long;
        alphabet::encode(&[&[flags][..], self.secret.bytes(), &pin].concat()).into()
    }

    /// Reads what was typed.
    ///
    /// # Errors
    /// It is mistyped, or of another kind.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let bytes = alphabet::decode(typed)?;
        let (flags, rest) = bytes.split_first().ok_or(Error::Kind)?;
        if flags & !(HAS_PIN | IS_LONG) != VERSION {
            return Err(Error::Kind);
        }
        let length = if flags & IS_LONG == 0 { 8 } else { 16 };
        let (secret, pin) = rest.split_at_checked(length).ok_or(Error::Content("length"))?;
        let secret = PairingSecret::of(secret).ok_or(Error::Content("length"))?;
        let key = match (flags & HAS_PIN, pin) {
            (0, []) => None,
            (0, _) => return Err(Error::Content("length")),
            (_, pin) => Some(Pin::Typed(pin.try_into().map_err(|_| Error::Content("length"))?)),
        };
        Ok(Self { secret, key })
    }
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairingCode").field("key", &self.key).finish_non_exhaustive()
    }
}

/// As its text: for the screen of the box that made it.
impl Serialize for PairingCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text().expose_secret().serialize(serializer)
    }
}

/// As it stands in the table `[pair]` of a seed file: `code = "..."`.
impl<'de> Deserialize<'de> for PairingCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretString::from(String::deserialize(deserializer)?);
        Self::parse(text.expose_secret()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_was_put_into_it() {
        for key in [None, Some(Pin::Typed([9; 12]))] {
            for secret in [
                PairingSecret::from(JoinSecret::new([1, 2, 3, 4, 5, 6, 7, 255])),
                OneTime::new([7; 16]).into(),
            ] {
                let made = PairingCode { secret, key };
                let read = PairingCode::parse(made.text().expose_secret()).unwrap();
                assert!(read.secret.is(&made.secret));
                assert_eq!(read.key, made.key);
            }
        }
        let secret = JoinSecret::new([1; 8]).into();
        let shown = PairingCode { secret, key: Some(Pin::Whole([9; 32])) };
        let typed = PairingCode::parse(shown.text().expose_secret()).unwrap();
        assert_eq!(typed.key, Some(Pin::Typed([9; 12])));
        assert_eq!(shown.text().expose_secret().split('-').count(), 9);
    }

    #[test]
    fn what_is_no_pairing_code_is_told_from_one_that_is_mistyped() {
        let parse = |bytes: &[u8]| PairingCode::parse(&alphabet::encode(bytes)).unwrap_err();
        assert_eq!(parse(&[0b0100_0000; 40]), Error::Kind);
        assert_eq!(parse(&[VERSION; 5]), Error::Content("length"));
        assert_eq!(parse(&[VERSION; 21]), Error::Content("length"));
        assert_eq!(parse(&[&[VERSION | IS_LONG][..], &[1; 8]].concat()), Error::Content("length"));
        assert_eq!(parse(&[VERSION | HAS_PIN; 15]), Error::Content("length"));
        assert!(matches!(PairingCode::parse("hello"), Err(Error::Typed(_))));
    }

    #[test]
    fn a_code_is_not_printed() {
        let code = PairingCode { secret: JoinSecret::new([7; 8]).into(), key: None };
        assert_eq!(format!("{code:?}"), "PairingCode { key: None, .. }");
    }
}
