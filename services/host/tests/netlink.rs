//! Interfaces for real, in a network namespace that ends with the test.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod namespace;

use std::{collections::BTreeSet, fs};

use host::netlink::{Error, Netlink};
use ipnet::Ipv4Net;
use model::{name::Mac, observed::Link};
use namespace::{inside, ip};

fn mac() -> Mac {
    "52:54:00:00:00:01".parse().unwrap()
}

fn nets(texts: &[&str]) -> BTreeSet<Ipv4Net> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn link() -> Link {
    let links = Netlink::default().observe().await.unwrap();
    links.into_iter().find(|link| link.mac == mac()).unwrap()
}

#[tokio::test]
async fn an_interface_is_found_by_its_address_and_brought_to_what_is_asked() {
    if !inside("an_interface_is_found_by_its_address_and_brought_to_what_is_asked") {
        return;
    }
    ip(
        "link add card0 address 52:54:00:00:00:01 type veth peer name far0 address 52:54:00:00:00:02",
    );
    ip("link add bridge0 type bridge");
    let names: Vec<String> =
        Netlink::default().observe().await.unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(names, ["card0", "far0"]);
    let before = link().await;
    assert!(!before.up && !before.carrier && before.addresses.is_empty());

    let wanted = nets(&["10.77.0.1/24", "10.77.0.2/24", "192.168.9.1/16"]);
    Netlink::default().set_link(mac(), &wanted, &BTreeSet::new(), None).await.unwrap();
    ip("link set far0 up");
    let after = link().await;
    assert_eq!((after.addresses, after.up, after.carrier), (wanted.clone(), true, true));

    // The second time nothing is written: the kernel would refuse the same address twice.
    Netlink::default().set_link(mac(), &wanted, &nets(&["10.1.1.1/8"]), None).await.unwrap();
    assert_eq!(link().await.addresses, wanted);

    // The first address of a subnet takes the second with it, unless that is put back.
    let kept = nets(&["10.77.0.2/24", "192.168.9.1/16"]);
    Netlink::default().set_link(mac(), &kept, &nets(&["10.77.0.1/24"]), None).await.unwrap();
    assert_eq!(link().await.addresses, kept);

    // Renamed, it is still found.
    ip("link set card0 down");
    ip("link set card0 name other0");
    Netlink::default().set_link(mac(), &kept, &BTreeSet::new(), None).await.unwrap();
    let renamed = link().await;
    assert_eq!((renamed.name.as_str(), renamed.up), ("other0", true));
}

#[tokio::test]
async fn the_default_gateway_is_that_of_the_lowest_metric() {
    if !inside("the_default_gateway_is_that_of_the_lowest_metric") {
        return;
    }
    ip("link add card0 address 52:54:00:00:00:01 type veth peer name far0");
    ip("link set far0 up");
    Netlink::default()
        .set_link(mac(), &nets(&["10.77.0.1/24"]), &BTreeSet::new(), None)
        .await
        .unwrap();
    assert_eq!(link().await.gateway, None);
    ip("route add 10.99.0.0/16 via 10.77.0.9");
    assert_eq!(link().await.gateway, None);
    ip("route add default via 10.77.0.253 metric 300");
    ip("route add default via 10.77.0.254 metric 100");
    assert_eq!(link().await.gateway, Some("10.77.0.254".parse().unwrap()));
}

#[tokio::test]
async fn a_default_gateway_is_set_once_and_replaced_by_another() {
    if !inside("a_default_gateway_is_set_once_and_replaced_by_another") {
        return;
    }
    ip("link add card0 address 52:54:00:00:00:01 type veth peer name far0");
    ip("link set far0 up");
    for gateway in ["10.77.0.254", "10.77.0.254", "10.77.0.253"] {
        let gateway = Some(gateway.parse().unwrap());
        let wanted = nets(&["10.77.0.1/24"]);
        Netlink::default().set_link(mac(), &wanted, &BTreeSet::new(), gateway).await.unwrap();
        assert_eq!(link().await.gateway, gateway);
    }
}

#[tokio::test]
async fn an_address_that_none_or_two_interfaces_have_is_refused() {
    if !inside("an_address_that_none_or_two_interfaces_have_is_refused") {
        return;
    }
    let none = BTreeSet::new();
    let error = Netlink::default().set_link(mac(), &none, &none, None).await.unwrap_err();
    assert!(matches!(error, Error::NoLink(missing) if missing == mac()));
    for number in [0, 1] {
        ip(&format!("link add card{number} address {} type veth peer name far{number}", mac()));
    }
    let error = Netlink::default().set_link(mac(), &none, &none, None).await.unwrap_err();
    assert!(matches!(error, Error::Ambiguous { names, .. } if names == ["card0", "card1"]));
}

#[tokio::test]
async fn the_path_comes_from_udevs_data() {
    if !inside("the_path_comes_from_udevs_data") {
        return;
    }
    ip("link add card0 index 41 address 52:54:00:00:00:01 type veth peer name far0");
    let udev = tempfile::tempdir().unwrap();
    fs::File::create(udev.path().join("n41")).unwrap();
    let observe = || async {
        let links = Netlink::new(udev.path()).observe().await.unwrap();
        links.into_iter().find(|link| link.mac == mac()).unwrap().path
    };
    assert_eq!(observe().await, None);
    host::files::write_atomic(
        &udev.path().join("n41"),
        b"I:2043413\nE:ID_BUS=pci\nE:ID_PATH=pci-0000:00:03.0\nE:ID_PATH_TAG=pci-0000_00_03_0\nV:1\n",
        0o644,
    )
    .unwrap();
    assert_eq!(observe().await.as_deref(), Some("pci-0000:00:03.0"));
}
