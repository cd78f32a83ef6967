//! What the panel keeps records of. Where a server's document has the word, the record is the document's own type; references
//! are names, unique inside a network. Nothing here is secret: passwords, tokens and keys are never part of a record's value.

mod text;

use std::{borrow::Cow, fmt, marker::PhantomData, net::Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
pub use model::desired::{Device, Group, Menu, Volume};
use model::{
    code::Address,
    desired::{Dhcp, Interface, Management, Pool},
    name::{NetworkName, PoolName, ServerName, VdiskName},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
pub use text::{Error as TextError, HostName, LanName, Title, TunnelName, UserName};

use crate::access::{Role, Standing};

/// The kinds of records, by the word that the database, the types, the URLs and the log share.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Noun {
    /// Highest owner.
    Organization,
    /// A person.
    User,
    /// A site.
    Network,
    /// One LAN of a site.
    Subnet,
    /// A relay.
    Tunnel,
    /// A machine running the agent.
    Server,
    /// Top of the storage tree.
    Volume,
    /// The image that a set of devices shares.
    Group,
    /// A device's own data.
    Vdisk,
    /// What iPXE shows.
    Menu,
    /// A machine that netboots.
    Device,
}

impl Noun {
    /// All, in reading order.
    pub const ALL: [Self; 11] = [
        Self::Organization,
        Self::User,
        Self::Network,
        Self::Subnet,
        Self::Tunnel,
        Self::Server,
        Self::Volume,
        Self::Group,
        Self::Vdisk,
        Self::Menu,
        Self::Device,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::User => "user",
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::Tunnel => "tunnel",
            Self::Server => "server",
            Self::Volume => "volume",
            Self::Group => "group",
            Self::Vdisk => "vdisk",
            Self::Menu => "menu",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The number of a record of one kind. Names are what people see.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id<T> {
    number: i64,
    #[serde(skip)]
    kind: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// The record with this number, if there is one.
    pub const fn new(number: i64) -> Self {
        Self { number, kind: PhantomData }
    }

    /// The number.
    pub fn number(self) -> i64 {
        self.number
    }
}

impl Id<Network> {
    /// Where the records of this network live.
    pub fn place(self) -> Place {
        Place::Network(self)
    }
}

impl<T> JsonSchema for Id<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "int64", "minimum": 1 })
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number.cmp(&other.number)
    }
}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}
impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

/// Where a record lives, which says whose rules hold for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The panel itself.
    Panel,
    /// An organization.
    Organization(Id<Organization>),
    /// A network.
    Network(Id<Network>),
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Record")]
pub struct Stored<T> {
    /// Its number.
    pub id: Id<T>,
    /// Where it lives. An organization and a network live in themselves.
    pub place: Place,
    /// Rises with every change; a change names the one it was made from.
    pub version: u64,
    /// What a person set.
    pub value: T,
}

/// Highest owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Organization {
    /// Its name.
    pub name: Title,
    /// The most networks it may have.
    #[serde(default)]
    pub most_networks: Option<u32>,
    /// The most users it may have.
    #[serde(default)]
    pub most_users: Option<u32>,
    /// The most devices that all its networks may have together.
    #[serde(default)]
    pub most_devices: Option<u32>,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// What they sign in with.
    pub name: UserName,
    /// What they are called.
    pub full_name: Title,
    /// Where notices go.
    #[serde(default)]
    pub mail: Option<String>,
    /// What they are, before any role on a network.
    pub standing: Standing,
    /// May not sign in.
    #[serde(default)]
    pub disabled: bool,
    /// Roles on networks of their organization.
    #[serde(default)]
    pub roles: Vec<Grant>,
}

/// A role on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The network.
    pub network: NetworkName,
    /// The role.
    pub role: Role,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// The tunnels that its servers may be reached through, the favourite first; none is the direct link.
    #[serde(default)]
    pub tunnels: Vec<TunnelName>,
}

/// One LAN of a site: what a server's document calls a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// Its name.
    pub name: NetworkName,
    /// Its addresses, for example `10.77.0.0/24`.
    #[schemars(with = "String", regex(pattern = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$"))]
    pub subnet: Ipv4Net,
    /// Subnets of an organization that name the same LAN share a wire, so that no address may stand in two of them.
    #[serde(default)]
    pub lan: Option<LanName>,
    /// The default gateway of the devices.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// The name servers of the devices.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// The domain of the devices' host names.
    #[serde(default)]
    pub domain: Option<String>,
    /// Who gives out addresses.
    #[serde(default)]
    pub dhcp: Dhcp,
}

/// A relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// Its name.
    pub name: TunnelName,
    /// Its host name or address.
    pub host: HostName,
    /// The port of its SSH server.
    pub port: u16,
    /// Networks that the panel comes from: the tunnel's API is closed to all others. None leaves it open to everybody who has the
    /// panel's certificate.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub panel_addresses: Vec<IpNet>,
}

impl Tunnel {
    /// Where its SSH server is.
    pub fn address(&self) -> Address {
        Address { host: self.host.host(), port: self.port }
    }
}

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerRole {
    /// Holds the storage tree and serves devices.
    Storage,
    /// Runs virtual machines.
    Compute,
    /// Both.
    Both,
}

impl ServerRole {
    /// Whether the server holds the storage tree.
    pub fn stores(self) -> bool {
        match self {
            Self::Storage | Self::Both => true,
            Self::Compute => false,
        }
    }
}

/// A machine running the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// What it is for.
    pub role: ServerRole,
    /// Whether it is the one that gives out addresses; a network has one at the most.
    #[serde(default)]
    pub primary: bool,
    /// The interface that the panel reaches it by; absent leaves the seed file's.
    #[serde(default)]
    pub management: Option<Management>,
    /// The subnets it serves.
    #[serde(default)]
    pub interfaces: Vec<ServerInterface>,
    /// Its pools.
    #[serde(default)]
    pub pools: Vec<Pool>,
}

/// A server's place in a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerInterface {
    /// The subnet.
    pub subnet: NetworkName,
    /// The interface.
    pub interface: Interface,
    /// The server's address there.
    pub address: Ipv4Addr,
}

/// A device's own data, on one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vdisk {
    /// Its name.
    pub name: VdiskName,
    /// The server it lies on.
    pub server: ServerName,
    /// The pool it lies in.
    pub pool: PoolName,
    /// Size in bytes, a multiple of 1 MiB. It may grow, never shrink.
    pub size_bytes: u64,
}
