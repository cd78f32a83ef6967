//! `clusterducks-agent`: reconciles the server it runs on and serves the devices of its networks.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use clusterducks_agent::{ctl, run};
use host::{
    machine::{Machine, Places},
    sim::SimHost,
    ssh,
};
use tracing_subscriber::EnvFilter;

/// Owns a server of diskless machines.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The Unix socket of the agent's API.
    #[arg(long, default_value = "/run/clusterducks/agent.sock", global = true)]
    socket: PathBuf,
    /// The folder with the agent's state.
    #[arg(long, default_value = "/data/agent")]
    state: PathBuf,
    /// The seed file.
    #[arg(long, default_value = "/boot/clusterducks.toml")]
    seed: PathBuf,
    /// The folder with the iPXE binaries.
    #[arg(long, default_value = "/run/clusterducks/tftp")]
    ipxe: PathBuf,
    /// The port of the boot service.
    #[arg(long, default_value_t = 80)]
    boot_port: u16,
    /// The port of the boot service where it has a certificate.
    #[arg(long, default_value_t = 443)]
    boot_tls_port: u16,
    /// Where the API answers the panel on loopback, when there are certificates for it in the folder tls of the agent's state.
    #[arg(long, default_value = "127.0.0.1:8443")]
    api: SocketAddr,
    /// The folder for the files of the ways through tunnels.
    #[arg(long, default_value = "/run/clusterducks/uplinks")]
    uplinks: PathBuf,
    /// Owns a simulated machine: no privileges, nothing is touched.
    #[arg(long)]
    sim: bool,
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Talks to the agent that runs.
    #[command(subcommand)]
    Ctl(ctl::Command),
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(Verb::Ctl(command)) = arguments.command {
        return runtime.block_on(ctl::run(&arguments.socket, command));
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let paths = run::Paths {
        state: arguments.state,
        socket: arguments.socket,
        seed: arguments.seed,
        ipxe: arguments.ipxe,
        boot_port: arguments.boot_port,
        boot_tls_port: arguments.boot_tls_port,
        api: arguments.api,
        uplinks: arguments.uplinks,
        uplink_user: (!arguments.sim).then_some(ssh::USER),
    };
    let ended = if arguments.sim {
        runtime.block_on(run::run(paths, |_wake| SimHost::demo()))
    } else {
        run::verify_programs(Machine::PROGRAMS)?;
        let places = Places {
            hostname: paths.hostname(),
            begun: paths.begun(),
            making: paths.making(),
            tftp: paths.ipxe.clone(),
            certificates: paths.tls(),
        };
        runtime.block_on(run::run(paths, |wake| Machine::new(places, wake)))
    };
    // Blocking work that hangs on a device must not keep the agent from being restarted.
    runtime.shutdown_background();
    ended
}
