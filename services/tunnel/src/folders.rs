//! Where the tunnel's files lie.

use std::path::{Path, PathBuf};

use model::tunnel::ForwardPort;

/// The tunnel's folders.
#[derive(Debug, Clone)]
pub struct Folders {
    /// What stays over a restart: the pairing, the table, keys and certificates; `/data/tunnel` on an appliance.
    pub data: PathBuf,
    /// What is made anew at each start; `/run/clusterducks-tunnel` on an appliance.
    pub run: PathBuf,
    /// Drop-in user records (nss-systemd(8)); `/run/userdb`.
    pub userdb: PathBuf,
    /// The host key of the SSH server; `/data/sshd`. Root's: whoever took the service over must not become the SSH server as well.
    pub sshd: PathBuf,
    /// The configuration of the SSH server, root's too; `/run/clusterducks-sshd`.
    pub sshd_run: PathBuf,
}

impl Default for Folders {
    fn default() -> Self {
        Self {
            data: "/data/tunnel".into(),
            run: "/run/clusterducks-tunnel".into(),
            userdb: "/run/userdb".into(),
            sshd: "/data/sshd".into(),
            sshd_run: "/run/clusterducks-sshd".into(),
        }
    }
}

impl Folders {
    /// The key that a server may come in with, as [`model::tunnel::SshKey`]: what `keys` looks up, and there only while the server
    /// stands in the table in force.
    pub fn key_of(run: &Path, port: ForwardPort) -> PathBuf {
        run.join("keys").join(port.user())
    }

    /// The Unix socket that `relay` brings boxes to which join. Anybody may
    /// connect to it; the service listens to the user [`model::tunnel::JOIN_USER`] alone.
    pub fn join_socket(run: &Path) -> PathBuf {
        run.join("join").join("socket")
    }

    /// The host key of the SSH server, as ssh-keygen(1) writes it; its public part beside it ends in `.pub`.
    pub fn host_key(&self) -> PathBuf {
        self.sshd.join("ssh_host_ed25519_key")
    }

    /// The configuration of the SSH server.
    pub fn sshd_config(&self) -> PathBuf {
        self.sshd_run.join("sshd_config")
    }
}
