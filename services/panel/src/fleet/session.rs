//! One connection to an agent: TLS with both sides verified, and requests of its API. It decides nothing.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use model::{
    certify::{self, Endpoint, Requested},
    join::Problem,
    tunnel::Renewed,
    validate::Fault,
    wire,
};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    ca::{Certificate, Issued, Key, Serial, agent_host},
    store::Peer,
};

/// How long a handshake may take, and an answer that need not wait for anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a document may take: the agent takes it between two steps of what it is at, and making a pool takes its time.
const TELL_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a request for a certificate may take: a small machine makes an RSA key for it.
const KEY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the agent is asked to wait for another status. Much longer, and a server that went silently is missed late.
const STATUS_WAIT: Duration = Duration::from_secs(15);
/// A status of 5,000 devices takes about 4 MiB.
const MOST_BYTES: usize = 64 << 20;

/// Why an agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to it.
    #[error("the server can't be reached")]
    Unreachable(#[source] io::Error),
    /// One of both sides refused the other.
    #[error("no secure connection comes about")]
    Tls(#[source] io::Error),
    /// It has a certificate that counts no more, or none of the panel's books: this one, in DER.
    #[error("its certificate is not, or no more, one that the panel gave this server")]
    Certificate(Vec<u8>),
    /// The connection broke, or speaks no HTTP.
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("the server does not answer")]
    TimedOut,
    /// It said why not.
    #[error("the server says: {}: {}", .0.title, .0.detail)]
    Refused(Box<Problem>),
    /// It answered what nobody asked.
    #[error("the server answered with status {0}")]
    Status(StatusCode),
    /// Its answer is longer than any should be.
    #[error("the server's answer is too long")]
    TooLong,
    /// Its answer is not what it should be.
    #[error("the server's answer can't be read")]
    Answer(#[from] serde_json::Error),
}

impl Error {
    /// Whether the same may succeed later: every server may be mended.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Tls(_)
            | Self::Certificate(_)
            | Self::Http(_)
            | Self::TimedOut
            | Self::Refused(_)
            | Self::Status(_)
            | Self::TooLong
            | Self::Answer(_) => true,
        }
    }
}

/// Whom the agents let in: the panel, with its certificate as their client.
#[derive(Debug, Clone)]
pub struct Identity(Arc<ClientConfig>);

impl Identity {
    /// The panel with this certificate of [`crate::ca::Subject::Fleet`], which trusts what chains to this root.
    ///
    /// # Errors
    /// The certificate and the key don't go together.
    pub fn new(root: &Certificate, issued: &Issued, key: &Key) -> Result<Self, rustls::Error> {
        Self::from_parts(root.der().clone(), issued.chain(), key.rustls())
    }

    /// As rustls takes it.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    fn from_parts(
        root: CertificateDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Each connection proves itself anew.
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }
}

/// What an agent said to a document.
#[derive(Debug)]
pub(super) enum Told {
    /// It is in force.
    Accepted,
    /// It is refused, with every fault.
    Refused(Vec<Fault>),
    /// It can't be kept now, and may be later.
    NotKept(Vec<Fault>),
    /// The agent has one of this number, or a higher one, that says something else.
    Conflict,
}

/// A status, by its tag.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) tag: String,
    pub(super) status: wire::Status,
}

/// A connection to an agent.
pub(super) struct Session {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    clock_ms: Option<i64>,
    connection: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    /// Shakes hands over a stream. The server is known by its number, wherever the stream leads.
    pub(super) async fn begin(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: &Peer,
        identity: &Identity,
    ) -> Result<Self, Error> {
        let host = agent_host(peer.server);
        let name = ServerName::try_from(host.clone())
            .map_err(|error| Error::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(Arc::clone(&identity.0));
        let shaken = timeout(ANSWER_TIMEOUT, connector.connect(name, stream));
        let stream = shaken.await.map_err(|_| Error::TimedOut)?.map_err(Error::Tls)?;
        if let Some(shown) = off_the_books(&stream, &peer.serials) {
            return Err(Error::Certificate(shown));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // What broke it is told by the request that it broke.
            let _broken = connection.await;
        });
        Ok(Self { sender, host, clock_ms: None, connection: connection.abort_handle() })
    }

    /// The status; when `known` is the one that the agent shows, nothing, after a while.
    pub(super) async fn status(&mut self, known: Option<&str>) -> Result<Option<Shown>, Error> {
        let mut request = self.request(Method::GET, "/v1/status");
        let mut patience = ANSWER_TIMEOUT;
        if let Some(tag) = known {
            let wait = format!("wait={}", STATUS_WAIT.as_secs());
            request = request.header(header::IF_NONE_MATCH, tag).header("prefer", wait);
            patience += STATUS_WAIT;
        }
        let answer = self.send(request, Bytes::new(), patience).await?;
        match answer.status() {
            StatusCode::NOT_MODIFIED => Ok(None),
            StatusCode::OK => {
                let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
                let tag = tag.unwrap_or_default().to_owned();
                let status = serde_json::from_slice(&read(answer).await?)?;
                Ok(Some(Shown { tag, status }))
            }
            other => Err(Error::Status(other)),
        }
    }

