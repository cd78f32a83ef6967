//! Network interfaces through rtnetlink: reads them, and gives them addresses. It changes the interface whose permanent
//! address it was told and no other; names are whatever the kernel made of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt as _;
use ipnet::Ipv4Net;
use model::{name::Mac, observed::Link};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader},
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// Where udev keeps what it knows of each device.
const UDEV_DATA: &str = "/run/udev/data";

/// Why an interface was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("can't open a netlink socket")]
    Socket(#[source] io::Error),
    /// The kernel did not tell the state.
    #[error("can't read {what}")]
    Read {
        /// Links, addresses or routes.
        what: &'static str,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// No interface has this address.
    #[error("no interface has the address {0}")]
    NoLink(Mac),
    /// Several interfaces have this address, so that none can be chosen.
    #[error("the interfaces {names:?} have the same address {mac}")]
    Ambiguous {
        /// The address.
        mac: Mac,
        /// The kernel's names.
        names: Vec<String>,
    },
    /// The kernel refused a change.
    #[error("can't {action} on {link}")]
    Change {
        /// What was tried.
        action: String,
        /// The kernel's name of the interface.
        link: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Read { .. } | Self::NoLink(_) | Self::Change { .. } => true,
            Self::Ambiguous { .. } => false,
        }
    }
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// The interfaces of this network namespace.
#[derive(Debug, Clone)]
pub struct Netlink {
    udev: PathBuf,
}

impl Default for Netlink {
    fn default() -> Self {
        Self::new(UDEV_DATA)
    }
}

impl Netlink {
    /// Takes udev's data folder, usually `/run/udev/data`.
    pub fn new(udev: impl AsRef<Path>) -> Self {
        Self { udev: udev.as_ref().to_owned() }
    }

    /// Ethernet interfaces that stand for a card: not the loopback, no bridge, tunnel, tap or VLAN. Sorted by name. Of leases the
    /// kernel knows nothing.
    pub async fn observe(&self) -> Result<Vec<Link>> {
        let handle = connect()?;
        let state = State::read(&handle).await?;
        let mut links: Vec<Link> = state
            .cards()
            .map(|card| Link {
                name: card.name.clone(),
                mac: card.mac,
                path: id_path(&self.udev, card.index),
                up: card.up,
                carrier: card.carrier,
                addresses: state.addresses(card.index).keys().copied().collect(),
                gateway: state.gateways.get(&card.index).map(|(_, gateway)| *gateway),
                lease: None,
            })
            .collect();
        links.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(links)
    }

    /// Takes addresses from an interface, gives it others, brings it up and, where a gateway is given, sets the default
    /// route through it. What is so already is not written.
    pub async fn set_link(
        &self,
        mac: Mac,
        add: &BTreeSet<Ipv4Net>,
        remove: &BTreeSet<Ipv4Net>,
        gateway: Option<Ipv4Addr>,
    ) -> Result<()> {
        let handle = connect()?;
        let state = State::read(&handle).await?;
        let card = state.card(mac)?;
        let change = |action: String| {
            let link = card.name.clone();
            move |source| Error::Change { action, link, source }
        };
        for (address, message) in state.addresses(card.index) {
            if remove.contains(&address) {
                let removed = handle.address().del(message.clone()).execute().await;
                removed.map_err(change(format!("remove {address}")))?;
            }
        }
        // Read again: with the first address of a subnet the kernel takes the others of it away.
        let state = State::read(&handle).await?;
        let there = state.addresses(card.index);
        for address in add.iter().filter(|address| !there.contains_key(*address)) {
            let ip = IpAddr::V4(address.addr());
            let added = handle.address().add(card.index, ip, address.prefix_len()).execute().await;
            added.map_err(change(format!("add {address}")))?;
        }
        if !card.up {
            let up = LinkUnspec::new_with_index(card.index).up().build();
            handle.link().set(up).execute().await.map_err(change("set up".to_owned()))?;
        }
        let now = state.gateways.get(&card.index).map(|(_, gateway)| *gateway);
        if let Some(gateway) = gateway.filter(|gateway| now != Some(*gateway)) {
            // The kernel replaces the route of the same destination, table and metric (NLM_F_REPLACE, rtnetlink(7)).
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .output_interface(card.index)
                .gateway(gateway)
                .build();
            let set = handle.route().add(route).replace().execute().await;
            set.map_err(change(format!("route by {gateway}")))?;
        }
        Ok(())
    }
}

fn connect() -> Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
    // It ends by itself when the handle is dropped.
    tokio::spawn(connection);
    Ok(handle)
}

