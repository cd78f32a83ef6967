//! Boot script and metadata for 1,000 devices, from the agent with a simulated machine and, in turn, from nginx that serves the
//! same bytes from files on the same processor. Both write a line a request or more to a log file, as they are shipped.

use crate::figures::{Figures, Section, list, median, note};
use crate::load::{self, Caller, METADATA, Outcome, SERVER_PROCESSOR, run};
use anyhow::{Context, Result, bail};
use qemu_tests::{Process, Workspace, run_tool, wait_until, write_file};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const SECTION: Section = Section {
    names: &["boot_http_vs_nginx", "boot_http_p99_ms"],
    limit: || Duration::from_secs(300),
    measure: |figures| Box::pin(measure(figures)),
};

const DEVICES: usize = 1000;
/// Each side is measured so often, in turn.
const ROUNDS: usize = 5;
/// How often each device boots in a round.
const BOOTS: usize = 3;

async fn measure(figures: &mut Figures) -> Result<()> {
    let workspace = Workspace::new("bench-http")?;
    raise_descriptors()?;
    let callers = Arc::new((0..DEVICES).map(caller).collect::<Vec<_>>());
    let (agent, _agent_process) = start_agent(&workspace).await?;
    let files = keep_answers(&workspace, agent, &callers).await?;
    let (nginx, _nginx_process) = start_nginx(&workspace, &files).await?;
    let (mut agent_rates, mut nginx_rates) = (Vec::new(), Vec::new());
    let mut p99s = Vec::new();
    for _ in 0..ROUNDS {
        let load = async |server| -> Result<Outcome> {
            run(server, Arc::clone(&callers), BOOTS, DEVICES).await
        };
        let by_agent = load(agent).await.context("the agent")?;
        let by_nginx = load(nginx).await.context("nginx")?;
        p99s.push(by_agent.p99_ms()?);
        agent_rates.push(by_agent.rate);
        nginx_rates.push(by_nginx.rate);
    }
    note(&format!(
        "requests a second: agent {}; nginx {}; agent's p99 in ms: {}",
        list(&agent_rates),
        list(&nginx_rates),
        list(&p99s)
    ));
    figures.report("boot_http_vs_nginx", median(&agent_rates)? / median(&nginx_rates)?, "x");
    figures.report("boot_http_p99_ms", median(&p99s)?, "ms");
    workspace.passed();
    Ok(())
}

/// A thousand connections need more than the 1,024 descriptors that a shell gives.
fn raise_descriptors() -> Result<()> {
    let own = std::process::id().to_string();
    run_tool("prlimit", &["--pid", &own, "--nofile=8192:"]).map(drop)
}

fn caller(number: usize) -> Caller {
    let [high, low] = numbered(number);
    Caller {
        address: Ipv4Addr::new(127, 0, high, low),
        script: format!("/boot/52-54-00-cd-{high:02x}-{low:02x}.ipxe"),
    }
}

/// Two bytes for the device `number`, which fit an address and a card.
fn numbered(number: usize) -> [u8; 2] {
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    [byte(1 + number / 250), byte(1 + number % 250)]
}

fn document() -> Value {
    let devices = (0..DEVICES).map(|number| {
        let [high, low] = numbered(number);
        json!({
            "name": format!("pc-{number}"), "macs": [format!("52:54:00:cd:{high:02x}:{low:02x}")],
            "network": "lab", "address": format!("127.0.{high}.{low}"), "group": "lab",
            "boot_mode": "overlay",
        })
    });
    json!({
        "generation": 1,
        "pools": [{ "name": "tank", "disks": [{ "serial": "SIM-0" }] }],
        "networks": [{ "name": "lab", "interface": { "mac": "52:54:00:00:00:01" },
            "address": "127.0.0.1/8", "dhcp": { "mode": "proxy" } }],
        "volumes": [{ "name": "debian", "pool": "tank", "size_bytes": 1 << 30,
            "source": { "location": "/dev/vdb", "format": "raw", "sha256": "0".repeat(64) } }],
        "groups": [{ "name": "lab", "volume": "debian", "generations": [1], "production": 1 }],
        "devices": devices.collect::<Vec<_>>(),
    })
}

