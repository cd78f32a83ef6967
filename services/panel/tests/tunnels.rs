//! The link to the tunnels, against doubles of their API and agents that are real processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "the console's tests use it too")]
mod relay;
mod room;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use model::{
    code::{JoinSecret, PairingCode},
    join::Link,
};
use panel::{
    ca::{Ca, Kind, Subject},
    fleet::{Direct, Fleet, Link as _, State},
    noun::{Id, Network, Place, Server, Tunnel},
    operations,
    store::Peer,
    tunnels::{Arrival, PairError, Presence, Routed, Tunnels, pair},
};
use relay::Relay;
use room::{ROOT, Room, connection, free_port, identity, wait_for};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

/// A room whose panel has tunnels.
struct Site {
    room: Room,
    ca: Arc<Ca>,
    port: u16,
}

impl Site {
    fn new() -> Self {
        let room = Room::new();
        let ca = Arc::clone(&room.ca);
        Self { room, ca, port: free_port() }
    }

    /// Registers a tunnel that is at this address.
    fn register(&self, name: &str, relay: &Relay) -> Id<Tunnel> {
        let tunnel = json!({ "name": name, "host": relay.address.to_string(), "port": 22 });
        let tunnel: Tunnel = serde_json::from_value(tunnel).unwrap();
        self.room.panel.create(ROOT, Place::Panel, tunnel).unwrap().id
    }

    async fn pair(&self, tunnel: Id<Tunnel>, code: &PairingCode) -> Result<(), PairError> {
        pair(&self.room.panel, ROOT, Arc::clone(&self.ca), (tunnel, self.port), code).await
    }

    /// A tunnel that is the panel's.
    async fn tunnel(&self, number: u8, name: &str) -> (Relay, Id<Tunnel>) {
        let relay = Relay::start(number, self.port).await;
        let tunnel = self.register(name, &relay);
        self.pair(tunnel, &relay.code()).await.unwrap();
        (relay, tunnel)
    }

    fn choose(&self, tunnels: &[&str]) {
        let stored = self.room.panel.get::<Network>(ROOT, self.room.network).unwrap();
        let value = json!({ "name": stored.value.name, "tunnels": tunnels });
        let value: Network = serde_json::from_value(value).unwrap();
        self.room.panel.change(ROOT, stored.id, stored.version, value).unwrap();
    }

    fn tunnels(&self) -> (Tunnels, mpsc::Receiver<Arrival>) {
        let (panel, ca) = (Arc::clone(&self.room.panel), Arc::clone(&self.ca));
        let authorities = Arc::new(move || Arc::clone(&ca));
        Tunnels::start(panel, authorities, identity(&self.ca, &Subject::Fleet), self.port)
    }

    /// The fleet over these tunnels, and straight.
    fn fleet(&self, tunnels: &Tunnels) -> Fleet {
        let link = Routed { through: tunnels.link(), direct: Direct { port: self.room.port } };
        let identity = identity(&self.ca, &Subject::Fleet);
        let ca = Arc::clone(&self.ca);
        let authorities = Arc::new(move || Arc::clone(&ca));
        Fleet::start(Arc::clone(&self.room.panel), authorities, link, identity)
    }

    fn certificates(&self) -> usize {
        let query = panel::store::BookedQuery { kind: Some(Kind::Tunnel), ..Default::default() };
        self.room.panel.issued(ROOT, &query).unwrap().rows.len()
    }

    fn confirmed(&self, tunnel: Id<Tunnel>) -> Option<bool> {
        let pairing = self.room.panel.pairing(ROOT, tunnel).unwrap();
        pairing.map(|pairing| pairing.confirmed_ms.is_some())
    }
}

