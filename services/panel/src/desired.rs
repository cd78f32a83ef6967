//! What a server shall be: rendered from the store, as the document that its agent takes. Rendering is pure over what
//! was read of the site; the generation number rises only when the bytes change.

use std::collections::BTreeSet;

use model::{
    Document,
    boot::Boots,
    desired::{Desired, Dhcp},
    name::{Mark, NetworkName},
    observed::Observed,
    plan::{Plan, plan},
    step::Step,
    validate::{Fault, validate},
    wire::Status,
};

use crate::{
    noun::{
        Device, Group, Id, Menu, Network, Place, Server, ServerInterface, Stored, Subnet, Vdisk,
        Volume,
    },
    store::{Error, Tx},
};

/// All of a network that its servers' documents are made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Site {
    /// Subnets.
    pub subnets: Vec<Subnet>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Groups.
    pub groups: Vec<Group>,
    /// vDisks.
    pub vdisks: Vec<Vdisk>,
    /// Menus.
    pub menus: Vec<Menu>,
    /// Devices.
    pub devices: Vec<Device>,
}

fn values<T>(stored: Vec<Stored<T>>) -> Vec<T> {
    stored.into_iter().map(|stored| stored.value).collect()
}

impl Site {
    /// Reads a network.
    pub(crate) fn read(tx: Tx<'_>, network: Id<Network>) -> Result<Self, Error> {
        let at = Place::Network(network);
        Ok(Self {
            subnets: values(tx.all(at)?),
            volumes: values(tx.all(at)?),
            groups: values(tx.all(at)?),
            vdisks: values(tx.all(at)?),
            menus: values(tx.all(at)?),
            devices: values(tx.all(at)?),
        })
    }
}

/// The document of one server of a site. A server is given what it can hold: volumes of its pools, groups of these volumes, its
/// own vDisks, and the devices of its subnets that need nothing else. The generation number is left at 0, and
/// there are no ways through tunnels and no revocation list.
pub fn render(site: &Site, server: &Server, destroy: Vec<Mark>) -> Desired {
    let pools: BTreeSet<_> = server.pools.iter().map(|pool| &pool.name).collect();
    let stores = server.role.stores();
    let volumes = site.volumes.iter().filter(|volume| stores && pools.contains(&volume.pool));
    let volumes: Vec<Volume> = volumes.cloned().collect();
    let held: BTreeSet<_> = volumes.iter().map(|volume| &volume.name).collect();
    let groups: Vec<Group> =
        site.groups.iter().filter(|group| held.contains(&group.volume)).cloned().collect();
    let vdisks: Vec<_> = site
        .vdisks
        .iter()
        .filter(|vdisk| stores && vdisk.server == server.name)
        .map(|vdisk| model::desired::Vdisk {
            name: vdisk.name.clone(),
            pool: vdisk.pool.clone(),
            size_bytes: vdisk.size_bytes,
        })
        .collect();
    let networks = networks(site, server);
    let subnets: BTreeSet<&NetworkName> = networks.iter().map(|network| &network.name).collect();
    let images: BTreeSet<_> = groups.iter().map(|group| &group.name).collect();
    let disks: BTreeSet<_> = vdisks.iter().map(|vdisk| &vdisk.name).collect();
    let servable = |device: &&Device| {
        subnets.contains(&device.network)
            && images.contains(&device.group)
            && device.vdisks.iter().all(|used| disks.contains(&used.vdisk))
    };
    let devices = site.devices.iter().filter(servable).cloned().collect();
    Desired {
        generation: 0,
        server: Some(server.name.clone()),
        management: server.management.clone(),
        revocation_list_pem: None,
        uplinks: Vec::new(),
        pools: server.pools.clone(),
        networks,
        volumes,
        groups,
        vdisks,
        menus: site.menus.clone(),
        devices,
        destroy,
    }
}

/// Only the primary gives out addresses: two DHCP servers that know nothing of each other would give one address twice.
fn networks(site: &Site, server: &Server) -> Vec<model::desired::Network> {
    let at = |interface: &ServerInterface| {
        let subnet = site.subnets.iter().find(|subnet| subnet.name == interface.subnet)?;
        let address = ipnet::Ipv4Net::new_assert(interface.address, subnet.subnet.prefix_len());
        Some(model::desired::Network {
            name: subnet.name.clone(),
            interface: interface.interface.clone(),
            address,
            gateway: subnet.gateway,
            dns: subnet.dns.clone(),
            domain: subnet.domain.clone(),
            dhcp: if server.primary { subnet.dhcp.clone() } else { Dhcp::Off },
        })
    };
    server.interfaces.iter().filter_map(at).collect()
}