/// The program that was built with this one.
fn agent_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("clusterducks-agent");
    if !program.is_file() {
        bail!("{} is missing: build it with `cargo build --release`", program.display());
    }
    Ok(program)
}

/// Starts `program` on the servers' processor.
fn start(program: &str, args: &[String], log: &Path) -> Result<Process> {
    let processor = SERVER_PROCESSOR.to_string();
    let mut all: Vec<String> =
        ["--nofile=8192:", "taskset", "-c", &processor, program].map(String::from).into();
    all.extend_from_slice(args);
    Process::start("prlimit", &all, log)
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn start_agent(workspace: &Workspace) -> Result<(SocketAddr, Process)> {
    let program = agent_program()?.display().to_string();
    let server = free_port()?;
    let folder = workspace.folder("agent")?;
    let at = |name: &str| folder.join(name).display().to_string();
    let socket = workspace.socket_path().display().to_string();
    let options = [
        ("--socket", socket.clone()),
        ("--state", at("state")),
        ("--seed", at("clusterducks.toml")),
        ("--ipxe", at("ipxe")),
        ("--boot-port", server.port().to_string()),
    ];
    let mut args = vec!["--sim".to_owned()];
    args.extend(options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
    let process = start(&program, &args, &folder.join("agent.log"))?;
    let ctl = |verb: &[&str]| {
        let fixed = ["--socket", socket.as_str(), "ctl"];
        run_tool(&program, &[&fixed, verb].concat())
    };
    wait_until("the agent answers", Duration::from_secs(20), async || {
        alive(&process)?;
        Ok(ctl(&["status"]).ok())
    })
    .await?;
    let file = at("document.json");
    write_file(Path::new(&file), document().to_string().as_bytes())?;
    ctl(&["apply", &file])?;
    wait_until("the agent serves the document", Duration::from_secs(60), async || {
        let status: Value = serde_json::from_str(&ctl(&["status"])?)?;
        let converged = status.get("converged") == Some(&Value::Bool(true));
        Ok((converged && tokio::net::TcpStream::connect(server).await.is_ok()).then_some(()))
    })
    .await?;
    Ok((server, process))
}

fn alive(process: &Process) -> Result<()> {
    match process.exit_status() {
        None => Ok(()),
        Some(status) => bail!("it ended at once with {status}; its log was kept"),
    }
}

/// Boots each device once and keeps what it got as files of the same names.
async fn keep_answers(
    workspace: &Workspace,
    agent: SocketAddr,
    callers: &[Caller],
) -> Result<PathBuf> {
    let root = workspace.folder("files")?;
    for folder in ["files/boot", "files/metadata/v1"] {
        workspace.folder(folder)?;
    }
    for caller in callers {
        let boot = load::boot(agent, caller).await.context("the agent")?;
        write_file(&root.join(caller.script.trim_start_matches('/')), &boot.script)?;
        write_file(&root.join(METADATA.trim_start_matches('/')), &boot.metadata)?;
    }
    Ok(root)
}

async fn start_nginx(workspace: &Workspace, root: &Path) -> Result<(SocketAddr, Process)> {
    let server = free_port()?;
    let folder = workspace.folder("nginx")?;
    let configuration = folder.join("nginx.conf");
    write_file(&configuration, nginx_conf(&folder, root, server).as_bytes())?;
    let at = configuration.display().to_string();
    let args = ["-e".into(), folder.join("error.log").display().to_string(), "-c".into(), at];
    let process =
        start("/usr/sbin/nginx", &args, &folder.join("nginx.log")).context("nginx can't run")?;
    wait_until("nginx answers", Duration::from_secs(20), async || {
        alive(&process).context("nginx can't run")?;
        Ok(tokio::net::TcpStream::connect(server).await.ok().map(drop))
    })
    .await?;
    Ok((server, process))
}

/// One worker, as on one processor nginx's `auto` means; the rest as Debian ships it. Root's worker stays root, to read the
/// files; for others nginx ignores `user`.
fn nginx_conf(folder: &Path, root: &Path, server: SocketAddr) -> String {
    let folder = folder.display();
    let root = root.display();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = kinds.map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n")).concat();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  sendfile on;\n  tcp_nopush on;\n  access_log {folder}/access.log;\n{places}\
         \x20 server {{ listen {server} backlog=4096; root {root}; default_type text/plain; }}\n}}\n"
    )
}
