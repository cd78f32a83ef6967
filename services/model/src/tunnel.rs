//! What a tunnel is told and tells, and what a server is told of its tunnels. A tunnel relays: it knows who may come in by which
//! key and where each server's forwarded port is, and of what passes it sees ciphertext alone.
//!
//! The panel is the only client of a tunnel's API: HTTPS on [`API_PORT`], both sides verified against the panel's authority once
//! the tunnel is paired.
//!
//! | request | answer |
//! |---|---|
//! | `POST` [`PAIR`] with [`PROOF`] | before pairing: [`Offer`] |
//! | `PUT` [`PAIR`] with [`PROOF`] and [`Paired`] | before pairing: `204`, and the tunnel is the panel's |
//! | `PUT` [`TABLE`] with [`Table`] | `204`; `409` for a lower generation than the one in force |
//! | `GET` [`STATUS`] | [`Status`]; with `If-None-Match` and `Prefer: wait=<s>` when it differs, else `304` |
//! | `PUT` [`CERTIFICATE`] with [`Renewed`] | `204` |
//! | `GET` [`connect`]`(server)` upgrading to [`STREAM`] | `101`, then the bytes of a connection to the agent's API |
//! | `GET` [`JOINS`] upgrading to [`STREAM`] | `101` with [`BOX_ADDRESS`], then the bytes that a box which joins sends; `204` when none came for a while |
//!
//! What is refused comes as [`crate::join::Problem`].

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::code::{Address, PairingCode};

/// The port of a tunnel's API. It is closed to whoever is not the panel.
pub const API_PORT: u16 = 8444;
/// The port that is public, unless the tunnel's record says another.
pub const SSH_PORT: u16 = 22;

/// Where the panel pairs.
pub const PAIR: &str = "/v1/pair";
/// Where the panel says who may come in.
pub const TABLE: &str = "/v1/table";
/// Where the tunnel says how it is.
pub const STATUS: &str = "/v1/status";
/// Where the panel renews the tunnel's certificate.
pub const CERTIFICATE: &str = "/v1/certificate";
/// Where the panel takes boxes that join.
pub const JOINS: &str = "/v1/joins";
/// The protocol that a connection becomes (RFC 9110, 7.8): bytes, both ways.
pub const STREAM: &str = "clusterducks-stream";
/// The header of a request to pair: the lower-case hexadecimal HMAC-SHA-256 of its sender, see [`proven`], keyed by the pairing
/// code's secret.
pub const PROOF: &str = "clusterducks-proof";
/// The header that tells which address a box joins from.
pub const BOX_ADDRESS: &str = "clusterducks-box-address";

/// The label of the TLS exporter that a proof is bound to (RFC 9266, 4.2): without context, 32 bytes.
pub const EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";

/// The Unix user that boxes come in as which join.
pub const JOIN_USER: &str = "join";
/// What may pass for one box that joins, in bytes, each way: a request and an answer, in TLS.
pub const JOIN_BYTES: u64 = 512 << 10;

/// Where the panel opens a stream to the agent of a server.
pub fn connect(server: u64) -> String {
    format!("/v1/connect/{server}")
}

/// What a side of a pairing proves itself by: who it is, and the TLS connection that it stands in. Neither can be carried to
/// another connection, nor be sent back to who made it.
pub fn proven(side: Side, exported: &[u8; 32]) -> Vec<u8> {
    let side: &[u8] = match side {
        Side::Panel => b"clusterducks pair panel\0",
        Side::Tunnel => b"clusterducks pair tunnel\0",
    };
    [side, exported].concat()
}

/// A side of a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The panel, which knows the code because an admin typed it.
    Panel,
    /// The tunnel, which made it or had it from its seed file.
    Tunnel,
}

/// The port of a tunnel's loopback that leads to a server: 10000 to 59999. It is the same on every tunnel, and names the server's
/// Unix user there too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ForwardPort(#[schemars(range(min = 10000, max = 59999))] u16);

/// Not a port that leads to a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a forwarded port is 10000 to 59999")]
pub struct PortError;

