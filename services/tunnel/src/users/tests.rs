use model::tunnel::SshKey;

use super::*;

struct Tunnel {
    folder: tempfile::TempDir,
}

impl Tunnel {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// A tunnel without processes: the machine's own are none of a test's business.
    fn on(folder: tempfile::TempDir) -> Self {
        fs::create_dir(folder.path().join("proc")).unwrap();
        files::write_atomic(&folder.path().join("proc/uptime"), b"1.00 1.00\n", 0o644).unwrap();
        Self { folder }
    }

    fn try_apply(&self, old: Option<&Table>, new: &Table) -> Result<Applied, Error> {
        apply_among(&self.folder.path().join("proc"), &self.folders(), old, new)
    }

    fn folders(&self) -> Folders {
        let path = |name: &str| self.folder.path().join(name);
        Folders {
            data: path("data"),
            run: path("run"),
            userdb: path("userdb"),
            sshd: path("sshd"),
            sshd_run: path("sshd-run"),
        }
    }

    fn apply(&self, old: Option<&Table>, new: &Table) -> (usize, usize) {
        let applied = self.try_apply(old, new).unwrap();
        (applied.added, applied.removed)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // What is beside each record, for its password.
        let beside = |name: &String| name.ends_with("-privileged") || name == "no-password";
        let mut names: Vec<_> = names.filter(|name| !beside(name)).collect();
        names.sort();
        names
    }

    fn key(&self, user: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join("run/keys").join(user)).ok()
    }
}

fn key(n: u64) -> SshKey {
    format!("ssh-ed25519 AAAA{n}").parse().unwrap()
}

fn agent(server: u64, port: u16, n: u64) -> Agent {
    Agent { server, forward: ForwardPort::new(port).unwrap(), key: key(n) }
}

fn table(agents: &[Agent]) -> Table {
    Table { agents: agents.to_vec(), ..Table::default() }
}

#[test]
fn a_table_becomes_keys_and_users_and_the_next_one_takes_away_what_it_lacks() {
    let tunnel = Tunnel::new();
    let first = table(&[agent(1, 10_001, 1), agent(2, 10_002, 2)]);
    assert_eq!(tunnel.apply(None, &first), (2, 0));
    assert_eq!(tunnel.names("run/keys"), ["a10001", "a10002"]);
    assert_eq!(
        tunnel.names("userdb"),
        ["209999.user", "210001.user", "210002.user", "a10001.user", "a10002.user", "join.user"]
    );
    assert_eq!(tunnel.apply(Some(&first), &first), (0, 0));
    assert_eq!(tunnel.apply(None, &first), (0, 0));

    let second = table(&[agent(2, 10_002, 3), agent(3, 10_003, 4)]);
    assert_eq!(tunnel.apply(Some(&first), &second), (2, 2));
    assert_eq!(tunnel.key("a10001"), None);
    assert_eq!(tunnel.key("a10002").as_deref(), Some(key(3).as_str()));
    assert_eq!(
        tunnel.names("userdb"),
        ["209999.user", "210002.user", "210003.user", "a10002.user", "a10003.user", "join.user"]
    );
}

#[test]
fn a_port_that_leads_to_another_server_is_taken_and_given_anew_even_with_the_same_key() {
    let tunnel = Tunnel::new();
    let (first, second) = (table(&[agent(1, 10_001, 1)]), table(&[agent(2, 10_001, 1)]));
    assert_eq!(tunnel.apply(None, &first), (1, 0));
    assert_eq!(tunnel.apply(Some(&first), &second), (1, 1));
    assert_eq!(tunnel.apply(Some(&second), &second), (0, 0));
}

#[test]
fn what_a_run_that_was_killed_left_is_put_right_whatever_the_old_table_says() {
    let tunnel = Tunnel::new();
    let all = table(&[agent(1, 10_001, 1), agent(2, 10_002, 2)]);
    assert_eq!(tunnel.apply(None, &all), (2, 0));
    let keys = tunnel.folder.path().join("run/keys");
    files::write_atomic(&keys.join(".new-x"), b"half", 0o600).unwrap();
    files::write_atomic(&keys.join("a10003"), key(3).as_str().as_bytes(), 0o644).unwrap();
    files::write_atomic(&keys.join("a10001"), b"\xff", 0o644).unwrap();
    files::remove_if_exists(&keys.join("a10002")).unwrap();
    assert_eq!(tunnel.apply(Some(&all), &all), (2, 2));
    assert_eq!(tunnel.names("run/keys"), ["a10001", "a10002"]);
    assert_eq!(tunnel.key("a10001").as_deref(), Some(key(1).as_str()));
}

#[test]
fn records_of_others_stay() {
    let tunnel = Tunnel::new();
    fs::create_dir(tunnel.folder.path().join("userdb")).unwrap();
    let other = tunnel.folder.path().join("userdb/ada.user");
    files::write_atomic(&other, b"{}", 0o644).unwrap();
    assert_eq!(tunnel.apply(None, &Table::default()), (0, 0));
    assert_eq!(tunnel.names("userdb"), ["209999.user", "ada.user", "join.user"]);
}

#[test]
fn what_can_t_be_removed_is_an_error_and_the_rest_goes_all_the_same() {
    let tunnel = Tunnel::new();
    let all = table(&[agent(1, 10_001, 1), agent(2, 10_002, 2)]);
    assert_eq!(tunnel.apply(None, &all), (2, 0));
    let record = tunnel.folder.path().join("userdb/a10001.user");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    let error = tunnel.try_apply(Some(&all), &Table::default()).unwrap_err();
    assert!(matches!(&error, Error::File(error) if error.path == record), "{error:?}");
    assert_eq!(tunnel.names("run/keys"), Vec::<String>::new());
}

/// The time stands in the output: `cargo test -p clusterducks-tunnel ten_thousand -- --nocapture`.
#[test]
fn ten_thousand_servers_are_applied_in_seconds_and_one_change_among_them_at_once() {
    // In memory, as /run is: on a disk each of 20,000 files would be waited for.
    let tunnel = Tunnel::on(tempfile::tempdir_in("/dev/shm").unwrap());
    let agents: Vec<Agent> =
        (0..10_000).map(|n| agent(u64::from(n), 10_000 + n, u64::from(n))).collect();
    let all = table(&agents);
    let start = std::time::Instant::now();
    assert_eq!(tunnel.apply(None, &all), (10_000, 0));
    let filled = start.elapsed();
    let less = table(&agents[1..]);
    let start = std::time::Instant::now();
    assert_eq!(tunnel.apply(Some(&all), &less), (0, 1));
    let changed = start.elapsed();
    println!(
        "tunnel_apply_10000_ms {} one_of_10000_ms {}",
        filled.as_millis(),
        changed.as_millis()
    );
    assert!(filled < std::time::Duration::from_secs(10), "{filled:?}");
    assert!(changed < filled, "{changed:?} {filled:?}");
}
