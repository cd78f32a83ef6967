//! One question to the panel: a connection of its own, verified by the join code's pin, one request, one answer. It follows
//! nobody elsewhere, reads no more than an answer may be long, and waits no longer than it is told.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use host::ssh;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use model::{
    code::{Address, Host, JoinCode, Way},
    join::{self, Answer, Problem},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::pin;

/// Four chains and roots take less than 16 KiB.
const ANSWER_BYTES: usize = 256 << 10;

/// What is shown of a panel's words; the screen has few lines.
const WORDS_CHARS: usize = 300;

/// How long the panel may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To each of its addresses, until one takes the connection.
    pub connect: Duration,
    /// In all.
    pub all: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), all: Duration::from_secs(60) }
    }
}

/// Why there is no answer to go by.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its name has no address.
    #[error("the name has no address")]
    Resolve(#[source] io::Error),
    /// None of its addresses takes a connection.
    #[error("it can't be reached")]
    Connect(#[source] io::Error),
    /// The tunnel does not lead there; this is what OpenSSH says.
    #[error("the tunnel does not lead to it: {0:.WORDS_CHARS$}")]
    Tunnel(String),
    /// It took too long.
    #[error("it did not answer in time")]
    Timeout,
    /// It is somebody else.
    #[error(transparent)]
    OtherRoot(#[from] pin::OtherRoot),
    /// Its chain ends in the right root and is not valid, for its name or today.
    #[error("its certificate is not valid here and now")]
    Certificate(#[source] rustls::Error),
    /// It speaks no TLS that is good enough.
    #[error("no secure connection comes about")]
    Tls(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
    /// It has too much to say.
    #[error("its answer is longer than {} KiB", ANSWER_BYTES >> 10)]
    TooLong,
    /// It says that somebody else should be asked. The code names whom to ask, and nobody else.
    #[error("it sends elsewhere ({0}); nobody else is asked")]
    Redirected(StatusCode),
    /// It can't answer now.
    #[error("it is busy or out of order ({0})")]
    Busy(StatusCode),
    /// It refuses, and says why.
    #[error("it refuses: {:.WORDS_CHARS$}", words(.0))]
    Refused(Problem),
    /// It answers something that is no answer.
    #[error("its answer ({status}) is not understood")]
    Answer {
        /// The answer's status.
        status: StatusCode,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The question can't be put.
    #[error("the question can't be put")]
    Question(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn words(problem: &Problem) -> &str {
    if problem.detail.is_empty() { &problem.title } else { &problem.detail }
}

impl Error {
    /// Whether the same code may do later. Another machine at the panel's address may be gone then, and a clock that was wrong be
    /// right: the secret goes to neither.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Resolve(_)
            | Self::Connect(_)
            | Self::Tunnel(_)
            | Self::Timeout
            | Self::OtherRoot(_)
            | Self::Certificate(_)
            | Self::Tls(_)
            | Self::Http(_)
            | Self::Busy(_) => true,
            Self::TooLong
            | Self::Redirected(_)
            | Self::Refused(_)
            | Self::Answer { .. }
            | Self::Question(_) => false,
        }
    }
}

/// Asks the panel of the code. `key` is a private key in a file, which opens the door of a tunnel where the code names one.
///
/// # Errors
/// It gives no answer that the box can go by.
pub async fn ask(
    code: &JoinCode,
    request: &join::Request,
    key: &Path,
    patience: Patience,
) -> Result<Answer, Error> {
    let body = serde_json::to_vec(request).map_err(|error| Error::Question(error.into()))?;
    match code.way {
        Way::Panel => {
            let asked = async {
                let stream = reach(&code.address, patience.connect).await?;
                ask_over(stream, code, code.address.host.clone(), body).await
            };
            timeout(patience.all, asked).await.unwrap_or(Err(Error::Timeout))
        }
        Way::Tunnel => {
            let (stream, complaints) =
                ssh::join(&code.address, key).map_err(|error| Error::Question(error.into()))?;
            let host = Host::try_from(join::PANEL_HOST).map_err(|e| Error::Question(e.into()))?;
            let asked = timeout(patience.all, ask_over(stream, code, host, body)).await;
            match asked.unwrap_or(Err(Error::Timeout)) {
                // The panel's own word, not the tunnel's.
                Err(error @ (Error::Refused(_) | Error::Busy(_) | Error::Answer { .. })) => {
                    Err(error)
                }
                Err(error) => match complaints.text().await {
                    said if said.is_empty() => Err(error),
                    said => Err(Error::Tunnel(said)),
                },
                answered => answered,
            }
        }
    }
}

async fn ask_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    code: &JoinCode,
    host: Host,
    body: Vec<u8>,
) -> Result<Answer, Error> {
    let config = pin::config(code.root).map_err(|error| Error::Question(error.into()))?;
    let authority = match code.way {
        Way::Panel => code.address.to_string(),
        Way::Tunnel => host.to_str().into_owned(),
    };
    let stream = TlsConnector::from(config).connect(host, stream).await.map_err(tls_error)?;
    read(post(stream, &authority, body).await?).await
}

async fn reach(panel: &Address, patience: Duration) -> Result<TcpStream, Error> {
    let addresses: Vec<SocketAddr> = match &panel.host {
        Host::IpAddress(address) => vec![(std::net::IpAddr::from(*address), panel.port).into()],
        name => {
            let name = name.to_str();
            let found = tokio::net::lookup_host((name.as_ref(), panel.port)).await;
            found.map_err(Error::Resolve)?.collect()
        }
    };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Error::Connect(last))
}

fn tls_error(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) if pin::is_other_root(tls) => Error::OtherRoot(pin::OtherRoot),
        Some(tls @ rustls::Error::InvalidCertificate(_)) => Error::Certificate(tls.clone()),
        _ => Error::Tls(error),
    }
}

async fn post(
    stream: TlsStream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    authority: &str,
    body: Vec<u8>,
) -> Result<Response<Incoming>, Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What goes wrong here goes wrong for the request too, which says so.
    tokio::spawn(connection);
    let request = Request::post(join::PATH)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, application/problem+json")
        .body(Full::<Bytes>::from(body))
        .map_err(|error| Error::Question(error.into()))?;
    Ok(sender.send_request(request).await?)
}

async fn read(response: Response<Incoming>) -> Result<Answer, Error> {
    let status = response.status();
    if status.is_redirection() {
        return Err(Error::Redirected(status));
    }
    if status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    {
        return Err(Error::Busy(status));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(body_error)?.to_bytes();
    let unclear = |source| Error::Answer { status, source };
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(unclear);
    }
    Err(Error::Refused(serde_json::from_slice(&body).map_err(unclear)?))
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    if error.is::<LengthLimitError>() {
        return Error::TooLong;
    }
    match error.downcast::<hyper::Error>() {
        Ok(error) => Error::Http(*error),
        Err(other) => Error::Question(other),
    }
}
