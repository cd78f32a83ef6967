//! `clusterducks-appliance ctl`: root's own way to the service, over its local socket.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;

use crate::local::ask;

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
        Command::Status => ask(socket, "GET", "/v1/status", String::new(), PATIENCE).await?,
        Command::Join => {
            let mut code = String::new();
            std::io::stdin().read_to_string(&mut code).context("can't read standard input")?;
            ask(socket, "POST", "/v1/join", code, PATIENCE).await?
        }
    };
    std::io::stdout().write_all(&answer)?;
    Ok(())
}
