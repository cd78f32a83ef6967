//! A panel for tests: an authority of its own, an HTTPS server on loopback that answers what it is told, one answer after the
//! other and the last one for ever, and what it was asked.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use model::{
    code::{Address, Host, JoinCode, JoinSecret, Way},
    join::{Joined, Link},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the panel does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers with this status and body.
    Json(u16, Value),
    /// Signs what was asked for.
    Join,
    /// Signs, and gives in this field what another authority gives.
    Foreign(&'static str),
    /// Signs, and gives in this field what belongs in that one.
    Swapped(&'static str, &'static str),
    /// Sends to this address.
    Redirect(String),
    /// Talks and talks.
    Huge,
    /// Takes the request and says nothing.
    Silence,
    /// Takes the request and is gone.
    Gone,
}

/// A panel's certificates.
pub(crate) struct Ca {
    pub(crate) root: CertificateDer<'static>,
    issuing: CertificateDer<'static>,
    root_pem: String,
    issuing_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// How a panel's own certificate is.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) name: &'static str,
    pub(crate) until: SystemTime,
}

impl Default for Own {
    fn default() -> Self {
        Self { name: "127.0.0.1", until: SystemTime::now() + Duration::from_secs(86_400) }
    }
}

impl Ca {
    pub(crate) fn new() -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let (params, key) = (authority("root"), KeyPair::generate().unwrap());
        let made = params.self_signed(&key).unwrap();
        let (root, root_pem) = (made.der().clone(), made.pem());
        let above = Issuer::new(params, key);
        let (params, key) = (authority("issuing"), KeyPair::generate().unwrap());
        let made = params.signed_by(&key, &above).unwrap();
        let (issuing, issuing_pem) = (made.der().clone(), made.pem());
        Self { root, issuing, root_pem, issuing_pem, issuer: Issuer::new(params, key) }
    }

    fn identity(&self, own: &Own) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new([own.name.to_owned()]).unwrap();
        params.not_after = own.until.into();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let chain = vec![leaf, self.issuing.clone(), self.root.clone()];
        (chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    fn sign(&self, request: &str) -> String {
        let request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let leaf = request.signed_by(&self.issuer).unwrap();
        format!("{}{}{}", leaf.pem(), self.issuing_pem, self.root_pem)
    }

    fn joined(&self, request: &Value) -> Value {
        let joined = Joined {
            server: 7,
            name: "server-07".parse().unwrap(),
            link: Link::Direct,
            api_chain_pem: self.sign(request["certificate_request_pem"].as_str().unwrap()),
            root_pem: self.root_pem.clone(),
            boot_chain_pem: Some(self.sign(request["boot_request_pem"].as_str().unwrap())),
            boot_root_pem: self.root_pem.clone(),
            uplinks: Vec::new(),
        };
        let mut answer = serde_json::to_value(joined).unwrap();
        answer["state"] = json!("joined");
        answer
    }
}

/// A panel that answers.
pub(crate) struct Panel {
    pub(crate) ca: Arc<Ca>,
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Panel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Panel {
    pub(crate) async fn start(replies: &[Reply]) -> Self {
        let ca = Arc::new(Ca::new());
        let shown = ca.identity(&Own::default());
        Self::with(ca, shown, replies).await
    }

    /// A panel whose own certificate is like this.
    pub(crate) async fn showing(own: Own) -> Self {
        let ca = Arc::new(Ca::new());
        let shown = ca.identity(&own);
        Self::with(ca, shown, &[Reply::Join]).await
    }

    /// Somebody whose authorities have the same names, and who sends those of `real` along.
    pub(crate) async fn impostor(real: &Ca) -> Self {
        let ca = Arc::new(Ca::new());
        let (mut chain, key) = ca.identity(&Own::default());
        chain.push(real.root.clone());
        chain.push(real.issuing.clone());
        Self::with(ca, (chain, key), &[Reply::Join]).await
    }

    async fn with(
        ca: Arc<Ca>,
        (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
        replies: &[Reply],
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let tls = TlsAcceptor::from(Arc::new(config));
        let (authority, log, replies) = (Arc::clone(&ca), Arc::clone(&asked), replies.to_vec());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = tls.accept(stream).await else { continue };
                let service = service_fn(|request| {
                    answer(request, Arc::clone(&authority), Arc::clone(&log), replies.clone())
                });
                // A connection that breaks is what some tests are about.
                let _ended =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self { ca, address, asked, task }
    }

    /// What it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn code(&self) -> JoinCode {
        self.code_for(Way::Panel, Duration::from_secs(3600))
    }

    pub(crate) fn code_for(&self, way: Way, lifetime: Duration) -> JoinCode {
        let host = Host::try_from(self.address.ip().to_string()).unwrap();
        let panel = Address { host, port: self.address.port() };
        let root = Sha256::digest(&self.ca.root).into();
        let secret = JoinSecret::new(rand::random());
        JoinCode::new(way, panel, &root, secret, SystemTime::now(), lifetime)
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    ca: Arc<Ca>,
    asked: Arc<Mutex<Vec<Value>>>,
    replies: Vec<Reply>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/join"));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let question: Value = serde_json::from_slice(&body).unwrap();
    let turn = {
        let mut asked = asked.lock().unwrap();
        asked.push(question.clone());
        asked.len() - 1
    };
    let reply = replies.get(turn).or(replies.last()).unwrap();
    let respond = |status: u16, body: String| {
        Response::builder().status(status).body(Full::from(body)).unwrap()
    };
    Ok(match reply {
        Reply::Json(status, value) => respond(*status, value.to_string()),
        Reply::Join => respond(200, ca.joined(&question).to_string()),
        Reply::Foreign(field) => {
            let mut given = ca.joined(&question);
            given[*field] = Ca::new().joined(&question)[*field].clone();
            respond(200, given.to_string())
        }
        Reply::Swapped(field, other) => {
            let mut given = ca.joined(&question);
            given[*field] = given[*other].clone();
            respond(200, given.to_string())
        }
        Reply::Redirect(to) => {
            Response::builder().status(307).header("location", to).body(Full::default()).unwrap()
        }
        Reply::Huge => respond(200, format!("{{\"state\":\"{}\"}}", "x".repeat(1 << 20))),
        Reply::Silence => std::future::pending().await,
        Reply::Gone => return Err(std::io::ErrorKind::ConnectionReset.into()),
    })
}
