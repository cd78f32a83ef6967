//! The public part of the SSH server's host key, as servers are told it and people compare it. It makes none.

use std::path::Path;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use host::files;
use model::tunnel::{SshKey, SshKeyError};
use sha2::{Digest as _, Sha256};

/// Why there is no host key to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("no access to the SSH server's host key")]
    File(#[from] files::Error),
    /// It was not made yet.
    #[error("the SSH server has no host key yet")]
    Absent,
    /// The file holds another thing.
    #[error("the SSH server's host key is damaged")]
    Key(#[from] SshKeyError),
    /// What stands behind the kind is not base64.
    #[error("the SSH server's host key is damaged")]
    Base64(#[from] base64::DecodeError),
}

impl Error {
    /// Whether it may be there later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::File(_) | Self::Absent => true,
            Self::Key(_) | Self::Base64(_) => false,
        }
    }
}

/// Reads it: the private part's file with `.pub` behind it, without its comment.
///
/// # Errors
/// It is not there, or is no key.
pub fn read(private: &Path) -> Result<SshKey, Error> {
    let mut path = private.as_os_str().to_owned();
    path.push(".pub");
    let bytes = files::read_if_exists(Path::new(&path))?.ok_or(Error::Absent)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.split_ascii_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(format!("{kind} {key}").parse()?)
}

/// What `ssh-keygen -l` shows of it: `SHA256:` and the digest.
///
/// # Errors
/// What stands behind the kind is not base64.
pub fn fingerprint(key: &SshKey) -> Result<String, Error> {
    let (_, blob) = key.parts();
    let digest = Sha256::digest(BASE64_STANDARD.decode(blob)?);
    Ok(format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(digest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_the_one_that_ssh_keygen_prints() {
        let folder = tempfile::tempdir().unwrap();
        let private = folder.path().join("ssh_host_ed25519_key");
        assert!(matches!(read(&private), Err(Error::Absent)));
        // ssh-keygen -q -t ed25519 -N '' -C root@tunnel -f key; ssh-keygen -l -f key.pub
        let public = include_str!("../testdata/ssh_host_ed25519_key.pub");
        let shown = include_str!("../testdata/ssh-keygen-l.txt");
        let beside = folder.path().join("ssh_host_ed25519_key.pub");
        files::write_atomic(&beside, public.as_bytes(), 0o644).unwrap();
        let fingerprint = fingerprint(&read(&private).unwrap()).unwrap();
        assert_eq!(shown.split(' ').nth(1), Some(fingerprint.as_str()));
    }
}
