//! Secrets: values that no log line can show, and their sealing at rest under the key file of the box. It reads and writes no
//! files; the store keeps what is sealed, the box keeps the key.
//!
//! A [`SecretBox`] prints as `[REDACTED]`, has no `Display` and no `Serialize`, and is wiped from memory when it is dropped.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
pub use secrecy::{ExposeSecret, SecretBox, SecretSlice, SecretString};
use sha2::{Digest as _, Sha256};

/// What stands first in everything that is sealed.
const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;

/// Why something sealed can't be opened, or a key file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key file has another length.
    #[error("the box's key file holds {0} bytes, not {expected}", expected = BoxKey::BYTES)]
    KeyFile(usize),
    /// It was sealed by a newer version, or is nothing sealed.
    #[error("it is sealed in format {0}, which this version does not know")]
    Version(u8),
    /// It is shorter than the smallest that can be sealed.
    #[error("it is cut off")]
    Short,
    /// It was sealed under another key file.
    #[error("it was sealed under another key file than this box has")]
    OtherKey,
    /// It was changed, or was sealed for something else.
    #[error("it was changed since it was sealed, or belongs elsewhere")]
    Refused,
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::KeyFile(_) | Self::Version(_) | Self::Short | Self::OtherKey | Self::Refused => {
                false
            }
        }
    }
}

/// What a sealed secret is for. The text of each is part of what is sealed and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The private key of an authority.
    AuthorityKey,
    /// The private key of a certificate of the panel itself.
    CertificateKey,
    /// What a person's authenticator shares with the panel.
    TotpSecret,
    /// What the panel signs in with at a mail server or a webhook.
    NoticeCredential,
    /// What a server and its devices share.
    ServerSecret,
    /// What a tunnel and the panel prove themselves to each other with, once.
    PairingSecret,
}

impl Purpose {
    fn text(self) -> &'static str {
        match self {
            Self::AuthorityKey => "authority key",
            Self::CertificateKey => "certificate key",
            Self::TotpSecret => "totp secret",
            Self::NoticeCredential => "notice credential",
            Self::ServerSecret => "server secret",
            Self::PairingSecret => "pairing secret",
        }
    }
}

/// The key file of the box: 32 random bytes, under which secrets lie in the database. A copy of the database alone is worth
/// nothing.
#[derive(Debug)]
pub struct BoxKey(SecretBox<[u8; BoxKey::BYTES]>);

impl BoxKey {
    /// The length of the key file.
    pub const BYTES: usize = 32;

    /// A new key.
    pub fn generate() -> Self {
        Self(SecretBox::init_with_mut(|key: &mut [u8; Self::BYTES]| rand::fill(&mut key[..])))
    }

