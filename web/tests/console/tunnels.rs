//! Tunnels, and boxes that join through them.

use std::{net::Ipv4Addr, time::Duration};

use axum::http::{Method, Request, StatusCode};
use clusterducks_panel::seeds;
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use model::{
    code::{JoinCode, JoinSecret, Way},
    join::{Answer, Hardware, Joined, Link, PANEL_HOST, PATH, Problem, Request as Asked},
};
use panel::{
    fleet::State,
    noun::{Id, Network, Place, Tunnel},
    tunnels::pair,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use serde_json::json;

use crate::{
    agent::{Agent, free_port},
    fleet::seen,
    relay::Relay,
    rig::{ROOT, Rig, school, value},
};

/// Registers a tunnel at this address.
fn register(rig: &Rig, name: &str, relay: &Relay) -> Id<Tunnel> {
    let host = relay.address.to_string();
    rig.make::<Tunnel>(Place::Panel, json!({ "name": name, "host": host, "port": 22 }))
}

fn choose(rig: &Rig, network: Id<Network>, tunnels: &[&str]) {
    let stored = rig.panel().get(ROOT, network).unwrap();
    let chosen = value(json!({ "name": stored.value.name, "tunnels": tunnels }));
    rig.panel().change::<Network>(ROOT, network, stored.version, chosen).unwrap();
}

/// What a box hears inside a stream that a tunnel hands over.
async fn inside(rig: &Rig, relay: &Relay, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
    let stream = relay.arrive("192.0.2.9".parse().unwrap()).await;
    let name = ServerName::try_from(PANEL_HOST).unwrap();
    let stream = rig.tls.connect(name, stream).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status();
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}

fn asks(method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", PANEL_HOST);
    request.body(Full::new(body.into())).unwrap()
}

async fn joins(
    rig: &Rig,
    relay: &Relay,
    code: &JoinCode,
    key: &KeyPair,
) -> Result<Joined, Problem> {
    let request = CertificateParams::default().serialize_request(key).unwrap();
    let asked = Asked {
        secret: JoinSecret::new(*code.secret.bytes()),
        name: Some("newcomer".parse().unwrap()),
        certificate_request_pem: request.pem().unwrap(),
        boot_request_pem: None,
        ssh_key: Some("ssh-ed25519 AAAAB3".parse().unwrap()),
        hardware: Hardware::default(),
    };
    let asked = asks(Method::POST, PATH, serde_json::to_vec(&asked).unwrap());
    let (status, body) = inside(rig, relay, asked).await;
    if !status.is_success() {
        return Err(serde_json::from_slice(&body).unwrap());
    }
    match serde_json::from_slice(&body).unwrap() {
        Answer::Joined(joined) => Ok(*joined),
        Answer::Waiting { .. } => panic!("nobody is to confirm it"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_joins_through_a_tunnel_and_is_reached_through_it() {
    let (rig, port) = (Rig::new().await, free_port());
    let network = school(&rig, "School").network;
    let relay = Relay::start(11, port).await;
    let tunnel = register(&rig, "relay", &relay);
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let path = format!("/networks/{network}/servers/join");
    choose(&rig, network, &["relay"]);
    assert!(!browser.get(&path).await.page().contains("Joins through"), "it is not paired");
    pair(&rig.app.shared(), ROOT, rig.app.ca(), (tunnel, port), &relay.code()).await.unwrap();
    let _link = rig.link(port);
    assert!(browser.get(&path).await.page().contains("<option selected>relay</option>"));
    let fields = [("tunnel", "relay"), ("host", ""), ("hours", "1"), ("server", "")];
    let made = browser.post(&path, &fields).await;
    let code = JoinCode::parse(&made.after("<p class=\"secret\"><code>")).unwrap();
    assert_eq!((code.way, code.address.to_string().as_str()), (Way::Tunnel, "127.0.78.11:22"));
    let other = [("tunnel", "no-such"), ("host", "panel.local"), ("hours", "1"), ("server", "")];
    let refused = browser.post(&path, &other).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);

    for (method, path) in [(Method::GET, "/"), (Method::GET, PATH), (Method::POST, "/sign-in")] {
        let (status, body) = inside(&rig, &relay, asks(method, path, "")).await;
        assert!(status.is_client_error() && body.is_empty(), "{path}: {status} {body:?}");
    }
    let wrong = JoinCode { secret: JoinSecret::new([7; 8]), ..code };
    let key = KeyPair::generate().unwrap();
    assert_eq!(joins(&rig, &relay, &wrong, &key).await.unwrap_err().kind, "join-code-wrong");
    let code = JoinCode::parse(&made.after("<p class=\"secret\"><code>")).unwrap();
    let joined = joins(&rig, &relay, &code, &key).await.unwrap();
    assert_eq!((joined.link, joined.uplinks.len()), (Link::Tunnel, 1));
    assert_eq!(joined.uplinks[0].host_key, Relay::host_key());
    let server = Id::new(i64::try_from(joined.server).unwrap());
    let stands = rig.panel().joined_box(ROOT, server).unwrap().unwrap();
    assert_eq!(stands.address.to_string(), "192.0.2.9", "its own, not the tunnel's");

    let at = (Ipv4Addr::new(127, 0, 79, 1), port).into();
    relay.lead(joined.server, at);
    let folder = rig.folder.path().join("box");
    let _agent = Agent::start(folder, &joined, &key.serialize_pem(), at);
    let page = format!("/servers/{server}");
    seen(&mut browser, &page, &["data-state=\"connected\""]).await;
    let connection = rig.panel().connection(ROOT, server).unwrap().unwrap();
    assert_eq!((connection.state, connection.tunnel), (State::Connected, Some(tunnel)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_with_a_seed_file_is_paired_once_it_is_there() {
    let (rig, port) = (Rig::new().await, free_port());
    let place = Relay::place(12);
    let tunnel = json!({ "name": "relay", "host": place.to_string(), "port": 22 });
    let tunnel = rig.make::<Tunnel>(Place::Panel, tunnel);
    let made = rig.panel().make_pairing_seed(ROOT, tunnel, 60_000, rig.app.box_key()).unwrap();
    let rounds = tokio::spawn(seeds::rounds(rig.app.clone(), port));
    let _relay = Relay::start_with(12, port, made.1.secret).await;
    let paired = async {
        let mut changes = rig.panel().changes();
        // Another change makes it be tried soon.
        choose(&rig, school(&rig, "School").network, &[]);
        loop {
            let pairing = rig.panel().pairing(ROOT, tunnel).unwrap();
            if pairing.is_some_and(|pairing| pairing.confirmed_ms.is_some()) {
                return;
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), paired).await.unwrap();
    assert!(rig.panel().pairing_seed(ROOT, tunnel).unwrap().is_none());
    rounds.abort();
}
