//! Static addresses: the next free one is offered; one that is taken, or outside the subnet, is refused.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Actor, Error, Panel, Work};
use crate::{
    access::Verb,
    noun::{Id, Noun, Stored, Subnet},
    store::{FieldError, Holder},
};

impl Panel {
    /// The lowest address of a subnet that nobody has, on the whole of its wire; absent when it is full.
    ///
    /// # Errors
    /// There is no such subnet that the actor may see.
    pub fn next_free_address(
        &self,
        actor: Actor,
        subnet: Id<Subnet>,
    ) -> Result<Option<Ipv4Addr>, Error> {
        self.read(actor, |work| subnet.next_free(work))
    }
}

/// The lowest address for a machine that lies in none of the taken spans; they come sorted by their first address.
pub fn first_free(subnet: Ipv4Net, taken: &[(Ipv4Addr, Ipv4Addr)]) -> Option<Ipv4Addr> {
    let (lowest, highest) = (u32::from(subnet.network()), u32::from(subnet.broadcast()));
    let mut candidate = lowest.checked_add(1)?;
    for (first, last) in taken {
        let (first, last) = (u32::from(*first), u32::from(*last));
        if first > candidate {
            break;
        }
        if last >= candidate {
            candidate = last.checked_add(1)?;
        }
    }
    (candidate < highest).then(|| Ipv4Addr::from(candidate))
}

/// What is wrong with giving an address of a subnet to a record.
pub(super) fn check(
    work: Work<'_>,
    subnet: &Stored<Subnet>,
    address: Ipv4Addr,
    to: (Noun, i64),
    field: &str,
) -> Result<Option<FieldError>, Error> {
    let net = subnet.value.subnet;
    if !net.contains(&address) || address == net.network() || address == net.broadcast() {
        let message = format!("{address} is not an address for a machine in {net}");
        return Ok(Some(FieldError::new(field, message)));
    }
    let holder = work.tx.address_holder(subnet.id, address, to)?;
    // A server may be its subnet's gateway; that it keeps out of the range is the agents' own rule.
    let itself = subnet.id.number();
    let holder = holder.filter(|holder| {
        to.0 != Noun::Server || (holder.noun, holder.id) != (Noun::Subnet, itself)
    });
    Ok(holder.map(|holder| {
        let holder = in_words(work, &holder);
        FieldError::new(field, format!("{address} is taken: {holder} has it"))
    }))
}

/// Who has an address, as far as the actor may know: a network that shares the wire may not be theirs to see.
pub(super) fn in_words(work: Work<'_>, holder: &Holder) -> String {
    let Holder { noun, name, network, network_name, .. } = holder;
    if work.allow(Verb::Read, *noun, network.place()).is_err() {
        return "a machine of another network on this LAN".to_owned();
    }
    match noun {
        Noun::Subnet => {
            format!("the subnet {name} of {network_name}, as its gateway or for unknown machines,")
        }
        noun => format!("the {noun} {name} of {network_name}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The law: what is offered is the least host that lies in no span.
        #[test]
        fn the_lowest_address_that_nobody_has_is_offered(
            prefix in 24_u8..=30,
            spans in prop::collection::vec((0_u32..300, 0_u32..40), 0..60),
        ) {
            let subnet = Ipv4Net::new("10.77.0.0".parse().unwrap(), prefix).unwrap();
            let base = u32::from(subnet.network());
            let mut taken: Vec<_> = spans
                .iter()
                .map(|(first, more)| (base + first, base + first + more))
                .map(|(first, last)| (Ipv4Addr::from(first), Ipv4Addr::from(last)))
                .collect();
            taken.sort_unstable();
            let free = |host: &Ipv4Addr| !taken.iter().any(|(a, b)| (a..=b).contains(&host));
            let expected = subnet.hosts().find(free);
            prop_assert_eq!(first_free(subnet, &taken), expected);
        }
    }

    #[test]
    fn the_end_of_the_address_space_is_no_end_of_the_world() {
        let subnet: Ipv4Net = "255.255.255.252/30".parse().unwrap();
        let all = (Ipv4Addr::new(255, 255, 255, 252), Ipv4Addr::BROADCAST);
        assert_eq!(first_free(subnet, &[all]), None);
    }
}
