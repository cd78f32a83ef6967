//! Typed configuration to dnsmasq's file, and back. Every text of the configuration is checked here before it is written.

use std::{fmt::Write as _, path::PathBuf};

use model::{
    name::NetworkName,
    step::{DhcpConfig, DhcpHost, DhcpNetwork},
};

use super::{Error, Result};

/// What begins the lines that carry the typed configuration.
const TYPED: &str = "#= ";

/// dnsmasq reads a line into a buffer of 1,025 bytes (MAXDNAME in its source).
const LINE_BYTES: usize = 1024;

/// Time that an address from the range is lent for.
const LEASE: &str = "1h";

/// Processor architectures as firmware names them (DHCP option 93, IANA's "Processor Architecture Types"), the file for
/// each, and how it is fetched. 7 is what RFC 4578 meant for EFI byte code and firmware uses for x64; 9 is x64 by the registry.
const CLIENTS: &[Client] = &[
    Client { tag: "bios", architectures: &[0], file: "undionly.kpxe", http: false },
    Client { tag: "efi-x64", architectures: &[7, 9], file: "ipxe-x86_64.efi", http: false },
    Client { tag: "efi-arm64", architectures: &[11], file: "ipxe-arm64.efi", http: false },
    Client { tag: "http-x64", architectures: &[16], file: "ipxe-x86_64.efi", http: true },
    Client { tag: "http-arm64", architectures: &[19], file: "ipxe-arm64.efi", http: true },
];

struct Client {
    tag: &'static str,
    architectures: &'static [u16],
    file: &'static str,
    http: bool,
}

/// Where dnsmasq finds and keeps its files, and whom it runs as.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Folder that TFTP shows.
    pub tftp: PathBuf,
    /// File of the leases; it should outlive a restart of the machine, since addresses are not probed before use.
    pub leases: PathBuf,
    /// The user it becomes.
    pub user: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            tftp: "/run/clusterducks/tftp".into(),
            leases: "/data/agent/dnsmasq.leases".into(),
            user: "dnsmasq".to_owned(),
        }
    }
}

/// The whole file for a configuration.
pub fn render(config: &DhcpConfig, paths: &Paths) -> Result<String> {
    for network in &config.networks {
        check(network)?;
    }
    let mut text = String::new();
    typed(config, &mut text);
    head(config, paths, &mut text);
    for network in &config.networks {
        if network.range.is_some() {
            authoritative(network, &mut text)?;
        } else {
            proxy(network, &mut text);
        }
    }
    Ok(text)
}

/// The configuration that a file was rendered from; `None` when rendering it again does not give the same bytes.
pub fn parse(text: &str, paths: &Paths) -> Option<DhcpConfig> {
    let json: String = text.lines().map_while(|line| line.strip_prefix(TYPED)).collect();
    let config = serde_json::from_str(&json).ok()?;
    (render(&config, paths).ok()? == text).then_some(config)
}

fn typed(config: &DhcpConfig, text: &mut String) {
    let json = serde_json::to_string(config).expect("names, numbers and lists are always JSON");
    // Checked texts are ASCII, so that any place is fit for a cut.
    for piece in json.as_bytes().chunks(LINE_BYTES - TYPED.len() - 1) {
        line(text, format_args!("{TYPED}{}", String::from_utf8_lossy(piece)));
    }
}

fn head(config: &DhcpConfig, paths: &Paths, text: &mut String) {
    line(text, "port=0");
    line(text, "no-hosts");
    line(text, "no-resolv");
    line(text, format_args!("user={}", paths.user));
    line(text, "bind-dynamic");
    line(text, "except-interface=lo");
    for network in &config.networks {
        line(text, format_args!("interface={}", network.interface));
    }
    line(text, "log-dhcp");
    line(text, format_args!("dhcp-leasefile={}", paths.leases.display()));
    if config.networks.iter().any(|network| network.range.is_some()) {
        line(text, "dhcp-authoritative");
        // A probe of an address for a stranger holds the answers to all others up for three seconds.
        line(text, "no-ping");
    }
    line(text, "enable-tftp");
    line(text, format_args!("tftp-root={}", paths.tftp.display()));
    line(text, "tftp-max=1000");
    // Without it, proxy mode answers none that says HTTPClient where PXE says PXEClient.
    line(text, "dhcp-pxe-vendor=PXEClient,HTTPClient");
    line(text, "dhcp-match=set:ipxe,175");
    line(text, "dhcp-userclass=set:ipxe,iPXE");
    for client in CLIENTS {
        for architecture in client.architectures {
            line(
                text,
                format_args!("dhcp-match=set:{},option:client-arch,{architecture}", client.tag),
            );
        }
    }
}

/// A network's tag; the prefix keeps it apart from the tags of clients.
fn tag(name: &NetworkName) -> String {
    format!("net-{name}")
}