impl ForwardPort {
    /// The lowest one.
    pub const FIRST: u16 = 10_000;
    /// The highest one.
    pub const LAST: u16 = 59_999;
    /// The number of the Unix user of port 0. Debian, systemd and containers give out nothing from 65,536 to 524,287
    /// (systemd.io/UIDS-GIDS).
    const USERS: u32 = 200_000;

    /// Takes a number.
    ///
    /// # Errors
    /// It is out of bounds.
    pub fn new(port: u16) -> Result<Self, PortError> {
        if (Self::FIRST..=Self::LAST).contains(&port) { Ok(Self(port)) } else { Err(PortError) }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The number of the server's Unix user on tunnels, and of its group.
    pub fn uid(self) -> u32 {
        Self::USERS + u32::from(self.0)
    }

    /// The first and the last number of such users.
    pub fn uids() -> (u32, u32) {
        (Self::USERS + u32::from(Self::FIRST), Self::USERS + u32::from(Self::LAST))
    }

    /// The name of the server's Unix user on tunnels.
    pub fn user(self) -> String {
        format!("a{}", self.0)
    }

    /// Whose Unix user this is.
    pub fn of_user(name: &str) -> Option<Self> {
        let port: u16 = name.strip_prefix('a')?.parse().ok()?;
        // Not "a010000", nor "a+10000".
        Self::new(port).ok().filter(|port| port.user() == name)
    }
}

impl fmt::Display for ForwardPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ForwardPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u16::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A public key of OpenSSH as it stands in its files (sshd(8), AUTHORIZED_KEYS FILE FORMAT): the kind and the base64, without
/// options or a comment. What the base64 says is for OpenSSH to read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(transparent)]
pub struct SshKey(#[schemars(regex(pattern = r"^[a-z0-9-]+ [A-Za-z0-9+/]+={0,2}$"))] String);

/// Not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 or ECDSA public key as OpenSSH writes them")]
pub struct SshKeyError;

impl SshKey {
    const KINDS: [&str; 4] =
        ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];
    /// One on P-521 takes 232 characters of base64.
    const MOST_CHARS: usize = 400;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind and the base64.
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once(' ').unwrap_or_default()
    }
}

impl FromStr for SshKey {
    type Err = SshKeyError;

    fn from_str(text: &str) -> Result<Self, SshKeyError> {
        let (kind, key) = text.split_once(' ').ok_or(SshKeyError)?;
        let digits = key.trim_end_matches('=');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
        let good = Self::KINDS.contains(&kind)
            && text.len() <= Self::MOST_CHARS
            && !digits.is_empty()
            && key.len() - digits.len() <= 2
            && digits.bytes().all(plain);
        if good { Ok(Self(text.to_owned())) } else { Err(SshKeyError) }
    }
}

impl fmt::Display for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SshKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SshKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A server's way through one tunnel: what it keeps `ssh -N -R 127.0.0.1:<forward>:127.0.0.1:8443` to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// The tunnel's SSH server.
    #[schemars(with = "String")]
    pub address: Address,
    /// Its host key. Nobody else is talked to.
    pub host_key: SshKey,
    /// The port on its loopback that shall lead to this server; it names the user there too.
    pub forward: ForwardPort,
}

/// What a tunnel's box offers to who proved to have its pairing code.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The tunnel's own proof, as in [`PROOF`].
    pub proof: String,
    /// The certificate request of its API, PKCS#10 in PEM.
    pub certificate_request_pem: String,
    /// The host key of its SSH server.
    pub host_key: SshKey,
}

/// What makes a tunnel the panel's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paired {
    /// The name that the panel knows it by, for its screen.
    pub name: String,
    /// The chain for its API, leaf first.
    pub chain_pem: String,
    /// The root that the panel's own certificate chains to.
    pub root_pem: String,
    /// Who may come in, from the first moment on.
    pub table: Table,
}

/// A new certificate for the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewed {
    /// The chain, leaf first.
    pub chain_pem: String,
}

/// Who may come in: a tunnel's whole desired state. 10,000 agents take about 2 MiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Rises with every change.
    pub generation: u64,
    /// Where the panel comes from: the API is closed to all others. Empty opens it to everybody who has the panel's certificate.
    pub panel: Vec<IpNet>,
    /// The servers.
    pub agents: Vec<Agent>,
    /// Which certificates of the panel's authorities don't count any more: their lists (RFC 5280, 5) in PEM, one after the other.
    pub revocation_list_pem: Option<String>,
}

