//! A panel, and agents that it is linked to: real processes on simulated machines, over TLS on loopback. Each agent has an
//! address of its own there, and all have the same port, as in a room.

#![allow(dead_code, reason = "each test binary uses its part")]

mod agent;

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub(crate) use agent::{Agent, free_port};
use model::{
    code::JoinSecret,
    join::{Answer, Hardware, Joined, Request},
    tunnel::SshKey,
};
use panel::{
    ca::{Algorithm, Authority, Ca, Key, Subject},
    codes,
    fleet::{Connection, Direct, Fleet, Identity, Link, State},
    noun::{Id, Network, Organization, Place, Server, Volume},
    operations::{Actor, Panel},
    store::{Document, Store},
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tempfile::TempDir;

pub(crate) const ROOT: Actor = Actor::Panel("test");

pub(crate) struct Room {
    pub(crate) panel: Arc<Panel>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) network: Id<Network>,
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    /// How far the panel's clock is ahead, in milliseconds.
    pub(crate) ahead_ms: Arc<AtomicU64>,
}

pub(crate) fn authorities() -> Ca {
    let now = SystemTime::now();
    let root = Authority::root(now).unwrap();
    let issuing = root.issuing(&[], now).unwrap();
    Ca::new(root.certificate().clone(), issuing, Authority::boot(now).unwrap()).unwrap()
}

fn open(database: &Path, ahead_ms: &Arc<AtomicU64>) -> Panel {
    let ahead = Arc::clone(ahead_ms);
    let clock = move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or_default() + ahead.load(Ordering::Relaxed)
    };
    Panel::new(Store::open(database).unwrap(), Arc::new(clock))
}

/// The panel's identity under this authority.
pub(crate) fn identity(ca: &Ca, subject: &Subject) -> Identity {
    let key = Key::generate(Algorithm::EcdsaP256).unwrap();
    let issued = ca.issue(subject, &key.public(), SystemTime::now()).unwrap();
    Identity::new(ca.root(), &issued, &key).unwrap()
}

