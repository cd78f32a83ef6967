//! `clusterducks-tunnel ctl`: root's own way to the tunnel, over its Unix socket.

use std::path::Path;

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::standing;

/// What root can ask.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Prints whose the tunnel is, or the code that makes it a panel's, as JSON.
    Standing,
}

/// Asks the service, and prints its answer.
///
/// # Errors
/// It does not answer, or refuses.
pub async fn run(run: &Path, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Standing => {
            let socket = run.join(standing::SOCKET);
            println!("{}", ask(&socket, standing::PATH).await?);
            Ok(())
        }
    }
}

async fn ask(socket: &Path, path: &str) -> anyhow::Result<String> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("can't reach the tunnel at {}; is it running?", socket.display())
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // What goes wrong here goes wrong for the request too, which says so.
        let _ended = connection.await;
    });
    let request =
        Request::builder().uri(path).header("host", "tunnel").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("no answer; are you root?")?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "the tunnel answered {status}");
    Ok(String::from_utf8_lossy(&body).into_owned())
}
