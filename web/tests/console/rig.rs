//! A panel that is served, people who are signed in at it, and what a browser does of its own: cookies and the token of forms.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use clusterducks_panel::{
    app::App,
    authorities::Client,
    fleet,
    folder::Folder,
    guard::new_secret,
    routes, run,
    serve::{Limits, Offer, Server},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Bytes, client::conn::http1, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use panel::{
    ca::{Certificate, Host},
    noun::{Id, Network, Organization, Place, User},
    operations::{Actor, Kind, Panel},
    secret::ExposeSecret as _,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::ServerName,
    sign::{CertifiedKey, SingleCertAndKey},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

pub(crate) const ROOT: Actor = Actor::Panel("test");

/// A panel that is served until this is dropped.
pub(crate) struct Rig {
    pub(crate) app: App,
    pub(crate) code: String,
    pub(crate) address: SocketAddr,
    pub(crate) tls: TlsConnector,
    pub(crate) data: Folder,
    client: Client,
    offer: Offer,
    stop: watch::Sender<()>,
    pub(crate) folder: TempDir,
}

pub(crate) fn value<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// What a browser does that knows this root alone.
pub(crate) fn trusting(root: &Certificate) -> TlsConnector {
    connector(root, None)
}

fn connector(root: &Certificate, shows: Option<CertifiedKey>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let client = match shows {
        // Whatever the key: a browser that lies is one of the cases.
        Some(shows) => client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shows))),
        None => client.with_no_client_auth(),
    };
    TlsConnector::from(Arc::new(client))
}

impl Rig {
    /// A panel with nothing in it.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("panel");
        let hosts = [Host::try_from("127.0.0.1").unwrap().to_owned()];
        let opened =
            tokio::task::spawn_blocking(move || run::open(&data, &hosts)).await.unwrap().unwrap();
        let tls = trusting(opened.app.ca().root());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopped) = watch::channel(());
        let (_, offer) = watch::channel(opened.config());
        let server = Server { limits: Limits::default(), tls: Some(offer.clone()) };
        let router = routes::router(opened.app.clone());
        tokio::spawn(server.serve(listener, router, async move {
            let _end = stopped.changed().await;
        }));
        let code = opened.code.expose_secret().to_owned();
        let (data, client) = (opened.folder, opened.client);
        Self { app: opened.app, code, address, tls, data, client, offer, stop, folder }
    }

    /// The link to agents that answer at this port, until this is dropped.
    pub(crate) fn link(&self, port: u16) -> JoinHandle<()> {
        let stopped = self.stop.subscribe();
        let (app, data) = (self.app.clone(), self.data.clone());
        let ports = fleet::Ports { agents: port, tunnels: port };
        let link = fleet::Link { client: self.client.clone(), ports, offer: self.offer.clone() };
        tokio::spawn(fleet::keep(app, data, link, stopped))
    }

    pub(crate) fn panel(&self) -> &Panel {
        self.app.panel()
    }

    pub(crate) fn make<T: Kind>(&self, at: Place, json: Value) -> Id<T> {
        self.panel().create::<T>(ROOT, at, value(json)).unwrap().id
    }

    /// A user; `role` is one on the network `north`.
    pub(crate) fn user(
        &self,
        at: Place,
        name: &str,
        standing: &str,
        role: Option<&str>,
    ) -> Id<User> {
        let roles: Vec<_> =
            role.iter().map(|role| json!({ "network": "north", "role": role })).collect();
        self.make(
            at,
            json!({ "name": name, "full_name": name, "standing": standing, "roles": roles }),
        )
    }

    /// A browser at which nobody is signed in.
    pub(crate) fn browser(&self) -> Browser {
        self.browser_at(Ipv4Addr::LOCALHOST)
    }

    /// A client that comes from this address.
    pub(crate) fn browser_at(&self, from: Ipv4Addr) -> Browser {
        Browser::new(from, self.address, self.tls.clone())
    }

    /// A browser that shows this certificate, and proves with this key that it is its own.
    pub(crate) fn browser_with(&self, shows: CertifiedKey) -> Browser {
        Browser { tls: connector(self.app.ca().root(), Some(shows)), ..self.browser() }
    }

    /// A browser at which this user is signed in.
    pub(crate) async fn seat(&self, user: Id<User>) -> Browser {
        let (secret, digest) = new_secret();
        self.panel().begin_session(user, digest, 3_600_000, "127.0.0.1", "test").unwrap();
        let mut browser = self.browser();
        browser.cookies.insert("__Host-session".into(), secret);
        browser.get("/account").await;
        browser
    }
}

/// A site with all that it takes to boot a device.
pub(crate) struct School {
    pub(crate) organization: Id<Organization>,
    pub(crate) network: Id<Network>,
}

