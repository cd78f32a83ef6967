//! What stands on a site: each is asked of the agents' own validation, and of what the agents can't see from one document.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use model::{
    desired::{self, BootMode, Desired, Dhcp, Interface, Layout, Pool, PoolDisk},
    name::{Mark, NetworkName, PoolName, VolumeName},
};

use super::{
    super::{Error, Work, addresses},
    Kind, faults_below,
    people::limit,
    same,
};
use crate::{
    noun::{
        Device, Group, Id, Menu, Noun, Place, Server, ServerInterface, Stored, Subnet, Vdisk,
        Volume,
    },
    store::{self, FieldError, Record},
};

fn pool(name: &PoolName) -> Pool {
    let disks = vec![PoolDisk { serial: "any".to_owned(), overwrite: false }];
    Pool { name: name.clone(), layout: Layout::Stripe, disks }
}

/// A subnet as a server at this address has it.
fn network(subnet: &Subnet, interface: Interface, address: Ipv4Addr) -> desired::Network {
    desired::Network {
        name: subnet.name.clone(),
        interface,
        address: Ipv4Net::new_assert(address, subnet.subnet.prefix_len()),
        gateway: subnet.gateway,
        dns: subnet.dns.clone(),
        domain: subnet.domain.clone(),
        dhcp: subnet.dhcp.clone(),
    }
}

/// An interface of no machine, for a subnet that is looked at by itself.
fn no_interface() -> Interface {
    Interface::Path("none".to_owned())
}

impl Kind for Subnet {
    fn check(
        &self,
        work: Work<'_>,
        place: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let mut faults = Vec::new();
        if self.subnet != self.subnet.trunc() {
            let message = format!("write the subnet's own address: {}", self.subnet.trunc());
            faults.push(FieldError::new("subnet", message));
        }
        // Looked at from the end of it where the range leaves room for a server.
        let lowest = u32::from(self.subnet.network()).saturating_add(1);
        let highest = u32::from(self.subnet.broadcast()).saturating_sub(1);
        let hosts = [lowest, highest].map(Ipv4Addr::from);
        let in_range = |address: &Ipv4Addr| match self.dhcp {
            Dhcp::Authoritative { first, last } => (first..=last).contains(address),
            Dhcp::Off | Dhcp::Proxy => false,
        };
        let server = hosts.into_iter().find(|host| !in_range(host));
        let server = server.unwrap_or(self.subnet.addr());
        let networks = vec![network(self, no_interface(), server)];
        let alone = Desired { networks, ..Desired::default() };
        for mut fault in faults_below(&alone, "networks[0]") {
            if fault.field == "address" {
                fault.field = "subnet".to_owned();
            }
            faults.push(fault);
        }
        let id = before.map(|before| before.id);
        for other in work.tx.all::<Subnet>(place)? {
            let apart = !self.subnet.contains(&other.value.subnet)
                && !other.value.subnet.contains(&self.subnet);
            if Some(other.id) != id && !apart {
                let message = format!("it overlaps {} of {}", other.value.subnet, other.value.name);
                faults.push(FieldError::new("subnet", message));
            }
        }
        if let (Some(before), true) = (before, faults.is_empty()) {
            faults.extend(self.keeps_what_it_holds(work, before)?);
        }
        Ok(faults)
    }

    fn check_after(&self, work: Work<'_>, id: Id<Self>) -> Result<Vec<FieldError>, Error> {
        let clashes = work.tx.wire_clashes(id)?;
        let told = |(address, holder)| {
            let holder = addresses::in_words(work, &holder);
            FieldError::new(
                "lan",
                format!("on this LAN {address} would stand twice: {holder} has it"),
            )
        };
        Ok(clashes.into_iter().map(told).collect())
    }
}

