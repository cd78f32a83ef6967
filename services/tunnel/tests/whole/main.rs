//! The whole tunnel as its box runs it: the service as its own user with the two capabilities that its unit leaves it, real OpenSSH,
//! real iptables, and a panel.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../ground/mod.rs"]
mod ground;
#[path = "../service/lab.rs"]
mod lab;
mod service;

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use ground::{
    BROKER, Client as Site, GREETING, Sshd, Tunnel, agent, appliance, inside, key_file, listens,
    make_key, port, reaches_as, wait_until,
};
use hyper::StatusCode;
use lab::{Ca, Client, anybody, table};
use model::tunnel::SSH_PORT;
use serde_json::Value;
use service::{Service, api, pair, panel, standing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SECOND: Duration = Duration::from_secs(1);

/// A box at a site joins with any key, and says and hears a word.
async fn join(site: &Site, server: &Sshd, ca: &Ca) {
    make_key("/mnt/key-any");
    let mut ssh = site.ssh(server, "join", "/mnt/key-any");
    ssh.arg("-T").arg(site.tunnel()).stdin(Stdio::piped());
    let mut ssh = ssh.spawn().unwrap();
    ssh.stdin.take().unwrap().write_all(b"let me in").unwrap();
    let (mut stream, headers) = panel(ca).await.stream("/v1/joins").await.unwrap();
    assert_eq!(headers["clusterducks-box-address"], site.address().as_str());
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "let me in");
    stream.write_all(b"welcome").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    ssh.stdout.take().unwrap().read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "welcome");
    assert!(ssh.wait().unwrap().success());
}

#[test]
fn a_server_is_the_panels_from_joining_until_it_is_put_out() {
    if !inside("a_server_is_the_panels_from_joining_until_it_is_put_out") {
        return;
    }
    let tunnel = Tunnel::new();
    let _service = Service::start(&tunnel);
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    assert!(standing(65_534).is_none(), "the code is root's to see");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ca = Ca::new("clusterducks");
        pair(&ca, vec![agent(1, 10_001)]).await;
        let site = Site::new(1);
        join(&site, &server, &ca).await;

        site.listen("127.0.0.1:8443");
        let key = key_file(10_001);
        let mut uplink = site.uplink(&server, port(10_001), &key, "127.0.0.1:8443");
        assert!(uplink.forwards(), "{}", uplink.said());
        let mut client = panel(&ca).await;
        let there = |status: &Value| status["agents"]["1"]["since_ms"].is_u64();
        assert_eq!(client.status_with(there).await["faults"], serde_json::json!([]));
        let (mut stream, _) = panel(&ca).await.stream("/v1/connect/1").await.unwrap();
        let mut greeting = vec![0; GREETING.len()];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, GREETING.as_bytes());
        assert!(reaches_as(BROKER, "127.0.0.1:10001"));
        assert!(!reaches_as(0, "127.0.0.1:10001"), "root does not get there by chance");

        let (mut held, _) = panel(&ca).await.stream("/v1/connect/1").await.unwrap();
        held.read_exact(&mut greeting).await.unwrap();
        // The server said all it has to say, and hears on.
        held.write_all(b"x").await.unwrap();
        assert!(listens("127.0.0.1:10001") && !listens("0.0.0.0:10001"));
        let begin = Instant::now();
        let answer = client.put("/v1/table", &table(2, Vec::new())).await.unwrap();
        assert_eq!(answer.0, StatusCode::NO_CONTENT);
        let cut = async {
            while held.write_all(b"x").await.is_ok() && held.flush().await.is_ok() {
                tokio::time::sleep(SECOND / 100).await;
            }
        };
        tokio::time::timeout(SECOND, cut).await.expect("its stream is cut");
        uplink.ends(SECOND);
        assert!(begin.elapsed() < SECOND, "{:?}", begin.elapsed());
        let mut again = site.uplink(&server, port(10_001), &key, "127.0.0.1:8443");
        assert!(!again.forwards(), "{}", again.said());
        wait_until("its record is gone", SECOND, || {
            (!Path::new("/run/userdb/a10001.user").exists()).then_some(())
        });
    });
}

#[test]
fn a_service_that_is_killed_finds_its_panel_and_its_servers_again() {
    if !inside("a_service_that_is_killed_finds_its_panel_and_its_servers_again") {
        return;
    }
    let tunnel = Tunnel::new();
    let service = Service::start(&tunnel);
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ca = Ca::new("clusterducks");
        pair(&ca, vec![agent(1, 10_001)]).await;
        let site = Site::new(1);
        site.listen("127.0.0.1:8443");
        let key = key_file(10_001);
        let mut uplink = site.uplink(&server, port(10_001), &key, "127.0.0.1:8443");
        assert!(uplink.forwards(), "{}", uplink.said());

        drop(service);
        assert!(Client::connect(api(), &anybody()).await.is_err(), "it is gone");
        let _service = Service::start(&tunnel);
        let (mut stream, _) = panel(&ca).await.stream("/v1/connect/1").await.unwrap();
        let mut greeting = vec![0; GREETING.len()];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, GREETING.as_bytes());
        assert!(uplink.runs(), "its session is the one from before");
        let shown = standing(0).unwrap();
        assert_eq!(shown["pairing"]["name"], "north");
    });
}

#[test]
fn a_port_held_by_another_user_is_told_and_the_rules_come_back_after_a_flush() {
    if !inside("a_port_held_by_another_user_is_told_and_the_rules_come_back_after_a_flush") {
        return;
    }
    let tunnel = Tunnel::new();
    let _service = Service::start(&tunnel);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ca = Ca::new("clusterducks");
        pair(&ca, vec![agent(1, 10_001)]).await;
        // Root is not the server's user.
        ground::listen("127.0.0.1:10001");
        let mut client = panel(&ca).await;
        let told = client.status_with(|status| status["faults"][0].is_string()).await;
        let fault = "port 10001 of server 1 is held by user 0";
        assert_eq!(told["faults"], serde_json::json!([fault]));
        let refused = panel(&ca).await.stream("/v1/connect/1").await;
        assert_eq!(refused.unwrap_err().0, StatusCode::BAD_GATEWAY);

        let rules = || {
            let saved = appliance("iptables-save").output().unwrap().stdout;
            String::from_utf8(saved).unwrap().matches("CLUSTERDUCKS").count()
        };
        let before = rules();
        assert!(before > 0);
        assert!(appliance("iptables").arg("-F").status().unwrap().success());
        wait_until("the rules are back", 10 * SECOND, || (rules() == before).then_some(()));
    });
}
