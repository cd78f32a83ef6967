//! One connection to a tunnel's API: TLS with both sides verified, requests, and streams that a request becomes. It decides
//! nothing.

use std::{io, time::Duration};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header,
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use model::{
    join::Problem,
    tunnel::{self, Status},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    ca::tunnel_host,
    fleet::{Identity, off_the_books},
    noun::HostName,
    store::Relay,
};

/// How long a name may take to be found, an address to answer, and a handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take that need not wait for anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the tunnel is asked to wait for another status: with the time for its answer, so long a tunnel that went silently is
/// taken to be there, and its servers for unreachable in no other way.
const STATUS_WAIT: Duration = Duration::from_secs(5);
const STATUS_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for a box that joins before the tunnel is asked anew, should it never answer that none came.
const JOIN_PATIENCE: Duration = Duration::from_secs(300);
/// A status with 10,000 agents takes about 2 MiB.
const MOST_BYTES: usize = 4 << 20;
/// What is kept of a tunnel's words: they go into pages, alerts and mail, and the tunnel may be somebody else's by now.
const MOST_FAULTS: usize = 64;
const WORDS_CHARS: usize = 500;

/// Why a tunnel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to it.
    #[error("nothing answers at {host} port {port}")]
    Unreachable {
        /// Where.
        host: HostName,
        /// The port of its API.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// One of both sides refused the other.
    #[error("no secure connection comes about")]
    Tls(#[source] io::Error),
    /// It has a certificate that counts no more, or none of the panel's books: this one, in DER.
    #[error("its certificate is not, or no more, one that the panel gave this tunnel")]
    Certificate(Vec<u8>),
    /// The connection broke, or speaks no HTTP.
    #[error("the connection failed")]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("the tunnel does not answer")]
    TimedOut,
    /// It said why not.
    #[error("the tunnel says: {}: {}", .0.title, .0.detail)]
    Refused(Box<Problem>),
    /// It answered what nobody asked.
    #[error("the tunnel answered with status {0}")]
    Status(StatusCode),
    /// Its answer is longer than any should be.
    #[error("the tunnel's answer is too long")]
    TooLong,
    /// Its answer is not what it should be.
    #[error("the tunnel's answer can't be read")]
    Answer(#[from] serde_json::Error),
    /// It hands a box over and does not say from where.
    #[error("the tunnel does not say where a box comes from")]
    Nowhere,
}

impl Error {
    /// Whether the same may succeed later: every tunnel may be mended.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Tls(_)
            | Self::Certificate(_)
            | Self::Http(_)
            | Self::TimedOut
            | Self::Refused(_)
            | Self::Status(_)
            | Self::TooLong
            | Self::Answer(_)
            | Self::Nowhere => true,
        }
    }
}

/// A TCP connection to a tunnel's API.
pub(super) async fn dial(host: &HostName, port: u16) -> Result<TcpStream, Error> {
    let refused = |source| Error::Unreachable { host: host.clone(), port, source };
    let dialled = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), port))).await;
    let stream = dialled.map_err(|_| refused(io::ErrorKind::TimedOut.into()))?.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    Ok(stream)
}