impl Subnet {
    /// Addresses that are given out must go on to fit: inside the subnet, outside the range, not the gateway's.
    fn keeps_what_it_holds(
        &self,
        work: Work<'_>,
        before: &Stored<Self>,
    ) -> Result<Vec<FieldError>, Error> {
        let mut faults = Vec::new();
        for (address, holder) in work.tx.given_addresses(before.id)? {
            let fits = self.subnet.contains(&address)
                && address != self.subnet.network()
                && address != self.subnet.broadcast();
            let what = format!("the {} {} has {address}", holder.noun, holder.name);
            if !fits {
                faults.push(FieldError::new("subnet", what));
            } else if self.gateway == Some(address) && holder.noun == Noun::Device {
                faults.push(FieldError::new("gateway", what));
            } else if matches!(self.dhcp, Dhcp::Authoritative { first, last } if (first..=last).contains(&address))
            {
                faults.push(FieldError::new("dhcp", what));
            }
            if faults.len() == 10 {
                break;
            }
        }
        Ok(faults)
    }
}

impl Kind for Server {
    fn check(
        &self,
        work: Work<'_>,
        place: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let mut faults = Vec::new();
        let id = before.map_or(0, |before| before.id.number());
        let mut networks = Vec::new();
        for (index, ServerInterface { subnet: name, interface, address }) in
            self.interfaces.iter().enumerate()
        {
            let Some(subnet) = subnet_of(work, place, name)? else {
                let field = format!("interfaces[{index}].subnet");
                faults.push(FieldError::new(field, format!("there is no subnet {name}")));
                continue;
            };
            if subnet.value.subnet.contains(address) {
                networks.push(network(&subnet.value, interface.clone(), *address));
            }
            let field = format!("interfaces[{index}].address");
            faults.extend(addresses::check(work, &subnet, *address, (Noun::Server, id), &field)?);
        }
        let alone = Desired {
            management: self.management.clone(),
            pools: self.pools.clone(),
            networks,
            ..Desired::default()
        };
        faults.extend(faults_below(&alone, "").into_iter().map(|mut fault| {
            fault.field = fault.field.replace("networks[", "interfaces[");
            fault
        }));
        if let Some(before) = before {
            for vdisk in work.tx.all::<Vdisk>(place)? {
                let Vdisk { name, server, pool, .. } = vdisk.value;
                let kept = self.pools.iter().any(|kept| kept.name == pool);
                if server == before.value.name && !kept {
                    let message = format!("the pool {pool} holds the vDisk {name}");
                    faults.push(FieldError::new("pools", message));
                }
            }
        }
        Ok(faults)
    }
}

fn subnet_of(
    work: Work<'_>,
    place: Place,
    name: &NetworkName,
) -> Result<Option<Stored<Subnet>>, store::Error> {
    named(work, place, name.as_str())
}

fn named<T: Record>(
    work: Work<'_>,
    place: Place,
    name: &str,
) -> Result<Option<Stored<T>>, store::Error> {
    match work.tx.find::<T>(place, name)? {
        Some(id) => work.tx.get(id),
        None => Ok(None),
    }
}

const DATA: &str = "its data lies under this name on the servers: make a new one instead";

impl Kind for Volume {
    fn check(
        &self,
        _: Work<'_>,
        _: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let alone = Desired {
            pools: vec![pool(&self.pool)],
            volumes: vec![self.clone()],
            ..Desired::default()
        };
        let mut faults = faults_below(&alone, "volumes[0]");
        same(&mut faults, "name", before.map(|b| &b.value.name), &self.name, DATA);
        same(&mut faults, "pool", before.map(|b| &b.value.pool), &self.pool, DATA);
        if before.is_some_and(|before| before.value.size_bytes > self.size_bytes) {
            faults.push(FieldError::new("size_bytes", "a volume grows and never shrinks"));
        }
        Ok(faults)
    }

    fn mark(&self) -> Option<Mark> {
        Some(Mark::Volume(self.name.clone()))
    }
}

/// A volume of this name, for what is looked at without its own.
fn volume(name: &VolumeName, pool: &PoolName) -> Volume {
    Volume { name: name.clone(), pool: pool.clone(), size_bytes: 1 << 30, source: None }
}

impl Kind for Group {
    fn check(
        &self,
        work: Work<'_>,
        place: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let of = named::<Volume>(work, place, self.volume.as_str())?;
        let volumes = of.iter().map(|of| volume(&of.value.name, &of.value.pool)).collect();
        let alone = Desired { volumes, groups: vec![self.clone()], ..Desired::default() };
        let mut faults = faults_below(&alone, "groups[0]");
        same(&mut faults, "name", before.map(|b| &b.value.name), &self.name, DATA);
        same(&mut faults, "volume", before.map(|b| &b.value.volume), &self.volume, DATA);
        if let Some(before) = before {
            for (device, number) in work.tx.pinned_devices(before.id)? {
                if !self.generations.contains(&number) {
                    let message = format!("the device {device} is pinned to generation {number}");
                    faults.push(FieldError::new("generations", message));
                }
            }
        }
        Ok(faults)
    }

