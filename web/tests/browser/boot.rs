//! A box that joins by a code of the console, and a device that boots from it while somebody watches: the agent is the real one on
//! a simulated machine, the device's part is played here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use model::{
    code::{JoinCode, JoinSecret},
    join::{Answer, Hardware, PATH, Request},
};
use rcgen::{CertificateParams, KeyPair};
use tokio::{net::TcpSocket, task::JoinHandle};

use crate::{
    agent::{Agent, free_port},
    rig::Rig,
    tab::Tab,
};

/// The box, and the device that boots from it. All of 127.0.0.0/8 is this machine.
const BOX: Ipv4Addr = Ipv4Addr::new(127, 0, 79, 1);
const DEVICE: Ipv4Addr = Ipv4Addr::new(127, 0, 79, 11);

/// What goes on as long as the room does.
pub(crate) struct Room {
    agent: Agent,
    _link: JoinHandle<()>,
    server: u64,
}

/// A network of its own, a code for its box, and what a boot takes; all in the console.
pub(crate) async fn set_up(rig: &Rig, tab: &mut Tab) -> Room {
    let port = free_port();
    let link = rig.link(port);
    tab.go("/networks/new").await;
    tab.fill("organization", "Riverside School").await;
    tab.fill("name", "workshop").await;
    tab.press("Create").await;
    tab.follow("workshop").await;
    let devices = tab.path().await;
    let network = devices.strip_suffix("/devices").unwrap().to_owned();

    tab.go(&format!("{network}/servers/join")).await;
    tab.fill("host", &rig.address.to_string()).await;
    tab.press("Make the code").await;
    tab.look("join-code").await;
    let code = tab.one(".secret code").await.text().await.unwrap();
    let code = JoinCode::parse(&code).unwrap();
    let newcomer = NewBox { key: KeyPair::generate().unwrap(), name: "workbench" };
    let Answer::Waiting { .. } = newcomer.ask(rig, &code.secret).await else {
        panic!("nobody let it in yet");
    };
    tab.go("/joins").await;
    tab.follow("workbench").await;
    tab.look("join-waiting").await;
    tab.press("Let it in").await;
    let Answer::Joined(joined) = newcomer.ask(rig, &code.secret).await else {
        panic!("it was let in");
    };
    let key = newcomer.key.serialize_pem();
    let folder = rig.folder.path().join("box");
    let agent = Agent::start(folder, &joined, &key, (BOX, port).into());
    tab.go(&format!("/servers/{}", joined.server)).await;
    tab.says("connected").await;
    tab.look("server-joined").await;

    create(
        tab,
        &format!("{network}/subnets/new"),
        &[("name", "bench"), ("subnet", "127.0.79.0/24"), ("dhcp", "proxy")],
    )
    .await;
    tab.go(&format!("/servers/{}/edit", joined.server)).await;
    let server = [
        ("interfaces[0].subnet", "bench"),
        ("interfaces[0].interface", "52:54:00:00:00:01"),
        ("interfaces[0].address", "127.0.79.1"),
        ("pools[0].name", "tank"),
        ("pools[0].disks", "SIM-0"),
    ];
    for (name, text) in server {
        tab.fill(name, text).await;
    }
    tab.press("What will change?").await;
    tab.says("What will change").await;
    tab.look("server-preview").await;
    tab.press("Save").await;
    let zeros = "0".repeat(64);
    let volume = [
        ("name", "ubuntu"),
        ("pool", "tank"),
        ("size_bytes", "1 GiB"),
        ("source.location", "/dev/vdb"),
        ("source.format", "raw"),
        ("source.sha256", &zeros),
    ];
    create(tab, &format!("{network}/volumes/new"), &volume).await;
    create(tab, &format!("{network}/groups/new"), &[("name", "bench"), ("volume", "ubuntu")]).await;
    let device = [
        ("name", "bench-1"),
        ("macs", "52:54:00:00:01:01"),
        ("address", "127.0.79.11"),
        ("group", "bench"),
    ];
    create(tab, &format!("{network}/devices/new"), &device).await;
    Room { agent, _link: link, server: joined.server }
}

async fn create(tab: &Tab, path: &str, fields: &[(&str, &str)]) {
    tab.go(path).await;
    for (name, text) in fields {
        tab.fill(name, text).await;
    }
    tab.press("Create").await;
    let there = tab.path().await;
    assert!(there != path, "{path}:\n{}", tab.text().await);
}

/// A box as it comes from the factory.
pub(crate) struct NewBox {
    pub(crate) key: KeyPair,
    pub(crate) name: &'static str,
}

impl NewBox {
    /// Asks to join, as it does until it is answered.
    pub(crate) async fn ask(&self, rig: &Rig, secret: &JoinSecret) -> Answer {
        let asked = CertificateParams::default().serialize_request(&self.key).unwrap();
        let request = Request {
            secret: JoinSecret::new(*secret.bytes()),
            name: Some(self.name.parse().unwrap()),
            certificate_request_pem: asked.pem().unwrap(),
            boot_request_pem: None,
            ssh_key: None,
            hardware: Hardware::default(),
        };
        let body = serde_json::to_string(&request).unwrap();
        let json = [("content-type", "application/json")];
        let answer = rig.browser_at(BOX).send(Method::POST, PATH, &json, body).await;
        serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{}", answer.body))
    }
}

impl Room {
    /// The device boots, and the page that somebody has open tells its steps without being loaded again.
    pub(crate) async fn boot(&self, tab: &mut Tab) {
        tab.go(&format!("/servers/{}", self.server)).await;
        tab.ask("window.stayed = true;").await;
        let script = self.script().await;
        tab.says("bench-1: script").await;
        let token = script.split("cd.token=").nth(1).unwrap().split(' ').next().unwrap();
        let (status, _) = self.ask("/metadata/v1/boot", Some(token)).await;
        assert_eq!(status, StatusCode::OK);
        tab.says("bench-1: network").await;
        assert_eq!(tab.ask("return window.stayed;").await, true, "the page was loaded again");
        tab.look("server-boot").await;
    }

    /// The script, as soon as the box has what it says.
    async fn script(&self) -> String {
        let came = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let (status, script) = self.ask("/boot/52-54-00-00-01-01.ipxe", None).await;
                if status == StatusCode::OK && script.contains("cd.token=") {
                    return script;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        came.await.expect("the box lets the device boot")
    }

    /// Asks the box's boot service as the device.
    async fn ask(&self, path: &str, token: Option<&str>) -> (StatusCode, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((DEVICE, 0).into()).unwrap();
        let to = SocketAddr::from((BOX, self.agent.boot_port()));
        let Ok(stream) = socket.connect(to).await else {
            return (StatusCode::BAD_GATEWAY, String::new());
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = hyper::Request::get(path).header("host", "agent");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer =
            sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// The box's certificate is taken back, and it is cut off.
    pub(crate) async fn revoke(&self, tab: &mut Tab) {
        tab.go("/certificates?kind=agent").await;
        tab.click("//tr[contains(., 'workbench')]/th/a").await;
        tab.fill("reason", "key-compromise").await;
        tab.fill("name", "another").await;
        tab.press("Take it back").await;
        tab.says("Not saved.").await;
        tab.hear("another name", &["422"]).await;
        tab.look("certificate-refused").await;
        tab.fill("name", "workbench").await;
        tab.press("Take it back").await;
        tab.says("revoked").await;
        tab.look("certificate-revoked").await;
        tab.go(&format!("/servers/{}", self.server)).await;
        tab.says("lost").await;
        tab.look("server-cut-off").await;
    }
}
