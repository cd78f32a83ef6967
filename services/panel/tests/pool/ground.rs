//! A panel, two tunnels and a site, each on a network of its own: the tunnels' programs run in the tunnel's base root, as its box
//! runs them, the agent keeps its uplinks by the machine's own ssh(1). Between them stands the panel's machine as the router.

#![expect(clippy::disallowed_methods, reason = "the test starts namespaces and what runs there")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const INSIDE: &str = "CLUSTERDUCKS_TEST_POOL";

/// True inside. Outside it runs the test of this name inside, and panics when that fails or can't be done.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    });
    let mut command = if root {
        Command::new("unshare")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "--preserve-env=HOME,XDG_CACHE_HOME", "unshare"]);
        sudo
    };
    // Files of uplinks lie below /run, which is the machine's own.
    let begin = "mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && \
        echo 1 >/proc/sys/net/ipv4/ip_forward && exec \"$0\" \"$@\"";
    let status = command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "env", &format!("{INSIDE}=1"), "sh", "-c", begin])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .status()
        .unwrap_or_else(|error| panic!("this test needs namespaces: run it as root ({error})"));
    assert!(status.success(), "{test} failed inside its namespaces, or could not get there");
    false
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn ip(words: &str) {
    run(Command::new("ip").args(words.split(' ')));
}

/// A program that stands beside the tests: the workspace's build makes it.
fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(Path::parent).unwrap().join(name);
    assert!(program.is_file(), "{} is missing: cargo build --package {name}", program.display());
    program
}

/// A network namespace whose machine is 10.97.n.2; the panel is 10.97.n.1 there, and the way to all others.
pub(crate) struct Place {
    number: u8,
    /// The process that it is known by.
    pid: u32,
}

impl Place {
    fn new(number: u8, pid: u32) -> Self {
        ip(&format!("link add net{number} type veth peer name wan0 netns {pid}"));
        ip(&format!("addr add 10.97.{number}.1/24 dev net{number}"));
        ip(&format!("link set net{number} up"));
        let place = Self { number, pid };
        for words in [
            "link set lo up".to_owned(),
            format!("addr add 10.97.{number}.2/24 dev wan0"),
            "link set wan0 up".to_owned(),
            format!("route add default via 10.97.{number}.1"),
        ] {
            place.ip(&words);
        }
        place
    }

    pub(crate) fn address(&self) -> String {
        format!("10.97.{}.2", self.number)
    }

    fn ip(&self, words: &str) {
        run(self.command("ip").args(words.split(' ')));
    }

    /// A program that runs there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid)).arg(program);
        command
    }

    /// Nothing comes from there or gets there any more, and nobody is told.
    pub(crate) fn pull_cable(&self) {
        self.ip("link set wan0 down");
    }

    pub(crate) fn plug_cable(&self) {
        self.ip("link set wan0 up");
        self.ip(&format!("route add default via 10.97.{}.1", self.number));
    }

    /// Drops silently what these two send each other.
    pub(crate) fn part_from(&self, other: &Self) {
        self.between(other, "add");
    }

    pub(crate) fn meet_again(&self, other: &Self) {
        self.between(other, "del");
    }

    fn between(&self, other: &Self, verb: &str) {
        ip(&format!("rule {verb} iif net{} to {} blackhole", self.number, other.address()));
        ip(&format!("rule {verb} iif net{} to {} blackhole", other.number, self.address()));
    }
}

/// A tunnel's box.
pub(crate) struct TunnelBox {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) place: Place,
}

impl TunnelBox {
    /// The n-th one, with this seed file; nothing runs there yet.
    pub(crate) fn new(number: u8, seed: &Path) -> Self {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let base = run(Command::new(checkout.join("images/base")).args(["tunnel", "debian"]));
        let base = Path::new(base.trim());
        let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).join(base.file_name().unwrap());
        let mut child = Command::new(checkout.join("services/tunnel/tests/ground/enter"))
            .arg(base.join("root.tar"))
            .arg(checkout.join("rootfs/tunnel"))
            .arg(unpacked)
            .arg(program("clusterducks-tunnel"))
            .arg(checkout.join("services/panel/tests/pool/tunnel-box"))
            .arg(seed)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Whoever entered is the first process of its namespaces, and a child of unshare(1).
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let end = Instant::now() + Duration::from_secs(60);
        let pid = loop {
            let text = fs::read_to_string(&children).unwrap_or_default();
            let entered = text.trim().parse().ok().filter(|pid| other_network(*pid));
            if let Some(pid) = entered {
                break pid;
            }
            assert!(Instant::now() < end, "tunnel {number} was not entered within a minute");
            std::thread::sleep(Duration::from_millis(10));
        };
        let (orders, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let place = Place::new(number, pid);
        Self { child, orders, answers: BufReader::new(answers), place }
    }

    fn order(&mut self, word: &str) {
        writeln!(self.orders, "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{word}");
    }

    pub(crate) fn start(&mut self) {
        self.order("start");
    }

    /// Kills its programs in this instant.
    pub(crate) fn stop(&mut self) {
        self.order("stop");
    }

    /// Makes it new: it forgets its panel, and has another host key.
    pub(crate) fn flash(&mut self) {
        self.order("stop");
        self.order("flash");
        self.order("start");
    }
}

/// Whether a process has another network than this one.
fn other_network(pid: u32) -> bool {
    let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
    network(&pid.to_string()).is_some_and(|theirs| Some(theirs) != network("self"))
}

impl Drop for TunnelBox {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Where the agent is, and its process.
pub(crate) struct SiteBox {
    keeper: Child,
    agent: Option<Child>,
    pub(crate) place: Place,
}

impl SiteBox {
    pub(crate) fn new(number: u8) -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep infinity"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let place = Place::new(number, keeper.id());
        Self { keeper, agent: None, place }
    }

    /// Starts the agent with what lies in its folder, on a simulated machine, with real uplinks.
    pub(crate) fn start(&mut self, folder: &Path) {
        let at = |name: &str| folder.join(name);
        let mut command = self.place.command(&program("clusterducks-agent").display().to_string());
        command.arg("--sim").arg("--socket").arg(at("agent.sock")).arg("--state").arg(at("state"));
        command.arg("--seed").arg(at("seed")).arg("--ipxe").arg(at("tftp"));
        command.arg("--uplinks").arg(at("uplinks")).env("RUST_LOG", "warn").stdin(Stdio::null());
        self.agent = Some(command.spawn().unwrap());
    }
}

impl Drop for SiteBox {
    fn drop(&mut self) {
        for child in self.agent.iter_mut().chain([&mut self.keeper]) {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// Makes a key for a server; its public part.
pub(crate) fn make_key(path: &Path) -> String {
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(path));
    fs::read_to_string(path.with_extension("key.pub")).unwrap().trim().to_owned()
}
