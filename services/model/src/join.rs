//! What a box and the panel say to each other when the box joins: one request over HTTPS, pinned by the join code, asked again
//! until it is answered. The box keeps its keys; only requests for certificates leave it.
//!
//! A box asks with `POST` at [`PATH`]. It is answered with `200` and [`Answer::Joined`], with `202` and [`Answer::Waiting`], or
//! refused with [`Problem`] as `application/problem+json` (RFC 9457).

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    code::JoinSecret,
    name::{Mac, ServerName},
    tunnel::{SshKey, Uplink},
};

/// Where the panel answers.
pub const PATH: &str = "/join";

/// The name of the panel's certificate where a box can't ask it by an address, because it comes through a tunnel.
pub const PANEL_HOST: &str = "panel.clusterducks.internal";

/// Where an agent answers the panel.
pub const API_PORT: u16 = 8443;

/// The longest request that the panel reads, in bytes: all lists at their longest take less.
pub const MOST_BYTES: usize = 256 << 10;

const MOST_LINKS: usize = 128;
const MOST_DISKS: usize = 512;
/// A request for an RSA key of 4096 bits takes about 1,700.
const MOST_PEM_BYTES: usize = 8 << 10;
const MOST_FACT_CHARS: usize = 80;

/// What a box asks with. Asked again with the same keys it gets the same answer; with other keys it is refused.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The join code's secret.
    pub secret: JoinSecret,
    /// The name that the box has by its seed file. Another is given where the network has a server of this name.
    #[serde(default)]
    pub name: Option<ServerName>,
    /// The certificate request for the agent's API: PKCS#10 (RFC 2986) in PEM, for a key on P-256 or P-384 or an RSA key.
    #[serde(deserialize_with = "short_pem")]
    pub certificate_request_pem: String,
    /// The certificate request for the boot endpoint: for an RSA key, which iPXE verifies in every version. Absent when the box
    /// makes no such key; its devices then boot over HTTP.
    #[serde(default, deserialize_with = "short_pem_if_any")]
    pub boot_request_pem: Option<String>,
    /// The key that it would come to tunnels with. Absent when the box makes no such key; it can then be reached directly alone.
    #[serde(default)]
    pub ssh_key: Option<SshKey>,
    /// What the box is, for the person who confirms it.
    pub hardware: Hardware,
}

/// What a box is made of. It is shown to people; nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// SMBIOS manufacturer, or the first word of a device tree's model.
    pub manufacturer: Fact,
    /// SMBIOS product.
    pub product: Fact,
    /// SMBIOS serial number.
    pub serial: Fact,
    /// SMBIOS system UUID.
    pub uuid: Fact,
    /// Logical processors.
    pub processors: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Network interfaces.
    #[serde(deserialize_with = "few_links")]
    pub links: Vec<HardwareLink>,
    /// Disks.
    #[serde(deserialize_with = "few_disks")]
    pub disks: Vec<HardwareDisk>,
}

/// A network interface of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HardwareLink {
    /// The kernel's name of it.
    pub name: Fact,
    /// Its permanent address.
    pub mac: Mac,
}

/// A disk of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HardwareDisk {
    /// What its maker calls it.
    pub model: Fact,
    /// Its serial number.
    pub serial: Fact,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// A word of a machine about itself: up to 80 characters, none of them a control character; empty where it says nothing.
#[derive(Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Fact(String);

impl Fact {
    /// Takes what firmware says, and of that what can be shown.
    pub fn clip(text: &str) -> Self {
        let shown = text.trim().chars().filter(|c| !c.is_control());
        Self(shown.take(MOST_FACT_CHARS).collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Fact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().count() > MOST_FACT_CHARS || text.contains(char::is_control) {
            return Err(de::Error::custom("up to 80 characters, and no control characters"));
        }
        Ok(Self(text))
    }
}

/// What the panel answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Answer {
    /// The box is a server of the panel's.
    Joined(Box<Joined>),
    /// A person has to confirm it first: ask again with the same secret and the same keys.
    Waiting {
        /// In so many seconds.
        retry_s: u64,
    },
}

/// What a server gets: the files of the agent's folder `tls`, beside the keys that the box has already. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The server's number, which stands in its API's certificate.
    pub server: u64,
    /// Its name.
    pub name: ServerName,
    /// `link`: how the panel reaches it.
    pub link: Link,
    /// `api.crt`: the chain for the agent's API, leaf first.
    pub api_chain_pem: String,
    /// `panel-ca.crt`: the root that the panel's own certificate chains to.
    pub root_pem: String,
    /// `boot.crt`: the chain for the boot endpoint, leaf first. Absent when none was asked for, and while the server has no
    /// address that devices boot from.
    pub boot_chain_pem: Option<String>,
    /// `boot-ca.crt`: the root that devices boot by.
    pub boot_root_pem: String,
    /// `uplinks.json`: the tunnels to keep up, until a document names others.
    #[serde(default)]
    pub uplinks: Vec<Uplink>,
}

