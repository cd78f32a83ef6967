//! The agent's servers over TLS: whom the API answers, certificates that change, boots over HTTPS.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod lab;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use lab::{Agent, PC_01, ask, connect, document, token, wait_for, write};

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A chain and its key, as PEM.
struct Identity {
    chain: String,
    key: String,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The common name is always the panel's: only the alternative names may count.
    fn issue(&self, name: &str) -> Identity {
        static NEXT: AtomicU64 = AtomicU64::new(1000);
        self.issue_numbered(name, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// What took these numbers back, in PEM.
    fn revoked(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            // Agents go on with a list that is too old.
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn issue_numbered(&self, name: &str, serial: u64) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "panel");
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { chain, key: key.serialize_pem() }
    }
}

/// What the agent has, and two CAs: the panel's own and a stranger.
struct Fleet {
    agent: Agent,
    ours: Ca,
    stranger: Ca,
}

impl Fleet {
    async fn start() -> Self {
        let fleet = Self {
            agent: Agent::start(),
            ours: Ca::new("clusterducks"),
            stranger: Ca::new("somebody"),
        };
        fleet.put("panel-ca.crt", &fleet.ours.pem);
        fleet.install("api");
        fleet.state("api", "in-use").await;
        fleet
    }

    fn put(&self, name: &str, content: &str) {
        write(&self.agent.tls().join(name), content);
    }

    /// Gives a server of the agent a certificate for its address.
    fn install(&self, server: &str) {
        let identity = self.ours.issue("127.0.0.1");
        self.put(&format!("{server}.key"), &identity.key);
        self.put(&format!("{server}.crt"), &identity.chain);
    }

    async fn state(&self, server: &str, state: &str) -> Value {
        wait_for(async || {
            let shown = self.agent.status().await["certificates"][server].take();
            (shown["state"] == state).then_some(shown)
        })
        .await
    }

    fn client(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ours.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_at(Ipv4Addr::LOCALHOST, client).await
    }

    async fn connect_at(
        &self,
        address: Ipv4Addr,
        client: &TlsConnector,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = wait_for(async || self.reach(address).await).await;
        client.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await
    }

    /// A connection to the port of the API, when it listens there.
    async fn reach(&self, address: Ipv4Addr) -> Option<TcpStream> {
        TcpStream::connect((address, self.agent.ports().api)).await.ok()
    }

    async fn closed(&self, address: Ipv4Addr) {
        wait_for(async || self.reach(address).await.is_none().then_some(())).await;
    }

    /// Asks the API as the panel.
    async fn panel(&self, method: &str, path: &str, body: String) -> (StatusCode, Value) {
        self.panel_at(Ipv4Addr::LOCALHOST, method, path, body).await
    }

