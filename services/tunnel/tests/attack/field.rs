//! Where attacks take place: a tunnel with a server A that is up, a hostile server B, somebody on the other side, and a panel.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests too")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use clusterducks_tunnel::{
    folders::Folders,
    users::{self, JOIN_UID},
};
use host::{files, iptables::Chains, userdb};
use model::tunnel::{SSH_PORT, Table};

use crate::{
    Off,
    ground::{
        Client, Sshd, Tunnel, agent, appliance, client::Session, key_file, listen, listens,
        make_key, outside, port, wait_until,
    },
};

/// The hostile server.
pub(crate) const B: &str = "a10002";
/// Its port.
pub(crate) const B_PORT: u16 = 10_002;
/// A key that nobody knows.
pub(crate) const STRANGE: &str = "/mnt/key-strange";

/// Where a refusal is seen.
pub(crate) enum Seen {
    /// In the tunnel's log.
    Log(&'static str),
    /// OpenSSH tells it to the client alone.
    Client(&'static str),
    /// It is granted, and leads nowhere: this is what is seen on the tunnel.
    Harmless(fn() -> bool),
}

/// What came of an attempt.
pub(crate) struct Attempt {
    /// Whether the attacker has what he wants.
    pub(crate) through: bool,
    /// What he was told.
    pub(crate) said: String,
}

pub(crate) struct Field {
    pub(crate) tunnel: Tunnel,
    pub(crate) a: Client,
    pub(crate) b: Client,
    pub(crate) other: Client,
    pub(crate) panel: Client,
    server: Option<Sshd>,
    /// What the server was started with.
    config: String,
    /// What is in place.
    chains: Option<Chains>,
    uplink: Option<Session>,
    agent: Child,
    mark: Mutex<usize>,
}

impl Field {
    pub(crate) fn new() -> Self {
        let mut tunnel = Tunnel::new();
        let [a, b, other, panel] = [1, 2, 3, 4].map(Client::new);
        let table = Table {
            panel: vec!["10.99.4.2/32".parse().unwrap()],
            agents: vec![agent(1, 10_001), agent(2, B_PORT)],
            ..Table::default()
        };
        let _ = tunnel.apply(table);
        make_key(STRANGE);
        listen("0.0.0.0:8444");
        other.listen("10.99.3.2:80");
        a.listen("127.0.0.1:8443");
        serve_joins(&tunnel.folders);
        // Answers the questions of a client that has no terminal.
        files::write_atomic(Path::new("/mnt/ask"), b"#!/bin/sh\necho secret\n", 0o755).unwrap();
        let agent =
            outside("ssh-agent").args(["-D", "-a", "/mnt/agent"]).stdout(Stdio::null()).spawn();
        let mut field = Self {
            tunnel,
            a,
            b,
            other,
            panel,
            server: None,
            config: String::new(),
            chains: None,
            uplink: None,
            agent: agent.unwrap(),
            mark: Mutex::new(0),
        };
        field.without([], |field| {
            let mut uplink =
                field.a.uplink(field.server(), port(10_001), &key_file(10_001), "127.0.0.1:8443");
            assert!(uplink.forwards(), "{}", uplink.said());
            field.uplink = Some(uplink);
        });
        field
    }

    /// Has something done on a tunnel that lacks these protections. The session of A outlives sshd's change.
    pub(crate) fn without<T>(
        &mut self,
        off: impl IntoIterator<Item = Off>,
        act: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut config = self.tunnel.config(SSH_PORT);
        let mut edits = Vec::new();
        let mut any_key = false;
        let [mut shell, mut unlocked] = [false; 2];
        let mut chains = self.tunnel.chains();
        for off in off {
            match off {
                Off::Config(texts) => {
                    for (from, to) in texts {
                        assert!(config.contains(from), "{from}");
                        config = config.replace(from, to);
                    }
                }
                Off::Key(from, to) => edits.push(format!("-e 's|{from}|{to}|'")),
                Off::AnyKey => any_key = true,
                Off::Rules(rule) => {
                    chains.input.retain(|it| !rule(it));
                    chains.output.retain(|it| !rule(it));
                }
                Off::Shell => shell = true,
                Off::Unlocked => unlocked = true,
                Off::Never => unreachable!("nobody takes that away"),
            }
        }
        if any_key || !edits.is_empty() {
            let print = if any_key {
                "echo \"$2 $3\"".to_owned()
            } else {
                format!("/usr/bin/clusterducks-tunnel keys -- \"$@\" | sed {}", edits.join(" "))
            };
            let script = format!("#!/bin/sh\n{print}\n");
            files::write_atomic(Path::new("/mnt/keys"), script.as_bytes(), 0o755).unwrap();
            config = config.replace("/usr/bin/clusterducks-tunnel keys --", "/mnt/keys");
        }
        if shell {
            let user = userdb::User {
                name: B.to_owned(),
                uid: port(B_PORT).uid(),
                gid: port(B_PORT).uid(),
                real_name: "server 2".to_owned(),
                shell: "/bin/sh",
            };
            userdb::ensure(&self.tunnel.folders.userdb, &user).unwrap();
        }
        if unlocked {
            files::write_atomic(Path::new("/mnt/shadow"), b"root:*:1::::::\n", 0o600).unwrap();
            assert!(
                appliance("mount")
                    .args(["--bind", "/mnt/shadow", "/etc/shadow"])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        self.stand(&config, &chains);
        let done = act(self);
        self.clear();
        if unlocked {
            assert!(appliance("umount").arg("/etc/shadow").status().unwrap().success());
        }
        if shell {
            let _ = users::apply(&self.tunnel.folders, None, &self.tunnel.table).unwrap();
        }
        done
    }

    fn stand(&mut self, config: &str, chains: &Chains) {
        if self.chains.as_ref() != Some(chains) {
            self.tunnel.isolate(chains);
            self.chains = Some(chains.clone());
        }
        if self.server.is_none() || self.config != config {
            self.server = None;
            self.server = Some(Sshd::start(config, SSH_PORT));
            config.clone_into(&mut self.config);
        }
        *self.mark.lock().unwrap() = self.tunnel.log.end();
    }

    /// Waits until nothing of an attempt is left that the next one could stumble over.
    fn clear(&self) {
        let attackers = [port(B_PORT).uid(), JOIN_UID].map(|uid| uid.to_string());
        wait_until("attackers' ports are closed", Duration::from_secs(10), || {
            let table = fs::read_to_string("/proc/net/tcp").unwrap();
            let mut owners = table.lines().filter_map(|line| line.split_whitespace().nth(7));
            (!owners.any(|uid| attackers.iter().any(|attacker| attacker == uid))).then_some(())
        });
        files::remove_if_exists(Path::new("/tmp/b")).unwrap();
    }

    fn server(&self) -> &Sshd {
        self.server.as_ref().unwrap()
    }

    /// Whether an attempt came to the end that it has to come to: refused in this way, or through.
    pub(crate) fn judge(&self, attempt: &Attempt, refused: Option<&Seen>) -> Result<(), String> {
        let mark = *self.mark.lock().unwrap();
        let good = match refused {
            None => attempt.through,
            Some(_) if attempt.through => false,
            Some(Seen::Log(text)) => self.tunnel.log.tells(mark, text, Duration::from_secs(5)),
            Some(Seen::Client(text)) => attempt.said.contains(text),
            Some(Seen::Harmless(seen)) => seen(),
        };
        if good {
            return Ok(());
        }
        let said: Vec<&str> = attempt.said.lines().rev().take(12).collect();
        let said: Vec<&str> = said.into_iter().rev().collect();
        Err(format!(
            "through: {}\nclient:\n{}\nlog:\n{}",
            attempt.through,
            said.join("\n"),
            self.tunnel.log.since(mark)
        ))
    }

    /// B's ssh(1), or that of a box that joins, to ask for something.
    pub(crate) fn ssh(&self, user: &str, words: &[&str]) -> Command {
        self.ssh_by(user, if user == B { "/mnt/key-10002" } else { STRANGE }, words)
    }

    pub(crate) fn ssh_by(&self, user: &str, key: &str, words: &[&str]) -> Command {
        self.asking(self.b.ssh_within(20, self.server(), user, key), words)
    }

    /// One that stays, until it is dropped.
    pub(crate) fn session(&self, user: &str, words: &[&str]) -> Session {
        let key = if user == B { "/mnt/key-10002" } else { STRANGE };
        let mut command = self.asking(self.b.ssh(self.server(), user, key), words);
        command.stdin(Stdio::piped());
        Session::start(command)
    }

    fn asking(&self, mut command: Command, words: &[&str]) -> Command {
        let (options, wanted): (Vec<_>, Vec<_>) = match words.iter().position(|word| *word == "--")
        {
            Some(at) => (words[..at].to_vec(), words[at + 1..].to_vec()),
            None => (words.to_vec(), Vec::new()),
        };
        command.args(options).arg(self.b.tunnel()).args(wanted);
        command
    }

    /// Whether what ssh prints holds a text that only success brings.
    pub(crate) fn prints(&self, mut command: Command, text: &str) -> Attempt {
        let output = command.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = format!("{}{printed}", String::from_utf8_lossy(&output.stderr));
        Attempt { through: printed.contains(text), said }
    }

    /// The same, where it is given something first and its input stays open until it answers.
    pub(crate) fn answers(&self, mut command: Command, input: &[u8], text: &[u8]) -> Attempt {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let input = input.to_vec();
        // It may end before it read all.
        let fed = thread::spawn(move || stdin.write_all(&input).map(|()| stdin));
        let mut printed = Vec::new();
        let mut bytes = [0; 4096];
        let through = loop {
            let length = stdout.read(&mut bytes).unwrap();
            printed.extend_from_slice(&bytes[..length]);
            let found = printed.windows(text.len()).any(|found| found == text);
            if found || length == 0 {
                break found;
            }
        };
        drop(fed.join().unwrap());
        let stderr = child.wait_with_output().unwrap().stderr;
        let printed = String::from_utf8_lossy(&printed);
        Attempt { through, said: format!("{}{printed}", String::from_utf8_lossy(&stderr)) }
    }

    /// Asks for a remote forwarding, and looks at what came of it while it stands.
    pub(crate) fn remote(
        &self,
        user: &str,
        forwarding: &str,
        there: impl FnOnce() -> bool,
    ) -> Attempt {
        let mut session = self.session(user, &["-N", "-R", forwarding]);
        let granted = session.forwards();
        let through = granted && there();
        Attempt { through, said: session.said() }
    }

    /// Asks for a stream from the tunnel to this address.
    pub(crate) fn local(&self, user: &str, to: &str) -> Attempt {
        let text = if to.ends_with(":22") { "SSH-2.0-" } else { "got through" };
        self.prints(self.ssh(user, &["-W", to]), text)
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// A service that takes all that boxes send, and never answers.
fn serve_joins(folders: &Folders) {
    let path = Folders::join_socket(&folders.run);
    fs::create_dir(path.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
}

/// Whether something listens there.
pub(crate) fn is_open(address: &str) -> bool {
    listens(address)
}
