use std::{
    sync::{LazyLock, atomic::Ordering},
    time::{Instant, SystemTime},
};

use model::{
    code::JoinSecret,
    join::{Answer, Hardware, Joined, Link, Request},
    tunnel::{ForwardPort, Status, Uplink},
};
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::{
    ca::{Algorithm, Authority, Key},
    codes,
    fleet::State,
    noun::Server,
    operations::Own,
    testing::{self, ROOT, Rig, fields, value},
};

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let now = SystemTime::now();
    let root = Authority::root(now).unwrap();
    let issuing = root.issuing(&[], now).unwrap();
    Ca::new(root.certificate().clone(), issuing, Authority::boot(now).unwrap()).unwrap()
});

fn rig() -> Rig {
    let rig = testing::rig();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    rig.now.store(u64::try_from(now.as_millis()).unwrap(), Ordering::Relaxed);
    rig
}

fn ssh_key(name: &str) -> SshKey {
    format!("ssh-ed25519 AAAA{name}").parse().unwrap()
}

fn tunnel(rig: &Rig, name: &str) -> Id<Tunnel> {
    let host = format!("{name}.example.org");
    let tunnel: Tunnel = value(json!({ "name": name, "host": host, "port": 22 }));
    rig.panel.create(ROOT, Place::Panel, tunnel).unwrap().id
}

/// Makes a tunnel the panel's, without a tunnel.
fn pair(rig: &Rig, tunnel: Id<Tunnel>) -> Paired {
    let key = Key::generate(Algorithm::EcdsaP256).unwrap().public();
    let paired = rig.panel.begin_pairing(ROOT, &CA, tunnel, (&key, &ssh_key("host"))).unwrap();
    assert!(rig.panel.confirm_pairing(tunnel).unwrap());
    paired
}

fn choose(rig: &Rig, tunnels: &[&str]) -> Result<Stored<Network>, Error> {
    let network = rig.panel.get::<Network>(ROOT, rig.network).unwrap();
    let value: Network = value(json!({ "name": "north", "tunnels": tunnels }));
    rig.panel.change(ROOT, rig.network, network.version, value)
}

/// A box joins with this key for tunnels, in the place of a server or as a new one.
fn join(rig: &Rig, key: Option<&str>, place: Option<Id<Server>>) -> Joined {
    let secret: [u8; 8] = rand::random();
    let digest = codes::digest(&JoinSecret::new(secret));
    rig.panel.make_join_code(ROOT, rig.network, place, digest, 60_000, false).unwrap();
    let api = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&api).unwrap().pem().unwrap();
    let request = Request {
        secret: JoinSecret::new(secret),
        name: None,
        certificate_request_pem: request,
        boot_request_pem: None,
        ssh_key: key.map(ssh_key),
        hardware: Hardware::default(),
    };
    let from = "192.0.2.9".parse().unwrap();
    match rig.panel.join(&CA, &request, from, Instant::now()).unwrap() {
        Answer::Joined(joined) => *joined,
        Answer::Waiting { .. } => panic!("nobody is to confirm it"),
    }
}

fn id(joined: &Joined) -> Id<Server> {
    Id::new(i64::try_from(joined.server).unwrap())
}

fn kept(rig: &Rig, tunnel: Id<Tunnel>) -> Table {
    rig.panel.relays().unwrap();
    let (generation, body) = rig.panel.table(tunnel).unwrap().unwrap();
    let table: Table = serde_json::from_str(&body).unwrap();
    assert_eq!(table.generation, generation);
    table
}

fn ports(uplinks: &[Uplink]) -> Vec<(String, u16)> {
    uplinks.iter().map(|up| (up.address.to_string(), up.forward.get())).collect()
}

fn delete(rig: &Rig, server: Id<Server>) {
    let stored = rig.panel.get::<Server>(ROOT, server).unwrap();
    rig.panel.delete(ROOT, server, stored.version, super::super::Data::Keep).unwrap();
}

