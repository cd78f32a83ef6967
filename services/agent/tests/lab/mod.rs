//! An agent on the simulated machine in this process, and clients for it.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod fleet;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clusterducks_agent::run::{self, Paths};
use host::sim::SimHost;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, UnixStream},
    task::JoinHandle,
};

/// An agent that runs in this process.
pub(crate) struct Agent {
    folder: tempfile::TempDir,
    ports: Ports,
    task: JoinHandle<()>,
}

/// Asked from the kernel and given back at once: nobody else is given them soon.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) boot: u16,
    pub(crate) boot_tls: u16,
    pub(crate) api: u16,
}

impl Ports {
    fn free() -> Self {
        let held = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [boot, boot_tls, api] = held.each_ref().map(|held| held.local_addr().unwrap().port());
        Self { boot, boot_tls, api }
    }
}

impl Agent {
    pub(crate) fn start() -> Self {
        let (folder, ports) = (tempfile::tempdir().unwrap(), Ports::free());
        let task = Self::life(&folder, ports);
        Self { folder, ports, task }
    }

    fn life(folder: &tempfile::TempDir, ports: Ports) -> JoinHandle<()> {
        let at = |name: &str| folder.path().join(name);
        let paths = Paths {
            state: at("state"),
            socket: at("agent.sock"),
            seed: at("clusterducks.toml"),
            ipxe: at("tftp"),
            boot_port: ports.boot,
            boot_tls_port: ports.boot_tls,
            api: (Ipv4Addr::LOCALHOST, ports.api).into(),
            uplinks: at("uplinks"),
            uplink_user: None,
        };
        tokio::spawn(async move { run::run(paths, |_| SimHost::demo()).await.unwrap() })
    }

    /// Ends it in this instant and starts it anew with the same state.
    pub(crate) async fn restart(&mut self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
        self.task = Self::life(&self.folder, self.ports);
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    pub(crate) async fn api(&self, method: &str, path: &str, body: String) -> (StatusCode, Bytes) {
        let stream = wait_for(async || UnixStream::connect(self.socket()).await.ok()).await;
        ask(stream, method, path, body, None).await
    }

    /// Asks for a status other than this one, for so many seconds: its code, its tag, and what it says.
    pub(crate) async fn other_status(&self, tag: &str, wait_s: u32) -> (StatusCode, String, Value) {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/v1/status")
            .header("host", "agent")
            .header("if-none-match", tag)
            .header("prefer", format!("respond-async, wait={wait_s}"));
        let answer =
            sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let (status, tag) =
            (answer.status(), answer.headers()["etag"].to_str().unwrap().to_owned());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, tag, serde_json::from_slice(&body).unwrap_or_default())
    }

    pub(crate) async fn apply(&self, document: &Value) -> (StatusCode, Value) {
        let (status, body) = self.api("PUT", "/v1/desired", document.to_string()).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) async fn status(&self) -> Value {
        serde_json::from_slice(&self.api("GET", "/v1/status", String::new()).await.1).unwrap()
    }

    pub(crate) async fn converged(&self, generation: u64) -> Value {
        wait_for(async || {
            let status = self.status().await;
            (status["generation"] == generation && status["converged"] == true).then_some(status)
        })
        .await
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    /// The folder with the certificates.
    pub(crate) fn tls(&self) -> PathBuf {
        self.folder.path().join("state/tls")
    }

    pub(crate) async fn metrics(&self) -> String {
        let (_, text) = self.api("GET", "/metrics", String::new()).await;
        String::from_utf8(text.to_vec()).unwrap()
    }

    /// Asks the boot service as the machine with this address.
    pub(crate) async fn boot(
        &self,
        from: Ipv4Addr,
        path: &str,
        token: Option<&str>,
    ) -> (StatusCode, String) {
        let stream = connect(from, self.ports.boot).await;
        let (status, body) = ask(stream, "GET", path, String::new(), token).await;
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// A connection from this address to a port of the agent, as soon as it listens.
pub(crate) async fn connect(from: Ipv4Addr, port: u16) -> TcpStream {
    wait_for(async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.ok()
    })
    .await
}

/// Puts a file in its place at once.
pub(crate) fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    host::files::write_atomic(path, content.as_bytes(), 0o600).unwrap();
}

pub(crate) async fn wait_for<T>(mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect("it came about within 20 s")
}

pub(crate) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
    body: String,
    token: Option<&str>,
) -> (StatusCode, Bytes) {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "agent");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer =
        sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
    let status = answer.status();
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}

pub(crate) fn document(generation: u64) -> Value {
    json!({
        "generation": generation,
        "pools": [{ "name": "tank", "disks": [{ "serial": "SIM-0" }] }],
        "networks": [{ "name": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": "127.0.0.1/8",
            "dhcp": { "mode": "proxy" } }],
        "volumes": [{ "name": "debian", "pool": "tank", "size_bytes": 1 << 30,
            "source": { "location": "/dev/vdb", "format": "raw", "sha256": "0".repeat(64) } }],
        "groups": [{ "name": "lab", "volume": "debian", "generations": [1], "production": 1 }],
        "devices": [
            { "name": "pc-01", "macs": ["52:54:00:00:01:01"], "network": "lab", "address": "127.0.0.11",
              "group": "lab", "boot_mode": "overlay" },
            { "name": "pc-02", "macs": ["52:54:00:00:01:02"], "network": "lab", "address": "127.0.0.12",
              "group": "lab", "boot_mode": "ephemeral" }
        ]
    })
}

pub(crate) const PC_01: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
pub(crate) const PC_02: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);

pub(crate) fn token(script: &str) -> &str {
    script.split("cd.token=").nth(1).unwrap().split(' ').next().unwrap()
}