impl Room {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let panel = open(&folder.path().join("panel.db"), &ahead_ms);
        let organization: Organization =
            serde_json::from_value(json!({ "name": "School" })).unwrap();
        let organization = panel.create(ROOT, Place::Panel, organization).unwrap().id;
        let network: Network = serde_json::from_value(json!({ "name": "north" })).unwrap();
        let place = Place::Organization(organization);
        let network = panel.create(ROOT, place, network).unwrap().id;
        let panel = Arc::new(panel);
        Self { panel, ca: Arc::new(authorities()), network, folder, port: free_port(), ahead_ms }
    }

    /// The room, with a panel that goes on from this copy of its database.
    pub(crate) fn restored(self, database: &Path) -> Self {
        let panel = Arc::new(open(database, &self.ahead_ms));
        Self { panel, ..self }
    }

    pub(crate) fn fleet(&self) -> Fleet {
        self.fleet_as(identity(&self.ca, &Subject::Fleet))
    }

    pub(crate) fn fleet_as(&self, identity: Identity) -> Fleet {
        self.fleet_over(Direct { port: self.port }, identity)
    }

    pub(crate) fn fleet_over(&self, link: impl Link, identity: Identity) -> Fleet {
        let ca = Arc::clone(&self.ca);
        let authorities = Arc::new(move || Arc::clone(&ca));
        Fleet::start(Arc::clone(&self.panel), authorities, link, identity)
    }

    /// Where the agent of this number is.
    pub(crate) fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 77, number)
    }

    /// Joins a server; what its box is given.
    pub(crate) fn join(&self, number: u8) -> Newcomer {
        self.join_as(number, None)
    }

    /// Joins a box in the place of a server.
    pub(crate) fn join_as(&self, number: u8, place: Option<Id<Server>>) -> Newcomer {
        self.join_with(number, place, None)
    }

    /// Joins a box that has a key for tunnels.
    pub(crate) fn join_with_key(&self, number: u8, key: &str) -> Newcomer {
        self.join_with(number, None, Some(key.parse().unwrap()))
    }

    fn join_with(
        &self,
        number: u8,
        place: Option<Id<Server>>,
        ssh_key: Option<SshKey>,
    ) -> Newcomer {
        let secret: [u8; 8] = rand::random();
        let digest = codes::digest(&JoinSecret::new(secret));
        let made = self.panel.make_join_code(ROOT, self.network, place, digest, 60_000, false);
        made.unwrap();
        let key = KeyPair::generate().unwrap();
        let asked = CertificateParams::default().serialize_request(&key).unwrap();
        let request = Request {
            secret: JoinSecret::new(secret),
            name: None,
            certificate_request_pem: asked.pem().unwrap(),
            boot_request_pem: None,
            ssh_key,
            hardware: Hardware::default(),
        };
        let from = IpAddr::from(Self::address(number));
        match self.panel.join(&self.ca, &request, from, Instant::now()).unwrap() {
            Answer::Joined(joined) => {
                Newcomer { joined: *joined, key: key.serialize_pem(), number }
            }
            Answer::Waiting { .. } => panic!("nobody is to confirm it"),
        }
    }

    /// Starts the agent of a box, with what it was given.
    pub(crate) fn start(&self, given: &Newcomer) -> Agent {
        let folder = self.folder.path().join(format!("box-{}", given.number));
        let api = (Self::address(given.number), self.port).into();
        Agent::start(folder, &given.joined, &given.key, api)
    }

    pub(crate) fn document(&self, server: Id<Server>) -> Document {
        self.panel.document(ROOT, server).unwrap().unwrap()
    }

    /// Gives the server something to do: a pool at first, and a volume each time.
    pub(crate) fn save(&self, server: Id<Server>, volume: u8) {
        let mut stored = self.panel.get(ROOT, server).unwrap();
        if stored.value.pools.is_empty() {
            let pools = json!([{ "name": "tank", "disks": [{ "serial": "SIM-0" }] }]);
            stored.value.pools = serde_json::from_value(pools).unwrap();
            self.panel.change(ROOT, server, stored.version, stored.value).unwrap();
        }
        let volume: Volume = serde_json::from_value(
            json!({ "name": format!("v-{volume}"), "pool": "tank", "size_bytes": 1 << 30 }),
        )
        .unwrap();
        self.panel.create(ROOT, self.network.place(), volume).unwrap();
    }

    /// Waits until the server has applied all that was saved.
    pub(crate) async fn applied(&self, server: Id<Server>, volume: u8) -> Document {
        let says = format!("\"v-{volume}\"");
        wait_for("the document is applied", async || {
            let document = self.panel.document(ROOT, server).unwrap()?;
            let done = document.body.contains(&says) && document.applied == document.generation;
            done.then_some(document)
        })
        .await
    }

    /// Holds an address of the room, and answers nobody.
    pub(crate) fn silence(&self, number: u8) -> TcpListener {
        TcpListener::bind((Self::address(number), self.port)).unwrap()
    }
}

/// What a box has after it joined.
pub(crate) struct Newcomer {
    pub(crate) joined: Joined,
    pub(crate) key: String,
    number: u8,
}

impl Newcomer {
    pub(crate) fn id(&self) -> Id<Server> {
        Id::new(i64::try_from(self.joined.server).unwrap())
    }

    /// Puts it where another stands.
    pub(crate) fn move_to(&mut self, other: &Self) {
        self.number = other.number;
    }
}

/// The connection of a server, once it is in this state.
pub(crate) async fn connection(fleet: &Fleet, server: Id<Server>, state: State) -> Connection {
    let mut connections = fleet.connections();
    let found = connections.wait_for(|all| all.get(&server).is_some_and(|c| c.state == state));
    let found = tokio::time::timeout(Duration::from_secs(20), found).await;
    let found = found.unwrap_or_else(|_| panic!("server {server} is not {state:?} within 20 s"));
    found.unwrap()[&server].clone()
}

pub(crate) async fn wait_for<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}: not within 20 s"))
}
