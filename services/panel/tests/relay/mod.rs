//! A double of a tunnel's API: real TLS, real pairing, streams to where agents are; no SSH. Each has an address of its own on loopback,
//! and all have the same port.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use model::{
    code::{JoinSecret, PairingCode, PairingSecret, Pin},
    join::Problem,
    tunnel::{self, Offer, Paired, Renewed, Side, SshKey, Status, Table},
};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// A wait for a box that joins that is over.
const NOBODY_JOINS: Duration = Duration::from_millis(200);

type Answer = Response<Full<Bytes>>;

/// A tunnel. It dies with the test, its connections with it.
pub(crate) struct Relay {
    pub(crate) address: Ipv4Addr,
    state: Arc<State>,
    boxes: mpsc::Sender<(IpAddr, DuplexStream)>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// What a test makes it do wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// It says that it knows the code, and does not.
    pub(crate) lies: bool,
    /// It takes the panel as its own, and hangs up.
    pub(crate) loses_answer: bool,
    /// It answers nothing any more, and does not hang up.
    pub(crate) frozen: bool,
}

#[derive(Default)]
struct Kept {
    paired: Option<Paired>,
    faults: Faults,
    agents: BTreeMap<u64, SocketAddr>,
    /// Proofs that came, good or not.
    proofs: u32,
    tables: u32,
    renewed: u32,
}

struct State {
    key: KeyPair,
    secret: PairingSecret,
    kept: Mutex<Kept>,
    status: watch::Sender<Status>,
    /// Streams end with it.
    alive: watch::Sender<bool>,
    boxes: tokio::sync::Mutex<mpsc::Receiver<(IpAddr, DuplexStream)>>,
}

impl Relay {
    /// Where the tunnel of this number is.
    pub(crate) fn place(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 78, number)
    }

    pub(crate) async fn start(number: u8, port: u16) -> Self {
        Self::start_with(number, port, JoinSecret::new(rand::random()).into()).await
    }

    /// Starts one whose code has this secret, as from a seed file.
    pub(crate) async fn start_with(number: u8, port: u16, secret: PairingSecret) -> Self {
        let address = Self::place(number);
        let key = KeyPair::generate().unwrap();
        let (boxes, waiting) = mpsc::channel(4);
        let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let status = Status {
            certificate_request_pem: request,
            certificate_ends_ms: u64::MAX >> 12,
            ..Status::default()
        };
        let state = Arc::new(State {
            key,
            secret,
            kept: Mutex::default(),
            status: watch::Sender::new(status),
            alive: watch::Sender::new(true),
            boxes: tokio::sync::Mutex::new(waiting),
        });
        let mut relay = Self { address, state, boxes, task: None };
        relay.listen(port).await;
        relay
    }

    /// Answers at its port from now on.
    pub(crate) async fn listen(&mut self, port: u16) {
        let listener = TcpListener::bind((self.address, port)).await.unwrap();
        self.state.alive.send_replace(true);
        let state = Arc::clone(&self.state);
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, from) = listener.accept().await.unwrap();
                connections.spawn(serve(Arc::clone(&state), stream, from.ip()));
            }
        }));
    }

    /// Ends it and all that goes through it, in this instant.
    pub(crate) async fn kill(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        self.state.alive.send_replace(false);
        // Its sockets are closed with it.
        let _cancelled = task.await;
    }

    pub(crate) fn host_key() -> SshKey {
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0".parse().unwrap()
    }

    /// The code on its screen.
    pub(crate) fn code(&self) -> PairingCode {
        let digest: [u8; 32] = Sha256::digest(self.state.key.subject_public_key_info()).into();
        let pin = digest.first_chunk::<12>().copied().unwrap();
        PairingCode { secret: self.state.secret.clone(), key: Some(Pin::Typed(pin)) }
    }

    pub(crate) fn fail(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.kept().faults);
    }

    /// Where streams to a server lead.
    pub(crate) fn lead(&self, server: u64, to: SocketAddr) {
        self.state.kept().agents.insert(server, to);
    }

    /// Shows something else of itself.
    pub(crate) fn show(&self, change: impl FnOnce(&mut Status)) {
        self.state.status.send_modify(change);
    }

    /// A box comes to join; its end of the stream.
    pub(crate) async fn arrive(&self, from: IpAddr) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.boxes.send((from, theirs)).await.unwrap();
        ours
    }

    pub(crate) fn table(&self) -> Option<Table> {
        self.state.kept().paired.as_ref().map(|paired| paired.table.clone())
    }

    /// How many proofs, tables and renewed certificates came.
    pub(crate) fn counts(&self) -> [u32; 3] {
        let kept = self.state.kept();
        [kept.proofs, kept.tables, kept.renewed]
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl State {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let Some(paired) = self.kept().paired.clone() else {
            let own = CertificateParams::default().self_signed(&self.key).unwrap();
            return builder()
                .with_no_client_auth()
                .with_single_cert(vec![own.der().clone()], key)
                .unwrap();
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(paired.root_pem.as_bytes()).unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let chain = CertificateDer::pem_slice_iter(paired.chain_pem.as_bytes());
        builder()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
            .unwrap()
    }

    fn mac(&self, side: Side, exported: &[u8; 32]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.bytes()).unwrap();
        mac.update(&tunnel::proven(side, exported));
        mac
    }

    async fn thaw(&self) {
        if self.kept().faults.frozen {
            std::future::pending().await
        }
    }
}

