//! One question to a service of this box, over its Unix socket: one connection, one answer.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

/// Asks a service of this box, and returns what it answers.
///
/// # Errors
/// It does not answer in time, or refuses.
pub async fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    body: String,
    patience: Duration,
) -> anyhow::Result<Bytes> {
    let asked = timeout(patience, exchange(socket, method, path, body)).await;
    asked.context("the service did not answer in time")?
}

async fn exchange(socket: &Path, method: &str, path: &str, body: String) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("no answer at {}; does the service run, and are you root?", socket.display())
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What goes wrong here goes wrong for the request too, which says so.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "box")
        .body(Full::<Bytes>::from(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}
