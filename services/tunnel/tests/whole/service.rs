//! The service as its unit starts it, and a panel that pairs with it.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::chown,
    process::{Child, Stdio},
};

use hyper::StatusCode;
use model::{code::PairingCode, tunnel::API_PORT};
use serde_json::Value;

use super::{
    ground::{BROKER, Tunnel, appliance},
    lab::{Ca, Client, anybody, known, table},
};

const BINARY: &str = "/usr/bin/clusterducks-tunnel";

/// The service, as its unit starts it.
pub(crate) struct Service(Child);

impl Service {
    pub(crate) fn start(tunnel: &Tunnel) -> Self {
        let folders = &tunnel.folders;
        for folder in [&folders.data, &folders.run, &folders.userdb] {
            fs::create_dir_all(folder).unwrap();
            chown(folder, Some(BROKER), Some(BROKER)).unwrap();
        }
        let capabilities = "-all,+net_admin,+kill";
        let mut child = appliance("setpriv")
            .args([&format!("--reuid={BROKER}"), &format!("--regid={BROKER}"), "--clear-groups"])
            .arg(format!("--bounding-set={capabilities}"))
            .arg(format!("--inh-caps={capabilities}"))
            .arg(format!("--ambient-caps={capabilities}"))
            .args(["--no-new-privs", BINARY, "serve"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("\"ready\"") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the service ended before it was ready");
            eprint!("{line}");
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
        Self(child)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What the box's screen shows to this user.
pub(crate) fn standing(uid: u32) -> Option<Value> {
    let shown = appliance("setpriv")
        .args([&format!("--reuid={uid}"), "--clear-groups", BINARY, "ctl", "standing"])
        .output()
        .unwrap();
    shown.status.success().then(|| serde_json::from_slice(&shown.stdout).unwrap())
}

/// The panel's client.
pub(crate) async fn panel(ca: &Ca) -> Client {
    Client::connect(api(), &known(ca, &ca.issue("panel", 1))).await.unwrap()
}

/// Where the API is.
pub(crate) fn api() -> SocketAddr {
    ([127, 0, 0, 1], API_PORT).into()
}

/// Makes the tunnel the panel's, with these servers.
pub(crate) async fn pair(ca: &Ca, agents: Vec<model::tunnel::Agent>) {
    let shown = standing(0).unwrap();
    let code = PairingCode::parse(shown["pairing"]["code"].as_str().unwrap()).unwrap();
    let mut stranger = Client::connect(api(), &anybody()).await.unwrap();
    let paired = stranger.pair(&code.secret, ca, table(1, agents)).await.unwrap();
    assert_eq!(paired, StatusCode::NO_CONTENT);
}
