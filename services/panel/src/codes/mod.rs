//! One-time codes that a person carries from one box to another: short ones that only prove who stands before it, and join
//! codes, which also say whom to trust. The store keeps hashes alone.

pub mod alphabet;
mod join;

pub use join::{Address, JoinCode, JoinKind, Pin, SeedFile};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
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
    /// What it says of the panel makes no sense.
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

/// `N` random bytes that are good for one use.
#[derive(Debug)]
pub struct OneTime<const N: usize>(SecretBox<[u8; N]>);

/// A code to read off a screen or a log and to type: 40 bits in ten characters. Enough where it is tried online, slowly and
/// seldom ([`crate::throttle`]): for the first admin, for a box's first page.
pub type ShortCode = OneTime<5>;

/// What a join code proves itself with: 64 bits.
pub type JoinSecret = OneTime<8>;

/// What is kept of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeHash(pub [u8; 32]);

impl std::fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeHash")
    }
}

impl<const N: usize> OneTime<N> {
    /// A new one.
    pub fn generate() -> Self {
        Self::from_bytes(rand::random())
    }

    /// Reads what was typed.
    ///
    /// # Errors
    /// It is mistyped, or of another length.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let bytes = alphabet::decode(typed)?.try_into().map_err(|_| Error::Kind)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The text to show once.
    pub fn text(&self) -> SecretString {
        alphabet::encode(self.bytes()).into()
    }

    /// What to keep.
    pub fn hash(&self) -> CodeHash {
        let digest = Sha256::new().chain_update(b"clusterducks code\0").chain_update(self.bytes());
        CodeHash(digest.finalize().into())
    }

    /// Whether this is the code of which `kept` was kept; it takes as long when it is not.
    pub fn is(&self, kept: &CodeHash) -> bool {
        self.hash().0.ct_eq(&kept.0).into()
    }

    fn from_bytes(bytes: [u8; N]) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    fn bytes(&self) -> &[u8; N] {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_code_is_known_by_its_hash_however_it_is_typed() {
        let code = ShortCode::generate();
        let kept = code.hash();
        let shown = code.text();
        assert_eq!(shown.expose_secret().len(), 11);
        let typed = ShortCode::parse(&shown.expose_secret().to_lowercase().replace('-', " "));
        assert!(typed.unwrap().is(&kept));
        assert!(!ShortCode::generate().is(&kept));
        assert!(!format!("{code:?} {kept:?}").contains(shown.expose_secret()));
    }

    #[test]
    fn a_code_of_another_length_is_of_another_kind() {
        let text = JoinSecret::generate().text();
        assert_eq!(ShortCode::parse(text.expose_secret()).unwrap_err(), Error::Kind);
        let wrong = ShortCode::parse("hello");
        assert!(matches!(wrong, Err(Error::Typed(_))), "{wrong:?}");
    }
}
