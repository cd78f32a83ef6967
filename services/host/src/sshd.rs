//! OpenSSH's server as a relay: remote forwarding by public key and nothing else. This module renders its configuration, has it
//! tested, and makes the host key once. It starts no server: that is a unit of its own.
//!
//! What is refused is refused twice where OpenSSH has two places for it: here, and by the options of each key, which
//! AuthorizedKeysCommand prints.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cmd::{self, Cmd, Program},
    files::{self, Change, nonblocking},
};

/// Who has not proved who it is by then is let go.
pub const LOGIN_GRACE: Duration = Duration::from_secs(20);

/// Why the server's files are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// sshd does not take the configuration.
    #[error("sshd refuses the configuration")]
    Refused(#[source] cmd::Error),
    /// No host key was made.
    #[error("no host key was made")]
    Key(#[source] cmd::Error),
    /// A file can't be read or written.
    #[error("no access to the SSH server's files")]
    File(#[from] files::Error),
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Key(source) => source.retryable(),
            Self::File(_) => true,
        }
    }
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// What differs between one server and another.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens, on all addresses.
    pub port: u16,
    /// The private half of the host key.
    pub host_key: PathBuf,
    /// The program that prints the options and the key of a user, with its first arguments; the user's name, the key's type and the
    /// key follow. sshd(8) takes it only where nobody but root may write it or a folder above it.
    pub keys_command: String,
    /// The Unix user of that program.
    pub keys_user: String,
    /// The pattern of the users that may keep a remote forwarding (ssh_config(5), PATTERNS).
    pub forwarding_users: String,
    /// The user that gets `commanded_command` whatever it asks for, and nothing else.
    pub commanded_user: String,
    /// The command, for the user's shell.
    pub commanded_command: String,
}

/// The text of sshd_config(5). A keyword's first value counts, so that nothing below can weaken what stands above it.
pub fn render(config: &Config) -> String {
    config.to_string()
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, keys_command, keys_user, forwarding_users, .. } = self;
        let Self { commanded_user, commanded_command, .. } = self;
        let host_key = self.host_key.display();
        let grace = LOGIN_GRACE.as_secs();
        write!(
            f,
            "\
Port {port}
HostKey {host_key}
PidFile none
LogLevel VERBOSE
UseDNS no
VersionAddendum none
DebianBanner no
PrintMotd no
PrintLastLog no

# Who comes in.
AllowUsers {commanded_user} {forwarding_users}
PermitRootLogin no
UsePAM no
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
HostbasedAuthentication no
AuthorizedKeysFile none
AuthorizedKeysCommand {keys_command} %u %t %k
AuthorizedKeysCommandUser {keys_user}
MaxAuthTries 3

# What for.
AllowTcpForwarding remote
PermitListen 127.0.0.1:*
PermitOpen none
GatewayPorts no
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
PermitTTY no
PermitUserRC no
PermitUserEnvironment no

# How it is spoken.
HostKeyAlgorithms ssh-ed25519
PubkeyAcceptedAlgorithms ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521
KexAlgorithms mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com
Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com
Compression no

# How many at once. A whole site stands behind one address, and after a power cut all sites come at once: who is dropped comes again.
# Failures of one machine must not lock out its site, so that only a flood of them is answered by a penalty.
LoginGraceTime {grace}
MaxStartups 256:10:1024
PerSourceMaxStartups 512
PerSourceNetBlockSize 32:64
PerSourcePenalties crash:60s authfail:1s noauth:0s grace-exceeded:0s refuseconnection:0s min:30s max:60s max-sources4:65536 max-sources6:65536 overflow:permissive overflow6:permissive
# A server speaks every five seconds: one that is asked is silent, and gone after three times this.
ClientAliveInterval 7
ClientAliveCountMax 2
MaxSessions 0

# A remote forwarding is no channel: UnusedConnectionTimeout would end those who keep one.
Match User {commanded_user}
    AllowTcpForwarding no
    DisableForwarding yes
    MaxSessions 1
    ForceCommand {commanded_command}
    UnusedConnectionTimeout {grace}
"
        )
    }
}

/// Has sshd read a configuration file, with the keys that it names.
///
/// # Errors
/// It does not take it.
pub async fn test(file: &Path) -> Result<()> {
    let tested = Cmd::new(Program::Sshd).arg("-t").arg("-f").arg(file).run().await;
    tested.map(drop).map_err(Error::Refused)
}

/// Makes an Ed25519 host key where there is none, and its public half where that is lost. The folder has to exist.
///
/// # Errors
/// ssh-keygen fails, or the files can't be written.
pub async fn ensure_host_key(key: &Path) -> Result<Change> {
    let public = public_half(key);
    let there = nonblocking::read_if_exists(key).await?;
    if there.is_some_and(|there| !there.is_empty()) {
        if nonblocking::read_if_exists(&public).await?.is_some_and(|there| !there.is_empty()) {
            return Ok(Change::Unchanged);
        }
        let derive = Cmd::new(Program::SshKeygen).arg("-y").arg("-f").arg(key);
        let text = derive.run().await.map_err(Error::Key)?;
        return Ok(nonblocking::write_atomic(&public, text, 0o644).await?);
    }
    // Under another name first: ssh-keygen does not write by renaming, and half a key would be taken for one.
    let draft = key.with_extension("new");
    for old in [draft.clone(), public_half(&draft)] {
        nonblocking::remove_if_exists(&old).await?;
    }
    let make = Cmd::new(Program::SshKeygen).args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]);
    make.arg(&draft).run().await.map_err(Error::Key)?;
    for (from, to, mode) in
        [(public_half(&draft), public, 0o644), (draft.clone(), key.to_owned(), 0o600)]
    {
        let made = nonblocking::read_if_exists(&from).await?.unwrap_or_default();
        nonblocking::write_atomic(&to, made, mode).await?;
        nonblocking::remove_if_exists(&from).await?;
    }
    Ok(Change::Changed)
}

fn public_half(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
