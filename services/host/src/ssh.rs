//! OpenSSH's client as a box uses it: for one stream to a tunnel that the box joins through, and for the forwarding that it keeps
//! up afterwards. Which tunnels, and how often they are tried, is decided elsewhere.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::{PermissionsExt as _, lchown},
    path::{Path, PathBuf},
    time::Duration,
};

use model::{
    code::Address,
    tunnel::{JOIN_USER, Uplink},
};

use crate::{
    cmd::{self, Cmd, Complaints, Pipe, Program},
    files,
};

/// The user that keeps uplinks: the other side may be hostile. images/agent/users names it, for ssh(1) runs as nobody without a name.
pub const USER: u32 = 504;

/// A side that is gone is noticed after about three of these (`ServerAliveCountMax`): another tunnel has to take over within 30 s.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// How long a connection may take to come about, until the server has told its version.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The name of the tunnel among its known hosts: its address may change, its key may not.
const ALIAS: &str = "tunnel";
/// What a forwarding says once the server let it in.
const UP: &str = "up";

/// Why a forwarding can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its files can't be put in place.
    #[error("the key and the known host can't be put in place")]
    File(#[from] files::Error),
    /// Their folder can't be made, or not be given to its user.
    #[error("can't make {}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// ssh(1) ended.
    #[error(transparent)]
    Ended(#[from] cmd::Error),
}

impl Error {
    /// Whether it may be kept later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::File(_) | Self::Folder { .. } => true,
            Self::Ended(error) => error.retryable(),
        }
    }
}

/// What ssh(1) is always told: no configuration of the machine's counts, and nobody is asked anything.
fn options() -> impl Iterator<Item = String> {
    let seconds = |key: &str, time: Duration| format!("{key}={}", time.as_secs());
    let options = [
        "BatchMode=yes".to_owned(),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        "PreferredAuthentications=publickey".to_owned(),
        "ForwardAgent=no".to_owned(),
        "ForwardX11=no".to_owned(),
        "LogLevel=ERROR".to_owned(),
        seconds("ConnectTimeout", CONNECT_TIMEOUT),
        seconds("ServerAliveInterval", ALIVE_EVERY),
        "ServerAliveCountMax=2".to_owned(),
    ];
    let none = ["-F", "none", "-T"].map(str::to_owned);
    none.into_iter().chain(options.into_iter().flat_map(|option| ["-o".to_owned(), option]))
}

/// ssh(1) as that user, who has no way to become another.
fn client(user: Option<u32>) -> Cmd {
    let ssh = match user {
        None => Cmd::new(Program::Ssh),
        Some(user) => Cmd::new(Program::Setpriv)
            .args([format!("--reuid={user}"), format!("--regid={user}")])
            .args(["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"])
            .args(["--", Program::Ssh.path()]),
    };
    ssh.args(options())
}

/// A host as ssh(1) takes it: an address of IPv6 without brackets, and nothing that could be an option.
fn host(address: &Address) -> [String; 3] {
    ["-p".to_owned(), address.port.to_string(), address.host.to_str().into_owned()]
}

/// A stream to the panel, relayed by a tunnel that nobody knows yet: whoever is at its end proves that by TLS, so its host key
/// proves nothing and is not asked for. `key` is a private key that only its owner reads; any is let in.
///
/// # Errors
/// ssh(1) can't be started. What goes wrong later ends the stream, and stands in its complaints.
pub fn join(tunnel: &Address, key: &Path) -> Result<(Pipe, Complaints), cmd::Error> {
    let unknown = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
    client(None).args(unknown).arg("-i").arg(key).args(["-l", JOIN_USER]).args(host(tunnel)).pipe()
}

/// Who keeps forwardings, each with its files below one folder.
#[derive(Debug, Clone)]
pub struct Forwarder {
    /// Where the files lie; made anew at each start of the machine.
    pub folder: PathBuf,
    /// Who runs ssh(1): [`USER`] on an appliance; absent is who runs this.
    pub user: Option<u32>,
}

impl Forwarder {
    /// Keeps the uplink up: its port on the tunnel leads to `target` here. Calls `up` once the server let it in. Returns when the
    /// connection broke, or never came about, and never with success.
    ///
    /// # Errors
    /// Always: why it ended.
    pub async fn keep(
        &self,
        uplink: &Uplink,
        private_key: &[u8],
        target: u16,
        mut up: impl FnMut(),
    ) -> Result<std::convert::Infallible, Error> {
        let files = self.prepare(uplink, private_key)?;
        let command = self.command(uplink, &files, target);
        let line = command.shell_line();
        command
            .unlimited()
            .run_lines(|said| {
                if said == UP {
                    up();
                }
            })
            .await?;
        let source = io::ErrorKind::ConnectionAborted.into();
        Err(cmd::Error::Pipe { command: line, source }.into())
    }

