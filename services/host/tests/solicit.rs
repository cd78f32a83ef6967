//! A machine that asks for an IPv6 router, in a network namespace that ends with the test.

mod namespace;

use std::{net::SocketAddrV6, time::Duration};

use host::solicit::Listener;
use namespace::{inside, ip};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, netdevice, recvfrom,
    sendto, socket_with, sockopt,
};

#[tokio::test]
async fn a_machine_that_asks_for_a_router_hears_at_once_that_there_is_none() {
    if !inside("a_machine_that_asks_for_a_router_hears_at_once_that_there_is_none") {
        return;
    }
    ip("link add card0 type veth peer name far0");
    for (name, address) in [("card0", "fe80::1"), ("far0", "fe80::2")] {
        ip(&format!("addr add {address}/64 dev {name} nodad"));
        ip(&format!("link set {name} up"));
    }
    let listener = Listener::open().unwrap();
    listener.join("card0").unwrap();
    listener.join("card0").unwrap();

    let far = socket_with(
        AddressFamily::INET6,
        SocketType::RAW,
        SocketFlags::NONBLOCK,
        Some(ipproto::ICMPV6),
    )
    .unwrap();
    sockopt::set_ipv6_multicast_hops(&far, 255).unwrap();
    let index = netdevice::name_to_index(&far, "far0").unwrap();
    let routers = SocketAddrV6::new("ff02::2".parse().unwrap(), 0, 0, index);
    let solicitation = [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0, 0xcd, 1, 0x0a];
    sendto(&far, &solicitation, SendFlags::empty(), &routers).unwrap();

    let asked = async {
        loop {
            let asked = listener.next().await.unwrap();
            // The kernel asks on its own interface as well.
            if asked.mac.to_string() == "52:54:00:cd:01:0a" {
                return asked;
            }
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap();
    assert_eq!(asked.from.ip().to_string(), "fe80::2");
    listener.answer(&asked).unwrap();

    let answer = async {
        loop {
            let mut packet = [0; 64];
            match recvfrom(&far, &mut packet, RecvFlags::empty()) {
                Ok((length, _, _)) if packet[0] == 134 => return packet[..length].to_vec(),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap();
    assert_eq!(answer.len(), 16, "no option");
    assert_eq!(answer[5..8], [0, 0, 0], "neither DHCPv6 nor a router");
}
