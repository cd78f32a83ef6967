//! Pairing codes: what a tunnel shows on its screen, and a panel needs to make it its own.
//!
//! Form: one byte of flags, the secret (8 bytes), and the beginning of the fingerprint of the tunnel's key (12), which a code from
//! a seed file lacks: whoever wrote it could not know the key.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Error, JoinSecret, Pin, alphabet};

const VERSION: u8 = 0b0110_0000;
const HAS_PIN: u8 = 0b0000_0001;

/// A pairing code. Its secret never crosses the wire: each side proves to have it, bound to the TLS connection between them
/// ([`crate::tunnel::proven`]).
pub struct PairingCode {
    /// What both sides prove themselves with, once.
    pub secret: JoinSecret,
    /// The tunnel's key: the SHA-256 digest of its SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) begins like this.
    pub key: Option<Pin>,
}

impl PairingCode {
    /// The text to show and to type.
    pub fn text(&self) -> SecretString {
        let (flags, pin) = match self.key {
            None => (VERSION, Vec::new()),
            Some(Pin::Typed(pin)) => (VERSION | HAS_PIN, pin.to_vec()),
            Some(Pin::Whole(whole)) => {
                (VERSION | HAS_PIN, whole.iter().copied().take(12).collect())
            }
        };
        alphabet::encode(&[&[flags][..], self.secret.bytes(), &pin].concat()).into()
    }

    /// Reads what was typed.
    ///
    /// # Errors
    /// It is mistyped, or of another kind.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let bytes = alphabet::decode(typed)?;
        let (flags, rest) = bytes.split_first().ok_or(Error::Kind)?;
        if flags & !HAS_PIN != VERSION {
            return Err(Error::Kind);
        }
        let (secret, pin) = rest.split_first_chunk().ok_or(Error::Content("length"))?;
        let key = match (flags & HAS_PIN, pin) {
            (0, []) => None,
            (0, _) => return Err(Error::Content("length")),
            (_, pin) => Some(Pin::Typed(pin.try_into().map_err(|_| Error::Content("length"))?)),
        };
        Ok(Self { secret: JoinSecret::new(*secret), key })
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
            let made = PairingCode { secret: JoinSecret::new([1, 2, 3, 4, 5, 6, 7, 255]), key };
            let read = PairingCode::parse(made.text().expose_secret()).unwrap();
            assert!(read.secret.is(&made.secret));
            assert_eq!(read.key, key);
        }
        let shown = PairingCode { secret: JoinSecret::new([1; 8]), key: Some(Pin::Whole([9; 32])) };
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
        assert_eq!(parse(&[VERSION | HAS_PIN; 15]), Error::Content("length"));
        assert!(matches!(PairingCode::parse("hello"), Err(Error::Typed(_))));
    }

    #[test]
    fn a_code_is_not_printed() {
        let code = PairingCode { secret: JoinSecret::new([7; 8]), key: None };
        assert_eq!(format!("{code:?}"), "PairingCode { key: None, .. }");
    }
}
