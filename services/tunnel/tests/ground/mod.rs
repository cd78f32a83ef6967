//! The ground of tests with real OpenSSH and iptables: a test enters the tunnel's own base root in namespaces of its own, starts sshd
//! as the appliance does, and meets it from clients with networks and addresses of their own. Clients are the OpenSSH of the
//! machine that the test runs on.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests are tests too, and start sshd, ssh and ip in a namespace"
)]
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

pub(crate) mod client;
mod server;

use std::{
    fs,
    io::Write,
    net::{Shutdown, TcpListener},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub(crate) use client::Client;
use clusterducks_tunnel::{folders::Folders, isolation, ssh, users};
use host::iptables::{self, Chains, Family};
use model::tunnel::{API_PORT, Agent, ForwardPort, SSH_PORT, SshKey, Table};
pub(crate) use server::{Log, Sshd, listens};

/// The user that the service runs as: images/tunnel/users.
pub(crate) const BROKER: u32 = 500;
/// The user that looks keys up.
pub(crate) const KEYS: u32 = 501;
/// What everything that listens says, for those who speak HTTP too.
pub(crate) const GREETING: &str = "HTTP/1.0 200 OK\r\n\r\ngot through\n";
const INSIDE: &str = "CLUSTERDUCKS_TEST_NAMESPACE";

/// True inside. Outside it runs the test of this name inside, and panics when that fails or can't be done.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let base =
        Command::new(checkout.join("images/base")).args(["tunnel", "debian"]).output().unwrap();
    assert!(
        base.status.success(),
        "this test needs the tunnel's base root: images/prepare image; images/base tunnel debian\n{}",
        String::from_utf8_lossy(&base.stderr)
    );
    let base = String::from_utf8(base.stdout).unwrap();
    let base = Path::new(base.trim());
    let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).join(base.file_name().unwrap());
    let enter = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ground/enter");
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(enter)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("-n").arg(enter);
        sudo
    };
    let status = command
        .arg(base.join("root.tar"))
        .arg(checkout.join("rootfs/tunnel"))
        .arg(unpacked)
        .arg(env!("CARGO_BIN_EXE_clusterducks-tunnel"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .status();
    let status = status.unwrap_or_else(|error| {
        panic!("this test has users of its own: run it as root, or where sudo asks for no password ({error})")
    });
    assert!(
        status.success(),
        "{test} failed inside its namespaces, or could not get there: as root, or with sudo"
    );
    false
}

/// A program of the machine, not of the appliance.
pub(crate) fn outside(program: &str) -> Command {
    let mut command = Command::new("chroot");
    command
        .args(["/host", program])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// A program of the appliance.
pub(crate) fn appliance(program: &str) -> Command {
    Command::new(program)
}

fn ip(words: &str) {
    let output = outside("ip").args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits for what has to come; says what it was when it does not.
pub(crate) fn wait_until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Listens on the tunnel and greets whoever comes.
pub(crate) fn listen(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || greet(&listener));
}

fn greet(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        thread::spawn(move || {
            // Who left early is not waited for.
            let _ = stream.write_all(GREETING.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
    }
}

/// Whether a process of this user on the tunnel is greeted at `host:port`.
pub(crate) fn reaches_as(uid: u32, address: &str) -> bool {
    let mut command = outside("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", "bash"]);
    greeted(command, address)
}

fn greeted(mut bash: Command, address: &str) -> bool {
    let (host, port) = address.rsplit_once(':').unwrap();
    let script =
        format!("exec 3<>/dev/tcp/{host}/{port} && read -t 5 line <&3 && [[ $line == HTTP* ]]");
    bash.args(["-c", &script]).stderr(Stdio::null()).status().unwrap().success()
}

/// A tunnel with nobody on it.
pub(crate) struct Tunnel {
    /// Where its files lie: where an appliance has them.
    pub(crate) folders: Folders,
    /// What its programs told the log.
    pub(crate) log: Log,
    /// What may come in.
    pub(crate) table: Table,
}

impl Tunnel {
    /// Makes everything ready but sshd.
    pub(crate) fn new() -> Self {
        ip("link set lo up");
        // As on the appliance: no port of a connection that leaves can be one that leads to a server.
        fs::OpenOptions::new()
            .write(true)
            .open("/proc/sys/net/ipv4/ip_local_reserved_ports")
            .and_then(|mut file| file.write_all(b"10000-59999"))
            .unwrap();
        let folders = Folders::default();
        for folder in [&folders.data, &folders.run, &folders.sshd, &folders.sshd_run] {
            fs::create_dir_all(folder).unwrap();
        }
        let log = Log::listen();
        let key = block_on(ssh::prepare(&folders, SSH_PORT)).unwrap();
        let known = format!("tunnel {key}\n");
        host::files::write_atomic(Path::new("/mnt/known"), known.as_bytes(), 0o644).unwrap();
        Self { folders, log, table: Table::default() }
    }

    /// The text of its configuration for this port.
    pub(crate) fn config(&self, port: u16) -> String {
        host::sshd::render(&ssh::config(&self.folders, port))
    }

    /// Puts another table in force.
    pub(crate) fn apply(&mut self, table: Table) -> users::Applied {
        let applied = users::apply(&self.folders, Some(&self.table), &table).unwrap();
        self.table = table;
        applied
    }

    /// Its chains.
    pub(crate) fn chains(&self) -> Chains {
        isolation::chains(BROKER, API_PORT, SSH_PORT, Some(&self.table))
    }

    /// Puts chains in place.
    pub(crate) fn isolate(&self, chains: &Chains) {
        for family in Family::BOTH {
            block_on(iptables::apply(chains, family)).unwrap();
        }
    }
}

/// Runs what is asynchronous to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Makes a key pair, and says what is public of it.
pub(crate) fn make_key(path: &str) -> SshKey {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path])
        .status()
        .unwrap();
    assert!(made.success());
    let text = fs::read_to_string(format!("{path}.pub")).unwrap();
    text.trim().parse().unwrap()
}

/// The port with this number.
pub(crate) fn port(number: u16) -> ForwardPort {
    ForwardPort::new(number).unwrap()
}

/// A server with a key that is made for it: `/mnt/key-<port>`.
pub(crate) fn agent(server: u64, number: u16) -> Agent {
    let key = make_key(&key_file(number));
    Agent { server, forward: port(number), key }
}

/// Where the key of a server lies.
pub(crate) fn key_file(number: u16) -> String {
    format!("/mnt/key-{number}")
}