    fn mark(&self) -> Option<Mark> {
        Some(Mark::Group(self.name.clone()))
    }
}

impl Kind for Vdisk {
    fn check(
        &self,
        _: Work<'_>,
        _: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let vdisk = desired::Vdisk {
            name: self.name.clone(),
            pool: self.pool.clone(),
            size_bytes: self.size_bytes,
        };
        let alone =
            Desired { pools: vec![pool(&self.pool)], vdisks: vec![vdisk], ..Desired::default() };
        let mut faults = faults_below(&alone, "vdisks[0]");
        same(&mut faults, "name", before.map(|b| &b.value.name), &self.name, DATA);
        same(&mut faults, "server", before.map(|b| &b.value.server), &self.server, DATA);
        same(&mut faults, "pool", before.map(|b| &b.value.pool), &self.pool, DATA);
        if before.is_some_and(|before| before.value.size_bytes > self.size_bytes) {
            faults.push(FieldError::new("size_bytes", "a vDisk grows and never shrinks"));
        }
        Ok(faults)
    }

    fn mark(&self) -> Option<Mark> {
        Some(Mark::Vdisk(self.name.clone()))
    }
}

impl Kind for Menu {
    fn check(
        &self,
        _: Work<'_>,
        _: Place,
        _: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let alone = Desired { menus: vec![self.clone()], ..Desired::default() };
        Ok(faults_below(&alone, "menus[0]"))
    }
}

impl Kind for Device {
    fn check(
        &self,
        work: Work<'_>,
        place: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error> {
        let mut faults = Vec::new();
        if before.is_none() {
            faults.extend(limit(work, place, Noun::Device)?);
        }
        let subnet = subnet_of(work, place, &self.network)?;
        let mut alone = Desired { devices: vec![self.clone()], ..Desired::default() };
        if let Some(subnet) = &subnet {
            let id = before.map_or(0, |before| before.id.number());
            let who = (Noun::Device, id);
            faults.extend(addresses::check(work, subnet, self.address, who, "address")?);
            // What the subnet says of the address was asked just now.
            let mut plain = network(&subnet.value, no_interface(), subnet.value.subnet.addr());
            plain.dhcp = Dhcp::Off;
            alone.networks.push(plain);
        }
        alone
            .groups
            .extend(named::<Group>(work, place, self.group.as_str())?.map(|group| group.value));
        if let Some(menu) = &self.menu {
            alone.menus.extend(named::<Menu>(work, place, menu.as_str())?.map(|menu| menu.value));
        }
        for used in &self.vdisks {
            if let Some(vdisk) = named::<Vdisk>(work, place, used.vdisk.as_str())? {
                let Vdisk { name, pool, size_bytes, .. } = vdisk.value;
                alone.vdisks.push(desired::Vdisk { name, pool, size_bytes });
            }
        }
        let told = |fault: &FieldError| faults.iter().any(|known| known.field == fault.field);
        let more: Vec<_> =
            faults_below(&alone, "devices[0]").into_iter().filter(|fault| !told(fault)).collect();
        faults.extend(more);
        if let Some(before) = before.filter(|b| b.value.boot_mode == BootMode::Persistent) {
            same(&mut faults, "name", Some(&before.value.name), &self.name, DATA);
        }
        Ok(faults)
    }

    fn mark(&self) -> Option<Mark> {
        Some(Mark::Device(self.name.clone()))
    }
}

impl Id<Subnet> {
    /// The next address of a subnet that nobody has.
    pub(in crate::operations) fn next_free(
        self,
        work: Work<'_>,
    ) -> Result<Option<Ipv4Addr>, Error> {
        let subnet = work.seen(self)?;
        let taken = work.tx.taken_addresses(self)?;
        Ok(addresses::first_free(subnet.value.subnet, &taken))
    }
}