#[test]
fn a_server_keeps_its_port_and_that_of_a_deleted_one_is_given_again() {
    let rig = rig();
    let relay = tunnel(&rig, "relay");
    pair(&rig, relay);
    choose(&rig, &["relay"]).unwrap();
    let port = |joined: &Joined| joined.uplinks[0].forward.get();
    let (one, two, three) =
        (join(&rig, Some("A"), None), join(&rig, Some("B"), None), join(&rig, Some("C"), None));
    assert_eq!([port(&one), port(&two), port(&three)], [10_000, 10_001, 10_002]);
    let again = join(&rig, Some("D"), Some(id(&two)));
    assert_eq!(port(&again), 10_001, "another box in its place");
    delete(&rig, id(&one));
    assert_eq!(port(&join(&rig, Some("E"), None)), 10_000);
    assert_eq!(port(&join(&rig, Some("F"), None)), 10_003);
    let taken = format!(
        "UPDATE servers SET forward_port = {} WHERE id = {}",
        ForwardPort::LAST,
        id(&three)
    );
    rig.panel.store().run_sql(&taken);
    assert_eq!(port(&join(&rig, Some("G"), None)), 10_002, "the gap, not what follows the highest");
}

#[test]
fn a_table_has_who_may_come_in_and_its_number_rises_with_a_change_alone() {
    let rig = rig();
    let (relay, other) = (tunnel(&rig, "relay"), tunnel(&rig, "other"));
    let told = pair(&rig, relay).table;
    assert_eq!((told.generation, told.agents.len()), (1, 0));
    pair(&rig, other);
    choose(&rig, &["relay"]).unwrap();
    let joined = join(&rig, Some("A"), None);
    let table = kept(&rig, relay);
    let expected = model::tunnel::Agent {
        server: joined.server,
        forward: joined.uplinks[0].forward,
        key: ssh_key("A"),
    };
    assert_eq!((table.generation, table.agents), (2, vec![expected]));
    assert!(kept(&rig, other).agents.is_empty(), "its network does not name it");
    rig.add(testing::device(7));
    rig.panel.store().run_sql("UPDATE pairings SET stale = 1");
    assert_eq!(kept(&rig, relay).generation, 2, "nothing changed");
    let mut stored = rig.panel.get::<Tunnel>(ROOT, relay).unwrap();
    stored.value.panel_addresses = vec!["198.51.100.7/32".parse().unwrap()];
    rig.panel.change(ROOT, relay, stored.version, stored.value).unwrap();
    let table = kept(&rig, relay);
    assert_eq!((table.generation, table.panel.len()), (3, 1));
    // A server whose certificate is taken back comes in nowhere.
    let certificates = rig.panel.certificates(ROOT, id(&joined)).unwrap();
    rig.panel.revoke(ROOT, certificates[0].serial, Reason::KeyCompromise).unwrap();
    let table = kept(&rig, relay);
    assert_eq!((table.generation, table.agents.len()), (4, 0));
}

