//! A tunnel in this process, a panel's authority, and clients.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use clusterducks_tunnel::{
    folders::Folders,
    owner::MakeUsers,
    ports::Ports,
    run::{Service, Settings},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use model::{
    code::{PairingCode, PairingSecret},
    tunnel::{Agent, EXPORTER, ForwardPort, Offer, Paired, STREAM, Side, Table, proven},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The name in the tunnel's certificate.
pub(crate) const NAME: &str = "north.tunnel.clusterducks.internal";
/// A day and a bit after 1970.
const BEGIN_MS: u64 = 100_000_000;

/// Waits until something is there.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looked = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("waited for {what} in vain"))
}

/// The user that runs this test.
pub(crate) fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// A panel's authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A chain and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The common name is always the panel's: only the alternative names may count.
    pub(crate) fn issue(&self, name: &str, serial: u64) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "panel");
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { chain, key: key.serialize_pem() }
    }

    /// A chain for who asks.
    pub(crate) fn answer(&self, request_pem: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(request_pem).unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.not_after = date_time_ymd(2040, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        request.params = params;
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// What took these numbers back, in PEM.
    pub(crate) fn revoked(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A tunnel that runs in this process.
pub(crate) struct Tunnel {
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) clock: Arc<AtomicU64>,
    /// While it is set, no users can be made.
    pub(crate) no_users: Arc<AtomicBool>,
    settings: Settings,
    service: Option<Service>,
}

impl Tunnel {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        change(&mut settings);
        let mut tunnel = Self {
            folder,
            address: settings.api,
            clock: Arc::new(AtomicU64::new(BEGIN_MS)),
            no_users: Arc::default(),
            settings,
            service: None,
        };
        tunnel.restart().await;
        tunnel
    }

    pub(crate) async fn restart(&mut self) {
        self.service = None;
        let (clock, no_users) = (Arc::clone(&self.clock), Arc::clone(&self.no_users));
        let make_users: MakeUsers = Box::new(move |_before, _now| {
            if no_users.load(Ordering::Relaxed) { Err("no users".into()) } else { Ok(()) }
        });
        let clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let service = Service::start(self.settings.clone(), clock, make_users).await.unwrap();
        self.address = service.address;
        self.service = Some(service);
    }

    pub(crate) fn run(&self) -> &Path {
        &self.settings.folders.run
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// How the box's screen sees it.
    pub(crate) async fn standing(&self) -> io::Result<Value> {
        let stream = UnixStream::connect(self.run().join("socket")).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().uri("/v1/standing").header("host", "tunnel");
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok(serde_json::from_slice(&body).unwrap())
    }

    /// The code that it shows.
    pub(crate) async fn code(&self) -> PairingCode {
        let standing = self.standing().await.unwrap();
        PairingCode::parse(standing["pairing"]["code"].as_str().unwrap()).unwrap()
    }

    /// A connection of somebody without a certificate, who trusts any.
    pub(crate) async fn stranger(&self) -> io::Result<Client> {
        Client::connect(self.address, &anybody()).await
    }

    /// A tunnel that is paired, with this table in force.
    pub(crate) async fn paired(table: Table) -> (Self, Ca) {
        Self::paired_with(table, |_| {}).await
    }

    pub(crate) async fn paired_with(
        table: Table,
        change: impl FnOnce(&mut Settings),
    ) -> (Self, Ca) {
        let (tunnel, ca) = (Self::start_with(change).await, Ca::new("clusterducks"));
        let code = tunnel.code().await;
        let mut client = tunnel.stranger().await.unwrap();
        assert_eq!(client.pair(&code.secret, &ca, table).await.unwrap(), StatusCode::NO_CONTENT);
        (tunnel, ca)
    }

    /// A connection of the panel.
    pub(crate) async fn panel(&self, ca: &Ca) -> Client {
        self.client(ca, &ca.issue("panel", 1)).await.unwrap()
    }

    /// A connection by which somebody shows this certificate and expects one of this authority.
    pub(crate) async fn client(&self, ca: &Ca, identity: &Identity) -> io::Result<Client> {
        Client::connect(self.address, &known(ca, identity)).await
    }
}

/// As in this folder, by this user.
pub(crate) fn settings(folder: &Path) -> Settings {
    let at = |name: &str| folder.join(name);
    let folders = Folders {
        data: at("data"),
        run: at("run"),
        userdb: at("userdb"),
        sshd: at("sshd"),
        sshd_run: at("sshd-run"),
    };
    for folder in [&folders.data, &folders.run, &folders.sshd] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let public = include_str!("../../testdata/ssh_host_ed25519_key.pub");
    write(&folders.sshd.join("ssh_host_ed25519_key.pub"), public);
    let mut settings = Settings::new(folders, at("seed.toml"), ([127, 0, 0, 1], 0).into());
    (settings.reader, settings.relay) = (own_uid(), own_uid());
    settings.ports = Ports { uid_of: |_| own_uid(), ..Ports::default() };
    settings
}

pub(crate) fn write(path: &Path, content: &str) {
    host::files::write_atomic(path, content.as_bytes(), 0o644).unwrap();
}

/// A port of a server, at which the test itself listens.
pub(crate) async fn forwarded(server: u64) -> (Agent, TcpListener) {
    loop {
        // The kernel gives out some that lead to no server.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(port) = ForwardPort::new(listener.local_addr().unwrap().port()) {
            return (agent(server, port), listener);
        }
    }
}

pub(crate) fn agent(server: u64, forward: ForwardPort) -> Agent {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0".parse().unwrap();
    Agent { server, forward, key }
}

pub(crate) fn table(generation: u64, agents: Vec<Agent>) -> Table {
    Table { generation, agents, ..Table::default() }
}

/// A connection to the API.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    pub(crate) exported: [u8; 32],
    /// What the tunnel showed.
    pub(crate) certificate: CertificateDer<'static>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, tls: &TlsConnector) -> io::Result<Self> {
        let stream = tls_stream(address, tls).await?;
        let session = stream.get_ref().1;
        let exported = session.export_keying_material([0; 32], EXPORTER, None).unwrap();
        let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Ok(Self { sender, exported, certificate })
    }

    pub(crate) async fn send(
        &mut self,
        request: hyper::http::request::Builder,
        body: impl Into<Bytes>,
    ) -> io::Result<Response<hyper::body::Incoming>> {
        let request = request.header("host", NAME).body(Full::new(body.into())).unwrap();
        let sent = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        sent.await.map_err(io::Error::other)
    }

    /// The status and the body, which is JSON or nothing.
    pub(crate) async fn ask(
        &mut self,
        request: hyper::http::request::Builder,
        body: impl Into<Bytes>,
    ) -> io::Result<(StatusCode, Value)> {
        let response = self.send(request, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<(StatusCode, Value)> {
        self.ask(Request::get(path), "").await
    }

    pub(crate) async fn put(
        &mut self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> io::Result<(StatusCode, Value)> {
        self.ask(Request::put(path), serde_json::to_vec(body).unwrap()).await
    }

    /// The status of the tunnel once it is as it should be.
    pub(crate) async fn status_with(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Value::Null;
        for _ in 0..200 {
            seen = self.get("/v1/status").await.unwrap().1;
            if is(&seen) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{seen}");
    }

    pub(crate) async fn metrics(&mut self) -> String {
        let response = self.send(Request::get("/metrics"), "").await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// Opens a stream, or says why there is none.
    pub(crate) async fn stream(
        &mut self,
        path: &str,
    ) -> Result<(Upgraded, hyper::HeaderMap), (StatusCode, Value)> {
        let request = Request::get(path).header("connection", "upgrade").header("upgrade", STREAM);
        let response = self.send(request, "").await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let body = response.into_body().collect().await.unwrap().to_bytes();
            return Err((status, serde_json::from_slice(&body).unwrap_or_default()));
        }
        assert_eq!(headers["upgrade"], STREAM);
        Ok((TokioIo::new(hyper::upgrade::on(response).await.unwrap()), headers))
    }

    /// What proves on this connection that its sender has the code.
    pub(crate) fn proof(&self, side: Side, secret: &PairingSecret) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).unwrap();
        mac.update(&proven(side, &self.exported));
        hex::encode(mac.finalize().into_bytes())
    }

    pub(crate) async fn offer(&mut self, proof: &str) -> io::Result<(StatusCode, Value)> {
        self.ask(Request::post("/v1/pair").header("clusterducks-proof", proof), "").await
    }

    /// Pairs as a panel does.
    pub(crate) async fn pair(
        &mut self,
        secret: &PairingSecret,
        ca: &Ca,
        table: Table,
    ) -> io::Result<StatusCode> {
        let proof = self.proof(Side::Panel, secret);
        let (status, offer) = self.offer(&proof).await?;
        if status != StatusCode::OK {
            return Ok(status);
        }
        let offer: Offer = serde_json::from_value(offer).unwrap();
        assert_eq!(offer.proof, self.proof(Side::Tunnel, secret));
        let paired = Paired {
            name: "north".to_owned(),
            chain_pem: ca.answer(&offer.certificate_request_pem),
            root_pem: ca.pem.clone(),
            table,
        };
        let request = Request::put("/v1/pair").header("clusterducks-proof", proof);
        Ok(self.ask(request, serde_json::to_vec(&paired).unwrap()).await?.0)
    }
}

/// What a connection became.
pub(crate) type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

pub(crate) async fn tls_stream(
    address: SocketAddr,
    tls: &TlsConnector,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    tls.connect(ServerName::try_from(NAME).unwrap(), stream).await
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap()
}

pub(crate) fn roots(ca: &Ca) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    roots
}

/// A client that expects a tunnel of this authority, and shows this certificate.
pub(crate) fn known(ca: &Ca, identity: &Identity) -> TlsConnector {
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = builder()
        .with_root_certificates(roots(ca))
        .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    TlsConnector::from(Arc::new(config))
}

/// A client that has nothing, and trusts everybody.
pub(crate) fn anybody() -> TlsConnector {
    let config = builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Before pairing the certificate says nothing: the code does.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