    fn prepare(&self, uplink: &Uplink, private_key: &[u8]) -> Result<Files, Error> {
        let folder = self.folder.join(uplink.address.to_string());
        let place = |path: &Path, source| Error::Folder { path: path.to_owned(), source };
        // Its user finds the way through the upper one, whatever the service's umask, and nobody else into its own.
        for (path, mode) in [(&self.folder, 0o711), (&folder, 0o700)] {
            fs::create_dir_all(path).map_err(|source| place(path, source))?;
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(path, permissions).map_err(|source| place(path, source))?;
        }
        let files = Files { key: folder.join("key"), known_hosts: folder.join("known_hosts") };
        let known = format!("{ALIAS} {}\n", uplink.host_key);
        for (path, content) in [(&files.key, private_key), (&files.known_hosts, known.as_bytes())] {
            files::write_atomic(path, content, 0o600)?;
        }
        if let Some(user) = self.user {
            for path in [&folder, &files.key, &files.known_hosts] {
                // Not through a link that its user may have put there.
                lchown(path, Some(user), Some(user)).map_err(|source| place(path, source))?;
            }
        }
        Ok(files)
    }

    fn command(&self, uplink: &Uplink, files: &Files, target: u16) -> Cmd {
        let local = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).to_string();
        let forward = format!("{}:{}", local(uplink.forward.get()), local(target));
        client(self.user)
            .args(["-N", "-R", &forward, "-l", &uplink.forward.user()])
            .args(["-o", "ExitOnForwardFailure=yes", "-o", "StrictHostKeyChecking=yes"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", files.known_hosts.display()))
            .args(["-o", &format!("HostKeyAlias={ALIAS}")])
            .args(["-o", "PermitLocalCommand=yes", "-o", &format!("LocalCommand=echo {UP}")])
            .arg("-i")
            .arg(&files.key)
            .args(host(&uplink.address))
    }
}

struct Files {
    key: PathBuf,
    known_hosts: PathBuf,
}

#[cfg(test)]
mod tests {
    use model::tunnel::ForwardPort;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0";

    fn uplink(address: &str) -> Uplink {
        let forward = ForwardPort::new(10_007).unwrap();
        Uplink { address: address.parse().unwrap(), host_key: KEY.parse().unwrap(), forward }
    }

    #[test]
    fn a_forwarding_trusts_the_one_host_key_and_leads_to_loopback_alone() {
        let folder = tempfile::tempdir().unwrap();
        let forwarder = Forwarder { folder: folder.path().join("uplinks"), user: None };
        let uplink = uplink("[2001:db8::7]:2022");
        let files = forwarder.prepare(&uplink, b"the key").unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&forwarder.folder), 0o711, "another user finds the way through it");
        assert_eq!(mode(files.key.parent().unwrap()), 0o700);
        assert_eq!(read(&files.known_hosts), format!("tunnel {KEY}\n"));
        assert_eq!(read(&files.key), "the key");
        assert_eq!(mode(&files.key), 0o600);
        let line = forwarder.command(&uplink, &files, 8443).shell_line();
        for part in [
            "/usr/bin/ssh -F none ",
            " -N -R 127.0.0.1:10007:127.0.0.1:8443 -l a10007 ",
            " -o StrictHostKeyChecking=yes ",
            " -o HostKeyAlias=tunnel ",
            " -o ExitOnForwardFailure=yes ",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(line.ends_with(" -p 2022 2001:db8::7"), "{line}");
    }

    #[test]
    fn two_tunnels_have_two_folders() {
        let folder = tempfile::tempdir().unwrap();
        let forwarder = Forwarder { folder: folder.path().to_owned(), user: None };
        let [one, other] =
            ["a.example:22", "b.example:22"].map(|at| forwarder.prepare(&uplink(at), b"").unwrap());
        assert_ne!(one.key, other.key);
    }

    #[test]
    fn an_uplink_runs_as_a_user_without_any_privilege() {
        let line = client(Some(USER)).shell_line();
        let begins = "/usr/bin/setpriv --reuid=504 --regid=504 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all -- /usr/bin/ssh -F none";
        assert!(line.starts_with(begins), "{line}");
    }

    #[tokio::test]
    async fn a_tunnel_that_is_not_there_ends_the_stream_with_what_ssh_says() {
        use tokio::io::AsyncReadExt as _;
        let folder = tempfile::tempdir().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (mut pipe, complaints) =
            join(&closed.to_string().parse().unwrap(), &folder.path().join("key")).unwrap();
        let mut said = Vec::new();
        pipe.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"");
        drop(pipe);
        let complaints = complaints.text().await;
        assert!(complaints.contains("Connection refused"), "{complaints}");
    }
}
