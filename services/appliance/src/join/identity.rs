//! The box's own keys: made on it, kept on it, and never sent. What leaves are requests for certificates, and the certificate of
//! the first-boot page, which the box signs itself.

use std::path::{Path, PathBuf};

use host::{files, keys, seam::chain};
use model::tunnel::{SshKey, SshKeyError};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use sha2::{Digest as _, Sha256};

/// Only root reads a key.
pub const KEY_MODE: u32 = 0o600;

/// On P-256, because ssh(1) reads such keys as PKCS#8, and no Ed25519 ones.
const SSH_KEY: &str = "ssh.key";

/// Why there is no key or no request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key can't be read or kept.
    #[error("no access to the keys of this box")]
    File(#[from] files::Error),
    /// One can't be made, or what is kept is none.
    #[error("this box lacks a key")]
    Key(#[from] keys::Error),
    /// The certificate of the first-boot page can't be made.
    #[error("the first-boot page has no certificate")]
    Certificate(#[from] rcgen::Error),
    /// The key for tunnels is none that OpenSSH takes.
    #[error("the key for tunnels can't be used")]
    Ssh(#[source] SshKeyError),
    /// What is kept is not PEM.
    #[error("the certificate of the first-boot page can't be read")]
    Pem(#[from] pem::Error),
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Key(error) => error.retryable(),
            Self::Certificate(_) | Self::Ssh(_) | Self::Pem(_) => false,
        }
    }
}

/// The keys that the box asks certificates for.
#[derive(Debug)]
pub struct Identity {
    api: KeyPair,
    boot: KeyPair,
    ssh: KeyPair,
    /// Where the key is kept that the box comes to tunnels with, as ssh(1) reads it.
    pub ssh_path: PathBuf,
}

impl Identity {
    /// Takes the keys from the folder, and makes those that are not there: asked for twice, they are the same.
    ///
    /// # Errors
    /// One can't be read, made or kept.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            api: key(&folder.join("api.key"), keys::ecdsa)?,
            boot: key(&folder.join("boot.key"), keys::rsa)?,
            ssh: key(&folder.join(SSH_KEY), keys::ecdsa)?,
            ssh_path: folder.join(SSH_KEY),
        })
    }

    /// Sets aside the keys that are spoilt, so that new ones are made. Nothing that was asked for with them can be used any more.
    ///
    /// # Errors
    /// A file can't be read or renamed.
    pub fn set_spoilt_aside(folder: &Path) -> Result<(), Error> {
        for name in ["api.key", "boot.key", SSH_KEY] {
            let path = folder.join(name);
            let kept = files::read_if_exists(&path)?;
            if kept.is_some_and(|kept| keys::parse(&kept).is_err()) {
                set_aside(&path)?;
            }
        }
        Ok(())
    }

    /// The key of the agent's API, in PEM.
    pub fn api_key(&self) -> String {
        self.api.serialize_pem()
    }

    /// The key of the boot endpoint, in PEM.
    pub fn boot_key(&self) -> String {
        self.boot.serialize_pem()
    }

    /// The key that the box comes to tunnels with, in PEM.
    pub fn ssh_key(&self) -> String {
        self.ssh.serialize_pem()
    }

    /// Its public part as OpenSSH writes it.
    ///
    /// # Errors
    /// It can't be written so.
    pub fn ssh_public(&self) -> Result<SshKey, Error> {
        let data = openssh_keys::Data::Ecdsa {
            curve: openssh_keys::Curve::Nistp256,
            key: self.ssh.public_key_raw().to_vec(),
        };
        let key = openssh_keys::PublicKey { options: None, data, comment: None };
        key.to_string().trim_end().parse().map_err(Error::Ssh)
    }

    /// The certificate request for the agent's API, in PEM.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn api_request(&self) -> Result<String, Error> {
        Ok(keys::request(&self.api)?)
    }

    /// The certificate request for the boot endpoint, in PEM.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn boot_request(&self) -> Result<String, Error> {
        Ok(keys::request(&self.boot)?)
    }
}

fn key(path: &Path, make: fn() -> Result<KeyPair, keys::Error>) -> Result<KeyPair, Error> {
    if let Some(kept) = files::read_if_exists(path)? {
        return Ok(keys::parse(&kept)?);
    }
    let made = make()?;
    files::write_atomic(path, made.serialize_pem().as_bytes(), KEY_MODE)?;
    Ok(made)
}

