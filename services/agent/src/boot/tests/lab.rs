//! One network with a few devices, and a provisioner in memory.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::Router;
use model::{
    boot::{Boot, Chap, Secret},
    desired::{BootMode, Desired, Menu},
    name::{BootId, DeviceName, Mac},
    observed::{BootFiles, GenerationId},
};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::boot::{
    BootService, Endpoint, ProvisionError, Provisioned, Provisioner, Settings, View,
    discovered::Discoveries,
    events::Events,
    metadata::Seed,
    router,
    serve::{Limits, Server},
};

pub(super) const MAC: &str = "52:54:00:00:00:01";

pub(super) fn mac() -> Mac {
    MAC.parse().unwrap()
}

pub(super) fn name(text: &str) -> DeviceName {
    text.parse().unwrap()
}

pub(super) fn boot_id(number: u32) -> BootId {
    format!("{number:032x}").parse().unwrap()
}

pub(super) fn chap() -> Chap {
    Chap {
        user: "pc-01".into(),
        password: Secret::new("aaaabbbbcccc"),
        target_user: "server".into(),
        target_password: Secret::new("ddddeeeeffff"),
    }
}

pub(super) fn boot(number: u32) -> Boot {
    Boot {
        id: boot_id(number),
        generation: 1,
        boot_mode: BootMode::Overlay,
        from: Ipv4Addr::LOCALHOST,
        chap: Arc::new(chap()),
    }
}

pub(super) fn menu() -> Menu {
    serde_json::from_value(json!({
        "name": "main", "title": "Lab", "timeout_s": 5, "default": 1, "entries": [
            { "label": "Debian", "action": "image" },
            { "label": "Debian, the one before", "action": "generation", "generation": 2 },
            { "label": "- this disk -", "action": "local-disk" },
            { "label": "Shell", "action": "shell" },
            { "label": "Restart", "action": "reboot" },
            { "label": "Gone", "action": "generation", "generation": 9 },
        ],
    }))
    .unwrap()
}

/// The devices are at loopback addresses, so that tests can speak from each one's own.
pub(super) fn desired() -> Desired {
    let device = |number: u8, mode: &str| {
        json!({
            "name": format!("pc-{number:02}"), "macs": [format!("52:54:00:00:00:{number:02x}")], "network": "lan",
            "address": format!("127.77.0.{}", 9 + number), "group": "lab", "boot_mode": mode,
        })
    };
    let mut devices = vec![
        device(1, "overlay"),
        device(2, "overlay"),
        device(3, "ephemeral"),
        device(4, "overlay"),
        device(5, "overlay"),
    ];
    devices[1]["vdisks"] = json!([
        { "vdisk": "data-02", "use": "mount", "path": "/srv/data" },
        { "vdisk": "home-02", "use": "upper" },
    ]);
    devices[3]["menu"] = json!("main");
    devices[4]["network"] = json!("elsewhere");
    serde_json::from_value(json!({
        "generation": 1,
        "networks": [
            { "name": "lan", "interface": { "mac": "52:54:00:00:01:00" }, "address": "127.77.0.1/24" },
            { "name": "elsewhere", "interface": { "mac": "52:54:00:00:01:01" }, "address": "127.78.0.1/24" },
        ],
        "groups": [{
            "name": "lab", "volume": "debian", "generations": [1, 2], "production": 1,
            "kernel_arguments": "console=ttyS0",
        }],
        "menus": [menu()],
        "devices": devices,
    }))
    .unwrap()
}

fn files(folder: &std::path::Path, partition: u32) -> BootFiles {
    BootFiles {
        folder: folder.display().to_string(),
        kernel_sha256: "a".repeat(64).parse().unwrap(),
        initrd_sha256: "b".repeat(64).parse().unwrap(),
        root_partition: partition,
    }
}

pub(super) fn generation(number: u32) -> GenerationId {
    GenerationId { group: "lab".parse().unwrap(), number }
}

pub(super) fn view() -> View {
    View::new(Arc::new(desired().into()), [].into())
}

/// Gives each request a boot of its own, as the owner does for requests that don't meet.
#[derive(Debug)]
pub(super) struct Bench {
    view: Mutex<Arc<View>>,
    pub(super) provisioned: AtomicU32,
    pub(super) answer: Mutex<Result<Duration, ProvisionError>>,
}

impl Bench {
    pub(super) fn put(&self, desired: Desired, folder: &std::path::Path) {
        let files = [(generation(1), files(folder, 2)), (generation(2), files(folder, 2))];
        *self.view.lock().unwrap() = Arc::new(View::new(Arc::new(desired.into()), files.into()));
    }
}

