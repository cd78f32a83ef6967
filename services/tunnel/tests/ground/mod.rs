//! The ground of tests with real OpenSSH and iptables: a test enters the tunnel's own base root in namespaces of its own, starts sshd
//! as the appliance does, and meets it from clients with networks and addresses of their own. Clients are the OpenSSH of the
//! machine that the test runs on.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests too, and start sshd, ssh and ip in a namespace"
)]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener},
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use clusterducks_tunnel::{folders::Folders, isolation, ssh, users};
use host::iptables::{self, Chains, Family};
use model::tunnel::{API_PORT, Agent, ForwardPort, SSH_PORT, SshKey, Table};

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
        .arg(unpacked)
        .arg(env!("CARGO_BIN_EXE_clusterducks-tunnel"))
        .arg(std::env::current_exe().unwrap())
        .arg(test)
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

/// What programs of the tunnel told the log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    /// Listens where syslog(3) speaks to.
    fn listen() -> Self {
        let log = Self::default();
        let socket = UnixDatagram::bind("/dev/log").unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions("/dev/log", everybody).unwrap();
        let kept = log.clone();
        thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length) = socket.recv(&mut bytes) {
                let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if std::env::var_os("SHOW_LOG").is_some() {
                    eprintln!("{line}");
                }
                kept.0.0.lock().unwrap().push(line);
                kept.0.1.notify_all();
            }
        });
        log
    }

    /// Where it ends now.
    pub(crate) fn end(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }

    /// What was told since then.
    pub(crate) fn since(&self, mark: usize) -> String {
        self.0.0.lock().unwrap()[mark..].join("\n")
    }

    /// Whether that was told since then, or is before the time is over.
    pub(crate) fn tells(&self, mark: usize, text: &str, limit: Duration) -> bool {
        let lines = self.0.0.lock().unwrap();
        let missing =
            |lines: &mut Vec<String>| !lines[mark..].iter().any(|line| line.contains(text));
        !self.0.1.wait_timeout_while(lines, limit, missing).unwrap().1.timed_out()
    }
}

/// A machine somewhere else: a network namespace with an address of its own.
pub(crate) struct Client {
    child: Child,
    /// Its number.
    pub(crate) number: u8,
}