/// Keeps a file that is spoilt for who wants to look at it, beside where it was.
///
/// # Errors
/// It can't be read, or not be written there.
pub fn set_aside(path: &Path) -> Result<(), files::Error> {
    let Some(kept) = files::read_if_exists(path)? else { return Ok(()) };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    files::write_atomic(Path::new(&aside), &kept, KEY_MODE)?;
    files::remove_if_exists(path)?;
    tracing::warn!(path = %path.display(), "spoilt, and set aside");
    Ok(())
}

/// The certificate of the first-boot page and its key.
#[derive(Debug)]
pub struct PageIdentity {
    /// What the page shows.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl PageIdentity {
    /// Takes it from the file, or makes it: one file, so that the certificate and its key always go together. One that is spoilt is
    /// made anew, for nothing hangs on it: its fingerprint stands on the screen.
    ///
    /// # Errors
    /// It can't be read, made or kept.
    pub fn open(file: &Path) -> Result<Self, Error> {
        if let Some(kept) = files::read_if_exists(file)? {
            match Self::parse(&kept) {
                Ok(identity) => return Ok(identity),
                Err(error) => tracing::warn!(error = chain(&error), "it is made anew"),
            }
        }
        let made = self_signed()?;
        files::write_atomic(file, made.as_bytes(), KEY_MODE)?;
        Self::parse(made.as_bytes())
    }

    fn parse(text: &[u8]) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(text)?;
        Ok(Self { certificate, key: PrivateKeyDer::from_pem_slice(text)? })
    }

    /// Its fingerprint as browsers show it: SHA-256, pairs of digits between colons.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.certificate);
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }
}

/// Its dates are those that rcgen gives, from 1975 to 4096: a box may not know the day yet, and people compare the fingerprint.
fn self_signed() -> Result<String, Error> {
    let key = keys::ecdsa()?;
    let mut params = CertificateParams::new(["clusterducks".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "clusterducks first-boot page");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn keys_are_made_once_and_for_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::open(folder.path()).unwrap();
        let second = Identity::open(folder.path()).unwrap();
        assert_eq!(first.api_key(), second.api_key());
        assert_eq!(first.boot_key(), second.boot_key());
        for name in ["api.key", "boot.key", SSH_KEY] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(first.api_request().unwrap().contains("BEGIN CERTIFICATE REQUEST"));
        assert!(!first.boot_request().unwrap().contains("PRIVATE"));
    }

    #[test]
    fn openssh_reads_the_key_for_tunnels_and_finds_the_same_public_part() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::open(folder.path()).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "a program of OpenSSH's that boxes don't have"
        )]
        let mut keygen = std::process::Command::new("/usr/bin/ssh-keygen");
        let said = keygen.arg("-y").arg("-f").arg(&identity.ssh_path).output().unwrap();
        let public = String::from_utf8(said.stdout).unwrap();
        assert_eq!(public.trim(), identity.ssh_public().unwrap().as_str(), "{:?}", said.stderr);
    }

    #[test]
    fn a_spoilt_key_is_told_and_replaced_only_when_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("api.key");
        files::write_atomic(&file, b"spoilt", KEY_MODE).unwrap();
        assert!(matches!(Identity::open(folder.path()), Err(Error::Key(keys::Error::Unusable(_)))));
        assert_eq!(fs::read(&file).unwrap(), b"spoilt");
        Identity::set_spoilt_aside(folder.path()).unwrap();
        let made = Identity::open(folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("api.key.damaged")).unwrap(), b"spoilt");
        Identity::set_spoilt_aside(folder.path()).unwrap();
        assert_eq!(Identity::open(folder.path()).unwrap().api_key(), made.api_key());
    }

    #[test]
    fn the_page_keeps_its_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.pem");
        let first = PageIdentity::open(&file).unwrap().fingerprint();
        assert_eq!(first, PageIdentity::open(&file).unwrap().fingerprint());
        assert_eq!((first.len(), first.matches(':').count()), (95, 31));
        files::write_atomic(&file, b"spoilt", KEY_MODE).unwrap();
        let anew = PageIdentity::open(&file).unwrap().fingerprint();
        assert_ne!(anew, first);
        assert_eq!(PageIdentity::open(&file).unwrap().fingerprint(), anew);
    }
}