struct Card {
    index: u32,
    name: String,
    mac: Mac,
    up: bool,
    carrier: bool,
}

struct State {
    links: Vec<LinkMessage>,
    addresses: Vec<AddressMessage>,
    /// By interface: metric and gateway of the default route with the lowest metric.
    gateways: BTreeMap<u32, (u32, Ipv4Addr)>,
}

impl State {
    async fn read(handle: &Handle) -> Result<Self> {
        let read = |what| move |source| Error::Read { what, source };
        let links = handle.link().get().execute().try_collect().await.map_err(read("links"))?;
        let addresses =
            handle.address().get().execute().try_collect().await.map_err(read("addresses"))?;
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = std::pin::pin!(handle.route().get(query).execute());
        let mut gateways: BTreeMap<u32, (u32, Ipv4Addr)> = BTreeMap::new();
        while let Some(route) = routes.try_next().await.map_err(read("routes"))? {
            if route.header.destination_prefix_length != 0
                || route.header.table != RouteHeader::RT_TABLE_MAIN
            {
                continue;
            }
            let (mut link, mut metric, mut gateway) = (None, 0, None);
            for attribute in route.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => link = Some(index),
                    RouteAttribute::Priority(value) => metric = value,
                    RouteAttribute::Gateway(RouteAddress::Inet(ip)) => gateway = Some(ip),
                    _ => {}
                }
            }
            if let (Some(link), Some(gateway)) = (link, gateway)
                && gateways.get(&link).is_none_or(|(lowest, _)| metric < *lowest)
            {
                gateways.insert(link, (metric, gateway));
            }
        }
        Ok(Self { links, addresses, gateways })
    }

    fn cards(&self) -> impl Iterator<Item = Card> {
        self.links.iter().filter_map(card)
    }

    fn card(&self, mac: Mac) -> Result<Card> {
        let mut found: Vec<Card> = self.cards().filter(|card| card.mac == mac).collect();
        match (found.pop(), found.is_empty()) {
            (Some(card), true) => Ok(card),
            (None, _) => Err(Error::NoLink(mac)),
            (Some(last), false) => {
                found.push(last);
                let mut names: Vec<_> = found.into_iter().map(|card| card.name).collect();
                names.sort();
                Err(Error::Ambiguous { mac, names })
            }
        }
    }

    fn addresses(&self, index: u32) -> BTreeMap<Ipv4Net, &AddressMessage> {
        let of_link = self.addresses.iter().filter(|message| {
            message.header.index == index && message.header.family == AddressFamily::Inet
        });
        of_link.filter_map(|message| Some((address(message)?, message))).collect()
    }
}

/// A link that stands for a card. `veth` is one: inside a container it is the only card there is.
fn card(message: &LinkMessage) -> Option<Card> {
    let flags = message.header.flags;
    if message.header.link_layer_type != LinkLayerType::Ether || flags.contains(LinkFlags::Loopback)
    {
        return None;
    }
    let (mut name, mut own, mut permanent) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => own = parse_mac(bytes),
            LinkAttribute::PermAddress(bytes) => permanent = parse_mac(bytes),
            LinkAttribute::LinkInfo(infos) => {
                let software = |info: &LinkInfo| match info {
                    LinkInfo::Kind(kind) => *kind != InfoKind::Veth,
                    _ => false,
                };
                if infos.iter().any(software) {
                    return None;
                }
            }
            _ => {}
        }
    }
    Some(Card {
        index: message.header.index,
        name: name?,
        mac: permanent.or(own)?,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
    })
}

fn parse_mac(bytes: &[u8]) -> Option<Mac> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.parse().ok()
}

/// `IFA_LOCAL` is the interface's own address; `IFA_ADDRESS` is the far end's on a point-to-point link (rtnetlink(7)).
fn address(message: &AddressMessage) -> Option<Ipv4Net> {
    let own = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    });
    let far = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    });
    Ipv4Net::new(own.or(far)?, message.header.prefix_len).ok()
}

/// `E:ID_PATH=` in udev's file of the interface. udev may not have written it yet: then there is none for now.
fn id_path(udev: &Path, index: u32) -> Option<String> {
    let text = std::fs::read_to_string(udev.join(format!("n{index}"))).ok()?;
    text.lines().find_map(|line| line.strip_prefix("E:ID_PATH=")).map(str::to_owned)
}