impl Client {
    /// The n-th one, at 10.99.n.2; the tunnel is 10.99.n.1 there.
    pub(crate) fn new(number: u8) -> Self {
        let script = "ip link set lo up; echo ready; exec sleep infinity";
        let mut child = outside("unshare")
            .args(["--net", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let client = Self { child, number };
        let pid = client.child.id();
        ip(&format!("link add cli{number} type veth peer name wan0 netns {pid}"));
        ip(&format!("addr add 10.99.{number}.1/24 dev cli{number}"));
        ip(&format!("link set cli{number} up"));
        for words in [
            format!("addr add 10.99.{number}.2/24 dev wan0"),
            "link set wan0 up".to_owned(),
            format!("route add default via 10.99.{number}.1"),
        ] {
            let done = client.run("ip").args(words.split(' ')).output().unwrap();
            assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
        }
        client
    }

    /// A program that runs there.
    pub(crate) fn run(&self, program: &str) -> Command {
        let mut command = outside("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.child.id())).arg(program);
        command
    }

    /// The address of the tunnel, as it sees it.
    pub(crate) fn tunnel(&self) -> String {
        format!("10.99.{}.1", self.number)
    }

    /// Its own address.
    pub(crate) fn address(&self) -> String {
        format!("10.99.{}.2", self.number)
    }

    /// An ssh(1) that offers this key alone and knows the tunnel's; what it wants follows.
    pub(crate) fn ssh(&self, server: &Sshd, user: &str, key: &str) -> Command {
        Self::offering(self.run("ssh"), server, user, key)
    }

    /// The same, for so many seconds at the most.
    pub(crate) fn ssh_within(&self, seconds: u32, server: &Sshd, user: &str, key: &str) -> Command {
        let mut command = self.run("timeout");
        command.args([&seconds.to_string(), "ssh"]);
        Self::offering(command, server, user, key)
    }

    fn offering(mut command: Command, server: &Sshd, user: &str, key: &str) -> Command {
        command.args(["-F", "none", "-v", "-p", &server.port.to_string(), "-l", user, "-i", key]);
        for option in [
            "IdentitiesOnly=yes",
            "ConnectTimeout=20",
            "ExitOnForwardFailure=yes",
            "HostKeyAlias=tunnel",
            "StrictHostKeyChecking=yes",
            "UserKnownHostsFile=/mnt/known",
            "GlobalKnownHostsFile=none",
        ] {
            command.args(["-o", option]);
        }
        command.env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What a server keeps up: a remote forwarding of its port, that leads to this address.
    pub(crate) fn uplink(&self, server: &Sshd, port: ForwardPort, key: &str, to: &str) -> Session {
        let mut command = self.ssh(server, &port.user(), key);
        command.args(["-N", "-R", &format!("127.0.0.1:{port}:{to}")]);
        command.arg(self.tunnel());
        Session::start(command)
    }

    /// Listens there, and greets whoever comes.
    pub(crate) fn listen(&self, address: &str) {
        let space = fs::File::open(format!("/proc/{}/ns/net", self.child.id())).unwrap();
        let address = address.to_owned();
        let (ready, listening) = std::sync::mpsc::channel();
        thread::spawn(move || {
            nix::sched::setns(space.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind(&address).unwrap();
            ready.send(()).unwrap();
            greet(&listener);
        });
        listening.recv().unwrap();
    }

    /// Whether a connection from here to there is taken.
    pub(crate) fn connects(&self, address: &str) -> bool {
        let (host, port) = address.rsplit_once(':').unwrap();
        let script = format!("exec 3<>/dev/tcp/{host}/{port}");
        self.run("bash").args(["-c", &script]).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Whether somebody there answers a connection from here.
    pub(crate) fn reaches(&self, address: &str) -> bool {
        greeted(self.run("bash"), address)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// An ssh(1) that runs, and what it says.
pub(crate) struct Session {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Session {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap();
        let kept = Arc::clone(&said);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut bytes) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { child, said }
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Whether its forwarding is there: false when it ends without.
    pub(crate) fn forwards(&mut self) -> bool {
        wait_until("ssh forwards or ends", Duration::from_secs(60), || {
            if self.said().contains("remote forward success") {
                return Some(true);
            }
            self.child.try_wait().unwrap().map(|_| false)
        })
    }

    /// Waits until it says that, or ends.
    pub(crate) fn waits_for(&mut self, text: &str) {
        wait_until(&format!("ssh says {text}"), Duration::from_secs(60), || {
            let ended = self.child.try_wait().unwrap().is_some();
            (ended || self.said().contains(text)).then_some(())
        });
    }

    /// Waits until it has ended, and says how long that took.
    pub(crate) fn ends(&mut self, limit: Duration) -> Duration {
        let start = Instant::now();
        wait_until("the session ends", limit, || self.child.try_wait().unwrap());
        start.elapsed()
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An sshd that runs.
pub(crate) struct Sshd {
    child: Child,
    /// Where.
    pub(crate) port: u16,
}

impl Sshd {
    /// Starts it with this configuration, and waits until it listens.
    pub(crate) fn start(config: &str, port: u16) -> Self {
        let file = format!("/run/sshd_config-{port}");
        host::files::write_atomic(Path::new(&file), config.as_bytes(), 0o644).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f", &file])
            .env_clear()
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port };
        wait_until("sshd listens", Duration::from_secs(20), || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "sshd ended with {ended:?}");
            listens(&format!("0.0.0.0:{port}")).then_some(())
        });
        server
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether something listens at this IPv4 address and port.
pub(crate) fn listens(address: &str) -> bool {
    let address: std::net::SocketAddrV4 = address.parse().unwrap();
    let host = u32::from_ne_bytes(address.ip().octets());
    let wanted = format!("{host:08X}:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1] == wanted && words[3] == "0A"
    })
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
            .open("/proc/sys/net/ipv4/ip_local_port_range")
            .and_then(|mut file| file.write_all(b"60000 65535"))
            .unwrap();
        let folders = Folders::default();
        for folder in [&folders.data, &folders.run] {
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
