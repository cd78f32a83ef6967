//! Certificate and key in one file for a person's browser or key store: PKCS#12 (RFC 7292), locked by a pass phrase.

use p12_keystore::{KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Error, Issued, Key};

/// How often the pass phrase is hashed, for the encryption and again for the seal: as slow as may be, but .NET, and what is built
/// on it, reads no bundle with more than 300,000 (`Pkcs12LoadLimits.Defaults`).
const ITERATIONS: u32 = 200_000;

/// The bundle: encrypted by PBES2 with AES-256 and HMAC-SHA-256, which OpenSSL, Firefox, Chrome, Windows 10 and macOS 15 read.
///
/// # Errors
/// The bundle can't be encoded.
pub fn bundle(issued: &Issued, key: &Key, pass_phrase: &SecretString) -> Result<Vec<u8>, Error> {
    let certificates = issued.chain();
    let certificates = certificates.iter().map(|der| p12_keystore::Certificate::from_der(der));
    let chain = PrivateKeyChain::new(
        issued.certificate.fingerprint().bytes().as_slice(),
        PrivateKey::from_der(key.pkcs8().expose_secret())?,
        certificates.collect::<Result<Vec<_>, _>>()?,
    );
    let mut store = KeyStore::new();
    store.add_entry(issued.certificate.subject(), KeyStoreEntry::PrivateKeyChain(chain));
    let writer = store.writer(pass_phrase.expose_secret());

    Ok(writer.encryption_iterations(ITERATIONS).mac_iterations(ITERATIONS).write()?)
}