impl School {
    pub(crate) fn at(&self) -> Place {
        Place::Network(self.network)
    }

    pub(crate) fn home(&self) -> Place {
        Place::Organization(self.organization)
    }
}

/// An organization with the network `north`, and in it one of everything but devices.
pub(crate) fn school(rig: &Rig, name: &str) -> School {
    use panel::noun::{Group, Menu, Server, Subnet, Vdisk, Volume};
    let organization = rig.make::<Organization>(Place::Panel, json!({ "name": name }));
    let home = Place::Organization(organization);
    let network = rig.make::<Network>(home, json!({ "name": "north" }));
    let at = Place::Network(network);
    rig.make::<Subnet>(
        at,
        json!({ "name": "lab", "subnet": "10.77.0.0/16", "gateway": "10.77.0.254",
        "dhcp": { "mode": "authoritative", "first": "10.77.255.1", "last": "10.77.255.99" } }),
    );
    rig.make::<Server>(at, json!({ "name": "agent-1", "role": "both", "primary": true,
        "interfaces": [{ "subnet": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": "10.77.0.1" }],
        "pools": [{ "name": "tank", "layout": "mirror", "disks": [{ "serial": "A" }, { "serial": "B" }] }] }));
    rig.make::<Volume>(
        at,
        json!({ "name": "debian", "pool": "tank", "size_bytes": 8_589_934_592_u64 }),
    );
    rig.make::<Group>(at, json!({ "name": "lab", "volume": "debian", "generations": [1, 2], "production": 1, "test": 2 }));
    rig.make::<Menu>(at, json!({ "name": "main", "title": "Lab", "entries": [{ "label": "Boot", "action": "image" }] }));
    rig.make::<Vdisk>(
        at,
        json!({ "name": "home-01", "server": "agent-1", "pool": "tank", "size_bytes": 1 << 30 }),
    );
    School { organization, network }
}

/// A device of the school.
pub(crate) fn device(number: u8) -> Value {
    json!({ "name": format!("pc-{number:02}"), "macs": [format!("52:54:00:00:01:{number:02x}")],
        "network": "lab", "address": format!("10.77.0.{number}"), "group": "lab", "boot_mode": "overlay" })
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// The same, where it is no text.
    pub(crate) bytes: Bytes,
}

impl Answer {
    /// Where it leads.
    pub(crate) fn to(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        self.headers[header::LOCATION].to_str().unwrap()
    }

    /// Its page, which must have come well.
    pub(crate) fn page(&self) -> &str {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        &self.body
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    /// What is written behind a text, up to the next quote.
    pub(crate) fn after(&self, text: &str) -> String {
        let start = self.body.find(text).unwrap_or_else(|| panic!("no {text:?} in {}", self.body));
        let rest = &self.body[start + text.len()..];
        rest[..rest.find(['"', '<']).unwrap()].to_owned()
    }
}

/// What somebody sits at.
pub(crate) struct Browser {
    from: Ipv4Addr,
    address: SocketAddr,
    tls: TlsConnector,
    connection: Option<SendRequest<Full<Bytes>>>,
    pub(crate) cookies: BTreeMap<String, String>,
    /// The token of the page that was seen last.
    pub(crate) csrf: String,
}

impl Browser {
    pub(crate) fn new(from: Ipv4Addr, address: SocketAddr, tls: TlsConnector) -> Self {
        let (cookies, csrf) = (BTreeMap::new(), String::new());
        Self { from, address, tls, connection: None, cookies, csrf }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], String::new()).await
    }

    /// As htmx asks for a part.
    pub(crate) async fn part(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[("hx-request", "true")], String::new()).await
    }

    /// Sends a form as a browser does, with the token of the page that it stood on.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf.clone();
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        let body = serde_urlencoded::to_string(all).unwrap();
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "same-origin"),
        ];
        self.send(Method::POST, path, &headers, body).await
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        self.send_bytes(method, path, headers, body.into()).await
    }

    pub(crate) async fn send_bytes(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let request = self.request(method, path, headers, body);
        let mut connection = self.connect().await;
        let response = connection.send_request(request).await.unwrap();
        self.connection = Some(connection);
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            bytes: body,
        };
        self.keep(&answer);
        answer
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string());
        if !self.cookies.is_empty() {
            let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
            request = request.header(header::COOKIE, pairs.collect::<Vec<_>>().join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body.into())).unwrap()
    }

    /// The connection that is there, while it is; else a new one.
    pub(crate) async fn connect(&mut self) -> SendRequest<Full<Bytes>> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return connection;
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.from, 0).into()).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        let name = ServerName::from(self.address.ip());
        let stream = self.tls.connect(name, stream).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() || text.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let mark = "name=\"csrf\" value=\"";
        if answer.body.contains(mark) {
            self.csrf = answer.after(mark);
        }
    }
}