#[test]
fn a_server_is_told_the_paired_tunnels_of_its_network_in_their_order() {
    let rig = rig();
    let names = ["a", "b", "c", "d", "e", "f"];
    let tunnels = names.map(|name| tunnel(&rig, name));
    choose(&rig, &["b", "a", "c", "f", "e", "d"]).unwrap();
    let none = join(&rig, Some("A"), None);
    assert_eq!((none.link, none.uplinks.len()), (Link::Direct, 0), "no tunnel is paired");
    let key = Key::generate(Algorithm::EcdsaP256).unwrap().public();
    rig.panel.begin_pairing(ROOT, &CA, tunnels[0], (&key, &ssh_key("host"))).unwrap();
    for tunnel in &tunnels[1..] {
        pair(&rig, *tunnel);
    }
    let joined = join(&rig, Some("B"), None);
    let at = |name: &str| (format!("{name}.example.org:22"), 10_001);
    assert_eq!(joined.link, Link::Tunnel);
    assert_eq!(ports(&joined.uplinks), ["b", "c", "f", "e"].map(at), "a's answer is not known");
    rig.published();
    let document = rig.panel.document(ROOT, id(&joined)).unwrap().unwrap();
    let desired: model::desired::Desired = serde_json::from_str(&document.body).unwrap();
    assert_eq!(desired.uplinks, joined.uplinks);
    let ways = rig.panel.ways_of(ROOT, rig.network).unwrap().into_iter().map(|way| way.id);
    let [_, b, c, d, e, f] = tunnels;
    assert_eq!(ways.collect::<Vec<_>>(), [b, c, f, e, d], "a code may lead through any");
    assert_eq!(join(&rig, None, None).link, Link::Direct, "it has no key for tunnels");
    let peers = rig.panel.peers().unwrap();
    let peer = |joined: &Joined| peers.iter().find(|peer| peer.server == id(joined)).unwrap();
    assert_eq!(peer(&joined).ways, [tunnels[1], tunnels[2], tunnels[5], tunnels[4]]);
    assert_eq!((peer(&none).direct, peer(&joined).direct), (true, false));
    // What a tunnel's record says is told again when that changes, and so is that it is the panel's no more.
    let mut stored = rig.panel.get::<Tunnel>(ROOT, tunnels[1]).unwrap();
    stored.value.port = 2222;
    rig.panel.change(ROOT, tunnels[1], stored.version, stored.value).unwrap();
    assert!(rig.panel.forget_pairing(ROOT, tunnels[2]).unwrap());
    rig.published();
    let (_, body) = rig.panel.told(id(&joined)).unwrap().unwrap();
    let desired: model::desired::Desired = serde_json::from_str(&body).unwrap();
    let [b, f, e, d] = ["b", "f", "e", "d"].map(at);
    assert_eq!(ports(&desired.uplinks), [(b.0.replace(":22", ":2222"), b.1), f, e, d]);
}

#[test]
fn a_network_keeps_a_tunnel_that_its_servers_come_through() {
    let rig = rig();
    for name in ["old", "new"] {
        pair(&rig, tunnel(&rig, name));
    }
    choose(&rig, &["old"]).unwrap();
    join(&rig, Some("A"), None);
    assert_eq!(fields(choose(&rig, &["new"])), ["tunnels"]);
    assert_eq!(fields(choose(&rig, &[])), ["tunnels"]);
    choose(&rig, &["new", "old"]).unwrap();
    choose(&rig, &["new"]).unwrap();
}

#[test]
fn a_tunnel_is_paired_once_and_what_it_was_given_counts_until_that_is_forgotten() {
    let rig = rig();
    let relay = tunnel(&rig, "relay");
    let key = Key::generate(Algorithm::EcdsaP256).unwrap().public();
    let begin = || rig.panel.begin_pairing(ROOT, &CA, relay, (&key, &ssh_key("host")));
    let serials =
        || rig.panel.relays().unwrap().pop().map(|relay| relay.serials).unwrap_or_default();
    begin().unwrap();
    let first = serials();
    // Its answer was lost, and the admin tries again.
    begin().unwrap();
    assert_eq!((first.len(), serials().len()), (1, 1));
    assert_ne!(first, serials(), "what was given first counts no more");
    assert!(
        rig.panel.confirm_pairing(relay).unwrap() && !rig.panel.confirm_pairing(relay).unwrap()
    );
    assert!(matches!(begin(), Err(CertifyError::Operation(Error::Invalid(_)))));
    let renewed = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&renewed).unwrap().pem().unwrap();
    rig.panel.renew_tunnel(&CA, relay, &request).unwrap();
    assert_eq!(serials().len(), 2);
    let mut stored = rig.panel.get::<Tunnel>(ROOT, relay).unwrap();
    stored.value.name = "other".parse().unwrap();
    assert_eq!(fields(rig.panel.change(ROOT, relay, stored.version, stored.value)), ["name"]);
    assert!(rig.panel.forget_pairing(ROOT, relay).unwrap());
    assert_eq!(rig.panel.revoked(ca::Role::Issuing).unwrap().len(), 3);
    assert!(matches!(
        rig.panel.renew_tunnel(&CA, relay, &request),
        Err(CertifyError::Operation(Error::NotFound { .. }))
    ));
}

