//! What the management interface must hold beyond its types.

use super::Check;
use crate::desired::Management;

/// The most name servers that the C library asks (`MAXNS`, resolv.conf(5)).
pub const RESOLVERS: usize = 3;
/// The most time servers that a document may name.
const TIME_SERVERS: usize = 8;

impl Check<'_> {
    pub(super) fn management(&mut self) {
        let desired = self.desired;
        let Some(Management { interface, address, gateway, dns, ntp }) = &desired.management else {
            return;
        };
        let serves = desired.networks.iter().any(|network| network.interface == *interface);
        self.require(
            address.is_some() || !serves,
            "management.address",
            "this interface serves a network: give an address, the server does not ask for one by DHCP there",
        );
        self.require(
            address.is_some() || gateway.is_none(),
            "management.gateway",
            "without an address of its own, the server takes the gateway from DHCP as well",
        );
        for (list, servers, most) in [("dns", dns, RESOLVERS), ("ntp", ntp, TIME_SERVERS)] {
            let message = format!("give {most} servers at the most");
            self.require(servers.len() <= most, format_args!("management.{list}"), message);
            for (i, server) in servers.iter().enumerate() {
                self.require(
                    !server.is_unspecified() && !server.is_multicast() && !server.is_broadcast(),
                    format_args!("management.{list}[{i}]"),
                    format!("{server} is not the address of a machine"),
                );
            }
        }
    }
}
