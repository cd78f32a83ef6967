//! Machines somewhere else, and the OpenSSH clients that run there.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests too")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use model::tunnel::ForwardPort;

use super::{Sshd, greet, greeted, ip, outside, wait_until};

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
        self.serve(address, greet);
    }

    /// Listens there, and leaves the rest to who serves.
    pub(crate) fn serve(&self, address: &str, serve: fn(&TcpListener)) {
        let space = fs::File::open(format!("/proc/{}/ns/net", self.child.id())).unwrap();
        let address = address.to_owned();
        let (ready, listening) = mpsc::channel();
        thread::spawn(move || {
            nix::sched::setns(space.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind(&address).unwrap();
            ready.send(()).unwrap();
            serve(&listener);
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

/// An ssh(1) that runs, and what it says.
pub(crate) struct Session {
    child: Child,
    said: Arc<Mutex<String>>,
    /// Who takes down what it says.
    scribe: Option<thread::JoinHandle<()>>,
}

impl Session {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap();
        let kept = Arc::clone(&said);
        let scribe = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut bytes) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { child, said, scribe: Some(scribe) }
    }

    /// What it said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Whether its forwarding is there: false when it ends without.
    pub(crate) fn forwards(&mut self) -> bool {
        let forwards = wait_until("ssh forwards or ends", Duration::from_secs(60), || {
            if self.said().contains("remote forward success") {
                return Some(true);
            }
            self.child.try_wait().unwrap().map(|_| false)
        });
        // Its last words may still be on their way when it has ended.
        if let Some(scribe) = self.scribe.take_if(|_| !forwards) {
            scribe.join().unwrap();
        }
        forwards
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