    /// Takes the content of the key file.
    ///
    /// # Errors
    /// It has another length.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        let key = file.try_into().map_err(|_| Error::KeyFile(file.len()))?;
        Ok(Self(SecretBox::new(Box::new(key))))
    }

    /// What stands in the key file.
    pub fn reveal(&self) -> &[u8; Self::BYTES] {
        self.0.expose_secret()
    }

    /// Seals a secret for one purpose of one thing (`of`: the name or number of what it belongs to). What comes out opens only
    /// with the same key, purpose and thing: nobody who can write to the database can put one secret in another's place.
    ///
    /// Form: version, 8 bytes that tell the key, nonce of 24 bytes, XChaCha20-Poly1305's ciphertext and tag. So long a nonce
    /// may be random for any number of secrets.
    pub fn seal(&self, purpose: Purpose, of: &str, secret: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let context = self.context(purpose, of);
        let payload = Payload { msg: secret, aad: &context };
        let ciphertext = self
            .cipher()
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("only messages beyond 256 GiB are refused");
        [&[VERSION], &self.id()[..], &nonce, &ciphertext].concat()
    }

    /// Opens what [`BoxKey::seal`] made.
    ///
    /// # Errors
    /// It is damaged, of another key, or of another purpose or thing.
    pub fn open(
        &self,
        purpose: Purpose,
        of: &str,
        sealed: &[u8],
    ) -> Result<SecretSlice<u8>, Error> {
        let (&version, rest) = sealed.split_first().ok_or(Error::Short)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(Error::Short)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Error::Short)?;
        if *id != self.id() {
            return Err(Error::OtherKey);
        }
        let context = self.context(purpose, of);
        let payload = Payload { msg: ciphertext, aad: &context };
        let secret = self.cipher().decrypt(XNonce::from_slice(nonce), payload);
        Ok(secret.map_err(|_| Error::Refused)?.into())
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.reveal().into())
    }

    /// Tells keys apart and nothing more: a hash of 256 random bits can't be turned around.
    fn id(&self) -> [u8; KEY_ID_BYTES] {
        let digest =
            Sha256::new().chain_update(b"clusterducks box key\0").chain_update(self.reveal());
        let digest: [u8; 32] = digest.finalize().into();
        *digest.first_chunk().expect("a digest of 32 bytes has 8")
    }

    fn context(&self, purpose: Purpose, of: &str) -> Vec<u8> {
        [&[VERSION], &self.id()[..], purpose.text().as_bytes(), b"\0", of.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn key() -> BoxKey {
        BoxKey::parse(&KEY).unwrap()
    }

    #[test]
    fn a_secret_comes_back_and_is_nowhere_in_what_is_sealed() {
        let sealed = key().seal(Purpose::TotpSecret, "ada", b"twenty secret bytes!");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let opened = key().open(Purpose::TotpSecret, "ada", &sealed).unwrap();
        assert_eq!(opened.expose_secret(), b"twenty secret bytes!");
    }

    #[test]
    fn a_secret_is_never_printed() {
        let key = BoxKey::parse(b"0123456789abcdef0123456789abcdef").unwrap();
        let secret = SecretString::from("hunter2");
        let shown = format!("{key:?} {secret:?}");
        assert!(shown.contains("[REDACTED]") && !shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("0123") && !shown.contains("48, 49"), "{shown}");
    }

    #[test]
    fn a_secret_does_not_open_in_anothers_place() {
        let sealed = key().seal(Purpose::TotpSecret, "ada", b"secret");
        let opened = |purpose, of| key().open(purpose, of, &sealed).map(|_| ());
        assert_eq!(opened(Purpose::TotpSecret, "bob"), Err(Error::Refused));
        assert_eq!(opened(Purpose::NoticeCredential, "ada"), Err(Error::Refused));
        assert_eq!(opened(Purpose::TotpSecret, "ada"), Ok(()));
    }

    #[test]
    fn another_key_file_is_told_from_damage() {
        let sealed = key().seal(Purpose::AuthorityKey, "root", b"secret");
        let other = BoxKey::parse(&[8; 32]).unwrap();
        let opened = other.open(Purpose::AuthorityKey, "root", &sealed);
        assert_eq!(opened.unwrap_err(), Error::OtherKey);
        assert_eq!(BoxKey::parse(&[7; 31]).unwrap_err(), Error::KeyFile(31));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_seen() {
        let sealed = key().seal(Purpose::AuthorityKey, "root", b"secret");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            let error = key().open(Purpose::AuthorityKey, "root", &changed).unwrap_err();
            let expected = match place {
                0 => Error::Version(0),
                1..=8 => Error::OtherKey,
                _ => Error::Refused,
            };
            assert_eq!(error, expected, "byte {place}");
            let cut = key().open(Purpose::AuthorityKey, "root", &sealed[..place]);
            let expected = if place < 33 { Error::Short } else { Error::Refused };
            assert_eq!(cut.unwrap_err(), expected, "cut at {place}");
        }
    }

    /// Made by another implementation of XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, in Python), with the nonce 00 01 .. 17.
    #[test]
    fn a_seal_of_the_first_version_still_opens() {
        let sealed = hex::decode(include_str!("../testdata/sealed-v1.hex").trim()).unwrap();
        let opened = key().open(Purpose::AuthorityKey, "root", &sealed).unwrap();
        assert_eq!(opened.expose_secret(), b"secret");
    }

    #[test]
    fn the_same_secret_never_looks_the_same_and_keys_differ() {
        let seal = || key().seal(Purpose::AuthorityKey, "root", b"secret");
        assert_ne!(seal(), seal());
        assert_ne!(BoxKey::generate().reveal(), BoxKey::generate().reveal());
    }
}