/// How the panel reaches a server: its network chose that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Straight over the LAN, at the server's management address.
    Direct,
    /// Through a tunnel, which ends at the server's loopback.
    Tunnel,
}

impl Link {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tunnel => "tunnel",
        }
    }
}

/// Not a way to a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither direct nor tunnel")]
pub struct LinkError;

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let links = [Self::Direct, Self::Tunnel];
        links.into_iter().find(|link| link.as_str() == text).ok_or(LinkError)
    }
}

/// Why a request was refused (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind of problem it is, as a URI reference.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What it is this time, and what would help.
    #[serde(default)]
    pub detail: String,
}

fn short_pem<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let pem = String::deserialize(deserializer)?;
    if pem.len() > MOST_PEM_BYTES {
        return Err(de::Error::custom("a certificate request has up to 8192 bytes"));
    }
    Ok(pem)
}

fn short_pem_if_any<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Pem(#[serde(deserialize_with = "short_pem")] String);
    Ok(Option::<Pem>::deserialize(deserializer)?.map(|Pem(pem)| pem))
}

fn few_links<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HardwareLink>, D::Error> {
    few(Vec::deserialize(deserializer)?, MOST_LINKS)
}

fn few_disks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HardwareDisk>, D::Error> {
    few(Vec::deserialize(deserializer)?, MOST_DISKS)
}

fn few<T, E: de::Error>(list: Vec<T>, most: usize) -> Result<Vec<T>, E> {
    if list.len() > most { Err(E::custom(format!("up to {most}"))) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request() -> Request {
        let hardware = Hardware {
            manufacturer: Fact::clip("  QEMU\u{7} "),
            links: vec![HardwareLink {
                name: Fact::clip("eth0"),
                mac: "52:54:00:00:00:01".parse().unwrap(),
            }],
            ..Hardware::default()
        };
        let secret = JoinSecret::new([1, 2, 3, 4, 5, 6, 7, 8]);
        let certificate_request_pem = "-----BEGIN".to_owned();
        Request {
            secret,
            name: None,
            certificate_request_pem,
            boot_request_pem: None,
            ssh_key: None,
            hardware,
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_never_printed_with_its_secret() {
        let sent = serde_json::to_value(request()).unwrap();
        let read: Request = serde_json::from_value(sent).unwrap();
        assert!(read.secret.is(&request().secret));
        assert_eq!(read.hardware, request().hardware);
        assert_eq!(read.hardware.manufacturer.as_str(), "QEMU");
        assert!(format!("{read:?}").contains("secret: OneTime([REDACTED])"));
    }

    #[test]
    fn what_is_longer_than_any_box_needs_is_refused_with_what_is_allowed() {
        let link = json!({ "name": "x", "mac": "52:54:00:00:00:01" });
        let disk = json!({ "model": "x", "serial": "x", "size_bytes": 1 });
        let long = |pointer: &str, value: Value| {
            let mut sent = serde_json::to_value(request()).unwrap();
            *sent.pointer_mut(pointer).unwrap() = value;
            serde_json::from_value::<Request>(sent).unwrap_err().to_string()
        };
        for (pointer, value, told) in [
            ("/hardware/serial", json!("x".repeat(81)), "up to 80 characters"),
            ("/hardware/serial", json!("a\u{1b}[2J"), "no control characters"),
            ("/hardware/links", vec![link; 129].into(), "up to 128"),
            ("/hardware/disks", vec![disk; 513].into(), "up to 512"),
            ("/certificate_request_pem", json!("x".repeat(9000)), "up to 8192 bytes"),
            ("/boot_request_pem", json!("x".repeat(9000)), "up to 8192 bytes"),
        ] {
            let refused = long(pointer, value);
            assert!(refused.contains(told), "{pointer}: {refused}");
        }
    }

    #[test]
    fn a_request_at_its_longest_fits() {
        let mut longest = request();
        let fact = Fact::clip(&"ü".repeat(200));
        longest.certificate_request_pem = "x".repeat(MOST_PEM_BYTES);
        longest.boot_request_pem = Some("x".repeat(MOST_PEM_BYTES));
        let mac = "52:54:00:00:00:01".parse().unwrap();
        longest.hardware.links = vec![HardwareLink { name: fact.clone(), mac }; MOST_LINKS];
        let disk = HardwareDisk { model: fact.clone(), serial: fact, size_bytes: u64::MAX };
        longest.hardware.disks = vec![disk; MOST_DISKS];
        let sent = serde_json::to_vec(&longest).unwrap();
        assert!(sent.len() < MOST_BYTES, "{}", sent.len());
        serde_json::from_slice::<Request>(&sent).unwrap();
    }

    #[test]
    fn an_answer_names_its_state() {
        let waiting = serde_json::to_value(Answer::Waiting { retry_s: 5 }).unwrap();
        assert_eq!(waiting, json!({ "state": "waiting", "retry_s": 5 }));
    }
}