    async fn panel_at(
        &self,
        address: Ipv4Addr,
        method: &str,
        path: &str,
        body: String,
    ) -> (StatusCode, Value) {
        let panel = self.ours.issue("panel");
        let client = self.client(Some(&panel), &[&TLS13]);
        let stream = self.connect_at(address, &client).await.unwrap();
        let (status, body) = ask(stream, method, path, body, None).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// A client that is refused: it never gets an answer, and the agent counts it by this reason.
    async fn refused(&self, client: &TlsConnector, reason: &str) {
        self.refused_at(Ipv4Addr::LOCALHOST, client, reason).await;
    }

    async fn refused_at(&self, address: Ipv4Addr, client: &TlsConnector, reason: &str) {
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        if let Ok(mut stream) = self.connect_at(address, client).await {
            let mut answer = Vec::new();
            let _broken = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: agent\r\n\r\n").await;
            let _broken = stream.read_to_end(&mut answer).await;
            assert_eq!(String::from_utf8_lossy(&answer), "", "{reason}");
        }
        let line = format!("clusterducks_api_tls_refused_total{{reason=\"{reason}\"}} 1");
        let metrics = wait_for(async || {
            let metrics = self.agent.metrics().await;
            metrics.contains("clusterducks_api_tls_refused_total{").then_some(metrics)
        });
        let metrics = metrics.await;
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_applies_a_document_and_reads_the_status() {
    let fleet = Fleet::start().await;
    let (status, accepted) = fleet.panel("PUT", "/v1/desired", document(1).to_string()).await;
    assert_eq!((status, accepted), (StatusCode::OK, json!({ "generation": 1 })));
    fleet.agent.converged(1).await;
    let (status, shown) = fleet.panel("GET", "/v1/status", String::new()).await;
    assert_eq!((status, &shown["generation"]), (StatusCode::OK, &json!(1)));
    assert_eq!(shown["certificates"]["boot"], json!({ "state": "absent" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_is_refused() {
    let fleet = Fleet::start().await;
    fleet.refused(&fleet.client(None, &[&TLS13]), "no-certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_is_refused() {
    let fleet = Fleet::start().await;
    let panel = fleet.stranger.issue("panel");
    fleet.refused(&fleet.client(Some(&panel), &[&TLS13]), "issuer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_right_ca_with_another_name_is_refused() {
    let fleet = Fleet::start().await;
    let agent = fleet.ours.issue("agent-02");
    fleet.refused(&fleet.client(Some(&agent), &[&TLS13]), "name").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_whose_certificate_was_taken_back_is_refused() {
    let fleet = Fleet::start().await;
    let (lost, other) = (fleet.ours.issue_numbered("panel", 7), fleet.ours.issue("panel"));
    let list = |list: &str| json!({ "generation": 1, "revocation_list_pem": list }).to_string();
    let wrong = fleet.ours.pem.replace("CERTIFICATE", "X509 CRL");
    for wrong in ["none", &wrong] {
        let (status, refused) = fleet.panel("PUT", "/v1/desired", list(wrong)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused["faults"][0]["path"], "revocation_list_pem", "{refused}");
    }
    let (status, _) = fleet.panel("PUT", "/v1/desired", list(&fleet.ours.revoked(&[7]))).await;
    assert_eq!(status, StatusCode::OK);
    let heard = async |identity: &Identity| {
        let client = fleet.client(Some(identity), &[&TLS13]);
        let mut answer = Vec::new();
        if let Ok(mut stream) = fleet.connect(&client).await {
            let request = b"GET /v1/status HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n";
            let _broken = stream.write_all(request).await;
            let _broken = stream.read_to_end(&mut answer).await;
        }
        answer.starts_with(b"HTTP/1.1 200")
    };
    wait_for(async || (!heard(&lost).await).then_some(())).await;
    assert!(heard(&other).await, "another one of the panel's is not on the list");
    fleet.state("api", "in-use").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_itself_is_refused_over_an_older_tls() {
    let fleet = Fleet::start().await;
    let panel = fleet.ours.issue("panel");
    fleet.refused(&fleet.client(Some(&panel), &[&TLS12]), "protocol").await;
}

/// Serves devices at .7, and is managed at this address of the same card.
fn managed_at(generation: u64, management: Ipv4Addr) -> String {
    let mut document = document(generation);
    document["networks"][0]["address"] = json!("127.0.0.7/8");
    let interface = &document["networks"][0]["interface"];
    document["management"] =
        json!({ "interface": interface, "address": format!("{management}/8") });
    document.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_lan_the_panel_alone_is_answered_and_at_the_management_address_alone() {
    let [devices, first, second] = [7, 5, 6].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let fleet = Fleet::start().await;
    fleet.panel("PUT", "/v1/desired", managed_at(1, first)).await;
    fleet.agent.converged(1).await;
    assert!(fleet.reach(first).await.is_none(), "no direct link was chosen");

    fleet.put("link", "direct\n");
    let (status, shown) = fleet.panel_at(first, "GET", "/v1/status", String::new()).await;
    assert_eq!((status, &shown["generation"]), (StatusCode::OK, &json!(1)));
    fleet.refused_at(first, &fleet.client(None, &[&TLS13]), "no-certificate").await;
    assert!(fleet.reach(devices).await.is_none(), "devices are served there");

    fleet.panel_at(first, "PUT", "/v1/desired", managed_at(2, second)).await;
    let (status, _) = fleet.panel_at(second, "GET", "/v1/status", String::new()).await;
    assert_eq!(status, StatusCode::OK);
    fleet.closed(first).await;

    fleet.put("link", "tunnel\n");
    fleet.closed(second).await;
    assert_eq!(fleet.panel("GET", "/v1/status", String::new()).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_while_a_connection_stands() {
    let fleet = Fleet::start().await;
    let panel = fleet.ours.issue("panel");
    let client = fleet.client(Some(&panel), &[&TLS13]);
    let mut standing = fleet.connect(&client).await.unwrap();
    let certificate = |stream: &TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let old = certificate(&standing);
    fleet.install("api");
    wait_for(async || {
        let stream = fleet.connect(&client).await.ok()?;
        (certificate(&stream) != old).then_some(())
    })
    .await;
    standing.write_all(b"GET /v1/status HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    standing.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_certificate_is_shown_and_the_last_good_one_stays_in_use() {
    let fleet = Fleet::start().await;
    fleet.put("api.crt", "nonsense");
    let shown = fleet.state("api", "faulty").await;
    let why = shown["why"].as_str().unwrap();
    assert!(why.contains("api.crt") && why.contains("no certificate"), "{why}");
    assert_eq!(fleet.panel("GET", "/v1/status", String::new()).await.0, StatusCode::OK);

    std::fs::remove_file(fleet.agent.tls().join("panel-ca.crt")).unwrap();
    let missing = wait_for(async || {
        let shown = fleet.agent.status().await["certificates"]["api"].take();
        shown["why"].as_str().filter(|why| why.contains("panel-ca.crt is missing")).map(drop)
    });
    missing.await;

    for name in ["api.crt", "api.key"] {
        std::fs::remove_file(fleet.agent.tls().join(name)).unwrap();
    }
    fleet.state("api", "absent").await;
    fleet.closed(Ipv4Addr::LOCALHOST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_ipxe_came_over_https_stays_there() {
    let fleet = Fleet::start().await;
    fleet.install("boot");
    fleet.agent.apply(&document(1)).await;
    fleet.agent.converged(1).await;
    let port = fleet.agent.ports().boot_tls;
    let client = fleet.client(None, &[&TLS12]);
    let get = async |path: &str, token: Option<&str>| {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = client.connect(name, connect(PC_01, port).await).await.unwrap();
        let (status, body) = ask(stream, "GET", path, String::new(), token).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        String::from_utf8(body.to_vec()).unwrap()
    };
    let script = get("/boot/52-54-00-00-01-01.ipxe", None).await;
    assert!(script.contains(&format!(" cd.server=https://127.0.0.1:{port} ")), "{script}");
    let metadata = get("/metadata/v1/boot", Some(token(&script))).await;
    assert!(metadata.contains("device=pc-01\n"), "{metadata}");

    let (_, plain) = fleet.agent.boot(PC_01, "/boot/52-54-00-00-01-01.ipxe", None).await;
    let port = fleet.agent.ports().boot;
    assert!(plain.contains(&format!(" cd.server=http://127.0.0.1:{port} ")), "{plain}");
}
