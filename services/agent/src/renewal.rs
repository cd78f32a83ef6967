//! New certificates for the agent's own servers: a key is made here, waits beside the one in use until its certificate comes, and
//! both come into force in one file. What the box was given when it joined stays as it is, for the box puts that in place again at
//! each start; what was renewed counts before it, until the box joins anew.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use host::{
    files, keys,
    tls::{self, TlsError},
};
use model::certify::Endpoint;
use rcgen::KeyPair;
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

/// Only root reads a key.
const MODE: u32 = 0o600;
/// What every box has that joined.
const JOINED: &str = "api.crt";

/// Why a certificate is not renewed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("no access to the certificates")]
    File(#[from] files::Error),
    /// What was renewed before is not what was written.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// There is no key, or it signs nothing.
    #[error("there is no key to ask with")]
    Key(#[from] keys::Error),
    /// The box has no panel yet.
    #[error("this server has not joined")]
    NotJoined,
    /// Nobody asked for a request before, or its certificate came already.
    #[error("no certificate is waited for")]
    NotAsked,
    /// It is for another key, of another panel, or does not hold now.
    #[error("the certificate is not good")]
    Certificate(#[from] TlsError),
    /// It is somebody else's.
    #[error("the certificate is for another name than the one in use")]
    OtherName,
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Key(error) => error.retryable(),
            Self::Damaged { .. }
            | Self::NotJoined
            | Self::NotAsked
            | Self::Certificate(_)
            | Self::OtherName => false,
        }
    }
}

/// A certificate and its key, in one file so that they always go together.
#[derive(Serialize, Deserialize)]
pub(crate) struct Renewed {
    /// The digest of what the box was given when it joined: what was renewed since counts no more when it joins anew.
    joined: String,
    /// The chain, leaf first.
    pub(crate) chain_pem: String,
    /// Its key.
    pub(crate) key_pem: String,
}

/// What was renewed of an endpoint since the box joined, if anything was.
pub(crate) fn renewed(folder: &Path, endpoint: Endpoint) -> Result<Option<Renewed>, Error> {
    let path = renewed_path(folder, endpoint);
    let Some(bytes) = files::read_if_exists(&path)? else { return Ok(None) };
    let renewed: Renewed =
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })?;
    let joined = joined(folder)?;
    Ok(Some(renewed).filter(|renewed| joined.as_ref() == Some(&renewed.joined)))
}

fn renewed_path(folder: &Path, endpoint: Endpoint) -> PathBuf {
    folder.join(format!("{endpoint}.renewed.json"))
}

fn next_path(folder: &Path, endpoint: Endpoint) -> PathBuf {
    folder.join(format!("{endpoint}.next.key"))
}

fn joined(folder: &Path) -> Result<Option<String>, files::Error> {
    let given = files::read_if_exists(&folder.join(JOINED))?;
    Ok(given.map(|given| hex::encode(Sha256::digest(given))))
}

/// The way to renew them. Its methods wait for the disk, and for a key to be made.
#[derive(Debug)]
pub struct Renewals {
    folder: PathBuf,
    news: Arc<Notify>,
    /// One at a time: a request and the certificate for the one before would mix.
    turn: Mutex<()>,
}

impl Renewals {
    /// Of the certificates in this folder; who is told of `news` reads it anew.
    pub(crate) fn new(folder: &Path, news: Arc<Notify>) -> Self {
        Self { folder: folder.to_owned(), news, turn: Mutex::default() }
    }

    /// A request for a certificate of an endpoint, PKCS#10 in PEM. The key is a new one, and the same until its certificate comes.
    ///
    /// # Errors
    /// The box has not joined, or the key can't be made or kept.
    pub fn request(&self, endpoint: Endpoint) -> Result<String, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        joined(&self.folder)?.ok_or(Error::NotJoined)?;
        Ok(keys::request(&self.next_key(endpoint)?)?)
    }

    fn next_key(&self, endpoint: Endpoint) -> Result<KeyPair, Error> {
        let path = next_path(&self.folder, endpoint);
        // One that is in use is what a power cut left, and one that is spoilt is nobody's loss.
        let in_use = renewed(&self.folder, endpoint)?.map(|renewed| renewed.key_pem.into_bytes());
        let waiting = files::read_if_exists(&path)?.filter(|key| in_use.as_ref() != Some(key));
        if let Some(key) = waiting.and_then(|kept| keys::parse(&kept).ok()) {
            return Ok(key);
        }
        let made = match endpoint {
            Endpoint::Api => keys::ecdsa()?,
            Endpoint::Boot => keys::rsa()?,
        };
        files::write_atomic(&path, made.serialize_pem().as_bytes(), MODE)?;
        Ok(made)
    }

    /// Puts the certificate in force that was asked for, with its key. Connections that stand go on.
    ///
    /// # Errors
    /// It is not good, or can't be kept: the one before is in force still.
    pub fn renew(&self, endpoint: Endpoint, chain_pem: String) -> Result<(), Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.verified(endpoint, chain_pem, UnixTime::now())?;
        for step in &steps(&self.folder, endpoint, &next)? {
            step.take()?;
        }
        tracing::info!(%endpoint, "certificate renewed");
        self.news.notify_one();
        Ok(())
    }

    fn verified(
        &self,
        endpoint: Endpoint,
        chain_pem: String,
        now: UnixTime,
    ) -> Result<Renewed, Error> {
        let joined = joined(&self.folder)?.ok_or(Error::NotJoined)?;
        let read = |path: &Path| files::read_if_exists(path);
        let key = read(&next_path(&self.folder, endpoint))?.ok_or(Error::NotAsked)?;
        let root = match endpoint {
            Endpoint::Api => "panel-ca.crt",
            Endpoint::Boot => "boot-ca.crt",
        };
        let root = read(&self.folder.join(root))?.ok_or(Error::NotJoined)?;
        tls::verify(chain_pem.as_bytes(), &key, &root, now)?;
        if endpoint == Endpoint::Api {
            // Its number never changes; where devices boot from, the panel's admins may change.
            let own = read(&self.folder.join(JOINED))?.ok_or(Error::NotJoined)?;
            if tls::leaf(chain_pem.as_bytes())?.names != tls::leaf(&own)?.names {
                return Err(Error::OtherName);
            }
        }
        let key_pem = String::from_utf8_lossy(&key).into_owned();
        Ok(Renewed { joined, chain_pem, key_pem })
    }
}

/// What is done to the disk, one after the other.
enum Step {
    Write(PathBuf, Vec<u8>),
    Remove(PathBuf),
}

impl Step {
    fn take(&self) -> Result<(), files::Error> {
        match self {
            Self::Write(path, content) => files::write_atomic(path, content, MODE).map(drop),
            Self::Remove(path) => files::remove_if_exists(path).map(drop),
        }
    }
}

/// The key that waited goes last: until it is in force it is the only one that the certificate is good for.
fn steps(folder: &Path, endpoint: Endpoint, next: &Renewed) -> Result<[Step; 2], Error> {
    let path = renewed_path(folder, endpoint);
    let content =
        serde_json::to_vec(next).map_err(|source| Error::Damaged { path: path.clone(), source })?;
    Ok([Step::Write(path, content), Step::Remove(next_path(folder, endpoint))])
}

#[cfg(test)]
mod tests;
