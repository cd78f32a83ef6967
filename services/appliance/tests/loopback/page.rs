//! The first-boot page: what it says, whom it lets in, and that it closes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use clusterducks_appliance::{
    facts::{Door, Kind, Standing},
    join::{
        client::Patience,
        identity::PageIdentity,
        joiner::{Handle, Joiner, Settings},
    },
    page,
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use crate::panel::{Panel, Reply};

/// A box with its page open.
struct Lab {
    folder: tempfile::TempDir,
    handle: Handle,
    door: watch::Receiver<Option<Door>>,
    port: u16,
    _tasks: JoinSet<()>,
}

/// An answer's status, head and body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Lab {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            state: folder.path().to_owned(),
            certificates: folder.path().join("tls"),
            name: None,
            patience: Patience::default(),
            pause: |_failures| Duration::from_millis(10),
        };
        let (joiner, handle) = Joiner::open(settings, Ok(None)).await.unwrap();
        let settings = page::Settings {
            kind: Kind::Agent,
            identity: folder.path().join("page.pem"),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            farewell: Duration::from_secs(1),
        };
        let opened = watch::Sender::new(None);
        let mut door = opened.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(joiner.run());
        tasks.spawn(page::keep(settings, handle.clone(), opened, watch::Sender::new(None)));
        let port = door.wait_for(Option::is_some).await.unwrap().as_ref().unwrap().port;
        Self { folder, handle, door, port, _tasks: tasks }
    }

    fn code(&self) -> String {
        self.door.borrow().as_ref().unwrap().code.clone()
    }

    async fn connect(&self, from: Ipv4Addr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.connect((Ipv4Addr::LOCALHOST, self.port).into()).await
    }

    /// Trusts the page's own certificate and nobody else's.
    async fn send(&self, from: Ipv4Addr, request: String) -> Answer {
        let identity = PageIdentity::open(&self.folder.path().join("page.pem")).unwrap();
        assert_eq!(identity.fingerprint().len(), 95);
        let mut roots = RootCertStore::empty();
        roots.add(identity.certificate).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = self.connect(from).await.unwrap();
        let name = ServerName::try_from("clusterducks").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server ends without a farewell of TLS's when it closes.
        let _end = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nhost: box\r\nconnection: close\r\n\r\n");
        self.send(Ipv4Addr::LOCALHOST, request).await
    }

    async fn post(&self, from: Ipv4Addr, code: &str, join: &str) -> Answer {
        let body = format!("code={code}&join={join}");
        let request = format!(
            "POST / HTTP/1.1\r\nhost: box\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(from, request).await
    }
}

fn text(panel: &Panel) -> String {
    panel.code().typed().unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn the_page_has_a_form_and_nothing_that_runs() {
    let lab = Lab::start().await;
    let page = lab.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    assert!(page.head.contains("cache-control: no-store"), "{}", page.head);
    assert!(page.body.contains("waiting to be joined to a panel"), "{}", page.body);
    assert!(page.body.contains("<form method=\"post\"") && !page.body.contains("<script"));
    assert!(!page.body.contains(&lab.code()), "who sees the page need not see the screen");
    assert_eq!(lab.get("/style.css").await.status, 200);
    assert_eq!(lab.get("/other").await.status, 404);
}

#[tokio::test]
async fn only_who_stands_before_the_box_is_listened_to() {
    let panel = Panel::start(&[Reply::Join]).await;
    let lab = Lab::start().await;
    let (here, there) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    for _ in 0..5 {
        let page = lab.post(here, "00000-00000", &text(&panel)).await;
        assert_eq!(page.status, 403);
        assert!(
            page.body.contains("This is not the code on the box&#39;s screen."),
            "{}",
            page.body
        );
    }
    let page = lab.post(here, &lab.code(), &text(&panel)).await;
    assert_eq!(page.status, 429, "also with the right code");
    assert!(page.body.contains("too many tries; wait"), "{}", page.body);
    assert_eq!(*lab.handle.standing().borrow(), Standing::Alone);
    assert!(panel.asked().is_empty());
    assert_eq!(lab.post(there, &lab.code(), &text(&panel)).await.status, 303);
}

#[tokio::test]
async fn the_right_code_joins_the_box_and_the_page_closes() {
    let panel = Panel::start(&[Reply::Join]).await;
    let mut lab = Lab::start().await;
    let typed = lab.code().to_lowercase().replace('-', "+");
    let page = lab.post(Ipv4Addr::LOCALHOST, &typed, &text(&panel)).await;
    assert_eq!(page.status, 303);
    lab.handle.standing().wait_for(Standing::joined).await.unwrap();
    lab.door.wait_for(Option::is_none).await.unwrap();
    let page = lab.get("/").await;
    assert!(page.body.contains("joined to the panel 127.0.0.1:"), "{}", page.body);
    assert!(page.body.contains("This page is closed now") && !page.body.contains("<form"));
    let closed = async {
        while lab.connect(Ipv4Addr::LOCALHOST).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the page closes");
}

#[tokio::test]
async fn a_mistyped_join_code_is_told_at_its_field() {
    let panel = Panel::start(&[Reply::Join]).await;
    let lab = Lab::start().await;
    let mut join = text(&panel);
    join.replace_range(0..1, if join.starts_with('0') { "1" } else { "0" });
    let page = lab.post(Ipv4Addr::LOCALHOST, &lab.code(), &join).await;
    assert_eq!(page.status, 422);
    assert!(page.body.contains("group 1 is mistyped"), "{}", page.body);
    assert!(!page.body.contains(&join), "a secret is not written back");
    assert_eq!(*lab.handle.standing().borrow(), Standing::Alone);
}

#[tokio::test]
async fn what_the_panel_says_is_shown_as_words_whatever_it_is() {
    let why = "<script>alert(1)</script>";
    let problem = json!({ "type": "x", "title": "t", "status": 403, "detail": why });
    let panel = Panel::start(&[Reply::Json(403, problem)]).await;
    let lab = Lab::start().await;
    lab.post(Ipv4Addr::LOCALHOST, &lab.code(), &text(&panel)).await;
    let failed = |standing: &Standing| matches!(standing, Standing::Failed { .. });
    lab.handle.standing().wait_for(failed).await.unwrap();
    let page = lab.get("/").await;
    assert!(page.body.contains("it refuses: &#60;script&#62;"), "{}", page.body);
    assert!(page.body.contains("<form"), "another code may be typed");
}

#[tokio::test]
async fn a_page_that_can_t_be_opened_says_why() {
    let lab = Lab::start().await;
    let settings = page::Settings {
        kind: Kind::Agent,
        identity: lab.folder.path().join("page.pem"),
        address: (Ipv4Addr::LOCALHOST, lab.port).into(),
        farewell: Duration::ZERO,
    };
    let (trouble, mut told) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(page::keep(settings, lab.handle.clone(), watch::Sender::new(None), trouble));
    let told = tokio::time::timeout(Duration::from_secs(20), told.wait_for(Option::is_some)).await;
    let told: Option<String> = told.unwrap().unwrap().clone();
    assert!(told.is_some_and(|told| told.contains("Address already in use")));
}