#[test]
fn a_tunnel_that_is_away_is_an_alert_and_so_is_the_network_that_it_alone_leads_to() {
    let rig = rig();
    let relay = tunnel(&rig, "relay");
    pair(&rig, relay);
    choose(&rig, &["relay"]).unwrap();
    join(&rig, Some("A"), None);
    let told = |actor| -> Vec<_> {
        rig.panel.look_around(&Own::default()).unwrap();
        let alerts = rig.panel.alerts(actor, None).unwrap().into_iter();
        let words = alerts.map(|alert| alert.cause.word());
        words.filter(|word| word.contains("tunnel")).collect()
    };
    let board = rig.panel.tunnels_board();
    let faults = vec!["sshd is down".to_owned()];
    board.note(relay, |presence| {
        presence.state = State::Connected;
        presence.status = Some(Status { faults, ..Status::default() });
    });
    assert_eq!(told(ROOT), ["tunnel-faults"]);
    board.note(relay, |presence| (presence.state, presence.since_ms) = (State::Lost, 0));
    assert_eq!(told(ROOT), ["no-tunnel", "tunnel-down"]);
    let viewer = rig.user("vera", "member", Some("viewer"));
    assert_eq!(told(viewer), ["no-tunnel"]);
    // How it is, everybody sees; what it says, only who may change it.
    let seen = |actor| {
        let presence = rig.panel.presences(actor).unwrap().remove(&relay).unwrap();
        (presence.state, presence.status.is_some())
    };
    assert_eq!((seen(ROOT), seen(viewer)), ((State::Lost, true), (State::Lost, false)));
}

#[test]
fn a_tunnel_that_knows_a_later_table_is_told_one_above_it() {
    let rig = rig();
    let relay = tunnel(&rig, "relay");
    pair(&rig, relay);
    rig.panel.tunnel_has(relay, 1).unwrap();
    assert_eq!(kept(&rig, relay).generation, 1);
    rig.panel.tunnel_has(relay, 40).unwrap();
    assert_eq!(kept(&rig, relay).generation, 41);
    assert!(matches!(
        rig.panel.tunnel_has(relay, u64::MAX),
        Err(Error::Generation { generation: u64::MAX })
    ));
}

#[test]
fn the_code_of_a_seed_file_is_tried_until_it_ends_or_the_tunnel_is_there() {
    let rig = rig();
    let box_key = BoxKey::generate();
    let (one, two) = (tunnel(&rig, "one"), tunnel(&rig, "two"));
    let make = |tunnel| rig.panel.make_pairing_seed(ROOT, tunnel, 60_000, &box_key).unwrap().1;
    let (first, second) = (make(one), make(one));
    let tried = rig.panel.seeds_to_try(&box_key).unwrap();
    assert!(tried.len() == 1 && tried[0].1.secret.is(&second.secret));
    assert!(!tried[0].1.secret.is(&first.secret));
    assert!(rig.panel.pairing_seed(ROOT, one).unwrap().is_some());
    pair(&rig, one);
    assert!(rig.panel.seeds_to_try(&box_key).unwrap().is_empty(), "it is there");
    make(two);
    rig.now.fetch_add(60_000, Ordering::Relaxed);
    assert!(rig.panel.seeds_to_try(&box_key).unwrap().is_empty(), "it ended");
    let admin = rig.user("ada", "organization-admin", None);
    for refused in [
        rig.panel.make_pairing_seed(admin, two, 60_000, &box_key).map(drop),
        rig.panel.forget_pairing(admin, two).map(drop),
        rig.panel.pairing_seed(admin, two).map(drop),
        rig.panel.pairable(admin, two).map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
    }
    assert!(rig.panel.pairing(admin, one).unwrap().is_some());
    let long = rig.panel.make_pairing_seed(ROOT, two, LONGEST_MS + 1, &box_key);
    assert_eq!(fields(long), ["lasts_ms"]);
}
