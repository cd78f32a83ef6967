//! Planning of the machine around the storage tree: interfaces, pools and dnsmasq.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::Planner;
use crate::{
    desired::{Dhcp, Interface, Network, Pool},
    observed::{Disk, DiskContents, Link},
    step::{DhcpConfig, DhcpHost, DhcpNetwork, Resource, Step},
};

impl Planner<'_> {
    /// Gives the interfaces that the document names their addresses, and takes every other address off them.
    pub(super) fn links(&mut self) {
        let mut wanted: Vec<(&Interface, BTreeSet<Ipv4Net>, Option<Ipv4Addr>)> = Vec::new();
        let management = self
            .desired
            .management
            .iter()
            .filter_map(|m| Some((&m.interface, m.address?, m.gateway)));
        let networks = self.desired.networks.iter().map(|n| (&n.interface, n.address, None));
        for (interface, address, gateway) in management.chain(networks) {
            match wanted.iter_mut().find(|(known, ..)| *known == interface) {
                Some((_, addresses, known)) => {
                    addresses.insert(address);
                    *known = known.or(gateway);
                }
                None => wanted.push((interface, BTreeSet::from([address]), gateway)),
            }
        }
        for (interface, addresses, gateway) in wanted {
            let Some(link) = find(&self.observed.links, interface) else {
                let (resource, text) = match interface {
                    Interface::Mac(mac) => (Resource::Link(*mac), mac.to_string()),
                    Interface::Path(path) => (Resource::Dhcp, path.clone()),
                };
                self.wait(resource, format!("this server has no network interface {text}; see the list of its interfaces"));
                continue;
            };
            let add: BTreeSet<_> = addresses.difference(&link.addresses).copied().collect();
            let remove: BTreeSet<_> = link.addresses.difference(&addresses).copied().collect();
            let gateway = gateway.filter(|gateway| link.gateway != Some(*gateway));
            if !add.is_empty() || !remove.is_empty() || !link.up || gateway.is_some() {
                let mac = link.mac;
                self.step(Step::SetLink { mac, add, remove, gateway });
            }
        }
    }

    /// Imports or makes the pools. What stands on a disk and is not the named pool is never overwritten unless the document
    /// says so for that disk.
    pub(super) fn pools(&mut self) {
        let desired = self.desired;
        for pool in &desired.pools {
            if self.observed.pools.contains_key(&pool.name) {
                continue;
            }
            if let Err(reason) = self.pool(pool) {
                self.wait(Resource::Pool(pool.name.to_string()), reason);
            }
        }
    }

    fn pool(&mut self, pool: &Pool) -> Result<(), String> {
        let member = |disk: &Disk| disk.contents == DiskContents::Pool(pool.name.to_string());
        let mut disks = Vec::new();
        let mut missing = Vec::new();
        for wanted in &pool.disks {
            match self
                .observed
                .disks
                .iter()
                .find(|disk| disk.serial.as_deref() == Some(&wanted.serial))
            {
                Some(disk) => disks.push((disk, wanted.overwrite)),
                None => missing.push(wanted.serial.as_str()),
            }
        }
        if disks.iter().any(|(disk, _)| member(disk)) {
            let importable =
                self.observed.importable.iter().find(|found| found.name == pool.name.as_str());
            return match importable {
                Some(found) if found.ready => {
                    self.step(Step::ImportPool { pool: pool.name.clone(), guid: found.guid });
                    Ok(())
                }
                Some(_) => {
                    Err("ZFS can't import the pool as it stands: too many of its disks are missing"
                        .to_owned())
                }
                None => {
                    Err("the pool's disks are here, but ZFS does not offer it for import"
                        .to_owned())
                }
            };
        }
        if !missing.is_empty() {
            return Err(format!("no disk here has the serial number {}", missing.join(", ")));
        }
        let mut overwrite = Vec::new();
        for (disk, allowed) in &disks {
            let what = match &disk.contents {
                DiskContents::Blank => continue,
                DiskContents::Begun(begun) if *begun == pool.name => {
                    overwrite.push(disk.path.clone());
                    continue;
                }
                DiskContents::Begun(other) => {
                    format!("what is left of the pool {other}, which was begun here")
                }
                DiskContents::Pool(other) => format!("a member of the ZFS pool {other}"),
                DiskContents::Foreign(what) => what.clone(),
            };
            if !allowed {
                return Err(format!(
                    "the disk {} holds data that is not ours ({what}); choose another disk, or allow this one to be overwritten",
                    disk.serial.as_deref().unwrap_or(&disk.path),
                ));
            }
            overwrite.push(disk.path.clone());
        }
        let disks = disks.into_iter().map(|(disk, _)| disk.path.clone()).collect();
        self.step(Step::CreatePool {
            pool: pool.name.clone(),
            layout: pool.layout,
            disks,
            overwrite,
        });
        Ok(())
    }

    /// Brings dnsmasq to the networks' configuration.
    pub(super) fn dhcp(&mut self) {
        let networks: Vec<DhcpNetwork> =
            self.desired.networks.iter().filter_map(|network| self.dhcp_network(network)).collect();
        match (&self.observed.dhcp, networks.is_empty()) {
            (None, true) => {}
            (Some(_), true) => self.step(Step::StopDhcp),
            (current, false) => {
                let wanted = DhcpConfig { networks };
                if current.as_ref() != Some(&wanted) {
                    self.step(Step::ConfigureDhcp(wanted));
                }
            }
        }
    }

    fn dhcp_network(&self, network: &Network) -> Option<DhcpNetwork> {
        let range = match network.dhcp {
            Dhcp::Off => return None,
            Dhcp::Proxy => None,
            Dhcp::Authoritative { first, last } => Some((first, last)),
        };
        let devices = self
            .desired
            .devices
            .iter()
            .filter(|device| range.is_some() && device.network == network.name);
        Some(DhcpNetwork {
            name: network.name.clone(),
            interface: find(&self.observed.links, &network.interface)?.name.clone(),
            server: network.address,
            gateway: network.gateway,
            dns: network.dns.clone(),
            domain: network.domain.clone(),
            range,
            hosts: devices
                .map(|device| DhcpHost {
                    macs: device.macs.clone(),
                    name: device.name.clone(),
                    address: device.address,
                })
                .collect(),
        })
    }
}

pub(super) fn find<'a>(links: &'a [Link], interface: &Interface) -> Option<&'a Link> {
    links.iter().find(|link| link.is(interface))
}