/// Shakes hands over a stream.
pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    connector: TlsConnector,
    host: String,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, Error> {
    let name = ServerName::try_from(host)
        .map_err(|error| Error::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let shaken = timeout(CONNECT_TIMEOUT, connector.connect(name, stream));
    shaken.await.map_err(|_| Error::TimedOut)?.map_err(Error::Tls)
}

/// A connection to a tunnel's API.
pub(super) struct Api {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    connection: AbortHandle,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Api {
    /// Connects to a paired tunnel. It is known by its name and by the certificates that it was given, wherever it is.
    pub(super) async fn connect(
        relay: &Relay,
        port: u16,
        identity: &Identity,
    ) -> Result<Self, Error> {
        let host = tunnel_host(&relay.name.server_name());
        let stream = dial(&relay.host, port).await?;
        let stream = shake(TlsConnector::from(identity.config()), host.clone(), stream).await?;
        if let Some(shown) = off_the_books(&stream, &relay.serials) {
            return Err(Error::Certificate(shown));
        }
        Self::over(stream, host).await
    }

    /// Speaks HTTP over a stream.
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: String,
    ) -> Result<Self, Error> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // What broke it is told by the request that it broke.
            let _broken = connection.with_upgrades().await;
        });
        Ok(Self { sender, host, connection: connection.abort_handle() })
    }

    /// The status with its tag; when `known` is the one that the tunnel shows, nothing, after a while.
    pub(super) async fn status(
        &mut self,
        known: Option<&str>,
    ) -> Result<Option<(String, Status)>, Error> {
        let mut request = self.request(Method::GET, tunnel::STATUS);
        if let Some(tag) = known {
            let wait = format!("wait={}", STATUS_WAIT.as_secs());
            request = request.header(header::IF_NONE_MATCH, tag).header("prefer", wait);
        }
        let answer = self.send(request, Bytes::new(), STATUS_PATIENCE).await?;
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.unwrap_or_default().to_owned();
        let mut status: Status = serde_json::from_slice(&good(answer).await?)?;
        clip(&mut status);
        Ok(Some((tag, status)))
    }

    /// Gives the tunnel something as JSON.
    pub(super) async fn put(
        &mut self,
        path: &str,
        proof: Option<&str>,
        json: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let mut request =
            self.request(Method::PUT, path).header(header::CONTENT_TYPE, "application/json");
        if let Some(proof) = proof {
            request = request.header(tunnel::PROOF, proof);
        }
        let answer = self.send(request, json.into(), ANSWER_TIMEOUT).await?;
        good(answer).await.map(drop)
    }

    /// Asks with a proof; the answer's body.
    pub(super) async fn prove(&mut self, path: &str, proof: &str) -> Result<Bytes, Error> {
        let request = self.request(Method::POST, path).header(tunnel::PROOF, proof);
        good(self.send(request, Bytes::new(), ANSWER_TIMEOUT).await?).await
    }

    /// A stream of bytes to the agent of a server.
    pub(super) async fn stream(mut self, server: u64) -> Result<TokioIo<Upgraded>, Error> {
        let answer = self.upgrade(&tunnel::connect(server), ANSWER_TIMEOUT).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = answer.status();
            return Err(good(answer).await.err().unwrap_or(Error::Status(status)));
        }
        Ok(TokioIo::new(hyper::upgrade::on(answer).await?))
    }

    /// Waits for a box that joins: its address and its bytes; nothing when none came for a while.
    pub(super) async fn join(
        mut self,
    ) -> Result<Option<(std::net::IpAddr, TokioIo<Upgraded>)>, Error> {
        let answer = self.upgrade(tunnel::JOINS, JOIN_PATIENCE).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return good(answer).await.map(|_nothing| None);
        }
        let address = answer.headers().get(tunnel::BOX_ADDRESS).and_then(|a| a.to_str().ok());
        let address = address.and_then(|text| text.parse().ok()).ok_or(Error::Nowhere)?;
        Ok(Some((address, TokioIo::new(hyper::upgrade::on(answer).await?))))
    }

    async fn upgrade(
        &mut self,
        path: &str,
        patience: Duration,
    ) -> Result<Response<Incoming>, Error> {
        let request = self
            .request(Method::GET, path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, tunnel::STREAM);
        self.send(request, Bytes::new(), patience).await
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
            .expect("methods and paths are constants and numbers, tags are what a header had");
        Ok(timeout(patience, self.sender.send_request(request))
            .await
            .map_err(|_| Error::TimedOut)??)
    }
}

/// The body of an answer that is good; else what it says of why it is not.
/// Cuts what a tunnel says of itself to what people may be shown.
fn clip(status: &mut Status) {
    let cut = |text: &mut String| {
        if let Some((end, _)) = text.char_indices().nth(WORDS_CHARS) {
            text.truncate(end);
        }
    };
    status.faults.truncate(MOST_FAULTS);
    status.faults.iter_mut().for_each(cut);
    cut(&mut status.version);
    status.agents.values_mut().filter_map(|agent| agent.last_error.as_mut()).for_each(cut);
}

async fn good(answer: Response<Incoming>) -> Result<Bytes, Error> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST_BYTES);
    let read = timeout(ANSWER_TIMEOUT, body.collect()).await.map_err(|_| Error::TimedOut)?;
    let body = read.map(http_body_util::Collected::to_bytes).map_err(|error| match error
        .downcast::<hyper::Error>(
    ) {
        Ok(error) => Error::Http(*error),
        Err(other) => {
            debug_assert!(other.is::<LengthLimitError>(), "{other}");
            Error::TooLong
        }
    })?;
    if status.is_success() {
        return Ok(body);
    }
    Err(match serde_json::from_slice(&body) {
        Ok(problem) => Error::Refused(Box::new(problem)),
        Err(_) => Error::Status(status),
    })
}

#[cfg(test)]
mod tests {
    use model::tunnel::AgentStatus;

    use super::*;

    #[test]
    fn what_a_tunnel_says_is_cut_to_what_a_page_holds() {
        let long = "ü".repeat(9_000);
        let mut status = Status { faults: vec![long.clone(); 1_000], ..Status::default() };
        let agent = AgentStatus { last_error: Some(long), ..AgentStatus::default() };
        status.agents.insert(7, agent);
        clip(&mut status);
        assert_eq!(status.faults, vec!["ü".repeat(WORDS_CHARS); MOST_FAULTS]);
        assert_eq!(status.agents[&7].last_error.as_deref(), Some("ü".repeat(WORDS_CHARS).as_str()));
    }
}
