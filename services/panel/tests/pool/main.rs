//! A pool of two tunnels with everything real between panel and agent: the tunnels' service, sshd and rules, and the agent's ssh(1).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "what a box is given is put down as its set-up does"
)]

mod ground;
#[path = "../room/mod.rs"]
mod room;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ground::{SiteBox, TunnelBox, inside, make_key};
use model::{
    code::{OneTime, PairingCode},
    tunnel::API_PORT,
};
use panel::{
    ca::Subject,
    fleet::{Fleet, Link as _, State},
    noun::{Id, Network, Place, Server, Tunnel},
    store::Peer,
    tunnels::{Through, Tunnels, pair},
};
use room::{Newcomer, ROOT, Room, identity};
use secrecy::ExposeSecret as _;
use serde_json::json;

/// What issue and table of features promise.
const TAKEN_OVER: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);

/// A panel with two tunnels, and a server behind both.
struct Pool {
    tunnels: [TunnelBox; 2],
    ids: [Id<Tunnel>; 2],
    codes: [PairingCode; 2],
    site: SiteBox,
    given: Newcomer,
    link: Tunnels,
    room: Room,
}

impl Pool {
    async fn new() -> Self {
        let room = Room::new();
        let codes = [(); 2]
            .map(|()| PairingCode { secret: OneTime::<16>::new(rand::random()).into(), key: None });
        let mut tunnels = [1, 2].map(|number| {
            let seed = room.folder.path().join(format!("seed-{number}"));
            let code = codes[usize::from(number) - 1].text();
            std::fs::write(&seed, format!("[pair]\ncode = \"{}\"\n", code.expose_secret()))
                .unwrap();
            TunnelBox::new(number, &seed)
        });
        let site = SiteBox::new(3);
        let names = ["one", "two"];
        let ids = [0, 1].map(|number| {
            let host = tunnels[number].place.address();
            let tunnel = json!({ "name": names[number], "host": host, "port": 22 });
            let tunnel: Tunnel = serde_json::from_value(tunnel).unwrap();
            room.panel.create(ROOT, Place::Panel, tunnel).unwrap().id
        });
        for number in 0..2 {
            tunnels[number].start();
            pairs(&room, ids[number], &codes[number]).await;
        }
        let stored = room.panel.get::<Network>(ROOT, room.network).unwrap();
        let value = json!({ "name": stored.value.name, "tunnels": names });
        let value: Network = serde_json::from_value(value).unwrap();
        room.panel.change(ROOT, stored.id, stored.version, value).unwrap();

        let key = room.folder.path().join("ssh.key");
        let given = room.join_with_key(3, &make_key(&key));
        let (panel, ca) = (Arc::clone(&room.panel), Arc::clone(&room.ca));
        let authorities = Arc::new(move || Arc::clone(&ca));
        let fleet = identity(&room.ca, &Subject::Fleet);
        let (link, _) = Tunnels::start(panel, authorities, fleet, API_PORT);
        let mut pool = Self { tunnels, ids, codes, site, given, link, room };
        // Whoever came in just before a table was in force is put out once more.
        let mut presences = pool.link.presences();
        let told = presences.wait_for(|all| {
            let told =
                |tunnel| all.get(tunnel)?.status.as_ref().map(|status| status.generation > 1);
            pool.ids.iter().all(|tunnel| told(tunnel) == Some(true))
        });
        tokio::time::timeout(LONG, told)
            .await
            .expect("the tunnels are told of the server")
            .unwrap();
        let folder = pool.furnish(&key);
        pool.site.start(&folder);
        pool
    }

    /// Puts down what the box was given when it joined.
    fn furnish(&self, key: &std::path::Path) -> PathBuf {
        let folder = self.room.folder.path().join("box");
        let tls = folder.join("state/tls");
        std::fs::create_dir_all(&tls).unwrap();
        let joined = &self.given.joined;
        for (name, content) in [
            ("api.crt", joined.api_chain_pem.clone()),
            ("api.key", self.given.key.clone()),
            ("panel-ca.crt", joined.root_pem.clone()),
            ("ssh.key", std::fs::read_to_string(key).unwrap()),
            ("uplinks.json", serde_json::to_string(&joined.uplinks).unwrap()),
        ] {
            std::fs::write(tls.join(name), content).unwrap();
        }
        folder
    }

    fn fleet(&self) -> Fleet {
        self.room.fleet_over(self.link.link(), identity(&self.room.ca, &Subject::Fleet))
    }

    /// The tunnel that a new stream to the server goes through, if one does.
    async fn way(&self, link: &Through) -> Option<Id<Tunnel>> {
        let peer = Peer {
            server: self.given.id(),
            name: "box".parse().unwrap(),
            addresses: Vec::new(),
            serials: Vec::new(),
            ways: self.ids.to_vec(),
            direct: false,
            generation: 0,
        };
        link.open(&peer).await.ok()?.tunnel
    }

