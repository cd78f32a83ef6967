//! dnsmasq: DHCP, proxyDHCP and TFTP on the netboot interfaces. It owns one configuration file and one unit; the file carries
//! what it was made from, so that it can be read back, rendered again and compared byte by byte. It answers no DNS.

mod render;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use model::step::DhcpConfig;

pub use render::{Paths, parse, render};

use crate::{
    cmd::{self, Cmd, Program},
    files::{self, Change, nonblocking},
    unit::{self, Unit},
};

/// The unit that runs dnsmasq with our file.
pub const UNIT: Unit = Unit("clusterducks-dnsmasq.service");

/// Why dnsmasq is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that would mean something else in dnsmasq's file.
    #[error("{text:?} can't be the {what} of network {network}")]
    Text {
        /// The network.
        network: model::name::NetworkName,
        /// Which text.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// dnsmasq reads lines of at most 1,024 bytes, and takes the rest of a longer one for another line.
    #[error(
        "the line for device {device} is {bytes} bytes long, more than dnsmasq reads: it has too many cards"
    )]
    LineTooLong {
        /// The device.
        device: model::name::DeviceName,
        /// Its length.
        bytes: usize,
    },
    /// dnsmasq does not take the file.
    #[error("dnsmasq refuses the configuration")]
    Refused(#[source] cmd::Error),
    /// The unit can't be stopped, started or asked.
    #[error(transparent)]
    Unit(#[from] unit::Error),
    /// The file can't be read or written.
    #[error("no access to dnsmasq's configuration")]
    File(#[from] files::Error),
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Text { .. } | Self::LineTooLong { .. } | Self::Refused(_) => false,
            Self::Unit(_) | Self::File(_) => true,
        }
    }
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// dnsmasq on this machine.
#[derive(Debug, Clone)]
pub struct Dnsmasq {
    file: PathBuf,
    paths: Paths,
}

impl Dnsmasq {
    /// Takes the configuration file that the unit names, usually `/run/clusterducks/dnsmasq.conf`.
    pub fn new(file: impl AsRef<Path>, paths: Paths) -> Self {
        Self { file: file.as_ref().to_owned(), paths }
    }

    /// What dnsmasq runs with; `None` when it does not run, or when the file is not the one that we wrote.
    pub async fn observe(&self) -> Result<Option<DhcpConfig>> {
        let Some(bytes) = nonblocking::read_if_exists(&self.file).await? else { return Ok(None) };
        let ours = std::str::from_utf8(&bytes).ok().and_then(|text| parse(text, &self.paths));
        Ok(if ours.is_some() && UNIT.is_active().await? { ours } else { None })
    }

    /// Makes dnsmasq run with this. It is restarted only when the file changes.
    ///
    /// It is stopped before the new file takes the old one's place: a process that runs has read the file that is there, so
    /// that an agent that dies in between leaves a stopped unit, and not one that runs with what the file no longer says.
    pub async fn configure(&self, config: &DhcpConfig) -> Result<Change> {
        let text = render(config, &self.paths)?;
        let there = nonblocking::read_if_exists(&self.file).await?;
        if there.as_deref() == Some(text.as_bytes()) {
            if UNIT.is_active().await? {
                return Ok(Change::Unchanged);
            }
        } else {
            self.test(&text).await?;
            UNIT.stop().await?;
            nonblocking::write_atomic(&self.file, text, 0o644).await?;
        }
        UNIT.start().await?;
        Ok(Change::Changed)
    }

    /// Stops dnsmasq and takes its file away.
    pub async fn stop(&self) -> Result<Change> {
        let there = nonblocking::read_if_exists(&self.file).await?.is_some();
        if !there && !UNIT.is_active().await? {
            return Ok(Change::Unchanged);
        }
        UNIT.stop().await?;
        nonblocking::remove_if_exists(&self.file).await?;
        Ok(Change::Changed)
    }

    async fn test(&self, text: &str) -> Result<()> {
        let candidate = self.file.with_extension("candidate");
        nonblocking::write_atomic(&candidate, text, 0o644).await?;
        let option = format!("--conf-file={}", candidate.display());
        let tested = Cmd::new(Program::Dnsmasq).arg("--test").arg(option).run().await;
        nonblocking::remove_if_exists(&candidate).await?;
        tested.map(drop).map_err(Error::Refused)
    }
}
