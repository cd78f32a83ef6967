//! `clusterducks-appliance ctl`: root's own way to the service, over its local socket.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

/// A service that works answers within the second or two that it takes to make keys.
const PATIENCE: Duration = Duration::from_secs(60);

/// What root can ask.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Prints what the box shows, as JSON: the code of its first-boot page too.
    Status,
    /// Joins the panel whose join code comes on standard input.
    Join,
}

/// Asks the service, and prints its answer.
///
/// # Errors
/// The service does not answer, or refuses.
pub async fn run(socket: &Path, command: Command) -> anyhow::Result<()> {
    let answer = match command {
        Command::Status => ask(socket, "GET", "/v1/status", String::new()).await?,
        Command::Join => {
            let mut code = String::new();
            std::io::stdin().read_to_string(&mut code).context("can't read standard input")?;
            ask(socket, "POST", "/v1/join", code).await?
        }
    };
    std::io::stdout().write_all(&answer)?;
    Ok(())
}

async fn ask(socket: &Path, method: &str, path: &str, body: String) -> anyhow::Result<Bytes> {
    let asked = timeout(PATIENCE, exchange(socket, method, path, body)).await;
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
