//! `clusterducks-tunnel`: lets servers in, and the panel through to them.

use std::{io, net::SocketAddr, path::PathBuf};

use clap::Parser;
use clusterducks_tunnel::{
    ctl,
    folders::Folders,
    keys, relay,
    run::{self, Settings},
    ssh,
};
use model::tunnel::SSH_PORT;
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

/// A relay between servers behind any network and their panel.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder with what stays over a restart.
    #[arg(long, default_value = "/data/tunnel", global = true)]
    data: PathBuf,
    /// The folder with what is made anew at each start.
    #[arg(long, default_value = "/run/clusterducks-tunnel", global = true)]
    run: PathBuf,
    /// The folder of drop-in user records.
    #[arg(long, default_value = "/run/userdb", global = true)]
    userdb: PathBuf,
    /// The folder of the SSH server's host key.
    #[arg(long, default_value = "/data/sshd", global = true)]
    sshd: PathBuf,
    /// The folder of the SSH server's configuration.
    #[arg(long, default_value = "/run/clusterducks-sshd", global = true)]
    sshd_run: PathBuf,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Runs the service.
    Serve(Serve),
    /// Talks to the service that runs.
    #[command(subcommand)]
    Ctl(ctl::Command),
    /// Prints the line of an authorized_keys file for a user and the key that is offered, or nothing: sshd's AuthorizedKeysCommand.
    Keys {
        /// The user.
        user: String,
        /// The key's type.
        kind: String,
        /// The key, in base64.
        key: String,
    },
    /// Brings a box that joins to the service: the command of the user join.
    Relay,
    /// Makes sshd's host key and its configuration.
    Prepare {
        /// The port of the SSH server.
        #[arg(long, default_value_t = SSH_PORT)]
        ssh_port: u16,
    },
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// The seed file.
    #[arg(long, default_value = "/boot/clusterducks.toml")]
    seed: PathBuf,
    /// Where the API listens.
    #[arg(long, default_value = "[::]:8444")]
    api: SocketAddr,
    /// The port of the SSH server, which stays open to everybody.
    #[arg(long, default_value_t = SSH_PORT)]
    ssh_port: u16,
}

fn main() -> anyhow::Result<()> {
    let Arguments { data, run, userdb, sshd, sshd_run, command } = Arguments::parse();
    let folders = Folders { data, run, userdb, sshd, sshd_run };
    match command {
        Verb::Serve(given) => serve(folders, given)?,
        Verb::Ctl(command) => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ctl::run(&folders.run, command))?;
        }
        Verb::Keys { user, kind, key } => {
            keys::print(&mut io::stdout(), &folders.run, &user, &kind, &key)?;
        }
        Verb::Relay => relay::run(&Folders::join_socket(&folders.run)),
        Verb::Prepare { ssh_port } => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ssh::prepare(&folders, ssh_port))?;
        }
    }
    Ok(())
}

fn serve(folders: Folders, given: Serve) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let settings = Settings::new(folders, given.seed, given.api);
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run::run(settings, given.ssh_port));
    runtime.shutdown_background();
    ended
}