    /// Gives the agent a document.
    pub(super) async fn tell(&mut self, document: String) -> Result<Told, Error> {
        #[derive(Deserialize)]
        struct Refused {
            faults: Vec<Fault>,
        }
        let request = self
            .request(Method::PUT, "/v1/desired")
            .header(header::CONTENT_TYPE, "application/json");
        let answer = self.send(request, document.into(), TELL_TIMEOUT).await?;
        let status = answer.status();
        let body = read(answer).await?;
        let faults = || serde_json::from_slice(&body).map(|Refused { faults }| faults);
        match status {
            StatusCode::OK => Ok(Told::Accepted),
            StatusCode::UNPROCESSABLE_ENTITY => Ok(Told::Refused(faults()?)),
            StatusCode::INSUFFICIENT_STORAGE => Ok(Told::NotKept(faults()?)),
            StatusCode::CONFLICT => Ok(Told::Conflict),
            other => Err(Error::Status(other)),
        }
    }

    /// Asks for a certificate request for an endpoint; PKCS#10 in PEM.
    pub(super) async fn certificate_request(
        &mut self,
        endpoint: Endpoint,
    ) -> Result<String, Error> {
        let request = self.request(Method::POST, &certify::path(endpoint));
        let answer = self.send(request, Bytes::new(), KEY_TIMEOUT).await?;
        let Requested { certificate_request_pem } = serde_json::from_slice(&taken(answer).await?)?;
        Ok(certificate_request_pem)
    }

    /// Gives the agent the certificate that it asked for.
    pub(super) async fn certify(
        &mut self,
        endpoint: Endpoint,
        chain_pem: String,
    ) -> Result<(), Error> {
        let request = self
            .request(Method::PUT, &certify::path(endpoint))
            .header(header::CONTENT_TYPE, "application/json");
        let body = serde_json::to_vec(&Renewed { chain_pem })?;
        taken(self.send(request, body.into(), ANSWER_TIMEOUT).await?).await.map(drop)
    }

    /// What happened on the server, from the oldest that its agent remembers, and what will: a JSON object a line, for ever.
    pub(super) async fn events(&mut self) -> Result<Incoming, Error> {
        let request = self.request(Method::GET, "/v1/events?follow=true");
        let answer = self.send(request, Bytes::new(), ANSWER_TIMEOUT).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            other => Err(Error::Status(other)),
        }
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder().method(method).uri(path).header(header::HOST, &self.host)
    }

    async fn send(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
        patience: Duration,
    ) -> Result<Response<Incoming>, Error> {
        let request = request
            .body(Full::new(body))
            .expect("methods and paths are constants, tags are what a header had");
        let sent = timeout(patience, self.sender.send_request(request));
        let answer = sent.await.map_err(|_| Error::TimedOut)??;
        self.clock_ms = ahead_ms(answer.headers(), SystemTime::now()).or(self.clock_ms);
        Ok(answer)
    }

    /// How far the server's clock is ahead of ours, by its last answer, in whole tens of seconds.
    pub(super) fn clock_ms(&self) -> Option<i64> {
        self.clock_ms
    }
}

/// How far the clock of who answered is ahead, as the answer's `Date` says (RFC 9110, 6.6.1): to the second, which is made
/// coarser, so that one that is right is right each time.
fn ahead_ms(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    const COARSE_S: u64 = 10;
    let there = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let coarse = |span: Duration| i64::try_from(span.as_secs() / COARSE_S * COARSE_S * 1000).ok();
    match there.duration_since(now) {
        Ok(ahead) => coarse(ahead),
        Err(behind) => coarse(behind.duration()).map(i64::wrapping_neg),
    }
}

/// What was answered, where it was no refusal.
async fn taken(answer: Response<Incoming>) -> Result<Bytes, Error> {
    let status = answer.status();
    let body = read(answer).await?;
    if status.is_success() {
        return Ok(body);
    }
    Err(match serde_json::from_slice(&body) {
        Ok(problem) => Error::Refused(Box::new(problem)),
        Err(_) => Error::Status(status),
    })
}

async fn read(answer: Response<Incoming>) -> Result<Bytes, Error> {
    let body = Limited::new(answer.into_body(), MOST_BYTES);
    let read = timeout(ANSWER_TIMEOUT, body.collect()).await.map_err(|_| Error::TimedOut)?;
    read.map(http_body_util::Collected::to_bytes).map_err(|error| {
        match error.downcast::<hyper::Error>() {
            Ok(error) => Error::Http(*error),
            Err(other) => {
                debug_assert!(other.is::<LengthLimitError>(), "{other}");
                Error::TooLong
            }
        }
    })
}

/// The other side's certificate in DER, where it is none of those that the panel gave it and did not take back. The root vouches
/// for those that it took back too.
pub(crate) fn off_the_books<S>(stream: &TlsStream<S>, serials: &[Serial]) -> Option<Vec<u8>> {
    let (_, connection) = stream.get_ref();
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    let shown = leaf.map(|leaf| leaf.to_vec()).unwrap_or_default();
    let known =
        Certificate::parse(shown.clone()).is_ok_and(|leaf| serials.contains(&leaf.serial()));
    (!known).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_right_is_right_each_time_and_one_that_is_off_is_told() {
        let now = httpdate::parse_http_date("Mon, 23 Nov 2026 04:00:00 GMT").unwrap();
        let ahead = |date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::DATE, date.parse().unwrap());
            ahead_ms(&headers, now)
        };
        for right in ["03:59:51", "03:59:59", "04:00:00", "04:00:09"] {
            assert_eq!(ahead(&format!("Mon, 23 Nov 2026 {right} GMT")), Some(0), "{right}");
        }
        assert_eq!(ahead("Mon, 23 Nov 2026 04:01:05 GMT"), Some(60_000));
        assert_eq!(ahead("Sun, 22 Nov 2026 04:00:00 GMT"), Some(-86_400_000));
        assert_eq!(ahead("now"), None);
        assert_eq!(ahead_ms(&HeaderMap::new(), now), None);
    }
}
