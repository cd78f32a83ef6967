//! dnsmasq for real: packets as each kind of firmware sends them, over a veth pair between two network namespaces that end
//! with the test.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests are tests too, and start dnsmasq in a namespace"
)]

mod namespace;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddrV4},
    process::{Child, Command, Stdio},
    time::Duration,
};

use host::dnsmasq::{Paths, render};
use model::{
    name::Mac,
    step::{DhcpConfig, DhcpHost, DhcpNetwork},
};
use namespace::{inside, ip};
use tokio::net::UdpSocket;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SCRIPT: &str = "http://10.77.0.1/boot.ipxe";

fn network(range: bool) -> DhcpNetwork {
    DhcpNetwork {
        name: "lab".parse().unwrap(),
        interface: "srv0".to_owned(),
        server: "10.77.0.1/24".parse().unwrap(),
        gateway: None,
        dns: vec!["9.9.9.9".parse().unwrap()],
        domain: Some("lab.example".to_owned()),
        range: range.then(|| ("10.77.0.200".parse().unwrap(), "10.77.0.250".parse().unwrap())),
        hosts: vec![DhcpHost {
            macs: vec![known(), "52:54:00:00:00:02".parse().unwrap()],
            name: "pc-01".parse().unwrap(),
            address: "10.77.0.10".parse().unwrap(),
        }],
    }
}

fn known() -> Mac {
    "52:54:00:00:00:01".parse().unwrap()
}

fn stranger() -> Mac {
    "52:54:00:00:00:99".parse().unwrap()
}

/// dnsmasq in a network namespace of its own, joined to this one by a veth pair whose end here is `cli0`.
struct Server {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(range: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("tftp")).unwrap();
        // In a name space of users there is nobody but root.
        let paths = Paths { tftp: path("tftp"), leases: path("leases"), user: "root".to_owned() };
        let text = render(&DhcpConfig { networks: vec![network(range)] }, &paths).unwrap();
        host::files::write_atomic(&path("conf"), text.as_bytes(), 0o644).unwrap();
        let script = "echo ready; read _; ip link set srv0 up; ip addr add 10.77.0.1/24 dev srv0; exec \"$@\"";
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", script, "sh", "dnsmasq", "--keep-in-foreground"])
            .args(["--pid-file", "--log-facility=-"])
            .arg(format!("--conf-file={}", path("conf").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        ip(&format!("link add cli0 type veth peer name srv0 netns {}", child.id()));
        ip("addr add 10.77.0.99/24 dev cli0");
        ip("link set cli0 up");
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        Self { child, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What a client says of itself.
#[derive(Clone)]
struct Client {
    mac: Mac,
    architecture: u16,
    vendor: &'static str,
    ipxe: bool,
}

fn pxe(architecture: u16) -> Client {
    Client { mac: stranger(), architecture, vendor: "PXEClient", ipxe: false }
}

fn http(architecture: u16) -> Client {
    Client { vendor: "HTTPClient", ..pxe(architecture) }
}

fn ipxe(architecture: u16) -> Client {
    Client { ipxe: true, ..pxe(architecture) }
}

impl Client {
    /// A DHCP message (RFC 2131, 2) of this type that asks for a broadcast answer.
    fn message(&self, kind: u8, more: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; 236];
        packet[..4].copy_from_slice(&[1, 1, 6, 0]);
        packet[4..8].copy_from_slice(&[0xcd, 0, 0, kind]);
        packet[10] = 0x80;
        packet[28..34].copy_from_slice(&self.mac.octets());
        packet.extend([99, 130, 83, 99]);
        let vendor = format!("{}:Arch:{:05}:UNDI:003016", self.vendor, self.architecture);
        let mut options: Vec<(u8, Vec<u8>)> = vec![
            (53, vec![kind]),
            (55, vec![1, 3, 6, 12, 15, 43, 54, 60, 66, 67]),
            (57, 1472u16.to_be_bytes().to_vec()),
            (60, vendor.into_bytes()),
            (93, self.architecture.to_be_bytes().to_vec()),
            (94, vec![1, 3, 16]),
            (97, [&[0][..], &[7; 16]].concat()),
        ];
        if self.ipxe {
            options.push((77, b"iPXE".to_vec()));
            options.push((175, vec![0xb1, 1, 1]));
        }
        options.extend(more.iter().map(|(code, value)| (*code, value.to_vec())));
        for (code, value) in options {
            packet.extend([code, u8::try_from(value.len()).unwrap()]);
            packet.extend(value);
        }
        packet.push(255);
        packet
    }

    async fn discover(&self) -> Answer {
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        exchange(&self.message(1, &[]), to).await.unwrap()
    }

    /// Asks the boot server, as firmware does that got an offer without a file (PXE 2.1 specification, 2.2.4).
    async fn boot_server(&self, item: Option<[u8; 2]>) -> Answer {
        let vendor = item.map(|[high, low]| [71, 4, high, low, 0, 0, 255]);
        let options: Vec<(u8, &[u8])> = vendor.iter().map(|bytes| (43, &bytes[..])).collect();
        let mut message = self.message(3, &options);
        message[12..16].copy_from_slice(&[10, 77, 0, 99]);
        exchange(&message, SocketAddrV4::new(SERVER, 4011)).await.unwrap()
    }
}

#[derive(Debug)]
struct Answer {
    address: Ipv4Addr,
    next: Ipv4Addr,
    file: String,
    options: BTreeMap<u8, Vec<Vec<u8>>>,
}

impl Answer {
    fn parse(packet: &[u8]) -> Self {
        let ip = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.iter().copied().take_while(|b| *b != 0).collect()).unwrap()
        };
        let mut options: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
        let mut rest = &packet[240..];
        while let [code, more @ ..] = rest {
            match code {
                0 => rest = more,
                255 => break,
                _ => {
                    let (value, after) = more[1..].split_at(usize::from(more[0]));
                    options.entry(*code).or_default().push(value.to_vec());
                    rest = after;
                }
            }
        }
        let file = match options.get(&67) {
            Some(values) => text(&values[0]),
            None => text(&packet[108..236]),
        };
        Self { address: ip(16), next: ip(20), file, options }
    }

    fn option(&self, code: u8) -> Option<&[u8]> {
        let values = self.options.get(&code)?;
        assert_eq!(values.len(), 1, "option {code} stands once");
        Some(&values[0])
    }

    /// The type of the only entry of the boot menu (sub-option 9 of option 43).
    fn only_item(&self) -> [u8; 2] {
        let mut rest = self.option(43).unwrap();
        while let [code, length, more @ ..] = rest {
            let (value, after) = more.split_at(usize::from(*length));
            if *code == 9 {
                assert_eq!(value.len(), 3 + usize::from(value[2]), "one entry: {value:?}");
                return [value[0], value[1]];
            }
            rest = after;
        }
        [0, 0]
    }
}

/// Sends until an answer comes, as firmware does; `None` when none comes within ten tries.
async fn exchange(message: &[u8], to: SocketAddrV4) -> Option<Answer> {
    let socket = UdpSocket::bind("0.0.0.0:68").await.unwrap();
    socket.bind_device(Some(b"cli0")).unwrap();
    socket.set_broadcast(true).unwrap();
    let mut packet = vec![0; 2048];
    for _ in 0..10 {
        socket.send_to(message, to).await.unwrap();
        let answer = socket.recv_from(&mut packet);
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(500), answer).await {
            let (length, from) = answer.unwrap();
            assert_eq!(from.ip(), SERVER);
            assert_eq!(packet[4..8], message[4..8]);
            return Some(Answer::parse(&packet[..length]));
        }
    }
    None
}

