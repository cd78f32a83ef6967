use std::fs;

use model::step::{DhcpHost, DhcpNetwork};

use super::*;

fn network(name: &str) -> DhcpNetwork {
    DhcpNetwork {
        name: name.parse().unwrap(),
        interface: "enp0s3".to_owned(),
        server: "10.77.0.1/24".parse().unwrap(),
        gateway: Some("10.77.0.254".parse().unwrap()),
        dns: vec!["9.9.9.9".parse().unwrap(), "1.1.1.1".parse().unwrap()],
        domain: Some("lab.example".to_owned()),
        range: Some(("10.77.0.200".parse().unwrap(), "10.77.0.250".parse().unwrap())),
        hosts: vec![DhcpHost {
            macs: vec!["52:54:00:00:00:01".parse().unwrap(), "52:54:00:00:00:02".parse().unwrap()],
            name: "pc-01".parse().unwrap(),
            address: "10.77.0.10".parse().unwrap(),
        }],
    }
}

fn bare() -> DhcpNetwork {
    DhcpNetwork { gateway: None, dns: vec![], domain: None, hosts: vec![], ..network("bare") }
}

fn proxied() -> DhcpNetwork {
    DhcpNetwork { range: None, interface: "enp0s4".to_owned(), ..network("site") }
}

fn many() -> DhcpConfig {
    let host = |n: u8| DhcpHost {
        macs: vec![format!("52:54:00:00:01:{n:02x}").parse().unwrap()],
        name: format!("pc-{n}").parse().unwrap(),
        address: std::net::Ipv4Addr::new(10, 77, 0, n),
    };
    DhcpConfig {
        networks: vec![DhcpNetwork { hosts: (10..200).map(host).collect(), ..network("lab") }],
    }
}

#[test]
fn files_are_as_the_golden_ones_and_read_back() {
    for (name, networks) in [
        ("authoritative", vec![network("lab")]),
        ("bare", vec![bare()]),
        ("proxy", vec![proxied()]),
        ("both", vec![network("lab"), proxied()]),
    ] {
        let config = DhcpConfig { networks };
        let text = render(&config, &Paths::default()).unwrap();
        let path = format!("{}/testdata/dnsmasq/{name}.conf", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(text, fs::read_to_string(path).unwrap(), "{name}");
        assert_eq!(parse(&text, &Paths::default()), Some(config), "{name}");
    }
}

#[test]
fn a_file_with_any_line_changed_or_gone_is_not_ours() {
    let config = DhcpConfig { networks: vec![network("lab"), proxied()] };
    let text = render(&config, &Paths::default()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for gone in 0..lines.len() {
        let mut rest = lines.clone();
        rest.remove(gone);
        assert_eq!(parse(&(rest.join("\n") + "\n"), &Paths::default()), None, "line {gone}");
    }
    assert_eq!(parse(&format!("{text}dhcp-script=/bin/sh\n"), &Paths::default()), None);
    let elsewhere = Paths { user: "root".to_owned(), ..Paths::default() };
    assert_eq!(parse(&text, &elsewhere), None);
}

#[test]
fn no_line_is_longer_than_dnsmasq_reads() {
    let config = many();
    let text = render(&config, &Paths::default()).unwrap();
    assert!(text.lines().all(|line| line.len() <= 1024));
    assert_eq!(parse(&text, &Paths::default()), Some(config));
    let mut one = network("lab");
    one.hosts[0].macs =
        (0..60).map(|n| format!("52:54:00:00:02:{n:02x}").parse().unwrap()).collect();
    let error = render(&DhcpConfig { networks: vec![one] }, &Paths::default()).unwrap_err();
    assert!(matches!(error, Error::LineTooLong { bytes, .. } if bytes > 1024));
}

#[test]
fn texts_that_would_be_other_lines_or_other_options_are_refused() {
    for bad in ["lab\ndhcp-script=/bin/sh", "lab,x", "", "-lab", "lab..example", "läb", "a b"] {
        let one = DhcpNetwork { domain: Some(bad.to_owned()), ..network("lab") };
        let error = render(&DhcpConfig { networks: vec![one] }, &Paths::default()).unwrap_err();
        assert!(matches!(error, Error::Text { what: "domain", text, .. } if text == bad));
    }
    for bad in ["eth0\nuser=root", "eth*", "", "eth0,eth1", "an-interface-name"] {
        let one = DhcpNetwork { interface: bad.to_owned(), ..network("lab") };
        let error = render(&DhcpConfig { networks: vec![one] }, &Paths::default()).unwrap_err();
        assert!(matches!(error, Error::Text { what: "interface", text, .. } if text == bad));
    }
}

#[tokio::test]
async fn dnsmasq_takes_what_is_rendered_and_refuses_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let dnsmasq = Dnsmasq::new(folder.path().join("dnsmasq.conf"), Paths::default());
    for config in [many(), DhcpConfig { networks: vec![network("lab"), bare(), proxied()] }] {
        dnsmasq.test(&render(&config, &Paths::default()).unwrap()).await.unwrap();
    }
    let error = dnsmasq.test("dhcp-range=nonsense\n").await.unwrap_err();
    assert!(matches!(error, Error::Refused(cmd::Error::Status { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no candidate is left");
}
