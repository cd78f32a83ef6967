//! The seed file `clusterducks.toml` on the boot partition: what a flashed box knows before anybody configured it.

use std::{net::Ipv4Addr, path::Path};

use host::{files, seam::chain};
use ipnet::Ipv4Net;
use model::{
    desired::{Desired, Interface, Management},
    name::{Mac, ServerName},
};
use serde::{Deserialize, de::IgnoredAny};

/// The seed file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The server's name.
    pub hostname: Option<ServerName>,
    /// The interface that the server is managed by.
    pub management: Option<SeedManagement>,
    /// What the box joins its panel by: the box's own affair, whatever stands here.
    join: Option<IgnoredAny>,
}

/// The management interface in the seed file: found by its address or by its path.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedManagement {
    /// Its permanent address.
    pub mac: Option<Mac>,
    /// udev's `ID_PATH`.
    pub path: Option<String>,
    /// The server's address with the prefix length; absent asks for one by DHCP.
    pub address: Option<Ipv4Net>,
    /// The server's default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The server's own name servers.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// The server's time servers.
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
}

/// Why a seed file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("no access to the seed file")]
    File(#[from] files::Error),
    /// Not the TOML that it should be. Neither the line is quoted nor what toml says of it: both may hold a join code.
    #[error("line {line} of the seed file clusterducks.toml is not understood")]
    Toml {
        /// Where, from 1.
        line: usize,
    },
    /// `[management]` names no interface, or two.
    #[error("[management] in the seed file needs either mac or path")]
    Interface,
}

impl Seed {
    /// Takes the file. One that can't be taken is told and left out, as one that is not there: the server has its document, and
    /// its devices are served by that.
    pub fn open(path: &Path) -> Self {
        Self::read(path).unwrap_or_else(|error| {
            tracing::error!(error = chain(&error), "the server goes on without its seed file");
            Self::default()
        })
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let bytes = files::read_if_exists(path)?.unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// It is not a seed file.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let seed: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            Error::Toml { line: before.matches('\n').count() + 1 }
        })?;
        match &seed.management {
            Some(management) if management.mac.is_some() == management.path.is_some() => {
                Err(Error::Interface)
            }
            _ => Ok(seed),
        }
    }

    /// Fills in what the document leaves to the seed.
    pub fn complete(&self, desired: &mut Desired) {
        if desired.server.is_none() {
            desired.server = self.hostname.clone();
        }
        if desired.management.is_none() {
            desired.management = self.management.as_ref().and_then(|seed| {
                let by_mac = seed.mac.map(Interface::Mac);
                let interface = by_mac.or_else(|| seed.path.clone().map(Interface::Path))?;
                Some(Management {
                    interface,
                    address: seed.address,
                    gateway: seed.gateway,
                    dns: seed.dns.clone(),
                    ntp: seed.ntp.clone(),
                })
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fills_in_only_what_the_document_leaves_open() {
        let text = "hostname = \"box\"\n[management]\nmac = \"52:54:00:00:00:01\"\naddress = \"192.0.2.5/24\"\n";
        let seed = Seed::parse(text).unwrap();
        let mut desired = Desired { server: Some("named".parse().unwrap()), ..Desired::default() };
        seed.complete(&mut desired);
        assert_eq!(desired.server.unwrap().as_str(), "named");
        assert_eq!(desired.management.unwrap().address, "192.0.2.5/24".parse().ok());
    }

    #[test]
    fn a_box_that_joins_has_an_agent() {
        let seed = Seed::parse("hostname = \"box\"\n[join]\ncode = \"mistyped\"\n").unwrap();
        assert_eq!(seed.hostname.unwrap().as_str(), "box");
    }

    #[test]
    fn the_sample_on_the_image_is_a_seed_once_its_lines_are_switched_on() {
        let sample = include_str!("../../../images/agent/clusterducks.toml");
        assert_eq!(Seed::parse(sample).unwrap(), Seed::default());
        let setting = |line: &str| line.contains(" = ") || line.starts_with("# [");
        let switched_on: String = sample
            .lines()
            .filter(|line| setting(line))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        assert!(Seed::parse(&switched_on).unwrap().management.is_some());
    }

    #[test]
    fn a_management_interface_is_named_in_one_way() {
        for keys in ["", "mac = \"52:54:00:00:00:01\"\npath = \"pci-0000:00:03.0\"\n"] {
            let text = format!("[management]\n{keys}address = \"192.0.2.5/24\"\n");
            assert!(matches!(Seed::parse(&text), Err(Error::Interface)), "{text}");
        }
        assert!(matches!(Seed::parse("hostnme = \"x\""), Err(Error::Toml { line: 1 })));
    }

    #[test]
    fn a_bad_file_names_the_line_and_never_quotes_it() {
        for text in ["[join]\ncode = \"AAAAA\n", "\ncode = AAAAA\n", "\nAAAAA = 1\n"] {
            let error = Seed::parse(text).unwrap_err();
            assert!(matches!(error, Error::Toml { line: 2 }), "{text}: {error:?}");
            let told = format!("{} {error:?}", chain(&error));
            assert!(!told.contains("AAAAA"), "{told}");
        }
    }

    #[test]
    fn a_server_with_a_bad_seed_file_goes_on_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clusterducks.toml");
        assert_eq!(Seed::open(&file), Seed::default());
        for (text, hostname) in [("hostname = \"box\"\n", Some("box")), ("hostname = \n", None)] {
            files::write_atomic(&file, text.as_bytes(), 0o600).unwrap();
            let seed = Seed::open(&file);
            assert_eq!(seed.hostname.as_ref().map(ServerName::as_str), hostname);
        }
    }
}