#[tokio::test]
async fn authoritative_each_kind_of_client_gets_its_boot_file_and_its_address() {
    if !inside("authoritative_each_kind_of_client_gets_its_boot_file_and_its_address") {
        return;
    }
    let _server = Server::start(true);
    for (client, file) in [
        (pxe(0), "undionly.kpxe"),
        (pxe(7), "ipxe-x86_64.efi"),
        (pxe(9), "ipxe-x86_64.efi"),
        (pxe(11), "ipxe-arm64.efi"),
        (http(16), "http://10.77.0.1/ipxe/ipxe-x86_64.efi"),
        (http(19), "http://10.77.0.1/ipxe/ipxe-arm64.efi"),
        (ipxe(0), SCRIPT),
        (ipxe(7), SCRIPT),
        (ipxe(11), SCRIPT),
        (pxe(6), ""),
    ] {
        let answer = client.discover().await;
        let what = format!("{} {} {}", client.vendor, client.architecture, client.ipxe);
        assert_eq!((&*answer.file, answer.next), (file, SERVER), "{what}");
        let echo = (client.vendor == "HTTPClient").then_some(&b"HTTPClient"[..]);
        assert_eq!(answer.option(60), echo, "{what}");
        assert!((200..=250).contains(&answer.address.octets()[3]), "{what}");
        assert_eq!(answer.option(3), None, "no gateway was configured");
    }
    for mac in [known(), "52:54:00:00:00:02".parse().unwrap()] {
        let own = Client { mac, ..ipxe(0) }.discover().await;
        assert_eq!(own.address, Ipv4Addr::new(10, 77, 0, 10));
        assert_eq!(own.option(12), Some(&b"pc-01"[..]));
        assert_eq!(own.option(6), Some(&[9, 9, 9, 9][..]));
        assert_eq!(own.option(15), Some(&b"lab.example"[..]));
    }
}

#[tokio::test]
async fn proxy_gives_no_address_and_each_kind_of_client_its_boot_file() {
    if !inside("proxy_gives_no_address_and_each_kind_of_client_its_boot_file") {
        return;
    }
    let _server = Server::start(false);
    for (client, file) in [
        (ipxe(0), SCRIPT),
        (ipxe(7), SCRIPT),
        (ipxe(11), SCRIPT),
        (http(16), "http://10.77.0.1/ipxe/ipxe-x86_64.efi"),
        (http(19), "http://10.77.0.1/ipxe/ipxe-arm64.efi"),
    ] {
        let answer = client.discover().await;
        let what = format!("{} {} {}", client.vendor, client.architecture, client.ipxe);
        assert_eq!((&*answer.file, answer.next), (file, SERVER), "{what}");
        assert_eq!(answer.address, Ipv4Addr::UNSPECIFIED);
        assert_eq!(answer.option(60), Some(client.vendor.as_bytes()), "{what}");
    }
    for (client, file) in [
        (pxe(0), "undionly.kpxe"),
        (pxe(7), "ipxe-x86_64.efi"),
        (pxe(9), "ipxe-x86_64.efi"),
        (pxe(11), "ipxe-arm64.efi"),
    ] {
        let what = client.architecture;
        let offer = client.discover().await;
        assert_eq!(offer.address, Ipv4Addr::UNSPECIFIED);
        assert_eq!(offer.option(60), Some(&b"PXEClient"[..]), "{what}");
        let item = offer.option(43).map(|_| offer.only_item());
        let answer = client.boot_server(item).await;
        assert_eq!((&*answer.file, answer.next), (file, SERVER), "{what}");
    }
    // Somebody that does not want to boot gets an address from the site's own server alone.
    let mut plain = pxe(0);
    plain.vendor = "MSFT 5.0";
    assert!(
        exchange(&plain.message(1, &[]), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67))
            .await
            .is_none()
    );
}
