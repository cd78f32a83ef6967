//! Who may open a connection to what on a tunnel, by our chains of iptables(8): forwarded ports are the broker's alone, root's neither;
//! servers' users and `join` open no connection at all; the API is the panel's; of all other ports SSH alone is public.
//!
//! What belongs to a connection that is open passes, told from what opens one by its flags: there is no conntrack.

use std::{net::IpAddr, time::Duration};

use host::{
    iptables::{self, Chains, Family, Loopback, Owner, Protocol, Rule, Verdict},
    seam::chain,
};
use ipnet::{IpNet, Ipv4Net};
use model::tunnel::{ForwardPort, Table};
use tokio::sync::watch;

use crate::users::JOIN_UID;

/// How long somebody's flush may go unnoticed.
pub const PERIOD: Duration = Duration::from_secs(2);

/// What the chains say while the broker is this user. Without a table the tunnel is not paired, and everybody may try.
pub fn chains(broker: u32, api_port: u16, ssh_port: u16, table: Option<&Table>) -> Chains {
    let (_, last) = ForwardPort::uids();
    let outsiders = Some(Owner::Is(JOIN_UID, last));
    let forwarded = Protocol::TcpOpening { ports: Some((ForwardPort::FIRST, ForwardPort::LAST)) };
    let api = Protocol::Tcp { ports: (api_port, api_port) };
    let ssh = Protocol::Tcp { ports: (ssh_port, ssh_port) };
    let opening = Protocol::TcpOpening { ports: None };

    let panel: &[IpNet] = table.map(|table| table.panel.as_slice()).unwrap_or_default();
    let mut input = vec![rule(ssh, Verdict::Return)];
    if panel.is_empty() {
        input.push(rule(api, Verdict::Return));
    }
    input.extend(
        panel.iter().map(|net| Rule { source: Some(plain(*net)), ..rule(api, Verdict::Return) }),
    );
    input.push(rule(api, Verdict::Reject));
    input.push(Rule { loopback: Some(Loopback::Beside), ..rule(opening, Verdict::Reject) });
    let output = vec![
        Rule {
            loopback: Some(Loopback::Over),
            owner: Some(Owner::IsNot(broker)),
            ..rule(forwarded, Verdict::Reject)
        },
        Rule { owner: outsiders, ..rule(opening, Verdict::Reject) },
        Rule { owner: outsiders, ..rule(Protocol::NotTcp, Verdict::Reject) },
    ];
    Chains { input, output }
}

/// Whether the panel, which comes from this address, could come no more once the API is open to these alone.
pub fn shuts_out(panel: &[IpNet], from: IpAddr) -> bool {
    !panel.is_empty() && !panel.iter().any(|net| plain(*net).contains(&from.to_canonical()))
}

/// IPv4 for what a socket of both families calls `::ffff:192.0.2.7` (RFC 4291, 2.5.5.2): on the wire it is IPv4.
fn plain(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    v4.map_or(net, IpNet::V4)
}

fn rule(protocol: Protocol, verdict: Verdict) -> Rule {
    Rule { source: None, loopback: None, protocol, owner: None, verdict }
}

/// Keeps the machine's chains at what is asked for, whoever changes them, and tells in words what can't be kept. It ends when nobody
/// asks any more; the chains stay.
pub async fn keep(mut wanted: watch::Receiver<Chains>, faults: watch::Sender<Vec<String>>) {
    loop {
        let chains = wanted.borrow_and_update().clone();
        let found = ensure(&chains).await;
        faults.send_if_modified(|faults| {
            if *faults == found {
                return false;
            }
            *faults = found;
            true
        });
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Puts the chains in place where they are not, and tells in words what can't be.
pub async fn ensure(chains: &Chains) -> Vec<String> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        match iptables::apply(chains, family).await {
            Ok(false) => {}
            Ok(true) => tracing::info!(%family, "the tunnel's rules were put in place"),
            Err(error) => found.push(chain(&error)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_shut_out_who_is_none_of_them() {
        let nets = |texts: &[&str]| -> Vec<IpNet> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let from = "192.0.2.7".parse().unwrap();
        assert!(!shuts_out(&[], from));
        for (list, out) in [
            (["192.0.2.0/24", "2001:db8::/32"], false),
            (["::ffff:192.0.2.0/120", "198.51.100.1/32"], false),
            (["198.51.100.0/24", "2001:db8::/32"], true),
        ] {
            assert_eq!(shuts_out(&nets(&list), from), out, "{list:?}");
            assert_eq!(shuts_out(&nets(&list), "::ffff:192.0.2.7".parse().unwrap()), out);
        }
    }

    #[test]
    fn before_pairing_the_api_is_open_and_afterwards_to_the_panel_alone() {
        let to_api = |table: Option<&Table>| -> Vec<_> {
            let rules = chains(500, 8444, 22, table).input.into_iter();
            let api = rules.filter(|rule| rule.protocol == Protocol::Tcp { ports: (8444, 8444) });
            api.map(|rule| (rule.source, rule.verdict)).collect()
        };
        let open = vec![(None, Verdict::Return), (None, Verdict::Reject)];
        assert_eq!(to_api(None), open);
        assert_eq!(to_api(Some(&Table::default())), open);
        let panel: IpNet = "192.0.2.7/32".parse().unwrap();
        let table = Table { panel: vec![panel], ..Table::default() };
        assert_eq!(to_api(Some(&table)), [(Some(panel), Verdict::Return), (None, Verdict::Reject)]);
    }
    #[test]
    fn a_panel_that_a_socket_of_both_families_saw_over_ipv4_is_let_in_over_ipv4() {
        for (seen, wanted) in [
            ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("2001:db8::7/128", "2001:db8::7/128"),
            ("::/0", "::/0"),
            ("192.0.2.7/32", "192.0.2.7/32"),
        ] {
            assert_eq!(plain(seen.parse().unwrap()), wanted.parse().unwrap(), "{seen}");
        }
    }
}
