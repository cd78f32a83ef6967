//! One-time codes that a person carries from one box to another: short ones that only prove who stands before it, and join
//! and pairing codes, which also say whom to trust. Here is their form; randomness comes from whoever makes one.

pub mod alphabet;
mod join;
mod pairing;

use std::fmt;

pub use join::{Address, AddressError, Host, JoinCode, Pin, Way};
pub use pairing::{PairingCode, PairingSecret};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::ConstantTimeEq as _;

/// Why a code is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It was mistyped.
    #[error("the code can't be read")]
    Typed(#[from] alphabet::Error),
    /// It is of another kind, or of a newer version.
    #[error("this is not a code of this kind")]
    Kind,
    /// What it says of whom to go to makes no sense.
    #[error("the code's {0} makes no sense")]
    Content(&'static str),
    /// A DNS name longer than 253 characters, or a time after the year 10000.
    #[error("the {0} can't stand in a code")]
    Unencodable(&'static str),
}

impl Error {
    /// Whether the same code may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Typed(_) | Self::Kind | Self::Content(_) | Self::Unencodable(_) => false,
        }
    }
}

/// `N` random bytes that are good for one use. They are shown only on purpose, and wiped from memory when they are dropped.
pub struct OneTime<const N: usize>(SecretBox<[u8; N]>);

/// A code to read off a screen or a log and to type: 40 bits in ten characters. Enough where it is tried online, slowly and
/// seldom: for the first admin, for a box's first page.
pub type ShortCode = OneTime<5>;

/// What a join code proves itself with: 64 bits.
pub type JoinSecret = OneTime<8>;

impl<const N: usize> OneTime<N> {
    /// Takes bytes from a source of randomness that nobody can guess.
    pub fn new(random: [u8; N]) -> Self {
        Self(SecretBox::new(Box::new(random)))
    }

    /// Reads what was typed.
    ///
    /// # Errors
    /// It is mistyped, or of another length.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let bytes = alphabet::decode(typed)?.try_into().map_err(|_| Error::Kind)?;
        Ok(Self::new(bytes))
    }

    /// The text to show once.
    pub fn text(&self) -> SecretString {
        alphabet::encode(self.bytes()).into()
    }

    /// Whether both are the same code; it takes as long when they are not.
    pub fn is(&self, other: &Self) -> bool {
        self.bytes().ct_eq(other.bytes()).into()
    }

    /// The bytes, to make a digest of.
    pub fn bytes(&self) -> &[u8; N] {
        self.0.expose_secret()
    }
}

impl<const N: usize> fmt::Debug for OneTime<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneTime([REDACTED])")
    }
}

/// As its text: for the one message in which it is spent.
impl<const N: usize> Serialize for OneTime<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text().expose_secret().serialize(serializer)
    }
}

impl<'de, const N: usize> Deserialize<'de> for OneTime<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretString::from(String::deserialize(deserializer)?);
        Self::parse(text.expose_secret()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_code_is_known_however_it_is_typed() {
        let code = ShortCode::new([1, 2, 3, 250, 5]);
        let shown = code.text();
        assert_eq!(shown.expose_secret().len(), 11);
        let typed = ShortCode::parse(&shown.expose_secret().to_lowercase().replace('-', " "));
        assert!(typed.unwrap().is(&code));
        assert!(!ShortCode::new([1, 2, 3, 250, 6]).is(&code));
        assert_eq!(format!("{code:?}"), "OneTime([REDACTED])");
    }

    #[test]
    fn a_code_of_another_length_is_of_another_kind() {
        let text = JoinSecret::new([7; 8]).text();
        assert_eq!(ShortCode::parse(text.expose_secret()).unwrap_err(), Error::Kind);
        let wrong = ShortCode::parse("hello");
        assert!(matches!(wrong, Err(Error::Typed(_))), "{wrong:?}");
    }
}
