//! `clusterducks-agent ctl`: root's own way to the agent, over its Unix socket.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::api::{Accepted, Refused, document_schema};

/// What root can ask.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Puts a document in force: a file, or - for standard input.
    Apply {
        /// The document.
        file: PathBuf,
    },
    /// Prints what the server is and what fails, as JSON.
    Status,
    /// Prints what happened, one JSON object a line.
    Events {
        /// Only events with a higher number.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Stays and prints what comes.
        #[arg(long)]
        follow: bool,
    },
    /// Prints the JSON schema of a document, without asking the agent.
    Schema,
    /// Prints the counters.
    Metrics,
}

/// Asks the agent, and prints its answer.
///
/// # Errors
/// The agent does not answer, or refuses.
pub async fn run(socket: &Path, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Apply { file } => apply(socket, &file).await,
        Command::Status => print(socket, "/v1/status").await,
        Command::Events { after, follow } => {
            print(socket, &format!("/v1/events?after={after}&follow={follow}")).await
        }
        Command::Schema => {
            println!("{}", serde_json::to_string_pretty(&document_schema())?);
            Ok(())
        }
        Command::Metrics => print(socket, "/metrics").await,
    }
}

async fn apply(socket: &Path, file: &Path) -> anyhow::Result<()> {
    let mut document = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut document).context("can't read standard input")?;
    } else {
        document = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    }
    let (status, body) = ask(socket, "PUT", "/v1/desired", document).await?;
    if status.is_success() {
        let accepted: Accepted = serde_json::from_slice(&body)?;
        println!("document {} is in force", accepted.generation);
        return Ok(());
    }
    let refused: Refused =
        serde_json::from_slice(&body).with_context(|| format!("the agent answered {status}"))?;
    for fault in &refused.faults {
        eprintln!("{fault}");
    }
    bail!("the document was refused; the one before stays in force");
}

async fn print(socket: &Path, path: &str) -> anyhow::Result<()> {
    let mut response = send(socket, "GET", path, Vec::new()).await?;
    let status = response.status();
    let mut out = std::io::stdout();
    while let Some(frame) = response.body_mut().frame().await {
        if let Some(data) = frame?.data_ref() {
            out.write_all(data)?;
            out.flush()?;
        }
    }
    if !status.is_success() {
        bail!("the agent answered {status}");
    }
    Ok(())
}

async fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let response = send(socket, method, path, body).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

async fn send(
    socket: &Path,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<hyper::Response<hyper::body::Incoming>> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("can't reach the agent at {}; is it running, and are you root?", socket.display())
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // What goes wrong here goes wrong for the request too, which says so.
        let _ended = connection.await;
    });
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "agent")
        .body(Full::<Bytes>::from(body))?;
    Ok(sender.send_request(request).await?)
}
