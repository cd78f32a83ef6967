//! What alerts are computed from: read from the store in one moment, and what the panel itself knows of itself.

use std::{collections::BTreeMap, net::Ipv4Addr};

use model::name::Mac;
use serde::{Deserialize, Serialize};

use super::Alert;
use crate::{
    fleet::State,
    noun::{Device, Id, Network, Organization, Server, Tunnel, User},
    sighting::{Machine, Sighting},
};

/// All facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// When the panel started, in milliseconds since 1970: before, it saw nobody.
    pub started_ms: u64,
    /// Servers.
    pub servers: Vec<ServerFacts>,
    /// Networks with boots that somebody has to look at.
    pub networks: Vec<NetworkFacts>,
    /// Tunnels that are the panel's.
    pub tunnels: Vec<TunnelFacts>,
    /// Networks with servers that are reached through tunnels alone.
    pub tunnelled: Vec<TunnelledFacts>,
    /// People who come in by a certificate alone that ends before long.
    pub people: Vec<PersonFacts>,
    /// Certificates of the panel itself.
    pub own_certificates: Vec<CertificateFacts>,
    /// The panel's backup.
    pub backup: BackupFacts,
    /// Channels with notices that were tried in vain.
    pub channels: Vec<ChannelFacts>,
    /// What stood when it was looked last, by its key.
    pub standing: BTreeMap<String, Alert>,
}

/// A server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerFacts {
    /// Its number.
    pub id: Id<Server>,
    /// Its name.
    pub name: String,
    /// The network it stands in.
    pub network: Id<Network>,
    /// That network's name.
    pub network_name: String,
    /// Whose that is.
    pub organization: Id<Organization>,
    /// When a box joined as it, in milliseconds since 1970.
    pub joined_ms: Option<u64>,
    /// When it answered last, to half a minute.
    pub seen_ms: Option<u64>,
    /// How far its clock is ahead of the panel's.
    pub clock_ms: Option<i64>,
    /// Why there is no connection.
    pub error: Option<String>,
    /// The document that it refused last.
    pub refused: Option<Refusal>,
    /// The generation of the document that it took last.
    pub acknowledged: u64,
    /// The short of what it showed last.
    pub sighting: Sighting,
    /// The certificates that the panel gave it and that hold, the newest of each kind.
    pub certificates: Vec<CertificateFacts>,
    /// Machines that asked to boot and are still not known.
    pub machines: Vec<Machine>,
    /// Machines that asked from the static address of a device that they are not.
    pub clashes: Vec<Clash>,
}

/// A document that a server refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its generation number.
    pub generation: u64,
    /// What the server found.
    pub why: String,
}

/// A machine with the address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The device.
    pub device: Id<Device>,
    /// Its name.
    pub name: String,
    /// The address.
    pub address: Ipv4Addr,
    /// The machine's card.
    pub mac: Mac,
    /// When it asked last, in milliseconds since 1970.
    pub seen_ms: u64,
}

/// A tunnel that is the panel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelFacts {
    /// Its number.
    pub id: Id<Tunnel>,
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub state: State,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Why there is no connection, or it can't be told who may come in.
    pub error: Option<String>,
    /// What it says is not as it should be.
    pub faults: Vec<String>,
}

/// A network with servers that are reached through tunnels alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelledFacts {
    /// Its number.
    pub id: Id<Network>,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub organization: Id<Organization>,
    /// How many such servers it has.
    pub servers: u64,
    /// Its tunnels that are the panel's.
    pub tunnels: Vec<Id<Tunnel>>,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// What it is for.
    pub name: String,
    /// When it ends, in milliseconds since 1970.
    pub ends_ms: u64,
}

/// A person who is asked for a certificate and has no one-time passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonFacts {
    /// Their number.
    pub id: Id<User>,
    /// What they sign in with.
    pub name: String,
    /// Where they belong; absent for the panel's own people.
    pub organization: Option<Id<Organization>>,
    /// When the last of their certificates ends, in milliseconds since 1970.
    pub ends_ms: u64,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFacts {
    /// Its number.
    pub id: Id<Network>,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub organization: Id<Organization>,
    /// The newest boot of each device whose newest boot is not up.
    pub boots: Vec<BootFacts>,
}

/// A boot that is not up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFacts {
    /// The device.
    pub device: Id<Device>,
    /// Its name.
    pub name: String,
    /// When it reached its last step, in milliseconds since 1970.
    pub last_ms: u64,
    /// What it said when it gave up.
    pub failed: Option<String>,
}

/// The panel's backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupFacts {
    /// When it was made last, in milliseconds since 1970.
    pub made_ms: Option<u64>,
    /// Whether there is anything that it would be a pity to lose.
    pub worth: bool,
}

/// A channel of notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelFacts {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub organization: Id<Organization>,
    /// When the eldest notice was made that was not delivered, in milliseconds since 1970.
    pub made_ms: u64,
    /// How often that was tried.
    pub attempts: u32,
    /// What came of it last.
    pub error: String,
}
