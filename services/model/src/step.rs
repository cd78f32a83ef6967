//! Steps: the only changes that the agent makes to a machine. Each names the resource that it changes and those that have to
//! be sound for it to make sense, so that a failure stays with its resource.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    boot::{Acls, Export},
    desired::{Layout, Source},
    name::{
        BootId, Dataset, DeviceName, Iqn, Mac, Mark, NetworkName, PoolName, ServerName, Snapshot,
        VolumeName,
    },
    observed::GenerationId,
};

/// One change to the machine. Doing it twice is harmless.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Gives the server its name, now and after a restart.
    SetServerName(ServerName),
    /// Asks for addresses by DHCP on these interfaces, by their permanent addresses, and on no other.
    Lease(BTreeSet<Mac>),
    /// Names the servers that the server itself asks for names.
    SetResolvers(Vec<Ipv4Addr>),
    /// Names the servers that the clock is set by; none leaves the choice to leases and distribution.
    SetTimeServers(Vec<Ipv4Addr>),
    /// Brings an interface to these addresses, and up.
    SetLink {
        /// Its permanent address.
        mac: Mac,
        /// Addresses to add.
        add: BTreeSet<Ipv4Net>,
        /// Addresses to take away.
        remove: BTreeSet<Ipv4Net>,
        /// The default gateway to set through it; absent leaves the routes as they are.
        gateway: Option<Ipv4Addr>,
    },
    /// Imports a pool by its number.
    ImportPool {
        /// Its name.
        pool: PoolName,
        /// Its number.
        guid: u64,
    },
    /// Makes a pool on whole disks.
    CreatePool {
        /// Its name.
        pool: PoolName,
        /// How the disks are joined.
        layout: Layout,
        /// Paths of the disks.
        disks: Vec<String>,
        /// Of these, the ones whose foreign data the document allows to be destroyed.
        overwrite: Vec<String>,
    },
    /// Makes a folder of the tree.
    CreateFolder {
        /// Where.
        dataset: Dataset,
        /// Its mark.
        mark: Mark,
        /// Whether files are kept in it, so that it has to be mounted.
        mounted: bool,
    },
    /// Mounts the file system of a folder.
    Mount(Dataset),
    /// Makes a thin zvol.
    CreateZvol {
        /// Where.
        dataset: Dataset,
        /// Its mark.
        mark: Mark,
        /// Its size.
        size_bytes: u64,
    },
    /// Makes a zvol larger.
    Grow {
        /// Which.
        dataset: Dataset,
        /// The new size.
        size_bytes: u64,
    },
    /// Starts to fill a volume in the background; a snapshot `@p1` is made when it is whole.
    StartImport {
        /// The volume.
        volume: VolumeName,
        /// Its zvol.
        dataset: Dataset,
        /// Where fetched files are kept.
        files: Dataset,
        /// What to read.
        source: Source,
    },
    /// Takes a snapshot.
    TakeSnapshot(Snapshot),
    /// Clones a snapshot.
    Clone {
        /// Of what.
        origin: Snapshot,
        /// Where.
        dataset: Dataset,
        /// Its mark.
        mark: Mark,
    },
    /// Makes the device nodes of a zvol's snapshots show.
    ShowSnapshots(Dataset),
    /// Rolls clones back to their `@clean` and notes the boot for which it was done, all in one transaction group where the
    /// machine can.
    MakeNew(BTreeMap<Dataset, BootId>),
    /// Destroys a dataset and its snapshots. It must carry this mark at that moment.
    Destroy {
        /// Which.
        dataset: Dataset,
        /// Its mark.
        mark: Mark,
    },
    /// Starts to read kernel and initrd out of a generation in the background.
    StartExtraction {
        /// Which.
        generation: GenerationId,
        /// Its snapshot.
        snapshot: Snapshot,
        /// Where they go.
        files: Dataset,
    },
    /// Takes an iSCSI target down, its sessions included.
    Unexport(Iqn),
    /// Brings an iSCSI target to this state without disturbing the sessions of initiators whose ACL stays as it is.
    Export {
        /// The target.
        export: Export,
        /// Addresses to listen on, with ports.
        portals: BTreeSet<std::net::SocketAddrV4>,
    },
    /// Lets initiators into a target that stands, and others out. An initiator with new secrets loses its session; those
    /// that are not named keep theirs.
    SetAcls {
        /// The target.
        target: Iqn,
        /// Who is let in, or gets new secrets.
        set: Acls,
        /// Who is let in no more.
        remove: BTreeSet<Iqn>,
    },
    /// Writes dnsmasq's configuration and restarts it.
    ConfigureDhcp(DhcpConfig),
    /// Stops dnsmasq.
    StopDhcp,
}

/// What dnsmasq shall do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpConfig {
    /// One for each served network.
    pub networks: Vec<DhcpNetwork>,
}