    /// Waits until new streams go through this tunnel.
    async fn preferred(&self, tunnel: Id<Tunnel>) -> Duration {
        let began = Instant::now();
        // Another one each time: which way was mute is of no interest here.
        while self.way(&self.link.link()).await != Some(tunnel) {
            assert!(began.elapsed() < LONG, "new streams do not go through {tunnel}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    }
}

/// Pairs a tunnel once it answers.
async fn pairs(room: &Room, tunnel: Id<Tunnel>, code: &PairingCode) {
    let end = Instant::now() + LONG;
    loop {
        let done = pair(&room.panel, ROOT, Arc::clone(&room.ca), (tunnel, API_PORT), code).await;
        match done {
            Ok(()) => return,
            Err(error) if error.retryable() && Instant::now() < end => {}
            Err(error) => panic!("{}", panel::fleet::chain(&error)),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the server is reached through this tunnel.
async fn through(fleet: &Fleet, server: Id<Server>, tunnel: Id<Tunnel>) -> Duration {
    let began = Instant::now();
    let mut connections = fleet.connections();
    let found = connections.wait_for(|all| {
        let found = all.get(&server);
        found.is_some_and(|c| c.state == State::Connected && c.tunnel == Some(tunnel))
    });
    match tokio::time::timeout(LONG, found).await {
        Ok(found) => drop(found.unwrap()),
        Err(_) => {
            let last = fleet.connections().borrow().get(&server).cloned();
            panic!("not through tunnel {tunnel} within {LONG:?}: {last:?}");
        }
    }
    began.elapsed()
}

/// Both ways stand, the server is reached through the first, then that breaks in some way; how long until the server was reached
/// through the second, and, once all is as before, until new streams went through the first again.
async fn fail_over(
    breaks: impl FnOnce(&mut Pool),
    mends: impl FnOnce(&mut Pool),
) -> (Duration, Duration) {
    let mut pool = Pool::new().await;
    let [one, two] = pool.ids;
    let server = pool.given.id();
    pool.preferred(one).await;
    let fleet = pool.fleet();
    through(&fleet, server, one).await;
    pool.room.save(server, 1);
    pool.room.applied(server, 1).await;
    breaks(&mut pool);
    let over = through(&fleet, server, two).await;
    pool.room.save(server, 2);
    pool.room.applied(server, 2).await;
    mends(&mut pool);
    let back = pool.preferred(one).await;
    fleet.stop().await;
    (over, back)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_whose_programs_die_is_replaced_by_the_next_and_preferred_again_when_it_is_back() {
    let test =
        "a_tunnel_whose_programs_die_is_replaced_by_the_next_and_preferred_again_when_it_is_back";
    if !inside(test) {
        return;
    }
    let stop = |pool: &mut Pool| pool.tunnels[0].stop();
    let start = |pool: &mut Pool| pool.tunnels[0].start();
    let (over, back) = fail_over(stop, start).await;
    println!(
        "tunnel_fail_over_killed_s {:.1}, back after {:.1}",
        over.as_secs_f64(),
        back.as_secs_f64()
    );
    assert!(over < TAKEN_OVER, "{over:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_whose_cable_is_pulled_is_replaced_by_the_next_within_half_a_minute() {
    if !inside("a_tunnel_whose_cable_is_pulled_is_replaced_by_the_next_within_half_a_minute") {
        return;
    }
    let pull = |pool: &mut Pool| pool.tunnels[0].place.pull_cable();
    let plug = |pool: &mut Pool| pool.tunnels[0].place.plug_cable();
    let (over, back) = fail_over(pull, plug).await;
    println!(
        "tunnel_fail_over_cable_s {:.1}, back after {:.1}",
        over.as_secs_f64(),
        back.as_secs_f64()
    );
    assert!(over < TAKEN_OVER, "{over:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_loses_its_way_to_one_tunnel_silently_is_reached_through_the_next() {
    if !inside("a_site_that_loses_its_way_to_one_tunnel_silently_is_reached_through_the_next") {
        return;
    }
    let part = |pool: &mut Pool| pool.site.place.part_from(&pool.tunnels[0].place);
    let meet = |pool: &mut Pool| pool.site.place.meet_again(&pool.tunnels[0].place);
    let (over, back) = fail_over(part, meet).await;
    println!(
        "tunnel_fail_over_site_s {:.1}, back after {:.1}",
        over.as_secs_f64(),
        back.as_secs_f64()
    );
    assert!(over < TAKEN_OVER, "{over:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_was_flashed_anew_is_nobody_until_it_is_paired_again_under_its_new_host_key()
{
    let test =
        "a_tunnel_that_was_flashed_anew_is_nobody_until_it_is_paired_again_under_its_new_host_key";
    if !inside(test) {
        return;
    }
    let mut pool = Pool::new().await;
    let [one, two] = pool.ids;
    let server = pool.given.id();
    pool.preferred(one).await;
    let fleet = pool.fleet();
    through(&fleet, server, one).await;
    let host_key = |pool: &Pool| pool.room.panel.pairing(ROOT, one).unwrap().unwrap().host_key;
    let before = host_key(&pool);
    pool.tunnels[0].flash();
    through(&fleet, server, two).await;

    assert!(pool.room.panel.forget_pairing(ROOT, one).unwrap());
    pairs(&pool.room, one, &pool.codes[0]).await;
    assert_ne!(host_key(&pool), before);
    // The new key comes in the document, by the way that stands.
    let back = pool.preferred(one).await;
    println!("tunnel_replaced_back_s {:.1}", back.as_secs_f64());
    fleet.stop().await;
}
