//! Tunnels, and boxes that join through them.

use std::{net::Ipv4Addr, time::Duration};

use axum::http::{Method, Request, StatusCode};
use clusterducks_panel::seeds;
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use model::{
    code::{JoinCode, JoinSecret, PairingCode, Way},
    join::{Answer, Hardware, Joined, Link, PANEL_HOST, PATH, Problem, Request as Asked},
};
use panel::{
    fleet::State,
    noun::{Id, Network, Place, Tunnel},
    secret::ExposeSecret as _,
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
async fn a_tunnel_is_paired_on_its_page_which_shows_how_it_is_and_forgets_it_again() {
    let (rig, port) = (Rig::new().await, free_port());
    let network = school(&rig, "School").network;
    let relay = Relay::start(13, port).await;
    let tunnel = register(&rig, "relay", &relay);
    choose(&rig, network, &["relay"]);
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let _link = rig.link(port);
    let page = format!("/tunnels/{tunnel}");
    assert!(browser.get(&page).await.page().contains("Pair it"));
    let pair = format!("{page}/pair");
    let wrong = PairingCode { secret: JoinSecret::new([7; 8]).into(), ..relay.code() };
    for (code, why) in [
        ("hello".to_owned(), "the code can&#39;t be read"),
        (wrong.text().expose_secret().to_owned(), "it is not the one on the screen"),
    ] {
        let refused = browser.post(&pair, &[("code", &code)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{code}");
        assert!(refused.has(why) && refused.has("Pair it"), "{}", refused.body);
    }
    let text = relay.code().text();
    assert_eq!(browser.post(&pair, &[("code", text.expose_secret())]).await.to(), page);
    relay.show(|status| status.faults = vec!["its <b>rules</b> are not in force".to_owned()]);
    let shown = [
        "data-state=\"paired\"",
        "data-state=\"connected\"",
        "its &#60;b&#62;rules",
        "127.0.0.1",
        ">north</a>",
        "ssh-ed25519 AAAAC3",
        "Close its API to all but 127.0.0.1",
    ];
    seen(&mut browser, &page, &shown).await;
    assert!(!browser.get(&page).await.has("Pair it"));
    let mut stored = rig.panel().get::<Tunnel>(ROOT, tunnel).unwrap();
    assert!(stored.value.panel_addresses.is_empty(), "nobody asked for it");
    stored.value.panel_addresses = vec!["198.51.100.0/24".parse().unwrap()];
    rig.panel().change(ROOT, tunnel, stored.version, stored.value).unwrap();
    seen(&mut browser, &page, &["The panel shuts itself out", "198.51.100.0/24"]).await;
    let open_to = format!("{page}/open-to");
    let refused = browser.post(&open_to, &[("address", "everybody")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(browser.get(&page).await.has("Open its API to 127.0.0.1 too"));
    for address in ["127.0.0.1", "::ffff:127.0.0.1"] {
        assert_eq!(browser.post(&open_to, &[("address", address)]).await.to(), page);
    }
    let open = rig.panel().get::<Tunnel>(ROOT, tunnel).unwrap().value.panel_addresses;
    assert_eq!(open, ["198.51.100.0/24", "127.0.0.1/32"].map(|net| net.parse().unwrap()));
    let page_now = browser.get(&page).await;
    assert!(!page_now.has("shuts itself out") && !page_now.has("open-to"));
    seen(&mut browser, "/tunnels", &["data-state=\"connected\""]).await;
    let forget = format!("{page}/forget");
    let refused = browser.post(&forget, &[("name", "other")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(browser.post(&forget, &[("name", "relay")]).await.to(), page);
    let page_now = browser.get(&page).await;
    assert!(page_now.page().contains("Pair it") && !page_now.has("data-state=\"connected\""));
}

#[tokio::test]
async fn the_seed_file_of_a_tunnel_is_shown_once_and_what_a_tunnel_says_is_not_for_everybody() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let tunnel = json!({ "name": "relay", "host": "relay.example", "port": 22 });
    let tunnel = rig.make::<Tunnel>(Place::Panel, tunnel);
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let (page, seed) = (format!("/tunnels/{tunnel}"), format!("/tunnels/{tunnel}/seed"));
    browser.get(&page).await.page();
    let made = browser.post(&seed, &[("hours", "24")]).await;
    let code = made.page().split_once("code = &#34;").unwrap().1.split_once("&#34;").unwrap().0;
    assert!(PairingCode::parse(code).unwrap().key.is_none());
    let after = browser.get(&page).await;
    assert!(after.page().contains("One is waited for until") && !after.has(code));
    let long = browser.post(&seed, &[("hours", "9999")]).await;
    assert!(long.has("a week at the most"), "{}", long.body);
    let viewer = rig.user(school.home(), "vera", "member", Some("viewer"));
    let mut viewer = rig.seat(viewer).await;
    let seen = viewer.get(&page).await;
    assert!(seen.page().contains("relay.example:22") && !seen.has("Pair it"), "{}", seen.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_with_a_seed_file_is_paired_once_it_is_there() {
    let (rig, port) = (Rig::new().await, free_port());
    let place = Relay::place(12);
    let tunnel = json!({ "name": "relay", "host": place.to_string(), "port": 22 });
    let tunnel = rig.make::<Tunnel>(Place::Panel, tunnel);
    let made = rig.panel().make_pairing_seed(ROOT, tunnel, 60_000, rig.app.box_key()).unwrap();
    rig.app.tunnels_answer_at(port);
    let rounds = tokio::spawn(seeds::rounds(rig.app.clone()));
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