/// What dnsmasq shall do on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpNetwork {
    /// The network's name, used as dnsmasq's tag.
    pub name: NetworkName,
    /// The kernel's name of the interface.
    pub interface: String,
    /// This server's address.
    pub server: Ipv4Net,
    /// The default gateway to tell devices.
    pub gateway: Option<Ipv4Addr>,
    /// The name servers to tell devices.
    pub dns: Vec<Ipv4Addr>,
    /// The domain to tell devices.
    pub domain: Option<String>,
    /// First and last address for unknown machines; absent is proxy mode.
    pub range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The devices' own addresses.
    pub hosts: Vec<DhcpHost>,
}

/// A device as DHCP knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpHost {
    /// Its cards.
    pub macs: Vec<Mac>,
    /// Its host name.
    pub name: DeviceName,
    /// Its address.
    pub address: Ipv4Addr,
}

/// Something that can fail by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// The server's name.
    ServerName,
    /// The server's asking for addresses by DHCP.
    Leases,
    /// The server's name service.
    Resolvers,
    /// The server's clock.
    Clock,
    /// An interface.
    Link(Mac),
    /// A pool.
    Pool(String),
    /// A dataset, its snapshots included.
    Dataset(Dataset),
    /// An iSCSI target.
    Target(Iqn),
    /// The boot files of a generation.
    BootFiles(GenerationId),
    /// dnsmasq.
    Dhcp,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ServerName => f.write_str("the server's name"),
            Self::Leases => f.write_str("the server's own addresses"),
            Self::Resolvers => f.write_str("the server's name service"),
            Self::Clock => f.write_str("the server's clock"),
            Self::Link(mac) => write!(f, "interface {mac}"),
            Self::Pool(pool) => write!(f, "pool {pool}"),
            Self::Dataset(dataset) => write!(f, "dataset {dataset}"),
            Self::Target(iqn) => write!(f, "target {iqn}"),
            Self::BootFiles(generation) => write!(f, "boot files of {generation}"),
            Self::Dhcp => f.write_str("dnsmasq"),
        }
    }
}

/// What stands for an empty list.
const NONE: &str = "none";

fn listed<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if words.is_empty() { NONE.to_owned() } else { words.join(", ") }
}

/// One line of bounded length for the log and the console: a step's own lists grow with the number of devices, and a boot writes
/// one each.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SetServerName(name) => write!(f, "name the server {name}"),
            Self::Lease(macs) => write!(f, "ask for addresses by DHCP on {}", listed(macs)),
            Self::SetResolvers(servers) => write!(f, "ask {} for names", listed(servers)),
            Self::SetTimeServers(servers) => write!(f, "ask {} for the time", listed(servers)),
            Self::SetLink { mac, add, remove, gateway } => {
                let changes = [
                    ("add ", listed(add)),
                    ("remove ", listed(remove)),
                    ("gateway ", listed(gateway)),
                ];
                let made = changes.iter().filter(|(_, what)| what != NONE);
                let made: Vec<_> = made.map(|(verb, what)| format!("{verb}{what}")).collect();
                let told = if made.is_empty() { "up".to_owned() } else { made.join(", ") };
                write!(f, "set interface {mac}: {told}")
            }
            Self::ImportPool { pool, guid } => write!(f, "import pool {pool} ({guid})"),
            Self::CreatePool { pool, layout, disks, overwrite } => {
                write!(f, "create pool {pool} ({layout}) on {}", listed(disks))?;
                if overwrite.is_empty() {
                    return Ok(());
                }
                write!(f, ", overwriting {}", listed(overwrite))
            }
            Self::CreateFolder { dataset, .. } => write!(f, "create folder {dataset}"),
            Self::Mount(dataset) => write!(f, "mount {dataset}"),
            Self::CreateZvol { dataset, size_bytes, .. } => {
                write!(f, "create zvol {dataset} of {size_bytes} bytes")
            }
            Self::Grow { dataset, size_bytes } => write!(f, "grow {dataset} to {size_bytes} bytes"),
            Self::StartImport { dataset, source, .. } => {
                write!(f, "start to import {} into {dataset}", source.location)
            }
            Self::TakeSnapshot(snapshot) => write!(f, "take snapshot {snapshot}"),
            Self::Clone { origin, dataset, .. } => write!(f, "clone {origin} to {dataset}"),
            Self::ShowSnapshots(dataset) => write!(f, "show the snapshots of {dataset}"),
            Self::MakeNew(clones) => match clones.iter().next() {
                Some((dataset, boot)) if clones.len() == 1 => {
                    write!(f, "make {dataset} new for boot {boot}")
                }
                _ => write!(f, "make {} clones new", clones.len()),
            },
            Self::Destroy { dataset, mark } => write!(f, "destroy {dataset} of {mark}"),
            Self::StartExtraction { generation, .. } => {
                write!(f, "start to read the boot files of {generation}")
            }
            Self::Unexport(target) => write!(f, "take down target {target}"),
            Self::Export { export, .. } => {
                write!(f, "put up target {} for {} initiators", export.target, export.acls.len())
            }
            Self::SetAcls { target, set, remove } => {
                write!(f, "let {} initiators into target {target}, {} out", set.len(), remove.len())
            }
            Self::ConfigureDhcp(config) => {
                write!(f, "configure dnsmasq for {} networks", config.networks.len())
            }
            Self::StopDhcp => f.write_str("stop dnsmasq"),
        }
    }
}