/// What became of a server's document.
#[derive(Debug, Clone, PartialEq)]
pub enum Published {
    /// It says what it said before.
    Unchanged,
    /// It has a new generation number.
    Changed {
        /// The number.
        generation: u64,
    },
    /// The server would refuse it, so that the one before it stays. The operations' checks missed something.
    Faulty {
        /// Why.
        faults: Vec<Fault>,
    },
}

/// Renders a server's document, with this revocation list in PEM, and keeps it, when it says something new.
pub(crate) fn publish(
    tx: Tx<'_>,
    id: Id<Server>,
    revocations: Option<&str>,
    now_ms: u64,
) -> Result<Published, Error> {
    let Some(server) = tx.get(id)? else { return Ok(Published::Unchanged) };
    let mut desired = rendered(tx, &server)?;
    desired.revocation_list_pem = revocations.map(str::to_owned);
    let faults = validate(&desired);
    if !faults.is_empty() {
        // It stays stale, so that the fault is told until it is gone.
        return Ok(Published::Faulty { faults });
    }
    tx.mark_fresh(id)?;
    let before = tx.document(id)?;
    // A panel that was restored from a backup may know less than its servers: an agent refuses a number below its own as late, and
    // what it has by a number that we never gave is not what we think.
    let shown = before.as_ref().and_then(|before| before.status.as_ref());
    let shown = shown.map_or(0, |status| status.generation);
    let told = before.as_ref().map_or(0, |before| before.generation);
    if let Some(before) = before.filter(|_| shown <= told) {
        desired.generation = told;
        if serde_json::to_string(&desired).map_err(Error::Json)? == before.body {
            return Ok(Published::Unchanged);
        }
    }
    desired.generation = told.max(shown) + 1;
    let body = serde_json::to_string(&desired).map_err(Error::Json)?;
    tx.keep_document(id, desired.generation, &body, now_ms)?;
    Ok(Published::Changed { generation: desired.generation })
}

/// A server's document as the store has it in this transaction.
pub(crate) fn rendered(tx: Tx<'_>, server: &Stored<Server>) -> Result<Desired, Error> {
    let site = match server.place {
        Place::Network(network) => Site::read(tx, network)?,
        Place::Panel | Place::Organization(_) => Site::default(),
    };
    let mut desired = render(&site, &server.value, tx.destroys(server.id)?);
    desired.uplinks = tx.uplinks(server.id)?;
    Ok(desired)
}

/// What a server still has to do for its document, as far as that can be seen from what it showed: what it does not show of
/// itself (its name, its resolvers, its DHCP server) is taken to be as the document wants it, and the boots that run are left out.
pub fn to_do(document: &Desired, status: &Status) -> Plan {
    let document = Document::new(document.clone());
    let boots = Boots::default();
    let mut observed = shown(status);
    for step in plan(&document, &boots, &observed).steps {
        match step {
            Step::SetServerName(name) => observed.server = Some(name),
            Step::Lease(cards) => observed.leasing = cards,
            Step::SetResolvers(servers) => observed.resolvers = servers,
            Step::SetTimeServers(servers) => observed.time_servers = servers,
            Step::ConfigureDhcp(config) => observed.dhcp = Some(config),
            _ => {}
        }
    }
    plan(&document, &boots, &observed)
}

/// What a server shows of its machine, as planning takes it.
fn shown(status: &Status) -> Observed {
    Observed {
        links: status.links.clone(),
        disks: status.disks.clone(),
        pools: status.pools.clone(),
        datasets: status.datasets.clone(),
        boot_files: status.boot_files.clone(),
        imports: status.imports.clone(),
        ..Observed::default()
    }
}

/// What a server would do for a document that it would not do for the one it has. What it showed of itself lacks its DHCP server,
/// which is taken to be as the document before wants it, and the boots that run with their exports, which are left out of both.
pub fn about_to_change(before: &Desired, after: &Desired, status: &Status) -> Plan {
    let mut observed = shown(status);
    let boots = Boots::default();
    let known = plan(&Document::new(before.clone()), &boots, &observed);
    observed.dhcp = known.steps.iter().find_map(|step| match step {
        Step::ConfigureDhcp(config) => Some(config.clone()),
        _ => None,
    });
    let mut next = plan(&Document::new(after.clone()), &boots, &observed);
    next.steps.retain(|step| !known.steps.contains(step));
    next.waiting.retain(|waiting| !known.waiting.contains(waiting));
    next
}

#[cfg(test)]
mod tests;
