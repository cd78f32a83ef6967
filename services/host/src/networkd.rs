//! Addresses by DHCP, through systemd-networkd: it runs only while there are interfaces to ask on, and knows of no others.
//! This module owns one `.network` file and that unit; it gives no address by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use model::{name::Mac, observed::Lease};
use serde::Deserialize;

use crate::{
    cmd::{Cmd, Program},
    files::{self, Change, nonblocking},
    seam::chain,
    unit::{self, Unit},
};

/// The unit of systemd-networkd.
pub const UNIT: Unit = Unit("systemd-networkd.service");

/// What stands below the interfaces (systemd.network(5)). Cards alone: a VLAN has the address of the card that it lies on. The
/// client's identifier is the card's address, so that a server that was flashed anew gets its old address; its name comes from
/// the document and never from a lease.
const SETTINGS: &str = "\
Type=ether

[Network]
DHCP=ipv4
IPv6AcceptRA=no
LLDP=no

[DHCPv4]
ClientIdentifier=mac
UseHostname=no
UseTimezone=no
";

/// Why leases are not as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The unit can't be stopped, started or asked.
    #[error(transparent)]
    Unit(#[from] unit::Error),
    /// networkctl's answer is not what it should be.
    #[error("networkctl's answer can't be read")]
    Answer(#[from] serde_json::Error),
    /// The file can't be read or written.
    #[error("no access to the configuration of systemd-networkd")]
    File(#[from] files::Error),
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unit(_) | Self::File(_) => true,
            Self::Answer(_) => false,
        }
    }
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// What is asked for, and what was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// The interfaces on which addresses are asked for.
    pub asked: BTreeSet<Mac>,
    /// What was given, by the kernel's name of the interface.
    pub given: BTreeMap<String, Lease>,
}

/// systemd-networkd on this machine.
#[derive(Debug)]
pub struct Networkd {
    file: PathBuf,
    /// What was given when it last answered.
    known: Mutex<BTreeMap<String, Lease>>,
}

impl Networkd {
    /// Takes the file that `/etc/systemd/network` leads to, usually `/run/clusterducks/dhcp.network`.
    pub fn new(file: impl AsRef<Path>) -> Self {
        Self { file: file.as_ref().to_owned(), known: Mutex::default() }
    }

    /// What it asks for and what it got; nothing when it does not run, or when its file is not the one that we wrote. Leases that
    /// can't be listed are those of the last time: devices are served without them.
    pub async fn observe(&self) -> Result<Leases> {
        let file = nonblocking::read_if_exists(&self.file).await?.unwrap_or_default();
        let asked = std::str::from_utf8(&file).ok().and_then(parse);
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            return Ok(Leases::default());
        };
        if !UNIT.is_active().await? {
            return Ok(Leases::default());
        }
        let listed = list().await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match listed {
            Ok(given) => *known = given,
            Err(error) => tracing::warn!(error = chain(&error), "leases can't be listed"),
        }
        Ok(Leases { asked, given: known.clone() })
    }

    /// Asks on these interfaces and on no others. It is stopped before the new file takes the old one's place, so that one that
    /// runs has read the file that is there; when it stops, it takes its leased addresses off.
    pub async fn ask(&self, macs: &BTreeSet<Mac>) -> Result<Change> {
        let text = render(macs);
        let there = nonblocking::read_if_exists(&self.file).await?;
        let same = if macs.is_empty() {
            there.is_none()
        } else {
            there.as_deref() == Some(text.as_bytes())
        };
        if same && UNIT.is_active().await? != macs.is_empty() {
            return Ok(Change::Unchanged);
        }
        UNIT.stop().await?;
        if macs.is_empty() {
            nonblocking::remove_if_exists(&self.file).await?;
        } else {
            nonblocking::write_atomic(&self.file, text, 0o644).await?;
            UNIT.start().await?;
        }
        Ok(Change::Changed)
    }
}

async fn list() -> Result<BTreeMap<String, Lease>> {
    let answer = Cmd::new(Program::Networkctl).args(["--json=short", "list"]).run().await;
    parse_leases(&answer.map_err(|source| unit::Error {
        unit: UNIT,
        action: "list the leases of",
        source,
    })?)
}

fn render(macs: &BTreeSet<Mac>) -> String {
    let macs: Vec<String> = macs.iter().map(ToString::to_string).collect();
    format!("[Match]\nMACAddress={}\n{SETTINGS}", macs.join(" "))
}

/// The interfaces of a file that is ours to the last byte.
fn parse(text: &str) -> Option<BTreeSet<Mac>> {
    let list = text.lines().find_map(|line| line.strip_prefix("MACAddress="))?;
    let macs =
        list.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
    (render(&macs) == text).then_some(macs)
}

/// networkctl(1), `--json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Interface {
    name: String,
    #[serde(default)]
    addresses: Vec<Sourced>,
    #[serde(default, rename = "DNS")]
    dns: Vec<Sourced>,
}

/// An address and where it comes from.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Sourced {
    address: Vec<u8>,
    config_source: String,
}

impl Sourced {
    fn leased(&self) -> Option<Ipv4Addr> {
        let octets = <[u8; 4]>::try_from(self.address.as_slice()).ok()?;
        (self.config_source == "DHCPv4").then(|| Ipv4Addr::from(octets))
    }
}

/// What was given, out of networkctl's list.
fn parse_leases(text: &str) -> Result<BTreeMap<String, Lease>> {
    let answer: Answer = serde_json::from_str(text)?;
    let leased = |interface: Interface| {
        interface.addresses.iter().find_map(Sourced::leased)?;
        let dns = interface.dns.iter().filter_map(Sourced::leased).collect();
        Some((interface.name, Lease { dns }))
    };
    Ok(answer.interfaces.into_iter().filter_map(leased).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macs(list: &[&str]) -> BTreeSet<Mac> {
        list.iter().map(|mac| mac.parse().unwrap()).collect()
    }

    #[test]
    fn a_file_of_ours_is_read_back_and_a_changed_one_is_not() {
        let two = macs(&["52:54:00:00:00:01", "52:54:00:00:00:02"]);
        let text = render(&two);
        assert!(text.starts_with(
            "[Match]\nMACAddress=52:54:00:00:00:01 52:54:00:00:00:02\nType=ether\n\n[Network]\nDHCP=ipv4\n"
        ));
        assert_eq!(parse(&text), Some(two));
        assert_eq!(parse(&text.replace("UseHostname=no", "UseHostname=yes")), None);
        assert_eq!(parse(""), None);
    }

    /// `networkctl --json=short list` of systemd 257 with one leased and one bare card.
    #[test]
    fn leases_are_found_in_what_networkctl_prints() {
        let given = parse_leases(include_str!("../testdata/networkctl-list.json")).unwrap();
        let lease = Lease { dns: vec![Ipv4Addr::new(10, 0, 2, 3)] };
        assert_eq!(given, BTreeMap::from([("enp0s3".to_owned(), lease)]));
        assert!(matches!(parse_leases("{}"), Err(Error::Answer(_))));
    }
}
