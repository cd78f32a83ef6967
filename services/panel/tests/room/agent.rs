//! An agent's process on a simulated machine, and what it takes to start one. The console's tests have it too.

use std::{
    fs::File,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use model::join::Joined;

/// Asked from the kernel and given back at once: nobody else is given it soon.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An agent's process; it dies with the test.
pub(crate) struct Agent {
    folder: PathBuf,
    child: Child,
    arguments: Vec<String>,
}

impl Agent {
    /// Starts it with what its box was given, in a folder of its own.
    pub(crate) fn start(folder: PathBuf, joined: &Joined, key_pem: &str, api: SocketAddr) -> Self {
        let tls = folder.join("state/tls");
        std::fs::create_dir_all(&tls).unwrap();
        let write = |name: &str, content: &str| {
            File::create(tls.join(name)).unwrap().write_all(content.as_bytes()).unwrap();
        };
        write("api.crt", &joined.api_chain_pem);
        write("api.key", key_pem);
        write("panel-ca.crt", &joined.root_pem);
        write("boot-ca.crt", &joined.boot_root_pem);
        let at = |name: &str| folder.join(name).display().to_string();
        let boot_ports = [free_port(), free_port()];
        let arguments = [
            ["--socket".to_owned(), at("agent.sock")],
            ["--state".to_owned(), at("state")],
            ["--seed".to_owned(), at("clusterducks.toml")],
            ["--ipxe".to_owned(), at("tftp")],
            ["--boot-port".to_owned(), boot_ports[0].to_string()],
            ["--boot-tls-port".to_owned(), boot_ports[1].to_string()],
            ["--api".to_owned(), api.to_string()],
        ]
        .concat();
        let child = Self::spawn(&arguments);
        Self { folder, child, arguments }
    }

    fn spawn(arguments: &[String]) -> Child {
        let program = binary();
        #[expect(clippy::disallowed_methods, reason = "the test starts and kills an agent")]
        let spawned = Command::new(&program)
            .arg("--sim")
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn();
        spawned.unwrap_or_else(|error| panic!("{} can't be started: {error}", program.display()))
    }

    /// Kills it in this instant.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew with all that it kept.
    #[allow(dead_code, reason = "each test binary uses its part")]
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = Self::spawn(&self.arguments);
    }

    /// Starts it anew, knowing nothing but who it is.
    pub(crate) fn restart_blank(&mut self) {
        let state = self.folder.join("state");
        for entry in std::fs::read_dir(&state).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("tls") {
                continue;
            }
            let removed = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.unwrap();
        }
        self.child = Self::spawn(&self.arguments);
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The port of its boot service.
    #[allow(dead_code, reason = "only the browser's walk boots a device")]
    pub(crate) fn boot_port(&self) -> u16 {
        let option = self.arguments.iter().position(|argument| argument == "--boot-port").unwrap();
        self.arguments[option + 1].parse().unwrap()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// The agent's program, which stands beside the tests: the workspace's build makes it.
fn binary() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap();
    let program = folder.join("clusterducks-agent");
    let there = program.is_file();
    assert!(there, "{} is missing: cargo build --package clusterducks-agent", program.display());
    program
}
