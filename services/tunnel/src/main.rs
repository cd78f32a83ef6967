//! `clusterducks-tunnel`: relays between servers and the panel.

use std::{io, path::PathBuf};

use clap::Parser;
use clusterducks_tunnel::{folders::Folders, keys, relay, ssh};
use model::tunnel::SSH_PORT;

/// Relays between servers and the panel.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder with the tunnel's state.
    #[arg(long, default_value = "/data/tunnel", global = true)]
    data: PathBuf,
    /// The folder with what is made anew at each start.
    #[arg(long, default_value = "/run/clusterducks-tunnel", global = true)]
    run: PathBuf,
    /// The folder with users' records.
    #[arg(long, default_value = "/run/userdb", global = true)]
    userdb: PathBuf,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
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

fn main() -> anyhow::Result<()> {
    let Arguments { data, run, userdb, command } = Arguments::parse();
    let folders = Folders { data, run, userdb };
    match command {
        Verb::Keys { user, kind, key } => {
            keys::print(&mut io::stdout(), &folders.run, &user, &kind, &key)?;
        }
        Verb::Relay => relay::run(&Folders::join_socket(&folders.run)),
        Verb::Prepare { ssh_port } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ssh::prepare(&folders, ssh_port))?;
        }
    }
    Ok(())
}
