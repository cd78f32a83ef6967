//! Planning of what the server needs for itself: its name, leased addresses, name service and clock.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{Planner, machine::find};
use crate::{
    desired::{Interface, Management, Network},
    name::Mac,
    observed::Link,
    step::{Resource, Step},
    validate::RESOLVERS,
};

impl Planner<'_> {
    /// Names the server as the document says; without a name it keeps the one it has.
    pub(super) fn server_name(&mut self) {
        if let Some(name) = &self.desired.server
            && self.observed.server.as_ref() != Some(name)
        {
            self.step(Step::SetServerName(name.clone()));
        }
    }

    /// Asks for addresses by DHCP where the management interface has none of its own, and without a management interface on
    /// every card that serves no network. Never on one that does, or may: there the server's address is what devices boot from.
    pub(super) fn leases(&mut self) {
        let serving: BTreeSet<Mac> = self.serving().map(|link| link.mac).collect();
        let idle = self.observed.links.iter().filter(|link| !serving.contains(&link.mac));
        let idle = idle.filter(|link| !self.may_be_sought(link));
        let wanted: BTreeSet<Mac> = match &self.desired.management {
            None => idle.map(|link| link.mac).collect(),
            Some(Management { address: Some(_), .. }) => BTreeSet::new(),
            Some(Management { interface, .. }) => {
                let named = find(&self.observed.links, interface).map(|link| link.mac);
                let free = named.filter(|mac| !serving.contains(mac));
                if free.is_none() {
                    self.wait(
                        Resource::Leases,
                        "the management interface is not there, or it serves devices and needs an address of its own",
                    );
                }
                free.into_iter().collect()
            }
        };
        let leased = |link: &Link| wanted.contains(&link.mac) && link.lease.is_some();
        // A card without an answer is nothing to wait for where the server has another address.
        let alone = self.desired.management.is_some() || self.desired.networks.is_empty();
        if alone && self.observed.links.is_empty() {
            self.wait(Resource::Leases, "this server has no network card yet");
        } else if alone && !wanted.is_empty() && !self.observed.links.iter().any(leased) {
            self.wait(Resource::Leases, "no DHCP server has answered yet");
        }
        if self.observed.leasing != wanted {
            self.step(Step::Lease(wanted));
        }
    }

    /// The interfaces of the networks.
    fn serving(&self) -> impl Iterator<Item = &Link> {
        let networks = self.desired.networks.iter();
        networks.filter_map(|network| find(&self.observed.links, &network.interface))
    }

    /// A card whose place udev has not told yet may be the one that a network names by its place.
    fn may_be_sought(&self, link: &Link) -> bool {
        let sought = |network: &Network| {
            matches!(network.interface, Interface::Path(_))
                && find(&self.observed.links, &network.interface).is_none()
        };
        link.path.is_none() && self.desired.networks.iter().any(sought)
    }

    /// Names from the servers of the document, else from those of the leases.
    pub(super) fn name_service(&mut self) {
        let wanted = match &self.desired.management {
            Some(management) if !management.dns.is_empty() => management.dns.clone(),
            _ => self.leased_resolvers(),
        };
        if self.observed.resolvers != wanted {
            self.step(Step::SetResolvers(wanted));
        }
    }

    fn leased_resolvers(&self) -> Vec<Ipv4Addr> {
        let mut servers = Vec::new();
        for lease in self.observed.links.iter().filter_map(|link| link.lease.as_ref()) {
            servers.extend(lease.dns.iter().copied());
        }
        let mut known = BTreeSet::new();
        servers.retain(|server| known.insert(*server));
        servers.truncate(RESOLVERS);
        servers
    }

    /// Time from the servers of the document.
    pub(super) fn clock(&mut self) {
        let wanted = self.desired.management.as_ref().map(|m| m.ntp.clone()).unwrap_or_default();
        if self.observed.time_servers != wanted || self.observed.clock_stopped {
            self.step(Step::SetTimeServers(wanted));
        }
    }
}
