//! The fleet that the panel is measured with: made by the panel's own operations before its service starts.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use clusterducks_panel::run;
use model::{
    code::JoinSecret,
    join::{Answer, Hardware, Joined, Request},
};
use panel::{
    ca::Host,
    codes,
    noun::{
        Device, Group, Id, Menu, Network, Organization, Place, Server, Subnet, Tunnel, User, Vdisk,
        Volume,
    },
    operations::{ChannelSecret, Kind, Panel},
    password::Passwords,
    secret::ExposeSecret as _,
    store::ListQuery,
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    agent::{Agent, free_port},
    past,
    rig::{ROOT, value},
};

pub(crate) const NETWORKS: usize = 50;
/// Of each network.
pub(crate) const DEVICES: usize = 100;
pub(crate) const PASSWORD: &str = "quiet-otter-mends-lanterns";
const NETWORKS_OF_AN_ORGANIZATION: usize = 5;
const VDISKS: usize = 10;
const RENDERS: usize = 7;

/// What stands for all of a network.
pub(crate) struct Site {
    pub(crate) organization: Id<Organization>,
    pub(crate) network: Id<Network>,
    pub(crate) server: Id<Server>,
    pub(crate) device: Id<Device>,
    menu: Id<Menu>,
}

/// What a box was given.
pub(crate) struct Given {
    joined: Joined,
    key_pem: String,
    api: SocketAddr,
}

impl Given {
    /// Starts its agent in a folder of its own.
    pub(crate) fn start(&self, boxes: &Path) -> Agent {
        let folder = boxes.join(self.joined.server.to_string());
        Agent::start(folder, &self.joined, &self.key_pem, self.api)
    }
}

/// The fleet, and the panel that has it.
pub(crate) struct Fleet {
    pub(crate) folder: TempDir,
    pub(crate) root_pem: String,
    pub(crate) port: u16,
    pub(crate) networks: Vec<Site>,
    pub(crate) boxes: Vec<Given>,
    opened: run::Opened,
}