fn authoritative(network: &DhcpNetwork, text: &mut String) -> Result<()> {
    let (tag, server) = (tag(&network.name), network.server);
    let Some((first, last)) = network.range else { return Ok(()) };
    line(text, format_args!("dhcp-range=set:{tag},{first},{last},{},{LEASE}", server.netmask()));
    // An option without a value keeps dnsmasq from naming itself.
    match network.gateway {
        Some(gateway) => line(text, format_args!("dhcp-option=tag:{tag},option:router,{gateway}")),
        None => line(text, format_args!("dhcp-option=tag:{tag},option:router")),
    }
    if !network.dns.is_empty() {
        let dns: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
        line(text, format_args!("dhcp-option=tag:{tag},option:dns-server,{}", dns.join(",")));
    }
    if let Some(domain) = &network.domain {
        line(text, format_args!("dhcp-option=tag:{tag},option:domain-name,{domain}"));
    }
    // iPXE's no-pxedhcp: it waits two seconds for another server's boot file otherwise.
    line(text, format_args!("dhcp-option=tag:{tag},tag:ipxe,encap:175,176,1b"));
    boot_by_http(network, &tag, text);
    // Firmware takes no offer for HTTP boot that does not say HTTPClient back (UEFI specification, 24.7); in proxy mode
    // dnsmasq does so by itself.
    for client in CLIENTS.iter().filter(|client| client.http) {
        line(text, format_args!("dhcp-option-force=tag:{tag},tag:{},60,HTTPClient", client.tag));
    }
    for client in CLIENTS.iter().filter(|client| !client.http) {
        line(
            text,
            format_args!(
                "dhcp-boot=tag:{tag},tag:{},tag:!ipxe,{},,{}",
                client.tag,
                client.file,
                server.addr()
            ),
        );
    }
    for host in &network.hosts {
        line(text, host_line(host)?);
    }
    Ok(())
}

/// PXE firmware beside another DHCP server takes its file from a boot menu, which with one entry is no menu; iPXE and HTTP
/// boot take it from the offer. An entry whose tags fit would hide the offer's file, so that each entry excludes iPXE.
///
/// The tag is the interface's, which dnsmasq sets by itself: where a proxy range sets a tag, dnsmasq 2.91 spins for ever at
/// the second request (2.90 does not).
fn proxy(network: &DhcpNetwork, text: &mut String) {
    let (tag, server) = (&network.interface, network.server);
    line(text, format_args!("dhcp-range={},proxy,{}", server.network(), server.netmask()));
    boot_by_http(network, tag, text);
    for client in CLIENTS.iter().filter(|client| !client.http) {
        for architecture in client.architectures {
            line(
                text,
                format_args!(
                    "pxe-service=tag:{tag},tag:!ipxe,{architecture},clusterducks,{},{}",
                    client.file,
                    server.addr()
                ),
            );
        }
    }
}

fn boot_by_http(network: &DhcpNetwork, tag: &str, text: &mut String) {
    let server = network.server.addr();
    line(text, format_args!("dhcp-boot=tag:{tag},tag:ipxe,http://{server}/boot.ipxe,,{server}"));
    for client in CLIENTS.iter().filter(|client| client.http) {
        line(
            text,
            format_args!(
                "dhcp-boot=tag:{tag},tag:{},tag:!ipxe,http://{server}/ipxe/{},,{server}",
                client.tag, client.file
            ),
        );
    }
}

fn host_line(host: &DhcpHost) -> Result<String> {
    let macs: Vec<String> = host.macs.iter().map(ToString::to_string).collect();
    let line = format!("dhcp-host={},{},{}", macs.join(","), host.address, host.name);
    if line.len() < LINE_BYTES {
        Ok(line)
    } else {
        Err(Error::LineTooLong { device: host.name.clone(), bytes: line.len() })
    }
}

/// The two texts of a network that have no type of their own. An interface's name has at most 15 bytes (IFNAMSIZ in the
/// kernel), a domain's at most 253 in labels of at most 63 (RFC 1035, 2.3.4).
fn check(network: &DhcpNetwork) -> Result<()> {
    let bad = |what, text: &str| Error::Text {
        network: network.name.clone(),
        what,
        text: text.to_owned(),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let interface = &network.interface;
    if !(1..=15).contains(&interface.len()) || !interface.bytes().all(plain) {
        return Err(bad("interface", interface));
    }
    if let Some(domain) = &network.domain {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if domain.len() > 253 || !domain.split('.').all(label) {
            return Err(bad("domain", domain));
        }
    }
    Ok(())
}

fn line(text: &mut String, line: impl std::fmt::Display) {
    writeln!(text, "{line}").expect("a String takes every write");
}