impl Step {
    /// What the step changes; a failure of the step is a failure of these.
    pub fn changes(&self) -> Vec<Resource> {
        match self {
            Self::SetServerName(_) => vec![Resource::ServerName],
            Self::Lease(_) => vec![Resource::Leases],
            Self::SetResolvers(_) => vec![Resource::Resolvers],
            Self::SetTimeServers(_) => vec![Resource::Clock],
            Self::SetLink { mac, .. } => vec![Resource::Link(*mac)],
            Self::ImportPool { pool, .. } | Self::CreatePool { pool, .. } => {
                vec![Resource::Pool(pool.to_string())]
            }
            Self::CreateFolder { dataset, .. }
            | Self::CreateZvol { dataset, .. }
            | Self::Grow { dataset, .. }
            | Self::StartImport { dataset, .. }
            | Self::Clone { dataset, .. }
            | Self::ShowSnapshots(dataset)
            | Self::Mount(dataset)
            | Self::Destroy { dataset, .. } => vec![Resource::Dataset(dataset.clone())],
            Self::TakeSnapshot(snapshot) => vec![Resource::Dataset(snapshot.dataset.clone())],
            Self::MakeNew(clones) => clones.keys().cloned().map(Resource::Dataset).collect(),
            Self::StartExtraction { generation, .. } => {
                vec![Resource::BootFiles(generation.clone())]
            }
            Self::Unexport(target) | Self::SetAcls { target, .. } => {
                vec![Resource::Target(target.clone())]
            }
            Self::Export { export, .. } => vec![Resource::Target(export.target.clone())],
            Self::ConfigureDhcp(_) | Self::StopDhcp => vec![Resource::Dhcp],
        }
    }

    /// What has to be sound before the step makes sense, beside what it changes.
    pub fn needs(&self) -> Vec<Resource> {
        let parent = |dataset: &Dataset| match dataset.parent() {
            Some(parent) if parent.parent().is_some() => Resource::Dataset(parent),
            _ => Resource::Pool(dataset.pool().to_owned()),
        };
        match self {
            Self::SetServerName(_)
            | Self::Lease(_)
            | Self::SetResolvers(_)
            | Self::SetTimeServers(_)
            | Self::SetLink { .. }
            | Self::ImportPool { .. }
            | Self::CreatePool { .. }
            | Self::Unexport(_)
            | Self::SetAcls { .. }
            | Self::ConfigureDhcp(_)
            | Self::StopDhcp => vec![],
            Self::CreateFolder { dataset, .. } | Self::CreateZvol { dataset, .. } => {
                vec![parent(dataset)]
            }
            Self::Grow { .. }
            | Self::TakeSnapshot(_)
            | Self::ShowSnapshots(_)
            | Self::Mount(_)
            | Self::MakeNew(_)
            | Self::Destroy { .. } => vec![],
            Self::StartImport { files, .. } => vec![Resource::Dataset(files.clone())],
            Self::Clone { origin, dataset, .. } => {
                vec![parent(dataset), Resource::Dataset(origin.dataset.clone())]
            }
            Self::StartExtraction { snapshot, files, .. } => {
                vec![Resource::Dataset(snapshot.dataset.clone()), Resource::Dataset(files.clone())]
            }
            Self::Export { export, .. } => {
                vec![Resource::Dataset(export.backing.dataset().clone())]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_in_words() {
        let mac: Mac = "52:54:00:cd:00:01".parse().unwrap();
        let add: BTreeSet<Ipv4Net> = ["10.77.0.1/24".parse().unwrap()].into();
        let link = |add, gateway| Step::SetLink { mac, add, remove: BTreeSet::new(), gateway };
        let gateway = Some("10.77.0.254".parse().unwrap());
        let pool = |overwrite: &[&str]| Step::CreatePool {
            pool: "tank".parse().unwrap(),
            layout: Layout::Mirror,
            disks: ["/dev/a", "/dev/b"].map(str::to_owned).to_vec(),
            overwrite: overwrite.iter().map(|path| (*path).to_owned()).collect(),
        };
        let told = [
            (link(add.clone(), None), "set interface 52:54:00:cd:00:01: add 10.77.0.1/24"),
            (
                link(add, gateway),
                "set interface 52:54:00:cd:00:01: add 10.77.0.1/24, gateway 10.77.0.254",
            ),
            (link(BTreeSet::new(), None), "set interface 52:54:00:cd:00:01: up"),
            (pool(&[]), "create pool tank (mirror) on /dev/a, /dev/b"),
            (pool(&["/dev/b"]), "create pool tank (mirror) on /dev/a, /dev/b, overwriting /dev/b"),
        ];
        for (step, words) in told {
            assert_eq!(step.to_string(), words);
        }
    }
}