/// A server that may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The server's number.
    pub server: u64,
    /// Its port, and so its user. Two servers of a table have not the same.
    pub forward: ForwardPort,
    /// Its key.
    pub key: SshKey,
}

/// What a tunnel shows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The tunnel's version.
    pub version: String,
    /// The generation of the table in force.
    pub generation: u64,
    /// What is not as it should be, in words: rules that can't be put in place, an SSH server that is down.
    pub faults: Vec<String>,
    /// The servers that are there, or were since the service started.
    pub agents: BTreeMap<u64, AgentStatus>,
    /// The end of the certificate of its API, in milliseconds since 1970.
    pub certificate_ends_ms: u64,
    /// A request for the next one, PKCS#10 in PEM.
    pub certificate_request_pem: String,
    /// The address that this status was asked from, as the tunnel saw it.
    pub panel_address: Option<IpAddr>,
}

/// How a server is connected to a tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Since when its port is there, in milliseconds since 1970; absent while it is not.
    pub since_ms: Option<u64>,
    /// Streams that are open.
    pub streams: u32,
    /// Bytes that went to it.
    pub sent_bytes: u64,
    /// Bytes that came from it.
    pub received_bytes: u64,
    /// Why a stream to it could not be opened or broke, last.
    pub last_error: Option<String>,
}

/// How a tunnel stands, for the screen of its box: it tells root alone, on a Unix socket, because of the code.
#[derive(Debug, Serialize, Deserialize)]
pub struct Standing {
    /// Whose it is.
    pub pairing: Pairing,
    /// The SSH server's host key as `ssh-keygen -l` shows it; absent until there is one.
    pub host_key_fingerprint: Option<String>,
    /// As in [`Status`].
    pub faults: Vec<String>,
}

/// Whose a tunnel is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Pairing {
    /// Nobody's.
    Unpaired {
        /// What a panel needs to make it its own.
        code: PairingCode,
        /// Until when it does, in milliseconds since 1970; absent for one from a seed file.
        expires_ms: Option<u64>,
    },
    /// A panel's.
    Paired {
        /// The name that the panel knows it by.
        name: String,
        /// When the panel was there last since the service started, in milliseconds since 1970.
        panel_seen_ms: Option<u64>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_names_its_user_and_the_user_its_port() {
        let port = ForwardPort::new(10_007).unwrap();
        assert_eq!((port.user().as_str(), port.uid()), ("a10007", 210_007));
        assert_eq!(ForwardPort::of_user("a10007"), Some(port));
        for other in ["a9999", "a60000", "a010007", "a+10007", "a10007 ", "b10007", "a", "join"] {
            assert_eq!(ForwardPort::of_user(other), None, "{other}");
        }
        assert_eq!(ForwardPort::uids(), (210_000, 259_999));
    }

    #[test]
    fn a_key_is_a_kind_and_base64_and_nothing_that_a_line_of_authorized_keys_could_hide() {
        let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0";
        assert_eq!(good.parse::<SshKey>().unwrap().as_str(), good);
        for bad in [
            "ssh-rsa AAAAB3NzaC1yc2E",
            "ssh-ed25519",
            "ssh-ed25519 ",
            "ssh-ed25519 AAAA AAAA",
            "ssh-ed25519 AAAA\nssh-ed25519 BBBB",
            "command=\"x\" ssh-ed25519 AAAA",
            "ssh-ed25519 AA=A",
            "ssh-ed25519 AAAA===",
        ] {
            assert_eq!(bad.parse::<SshKey>(), Err(SshKeyError), "{bad}");
        }
    }

    #[test]
    fn the_proof_of_one_side_is_none_of_the_other() {
        let exported = [7; 32];
        assert_ne!(proven(Side::Panel, &exported), proven(Side::Tunnel, &exported));
        assert_ne!(proven(Side::Panel, &exported), proven(Side::Panel, &[8; 32]));
    }
}
