//! `clusterducks-panel`: the console of the fleet, and what an admin does on the box itself.

use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::PathBuf,
};

use clap::{Parser, Subcommand};
use clusterducks_panel::{admin, fleet, run};
use panel::{ca::Host, noun::UserName, secret::SecretString};
use tracing_subscriber::EnvFilter;

/// The control plane of diskless fleets.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder with the panel's state.
    #[arg(long, default_value = "/data/panel", global = true)]
    data: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the console.
    Serve {
        /// Where HTTPS is served.
        #[arg(long, default_value = "[::]:443")]
        listen: SocketAddr,
        /// Where HTTP leads to HTTPS.
        #[arg(long)]
        http_listen: Option<SocketAddr>,
        /// A name or an address that the panel is reached by, beside those of the box; may be said more than once.
        #[arg(long = "host", value_parser = parse_host)]
        hosts: Vec<Host>,
        /// The port at which agents answer.
        #[arg(long, default_value_t = model::join::API_PORT)]
        agents_port: u16,
        /// The port at which the APIs of tunnels answer.
        #[arg(long, default_value_t = model::tunnel::API_PORT)]
        tunnels_port: u16,
    },
    /// Puts a backup in the place of what the panel has, while it does not run. The pass phrase is asked for, or read from the
    /// standard input.
    Restore {
        /// The backup.
        file: PathBuf,
        /// Also where the panel has accounts; its files are kept in a folder beside.
        #[arg(long)]
        replace: bool,
    },
    /// What an admin does on the box itself.
    #[command(subcommand)]
    Admin(Admin),
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Gives a user a new password, prints it, and takes their one-time passwords and certificates away.
    ResetPassword {
        /// What they sign in with.
        name: UserName,
    },
}

fn parse_host(text: &str) -> Result<Host, String> {
    Host::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// From the terminal, unseen, or the first line of what comes by the standard input.
fn pass_phrase() -> io::Result<SecretString> {
    let stdin = io::stdin();
    let mut line = String::new();
    if stdin.is_terminal() {
        line = rpassword::prompt_password("Pass phrase of the backup: ")?;
    } else {
        stdin.read_line(&mut line)?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).into())
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let data = arguments.data;
    let options = match arguments.command {
        Command::Serve { listen, http_listen, hosts, agents_port, tunnels_port } => {
            let ports = fleet::Ports { agents: agents_port, tunnels: tunnels_port };
            run::Options { data, listen, http_listen, hosts, ports }
        }
        Command::Restore { file, replace } => {
            let restored = admin::restore(&data, &file, pass_phrase()?, replace)?;
            println!("{restored}");
            return Ok(());
        }
        Command::Admin(Admin::ResetPassword { name }) => {
            let password = admin::reset_password(&data, &name)?;
            println!("{password}");
            return Ok(());
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(run::serve(options));
    runtime.shutdown_background();
    ended
}