async fn serve(state: Arc<State>, stream: TcpStream, from: IpAddr) {
    state.thaw().await;
    let acceptor = TlsAcceptor::from(Arc::new(state.config()));
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let exported =
        stream.get_ref().1.export_keying_material([0; 32], tunnel::EXPORTER, None).unwrap();
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { answer(&state, from, exported, request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let _broken = connection.await;
}

/// An answer that never comes is a connection that breaks.
async fn answer(
    state: &Arc<State>,
    from: IpAddr,
    exported: [u8; 32],
    mut request: Request<Incoming>,
) -> Result<Answer, std::io::Error> {
    state.thaw().await;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let header = |name: &str| -> Option<String> {
        Some(request.headers().get(name)?.to_str().unwrap().to_owned())
    };
    let (proof, tag) = (header(tunnel::PROOF), header(header::IF_NONE_MATCH.as_str()));
    let is_paired = state.kept().paired.is_some();
    if let Some(server) = path.strip_prefix("/v1/connect/") {
        let to = state.kept().agents.get(&server.parse().unwrap()).copied();
        let Some(to) = to else { return Ok(refuse(503, "no agent", "it is not connected")) };
        let Ok(agent) = TcpStream::connect(to).await else {
            return Ok(refuse(503, "no agent", "its port is closed"));
        };
        return Ok(becomes(state, &mut request, agent, None));
    }
    if path == tunnel::JOINS {
        let next = async { state.boxes.lock().await.recv().await };
        return Ok(match tokio::time::timeout(NOBODY_JOINS, next).await {
            Ok(Some((from, stream))) => becomes(state, &mut request, stream, Some(from)),
            Ok(None) | Err(_) => status(StatusCode::NO_CONTENT),
        });
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(match (method, path.as_str()) {
        (Method::POST | Method::PUT, tunnel::PAIR) if is_paired => {
            refuse(409, "Paired", "it is another panel's")
        }
        (Method::POST, tunnel::PAIR) => state.offer(proof, exported),
        (Method::PUT, tunnel::PAIR) => {
            assert!(state.proven(proof, exported));
            let lost = {
                let mut kept = state.kept();
                kept.paired = Some(serde_json::from_slice(&body).unwrap());
                kept.faults.loses_answer
            };
            if lost {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            status(StatusCode::NO_CONTENT)
        }
        (Method::GET, tunnel::STATUS) => state.status(tag, from).await,
        (Method::PUT, tunnel::TABLE) => state.take(&body),
        (Method::PUT, tunnel::CERTIFICATE) => {
            let renewed: Renewed = serde_json::from_slice(&body).unwrap();
            let mut kept = state.kept();
            kept.paired.as_mut().unwrap().chain_pem = renewed.chain_pem;
            kept.renewed += 1;
            drop(kept);
            state.status.send_modify(|status| status.certificate_ends_ms = u64::MAX >> 12);
            status(StatusCode::NO_CONTENT)
        }
        other => panic!("nobody asks {other:?}"),
    })
}

impl State {
    fn proven(&self, proof: Option<String>, exported: [u8; 32]) -> bool {
        let proof = hex::decode(proof.unwrap()).unwrap();
        self.mac(Side::Panel, &exported).verify_slice(&proof).is_ok()
    }

    fn offer(&self, proof: Option<String>, exported: [u8; 32]) -> Answer {
        self.kept().proofs += 1;
        let lies = self.kept().faults.lies;
        if !lies && !self.proven(proof, exported) {
            return refuse(403, "The code is not taken", "it is not the one on the screen");
        }
        let side = if lies { Side::Panel } else { Side::Tunnel };
        let proof = hex::encode(self.mac(side, &exported).finalize().into_bytes());
        let certificate_request_pem = self.status.borrow().certificate_request_pem.clone();
        json(&Offer { proof, certificate_request_pem, host_key: Relay::host_key() })
    }

    async fn status(&self, known: Option<String>, from: IpAddr) -> Answer {
        let mut status = self.status.subscribe();
        let tag = |status: &Status| {
            let json = serde_json::to_vec(status).unwrap();
            format!("\"{}\"", hex::encode(Sha256::digest(json)))
        };
        let other = status.wait_for(|status| Some(tag(status)) != known);
        let other = async { other.await.unwrap().clone() };
        let waited = tokio::time::timeout(Duration::from_secs(5), other).await;
        self.thaw().await;
        match waited {
            Ok(status) => {
                let tag = tag(&status);
                let mut answer = json(&Status { panel_address: Some(from), ..status });
                answer.headers_mut().insert(header::ETAG, tag.parse().unwrap());
                answer
            }
            Err(_) => self::status(StatusCode::NOT_MODIFIED),
        }
    }

    fn take(&self, body: &[u8]) -> Answer {
        let table: Table = serde_json::from_slice(body).unwrap();
        let generation = table.generation;
        if generation < self.status.borrow().generation {
            return refuse(409, "Late", "a later table is in force");
        }
        let mut kept = self.kept();
        kept.tables += 1;
        kept.paired.as_mut().unwrap().table = table;
        drop(kept);
        self.status.send_modify(|status| status.generation = generation);
        status(StatusCode::NO_CONTENT)
    }
}

/// The connection becomes a stream that is copied to and from another.
fn becomes(
    state: &Arc<State>,
    request: &mut Request<Incoming>,
    mut other: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: Option<IpAddr>,
) -> Answer {
    assert_eq!(request.headers()[header::UPGRADE], tunnel::STREAM);
    let (upgrade, state) = (hyper::upgrade::on(request), Arc::clone(state));
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let mut stream = TokioIo::new(stream);
        let mut alive = state.alive.subscribe();
        let frozen = async {
            while !state.kept().faults.frozen {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            _ended = copy_bidirectional(&mut stream, &mut other) => {}
            () = frozen => std::future::pending().await,
            () = async { alive.wait_for(|alive| !alive).await.map(drop).unwrap() } => {}
        }
    });
    let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
    headers.insert(header::UPGRADE, tunnel::STREAM.parse().unwrap());
    if let Some(from) = from {
        headers.insert(tunnel::BOX_ADDRESS, from.to_string().parse().unwrap());
    }
    answer
}

fn status(status: StatusCode) -> Answer {
    Response::builder().status(status).body(Full::default()).unwrap()
}

fn json(value: &impl serde::Serialize) -> Answer {
    Response::new(serde_json::to_vec(value).unwrap().into())
}

fn refuse(status: u16, title: &str, detail: &str) -> Answer {
    let problem = Problem {
        kind: "test".to_owned(),
        title: title.to_owned(),
        status,
        detail: detail.to_owned(),
    };
    let mut answer = json(&problem);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}
