//! The tunnel's SSH server: what its configuration says, and its host key. sshd itself is a unit of its own.

use host::{
    files::{self, nonblocking},
    sshd::{self, Config},
};
use model::tunnel::{JOIN_USER, SshKey};

use crate::{folders::Folders, host_key};

/// What a box that joins gets, whatever it asks for.
pub const RELAY: &str = "/usr/bin/clusterducks-tunnel relay";
/// What a server gets that asks for a command.
pub const NOTHING: &str = "/usr/bin/false";

/// Why there is no SSH server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its key or its configuration is not there.
    #[error("the SSH server can't be made ready")]
    Sshd(#[from] sshd::Error),
    /// Its key can't be told.
    #[error(transparent)]
    HostKey(#[from] host_key::Error),
    /// Its configuration can't be written.
    #[error("the SSH server's configuration can't be written")]
    File(#[from] files::Error),
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Sshd(source) => source.retryable(),
            Self::HostKey(source) => source.retryable(),
            Self::File(_) => true,
        }
    }
}

/// What sshd is configured with.
pub fn config(folders: &Folders, port: u16) -> Config {
    Config {
        port,
        host_key: folders.host_key(),
        // A user's name may look like an option.
        keys_command: "/usr/bin/clusterducks-tunnel keys --".to_owned(),
        keys_user: "clusterducks-keys".to_owned(),
        forwarding_users: "a*".to_owned(),
        commanded_user: JOIN_USER.to_owned(),
        commanded_command: RELAY.to_owned(),
    }
}

/// Makes the host key where there is none, writes the configuration and has sshd test it; both folders have to exist.
///
/// # Errors
/// One of them fails. sshd may not be started then.
pub async fn prepare(folders: &Folders, port: u16) -> Result<SshKey, Error> {
    let key = folders.host_key();
    sshd::ensure_host_key(&key).await?;
    let file = folders.sshd_config();
    nonblocking::write_atomic(&file, sshd::render(&config(folders, port)), 0o644).await?;
    sshd::test(&file).await?;
    Ok(host_key::read(&key)?)
}