impl Fleet {
    /// Makes it.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::try_from("127.0.0.1").unwrap().to_owned();
        let opened = run::open(&folder.path().join("panel"), &[host]).unwrap();
        let hash = Passwords::new().unwrap().hash(&PASSWORD.into()).unwrap();
        let ada = json!({ "name": "ada", "full_name": "Ada Lovelace", "standing": "superadmin" });
        let panel = opened.app.panel();
        panel.make_first(&value(ada), hash.expose_secret()).unwrap().unwrap();
        let root_pem = opened.app.ca().root().pem();
        let (networks, boxes) = (Vec::new(), Vec::new());
        let mut fleet = Self { folder, root_pem, port: free_port(), networks, boxes, opened };
        for number in 0..NETWORKS {
            fleet.add(number);
        }
        fleet.add_the_rest();
        fleet.panel().publish().unwrap();
        past::live_through(fleet.panel(), &fleet.networks);
        fleet
    }

    pub(crate) fn panel(&self) -> &Panel {
        self.opened.app.panel()
    }

    fn make<T: Kind>(&self, at: Place, json: Value) -> Id<T> {
        self.panel().create::<T>(ROOT, at, value(json)).unwrap().id
    }

    /// A network with one of everything but devices, and of these many.
    fn add(&mut self, number: usize) {
        let organization = match self.networks.last() {
            Some(site) if !number.is_multiple_of(NETWORKS_OF_AN_ORGANIZATION) => site.organization,
            _ => {
                let school = number / NETWORKS_OF_AN_ORGANIZATION;
                self.make(Place::Panel, json!({ "name": format!("School {school}") }))
            }
        };
        let home = Place::Organization(organization);
        let network = self.make(home, json!({ "name": format!("room-{number:02}") }));
        let at = Place::Network(network);
        let subnet = format!("127.0.{}.0/24", lan(number));
        self.make::<Subnet>(
            at,
            json!({ "name": "lab", "subnet": subnet, "dhcp": { "mode": "proxy" } }),
        );
        let server = self.join(number, network);
        let source = json!({ "location": "/dev/vdb", "format": "raw", "sha256": "0".repeat(64) });
        self.make::<Volume>(
            at,
            json!({ "name": "debian", "pool": "tank", "size_bytes": 1_u64 << 30, "source": source }),
        );
        for name in ["lab", "exam"] {
            let group =
                json!({ "name": name, "volume": "debian", "generations": [1], "production": 1 });
            self.make::<Group>(at, group);
        }
        let entries = json!([{ "label": "Boot", "action": "image" }]);
        let menu = self.make(at, json!({ "name": "main", "title": "Room", "entries": entries }));
        for vdisk in 0..VDISKS {
            let name = format!("home-{vdisk:03}");
            let server = format!("agent-{number:02}");
            self.make::<Vdisk>(
                at,
                json!({ "name": name, "server": server, "pool": "tank", "size_bytes": 1_u64 << 30 }),
            );
        }
        for (name, role) in [("tina", "technician"), ("vera", "viewer")] {
            let name = format!("{name}-{number:02}");
            let roles = json!([{ "network": format!("room-{number:02}"), "role": role }]);
            self.make::<User>(
                home,
                json!({ "name": name, "full_name": name, "standing": "member", "roles": roles }),
            );
        }
        self.panel().import(ROOT, network, &devices(number)).unwrap();
        let last = ListQuery { network: Some(network), descending: true, ..ListQuery::default() };
        let device = self.panel().list::<Device>(ROOT, &last).unwrap().rows[0].id;
        self.networks.push(Site { organization, network, server, device, menu });
    }

    /// A server that joined, with a pool and the network's subnet.
    fn join(&mut self, number: usize, network: Id<Network>) -> Id<Server> {
        let address = Ipv4Addr::new(127, 0, lan(number), 1);
        let key = KeyPair::generate().unwrap();
        let answer = self.ask(network, &key, &format!("agent-{number:02}"), address, false);
        let Answer::Joined(joined) = answer else { panic!("nobody is to confirm it") };
        let id = Id::new(i64::try_from(joined.server).unwrap());
        let mut server = self.panel().get::<Server>(ROOT, id).unwrap();
        server.value.interfaces = value(json!([
            { "subnet": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": address }
        ]));
        server.value.pools = value(json!([{ "name": "tank", "disks": [{ "serial": "SIM-0" }] }]));
        self.panel().change(ROOT, id, server.version, server.value).unwrap();
        let api = SocketAddr::from((address, self.port));
        self.boxes.push(Given { joined: *joined, key_pem: key.serialize_pem(), api });
        id
    }

    fn ask(
        &self,
        network: Id<Network>,
        key: &KeyPair,
        name: &str,
        from: Ipv4Addr,
        confirm: bool,
    ) -> Answer {
        let secret: [u8; 8] = rand::random();
        let digest = codes::digest(&JoinSecret::new(secret));
        let panel = self.panel();
        panel.make_join_code(ROOT, network, None, digest, 3_600_000, confirm).unwrap();
        let asked = CertificateParams::default().serialize_request(key).unwrap();
        let request = Request {
            secret: JoinSecret::new(secret),
            name: Some(name.parse().unwrap()),
            certificate_request_pem: asked.pem().unwrap(),
            boot_request_pem: None,
            ssh_key: None,
            hardware: Hardware::default(),
        };
        let ca = self.opened.app.ca();
        panel.join(&ca, &request, IpAddr::from(from), Instant::now()).unwrap()
    }

    /// What a page needs that shows one of it, and no network has.
    fn add_the_rest(&self) {
        let site = &self.networks[NETWORKS / 2];
        let key = KeyPair::generate().unwrap();
        self.ask(site.network, &key, "newcomer", Ipv4Addr::LOCALHOST, true);
        // Where nobody answers, and says so at once.
        let relay = json!({ "name": "relay", "host": "127.0.0.1", "port": 22 });
        self.make::<Tunnel>(Place::Panel, relay);
        self.panel().begin_job(ROOT, Some(site.network), None, "fetch image").unwrap();
        let hook = json!({ "name": "hook", "least": "critical", "way": "hook", "url": "https://127.0.0.1:9/" });
        let (hook, secret) = (value(hook), ChannelSecret::Keep);
        let key = self.opened.app.box_key();
        self.panel().create_channel(ROOT, site.organization, &hook, &secret, key).unwrap();
    }

    /// Times to make the documents of all servers anew after something changed in each network: to read it, to render, to
    /// validate, and to keep them.
    pub(crate) fn render(&self) -> Vec<Duration> {
        let panel = self.panel();
        let one = |round: usize| {
            for site in &self.networks {
                let mut menu = panel.get(ROOT, site.menu).unwrap();
                menu.value.title = value(json!(format!("Room in round {round}")));
                panel.change(ROOT, site.menu, menu.version, menu.value).unwrap();
            }
            let start = Instant::now();
            let published = panel.publish().unwrap();
            let took = start.elapsed();
            let new = |(_, published): &&panel::operations::PublishedOf| {
                matches!(published, Ok(panel::desired::Published::Changed { .. }))
            };
            assert_eq!(published.iter().filter(new).count(), NETWORKS, "{published:?}");
            took
        };
        (0..RENDERS).map(one).collect()
    }
}

/// The third part of a network's addresses: all of 127.0.0.0/8 is this machine.
fn lan(number: usize) -> u8 {
    u8::try_from(100 + number).unwrap()
}

/// A network's devices as a file: most boot alike, some have a clone, some a disk of their own.
fn devices(number: usize) -> String {
    let mut text = String::from("name,macs,subnet,address,group,boot_mode,menu,vdisks\n");
    for device in 0..DEVICES {
        let mode = match device {
            10..20 => "ephemeral",
            20..30 => "persistent",
            _ => "overlay",
        };
        let menu = if device.is_multiple_of(2) { "main" } else { "" };
        let vdisk = if device < VDISKS { format!("home-{device:03}") } else { String::new() };
        let (lan, address) = (lan(number), 11 + device);
        let group = if device.is_multiple_of(4) { "exam" } else { "lab" };
        writeln!(
            text,
            "pc-{number:02}-{device:03},52:54:00:01:{number:02x}:{device:02x},lab,127.0.{lan}.{address},{group},{mode},{menu},{vdisk}"
        )
        .unwrap();
    }
    text
}
