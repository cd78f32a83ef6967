//! `clusterducks-appliance`: what every box does as a box, whatever it serves.

use std::path::PathBuf;

use clap::Parser;
use clusterducks_appliance::{ctl, facts::Kind, run};
use host::cmd::{self, Program};
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

/// Shows what the box is on its screen and serial port, and joins it to its panel.
#[derive(Debug, Parser)]
#[command(version, subcommand_negates_reqs = true)]
struct Arguments {
    /// What the box is.
    #[arg(long, value_enum, required = true)]
    kind: Option<Kind>,
    /// The folder with the box's own state.
    #[arg(long, default_value = "/data/appliance")]
    state: PathBuf,
    /// The folder where the service of the box looks for its certificates.
    #[arg(long, default_value = "/data/agent/tls")]
    certificates: PathBuf,
    /// The seed file.
    #[arg(long, default_value = "/boot/clusterducks.toml")]
    seed: PathBuf,
    /// The local socket.
    #[arg(long, default_value = "/run/clusterducks/appliance.sock", global = true)]
    socket: PathBuf,
    /// The port of the first-boot page, on every address.
    #[arg(long, default_value_t = 8006)]
    port: u16,
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Talks to the service that runs.
    #[command(subcommand)]
    Ctl(ctl::Command),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let kind = match (arguments.command, arguments.kind) {
        (Some(Verb::Ctl(command)), _) => {
            return runtime.block_on(ctl::run(&arguments.socket, command));
        }
        (None, Some(kind)) => kind,
        (None, None) => anyhow::bail!("--kind is missing"),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    if let [missing, ..] = cmd::missing(&[Program::Systemctl]).as_slice() {
        anyhow::bail!("{missing} is not installed");
    }
    let paths = run::Paths {
        kind,
        state: arguments.state,
        certificates: arguments.certificates,
        seed: arguments.seed,
        socket: arguments.socket,
        port: arguments.port,
    };
    let ended = runtime.block_on(run::run(paths));
    runtime.shutdown_background();
    ended
}
