//! Notices to a hook of the web: a POST of JSON, signed with the channel's secret, so that whoever gets it knows who sent it and
//! when. No other address that the answer names is followed.

use std::{io, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Error, Reach, Words};
use crate::secret::{ExposeSecret as _, SecretSlice};

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// The signature of a body that was sent at this time: HMAC-SHA256 over the time in seconds since 1970, a point, and the body, in
/// hexadecimal.
pub fn signature(secret: &[u8], time_s: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{time_s}.").as_bytes());
    context.update(body);
    hex::encode(context.sign())
}

/// Sends it; only an answer of 2xx says that it was taken.
pub(super) async fn send(
    url: &str,
    secret: Option<&SecretSlice<u8>>,
    words: &Words,
    reach: Reach,
) -> Result<(), Error> {
    let uri: Uri = url.parse().map_err(|_| Error::Url)?;
    let host = uri.host().ok_or(Error::Url)?.trim_matches(['[', ']']).to_owned();
    let (tls, usual) = match uri.scheme_str() {
        Some("https") => (true, 443),
        Some("http") => (false, 80),
        _ => return Err(Error::Url),
    };
    let body = serde_json::to_vec(&words.json).map_err(Error::Json)?;
    let request = request(&uri, secret, words, body)?;
    let port = uri.port_u16().unwrap_or(usual);
    let stream = reach.connect(&host, port).await?;
    let answer = if tls {
        let name = ServerName::try_from(host).map_err(|_| Error::Url)?;
        let shaken = timeout(ANSWER, connector()?.connect(name, stream)).await;
        let stream = shaken.map_err(|_| Error::TimedOut(ANSWER.as_secs()))?.map_err(Error::Tls)?;
        post(TokioIo::new(stream), request).await?
    } else {
        post(TokioIo::new(stream), request).await?
    };
    if answer.is_success() { Ok(()) } else { Err(Error::Status(answer)) }
}

fn request(
    uri: &Uri,
    secret: Option<&SecretSlice<u8>>,
    words: &Words,
    body: Vec<u8>,
) -> Result<Request<Full<Bytes>>, Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().ok_or(Error::Url)?.as_str();
    // Who signs in by the address would show their password to whoever reads the channel.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "clusterducks")
        .header("x-clusterducks-notice", words.id)
        .header("x-clusterducks-time", words.time_s);
    if let Some(secret) = secret {
        let signature = signature(secret.expose_secret(), words.time_s, &body);
        request = request.header("x-clusterducks-signature", format!("sha256={signature}"));
    }
    request.body(Full::new(Bytes::from(body))).map_err(|_| Error::Url)
}

fn connector() -> Result<TlsConnector, Error> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn post(
    stream: impl Read + Write + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, Error> {
    let (mut sender, connection) = http1::handshake(stream).await.map_err(Error::Http)?;
    let connection = tokio::spawn(async move {
        // What broke it is told by the request that it broke.
        let _broken = connection.await;
    });
    let answer: Result<Result<hyper::Response<Incoming>, _>, _> =
        timeout(ANSWER, sender.send_request(request)).await;
    connection.abort();
    let answer = answer.map_err(|_| Error::TimedOut(ANSWER.as_secs()))?.map_err(Error::Http)?;
    Ok(answer.status())
}