/// How a tunnel is, once it is in this state.
async fn presence(tunnels: &Tunnels, tunnel: Id<Tunnel>, state: State) -> Presence {
    let mut presences = tunnels.presences();
    let found = presences.wait_for(|all| all.get(&tunnel).is_some_and(|p| p.state == state));
    let found = tokio::time::timeout(Duration::from_secs(20), found).await;
    let found = found.unwrap_or_else(|_| panic!("tunnel {tunnel} is not {state:?} within 20 s"));
    found.unwrap()[&tunnel].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_the_panels_by_the_code_on_its_screen() {
    let site = Site::new();
    let (relay, tunnel) = site.tunnel(1, "relay").await;
    assert_eq!(site.confirmed(tunnel), Some(true));
    let pairing = site.room.panel.pairing(ROOT, tunnel).unwrap().unwrap();
    assert_eq!(pairing.host_key, Relay::host_key());
    let (tunnels, _arrivals) = site.tunnels();
    let there = presence(&tunnels, tunnel, State::Connected).await;
    assert_eq!(there.error, None);
    wait_for("it shows how it sees the panel", async || {
        let status = tunnels.presences().borrow()[&tunnel].status.clone()?;
        status.panel_address.filter(|address| address.is_loopback())
    })
    .await;
    let again = site.pair(tunnel, &relay.code()).await;
    let refused = |error: &operations::Error| matches!(error, operations::Error::Invalid(_));
    assert!(matches!(again, Err(PairError::Operation(error)) if refused(&error)));
    tunnels.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_another_key_than_the_code_says_is_shown_no_proof() {
    let site = Site::new();
    let (relay, other) = (Relay::start(1, site.port).await, Relay::start(2, site.port).await);
    let tunnel = site.register("relay", &relay);
    let refused = site.pair(tunnel, &other.code()).await;
    assert!(matches!(refused, Err(PairError::OtherKey(_))), "{refused:?}");
    assert_eq!((relay.counts()[0], site.certificates()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_code_is_told_in_the_tunnels_words_and_nothing_is_signed() {
    let site = Site::new();
    let relay = Relay::start(1, site.port).await;
    let tunnel = site.register("relay", &relay);
    let wrong = PairingCode { secret: JoinSecret::new([7; 8]).into(), ..relay.code() };
    let refused = site.pair(tunnel, &wrong).await.unwrap_err();
    assert!(matches!(refused, PairError::Refused(_)), "{refused:?}");
    assert!(refused.to_string().contains("it is not the one on the screen"), "{refused}");
    assert_eq!((site.certificates(), site.confirmed(tunnel)), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_sends_our_own_proof_back_proves_nothing() {
    let site = Site::new();
    let relay = Relay::start(1, site.port).await;
    let tunnel = site.register("relay", &relay);
    relay.fail(|faults| faults.lies = true);
    let refused = site.pair(tunnel, &relay.code()).await;
    assert!(matches!(refused, Err(PairError::Unproven)), "{refused:?}");
    assert_eq!((site.certificates(), site.confirmed(tunnel)), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_whose_last_answer_was_lost_is_found_paired() {
    let site = Site::new();
    let relay = Relay::start(1, site.port).await;
    let tunnel = site.register("relay", &relay);
    relay.fail(|faults| faults.loses_answer = true);
    let lost = site.pair(tunnel, &relay.code()).await;
    assert!(matches!(lost, Err(PairError::Lost(_))), "{lost:?}");
    assert_eq!(site.confirmed(tunnel), Some(false));
    let again = site.pair(tunnel, &relay.code()).await;
    assert!(matches!(again, Err(PairError::HungUp(_))), "{again:?}");
    let (tunnels, _arrivals) = site.tunnels();
    presence(&tunnels, tunnel, State::Connected).await;
    assert_eq!(site.confirmed(tunnel), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_without_a_pin_pairs_too_once_the_tunnel_is_there() {
    let site = Site::new();
    let mut relay = Relay::start(1, site.port).await;
    let tunnel = site.register("relay", &relay);
    let code = PairingCode { key: None, ..relay.code() };
    relay.kill().await;
    let refused = site.pair(tunnel, &code).await.unwrap_err();
    assert!(refused.retryable(), "{refused}");
    let why = panel::fleet::chain(&refused);
    assert!(why.contains(&format!("nothing answers at 127.0.78.1 port {}", site.port)), "{why}");
    relay.listen(site.port).await;
    site.pair(tunnel, &code).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_told_who_may_come_in_when_that_changes_and_when_it_forgot() {
    let site = Site::new();
    let (relay, tunnel) = site.tunnel(1, "relay").await;
    let (tunnels, _arrivals) = site.tunnels();
    presence(&tunnels, tunnel, State::Connected).await;
    site.choose(&["relay"]);
    let given = site.room.join_with_key(1, "ssh-ed25519 AAAAB3");
    assert_eq!(given.joined.link, Link::Tunnel);
    let told = wait_for("the table has the server", async || {
        relay.table().filter(|table| table.agents.len() == 1)
    })
    .await;
    assert_eq!(told.agents[0].server, given.joined.server);
    assert_eq!(told.agents[0].forward, given.joined.uplinks[0].forward);
    let tables = relay.counts()[1];
    relay.show(|status| status.generation = 0);
    wait_for("it is told again", async || (relay.counts()[1] > tables).then_some(())).await;
    // It knows a later table than the panel, which was restored from a backup.
    relay.show(|status| status.generation = told.generation + 10);
    wait_for("the panel's number rises above it", async || {
        relay.table().filter(|table| table.generation == told.generation + 11)
    })
    .await;
    assert_eq!(relay.table().unwrap().agents, told.agents);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_soon_is_renewed_once_and_cuts_nobody_off() {
    let site = Site::new();
    let (relay, tunnel) = site.tunnel(1, "relay").await;
    let (tunnels, _arrivals) = site.tunnels();
    let before = presence(&tunnels, tunnel, State::Connected).await;
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(86_400);
    relay.show(|status| status.certificate_ends_ms = u64::try_from(soon.as_millis()).unwrap());
    wait_for("it is renewed", async || (relay.counts()[2] == 1).then_some(())).await;
    assert_eq!(site.certificates(), 2);
    // The table is told over a connection under the new certificate.
    site.choose(&["relay"]);
    site.room.join_with_key(1, "ssh-ed25519 AAAAB3");
    wait_for("it is told", async || relay.table().filter(|t| t.agents.len() == 1)).await;
    let after = tunnels.presences().borrow()[&tunnel].clone();
    assert_eq!((after.state, after.since_ms), (State::Connected, before.since_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_whose_certificate_was_taken_back_is_hung_up_on_and_stays_so() {
    let site = Site::new();
    let (_relay, tunnel) = site.tunnel(1, "relay").await;
    let (tunnels, _arrivals) = site.tunnels();
    presence(&tunnels, tunnel, State::Connected).await;
    let query = panel::store::BookedQuery { kind: Some(Kind::Tunnel), ..Default::default() };
    let serial = site.room.panel.issued(ROOT, &query).unwrap().rows[0].serial;
    site.room.panel.revoke(ROOT, serial, panel::ca::Reason::KeyCompromise).unwrap();
    presence(&tunnels, tunnel, State::Lost).await;
    tunnels.stop().await;
    let (tunnels, _arrivals) = site.tunnels();
    let lost = presence(&tunnels, tunnel, State::Lost).await;
    assert_eq!(lost.trouble, Some(panel::fleet::Trouble::Certificate), "{lost:?}");
    assert!(lost.error.unwrap().contains("not, or no more, one that the panel gave"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_joins_is_handed_over_with_its_address() {
    let site = Site::new();
    let (relay, tunnel) = site.tunnel(1, "relay").await;
    let (_tunnels, mut arrivals) = site.tunnels();
    for from in ["192.0.2.9", "2001:db8::9"] {
        let mut ours = relay.arrive(from.parse().unwrap()).await;
        let arrival = tokio::time::timeout(Duration::from_secs(20), arrivals.recv()).await;
        let mut arrival = arrival.unwrap().unwrap();
        assert_eq!((arrival.tunnel, arrival.address), (tunnel, from.parse().unwrap()));
        ours.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        arrival.stream.read_exact(&mut heard).await.unwrap();
        arrival.stream.write_all(b"welcome").await.unwrap();
        let mut heard = [0; 7];
        ours.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"welcome");
    }
}

/// Waits until a server is reached through this tunnel.
async fn through(fleet: &Fleet, server: Id<Server>, tunnel: Id<Tunnel>) -> Duration {
    let began = Instant::now();
    let mut connections = fleet.connections();
    let found = connections.wait_for(|all| {
        let found = all.get(&server);
        found.is_some_and(|c| c.state == State::Connected && c.tunnel == Some(tunnel))
    });
    let found = tokio::time::timeout(Duration::from_secs(40), found).await;
    found.unwrap_or_else(|_| panic!("not through tunnel {tunnel} within 40 s")).unwrap();
    began.elapsed()
}

/// A server that is reached through the first of two tunnels, and then that one dies so.
async fn fail_over(die: impl AsyncFnOnce(&mut Relay)) -> Duration {
    let site = Site::new();
    let (mut first, one) = site.tunnel(1, "one").await;
    let (second, two) = site.tunnel(2, "two").await;
    site.choose(&["one", "two"]);
    let given = site.room.join_with_key(1, "ssh-ed25519 AAAAB3");
    let agent = (Room::address(1), site.room.port).into();
    for relay in [&first, &second] {
        relay.lead(given.joined.server, agent);
    }
    let (tunnels, _arrivals) = site.tunnels();
    let fleet = site.fleet(&tunnels);
    let _agent = site.room.start(&given);
    through(&fleet, given.id(), one).await;
    site.room.save(given.id(), 1);
    site.room.applied(given.id(), 1).await;
    die(&mut first).await;
    let took = through(&fleet, given.id(), two).await;
    site.room.save(given.id(), 2);
    site.room.applied(given.id(), 2).await;
    fleet.stop().await;
    tunnels.stop().await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_of_a_tunnel_that_ends_are_reached_through_the_next() {
    let took = fail_over(Relay::kill).await;
    println!("fail-over after an end: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_of_a_tunnel_that_falls_silent_are_reached_through_the_next_within_half_a_minute()
 {
    let took = fail_over(async |relay: &mut Relay| relay.fail(|faults| faults.frozen = true)).await;
    println!("fail-over after silence: {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_behind_which_a_server_is_mute_is_tried_after_the_others() {
    let site = Site::new();
    let (first, one) = site.tunnel(1, "one").await;
    let (second, two) = site.tunnel(2, "two").await;
    let (mute, speaks) = (listener().await, listener().await);
    first.lead(7, mute.local_addr().unwrap());
    second.lead(7, speaks.local_addr().unwrap());
    let (tunnels, _arrivals) = site.tunnels();
    for tunnel in [one, two] {
        presence(&tunnels, tunnel, State::Connected).await;
    }
    let peer = Peer {
        server: Id::new(7),
        name: "box".parse().unwrap(),
        addresses: Vec::new(),
        serials: Vec::new(),
        ways: vec![one, two],
        direct: false,
        generation: 0,
    };
    let link = tunnels.link();
    let open = async || link.open(&peer).await.unwrap();
    let unheard = open().await;
    assert_eq!(unheard.tunnel, Some(one), "the first of the pool");
    assert_eq!(open().await.tunnel, Some(one), "it may speak yet");
    drop(unheard);
    let mut heard = open().await;
    assert_eq!(heard.tunnel, Some(two));
    speaks.accept().await.unwrap().0.write_all(b"!").await.unwrap();
    heard.stream.read_exact(&mut [0]).await.unwrap();
    drop(heard);
    assert_eq!(open().await.tunnel, Some(two), "it spoke");
    assert_eq!(tunnels.link().open(&peer).await.unwrap().tunnel, Some(one));
}

async fn listener() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_joined_straight_is_reached_so_until_it_comes_through_a_tunnel() {
    let site = Site::new();
    let given = site.room.join_with_key(1, "ssh-ed25519 AAAAB3");
    assert_eq!(given.joined.link, Link::Direct);
    let (relay, tunnel) = site.tunnel(1, "relay").await;
    site.choose(&["relay"]);
    let (tunnels, _arrivals) = site.tunnels();
    let fleet = site.fleet(&tunnels);
    let mut agent = site.room.start(&given);
    let found = connection(&fleet, given.id(), State::Connected).await;
    assert_eq!((found.tunnel, found.address), (None, Some(Room::address(1).into())));
    wait_for("its document has its way", async || {
        let (_, body) = site.room.panel.told(given.id()).unwrap()?;
        body.contains("\"uplinks\":[{\"address\":\"127.0.78.1:22\"").then_some(())
    })
    .await;
    relay.lead(given.joined.server, (Room::address(1), site.room.port).into());
    agent.kill();
    connection(&fleet, given.id(), State::Lost).await;
    agent.restart_blank();
    through(&fleet, given.id(), tunnel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_server_is_not_reached_names_the_tunnels() {
    let site = Site::new();
    let (_relay, _) = site.tunnel(1, "one").await;
    let (mut gone, _) = site.tunnel(2, "two").await;
    gone.kill().await;
    site.choose(&["one", "two"]);
    let given = site.room.join_with_key(1, "ssh-ed25519 AAAAB3");
    let (tunnels, _arrivals) = site.tunnels();
    let fleet = site.fleet(&tunnels);
    let lost = connection(&fleet, given.id(), State::Lost).await;
    let why = lost.error.unwrap();
    assert!(why.contains("one: the tunnel says: no agent: it is not connected"), "{why}");
    assert_eq!(lost.trouble, Some(panel::fleet::Trouble::Unreachable));
}
