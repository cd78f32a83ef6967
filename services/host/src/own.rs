//! What the server needs for itself in three small files: its name, its name servers, its time servers. It asks none of them.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use model::name::ServerName;

use crate::{
    files::{self, nonblocking},
    unit::{self, Unit},
};

/// The unit that keeps the clock.
const CLOCK: Unit = Unit("systemd-timesyncd.service");

/// Why one of them is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not take the name.
    #[error("the kernel refuses the name {0}")]
    Name(ServerName, #[source] rustix::io::Errno),
    /// The unit can't be stopped, started or asked.
    #[error(transparent)]
    Unit(#[from] unit::Error),
    /// A file can't be read or written.
    #[error("no access to the server's own settings")]
    File(#[from] files::Error),
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Name(..) => false,
            Self::Unit(_) | Self::File(_) => true,
        }
    }
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What the initramfs puts over `/etc/hostname`.
    pub hostname: PathBuf,
    /// What `/etc/resolv.conf` leads to.
    pub resolv_conf: PathBuf,
    /// What `/etc/systemd/timesyncd.conf.d` leads to.
    pub timesyncd: PathBuf,
}

/// The server's name, when the kernel and the file agree on it.
///
/// # Errors
/// The file can't be read.
pub async fn observe_name(paths: &Paths) -> Result<Option<ServerName>> {
    let kept = read(&paths.hostname).await?;
    let uname = rustix::system::uname();
    let now = uname.nodename().to_str().ok();
    Ok(now.filter(|now| *now == kept.trim()).and_then(|now| now.parse().ok()))
}

/// Names the server, in the file first: a name that the kernel has, and the file lacks, is found and set again.
///
/// # Errors
/// The file can't be written, or the kernel refuses.
pub async fn set_name(paths: &Paths, name: &ServerName) -> Result<()> {
    nonblocking::write_atomic(&paths.hostname, format!("{name}\n"), 0o644).await?;
    rustix::system::sethostname(name.as_str().as_bytes())
        .map_err(|errno| Error::Name(name.clone(), errno))
}

/// The name servers of the file.
///
/// # Errors
/// The file can't be read.
pub async fn observe_resolvers(paths: &Paths) -> Result<Vec<Ipv4Addr>> {
    let text = read(&paths.resolv_conf).await?;
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
    Ok(servers.filter_map(|server| server.parse().ok()).collect())
}

/// Writes the file (resolv.conf(5)); the C library looks at it again by itself.
///
/// # Errors
/// The file can't be written.
pub async fn set_resolvers(paths: &Paths, servers: &[Ipv4Addr]) -> Result<()> {
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    nonblocking::write_atomic(&paths.resolv_conf, text, 0o644).await?;
    Ok(())
}

/// The time servers of the file.
///
/// # Errors
/// The file can't be read.
pub async fn observe_time_servers(paths: &Paths) -> Result<Vec<Ipv4Addr>> {
    let text = read(&paths.timesyncd).await?;
    let list = text.lines().find_map(|line| line.strip_prefix("NTP=")).unwrap_or_default();
    Ok(list.split_whitespace().filter_map(|server| server.parse().ok()).collect())
}

/// Whether the unit that keeps the clock does not run.
///
/// # Errors
/// systemd does not answer.
pub async fn observe_clock_stopped() -> Result<bool> {
    Ok(matches!(CLOCK.state().await?.as_str(), "inactive" | "failed"))
}

/// Writes the file (timesyncd.conf(5)) while the one who reads it is stopped: one that runs has read the file that is there.
///
/// # Errors
/// The file can't be written, or the unit does not stop or start.
pub async fn set_time_servers(paths: &Paths, servers: &[Ipv4Addr]) -> Result<()> {
    let list: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let text = format!("[Time]\nNTP={}\n", list.join(" "));
    CLOCK.stop().await?;
    nonblocking::write_atomic(&paths.timesyncd, text, 0o644).await?;
    Ok(CLOCK.start().await?)
}

async fn read(path: &Path) -> Result<String> {
    let bytes = nonblocking::read_if_exists(path).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(folder: &Path) -> Paths {
        Paths {
            hostname: folder.join("hostname"),
            resolv_conf: folder.join("resolv.conf"),
            timesyncd: folder.join("timesyncd.conf"),
        }
    }

    fn write(path: &Path, text: &str) {
        files::write_atomic(path, text.as_bytes(), 0o644).unwrap();
    }

    #[tokio::test]
    async fn name_servers_are_read_back_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        assert_eq!(observe_resolvers(&paths).await.unwrap(), Vec::<Ipv4Addr>::new());
        let servers = [Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(192, 0, 2, 1)];
        set_resolvers(&paths, &servers).await.unwrap();
        let text = std::fs::read_to_string(&paths.resolv_conf).unwrap();
        assert_eq!(text, "nameserver 192.0.2.9\nnameserver 192.0.2.1\n");
        assert_eq!(observe_resolvers(&paths).await.unwrap(), servers);
    }

    #[tokio::test]
    async fn a_name_that_a_restart_would_lose_is_not_the_server_s_name() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        assert_eq!(observe_name(&paths).await.unwrap(), None);
        let uname = rustix::system::uname();
        let now = uname.nodename().to_str().unwrap();
        write(&paths.hostname, &format!("{now}\n"));
        assert_eq!(observe_name(&paths).await.unwrap(), now.parse().ok());
        write(&paths.hostname, "another\n");
        assert_eq!(observe_name(&paths).await.unwrap(), None);
    }

    #[tokio::test]
    async fn time_servers_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        write(&paths.timesyncd, "[Time]\nNTP=192.0.2.1 192.0.2.2\n");
        let servers = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        assert_eq!(observe_time_servers(&paths).await.unwrap(), servers);
    }
}