#[derive(Debug, Clone)]
pub(super) struct Owner(pub(super) Arc<Bench>);

impl Provisioner for Owner {
    async fn provision(
        &self,
        device: DeviceName,
        generation: u32,
        from: Ipv4Addr,
    ) -> Result<Provisioned, ProvisionError> {
        let wait = self.0.answer.lock().unwrap().clone()?;
        tokio::time::sleep(wait).await;
        let number = self.0.provisioned.fetch_add(1, Ordering::SeqCst) + 1;
        let boot_mode = self.view().document().device(&device).unwrap().boot_mode;
        Ok(Provisioned { boot: Boot { generation, boot_mode, from, ..boot(number) } })
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.0.view.lock().unwrap())
    }
}

/// A service on a real socket.
pub(super) struct Lab {
    pub(super) bench: Arc<Bench>,
    pub(super) service: Arc<BootService<Owner>>,
    pub(super) events: Arc<Events>,
    pub(super) registry: Registry,
    pub(super) folder: tempfile::TempDir,
    address: SocketAddr,
    _stop: tokio::sync::oneshot::Sender<()>,
}

pub(super) const KERNEL_BYTES: usize = 300_000;

impl Lab {
    pub(super) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..KERNEL_BYTES).map(|n| (n % 251) as u8).collect();
        for (file, bytes) in
            [("vmlinuz", &bytes[..]), ("initrd", b"initrd"), ("undionly.kpxe", b"pxe")]
        {
            std::io::Write::write_all(
                &mut std::fs::File::create(folder.path().join(file)).unwrap(),
                bytes,
            )
            .unwrap();
        }
        let bench = Arc::new(Bench {
            view: Mutex::default(),
            provisioned: AtomicU32::new(0),
            answer: Mutex::new(Ok(Duration::ZERO)),
        });
        bench.put(desired(), folder.path());
        let settings = Settings {
            seed: Seed([7; 32]),
            ipxe_folder: folder.path().to_owned(),
            provision_timeout: Duration::from_millis(300),
            clock: || 1_000,
        };
        let events = Arc::new(Events::default());
        let mut registry = Registry::default();
        let service = Arc::new(BootService::new(
            Owner(Arc::clone(&bench)),
            settings,
            Arc::clone(&events),
            Discoveries::new(vec![]),
            &mut registry,
        ));
        let endpoint =
            Endpoint { network: "lan".parse().unwrap(), base_url: "http://127.77.0.1".into() };
        let router: Router = router(Arc::clone(&service), endpoint);
        let listener = TcpListener::bind("127.77.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let connections = service.metrics().connections().clone();
        let server = Server::new(limits, None, connections);
        tokio::spawn(server.serve(listener, router, async {
            let _sender_gone = stopped.await;
        }));
        Self { bench, service, events, registry, folder, address, _stop: stop }
    }

    /// A connection from an address of ours.
    pub(super) async fn connect(&self, from: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn ask(&self, from: Ipv4Addr, request: &str, body: &str) -> Answer {
        let mut stream = self.connect(from).await;
        let (head, rest) = request.split_once('\n').unwrap_or((request, ""));
        let rest = rest.replace('\n', "\r\n");
        let length = body.len();
        let text = format!(
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{rest}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        Answer::parse(&answer)
    }

    pub(super) async fn get(&self, from: Ipv4Addr, path: &str) -> Answer {
        self.ask(from, &format!("GET {path}"), "").await
    }

    /// The script of a device, which has to be there.
    pub(super) async fn script(&self, from: Ipv4Addr, path: &str) -> String {
        let answer = self.get(from, path).await;
        assert_eq!(answer.status, 200, "{path}");
        answer.text()
    }

    /// Boots a device as far as its script; returns its token and its boot.
    pub(super) async fn boot(&self, from: Ipv4Addr, mac: &str) -> (String, String) {
        let script = self.script(from, &format!("/boot/{mac}.ipxe")).await;
        let cut = |after: &str, length: usize| {
            let at = script.find(after).unwrap_or_else(|| panic!("no {after} in {script}"));
            script[at + after.len()..][..length].to_owned()
        };
        (cut("cd.token=", 64), cut("?boot=", 32))
    }

    pub(super) async fn metadata(&self, from: Ipv4Addr, token: &str) -> Answer {
        let request = format!("GET /metadata/v1/boot\nAuthorization: Bearer {token}\n");
        self.ask(from, &request, "").await
    }

    pub(super) async fn event(&self, from: Ipv4Addr, token: &str, body: &str) -> Answer {
        let request = format!("POST /metadata/v1/events\nAuthorization: Bearer {token}\n");
        self.ask(from, &request, body).await
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head[9..12].parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix))
    }
}
