//! The tunnel with real OpenSSH and iptables: servers come in, the broker reaches them, and who is put out is out.

mod ground;

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixListener,
    },
    path::Path,
    process::Stdio,
    slice, thread,
    time::{Duration, Instant},
};

use clusterducks_tunnel::{
    crowd,
    folders::Folders,
    isolation,
    users::{self, JOIN_UID},
};
use ground::{
    BROKER, Client, KEYS, Sshd, Tunnel, agent, block_on, client::Session, inside, key_file,
    listens, make_key, port, reaches_as, wait_until,
};
use host::{
    files::write_atomic,
    iptables::{self, Family},
};
use model::tunnel::{API_PORT, Agent, SSH_PORT, Table};
use tokio::sync::watch;

const SECOND: Duration = Duration::from_secs(1);

fn table(agents: &[Agent]) -> Table {
    Table { agents: agents.to_vec(), ..Table::default() }
}

#[test]
fn the_broker_reaches_a_server_through_its_port_and_nobody_else_does() {
    if !inside("the_broker_reaches_a_server_through_its_port_and_nobody_else_does") {
        return;
    }
    let mut tunnel = Tunnel::new();
    let _ = tunnel.apply(table(&[agent(1, 10_001), agent(2, 10_002)]));
    tunnel.isolate(&tunnel.chains());
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let site = Client::new(1);
    site.listen("127.0.0.1:8443");
    let mut uplink = site.uplink(&server, port(10_001), &key_file(10_001), "127.0.0.1:8443");
    assert!(uplink.forwards(), "{}", uplink.said());

    assert!(reaches_as(BROKER, "127.0.0.1:10001"));
    // Root could take the chains away, but does not get there by chance.
    for uid in [0, KEYS, JOIN_UID, 210_001, 210_002, 65_534] {
        assert!(!reaches_as(uid, "127.0.0.1:10001"), "{uid}");
    }
    assert!(!site.reaches("10.99.1.1:10001"));
    assert!(!listens("0.0.0.0:10001") && listens("127.0.0.1:10001"));
}

#[test]
fn a_server_that_is_put_out_is_out_within_a_second_and_the_others_stay() {
    if !inside("a_server_that_is_put_out_is_out_within_a_second_and_the_others_stay") {
        return;
    }
    let mut tunnel = Tunnel::new();
    let agents = [agent(1, 10_001), agent(2, 10_002), agent(3, 10_003), agent(4, 10_004)];
    let _ = tunnel.apply(table(&agents));
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let site = Client::new(1);
    let up = |number: u16| {
        let mut uplink = site.uplink(&server, port(number), &key_file(number), "127.0.0.1:9");
        let there = uplink.forwards();
        (uplink, there)
    };
    let mut uplinks: Vec<_> = (10_001..=10_004)
        .map(|number| {
            let (uplink, there) = up(number);
            assert!(there, "{}", uplink.said());
            uplink
        })
        .collect();

    // The first is gone, the second has another key, the third's port leads to another server.
    let mut second = agents[1].clone();
    second.key = make_key("/mnt/key-new");
    let third = Agent { server: 7, ..agents[2].clone() };
    let start = Instant::now();
    let applied = tunnel.apply(table(&[second, third, agents[3].clone()]));
    for uplink in &mut uplinks[..3] {
        uplink.ends(SECOND);
    }
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    println!("tunnel_revoke_ms {}", start.elapsed().as_millis());
    assert_eq!((applied.added, applied.removed), (2, 3));
    wait_until("their ports are closed", SECOND, || {
        (10_001..=10_003).all(|number| !listens(&format!("127.0.0.1:{number}"))).then_some(())
    });
    assert!(uplinks[3].runs());
    assert!(listens("127.0.0.1:10004"));

    let mark = tunnel.log.end();
    assert!(!up(10_001).1);
    assert!(tunnel.log.tells(mark, "Invalid user a10001", SECOND), "{}", tunnel.log.since(mark));
    assert!(!up(10_002).1);
    assert!(tunnel.log.tells(mark, "a10002 offers a key that is not its own", SECOND));
    let mut again = site.uplink(&server, port(10_002), "/mnt/key-new", "127.0.0.1:9");
    assert!(again.forwards(), "{}", again.said());
    assert!(up(10_003).1);
    assert_eq!(applied.sweep.run().unwrap(), 0, "who came in afterwards stays");
}

#[test]
fn who_proved_to_have_the_old_key_while_it_went_is_put_out_too() {
    if !inside("who_proved_to_have_the_old_key_while_it_went_is_put_out_too") {
        return;
    }
    let mut tunnel = Tunnel::new();
    let one = agent(1, 10_001);
    let _ = tunnel.apply(table(slice::from_ref(&one)));
    // sshd asks for a key before it is proved and after it. The second answer is held back until the key is gone.
    let held = "#!/bin/sh
/usr/bin/clusterducks-tunnel keys -- \"$@\"
mkdir /mnt/held/once 2>/dev/null && exit
touch /mnt/held/twice
until [ -e /mnt/held/go ]; do sleep 0.01; done
";
    fs::create_dir("/mnt/held").unwrap();
    fs::set_permissions("/mnt/held", fs::Permissions::from_mode(0o777)).unwrap();
    write_atomic(Path::new("/mnt/keys"), held.as_bytes(), 0o755).unwrap();
    let config =
        tunnel.config(SSH_PORT).replace("/usr/bin/clusterducks-tunnel keys --", "/mnt/keys");
    let server = Sshd::start(&config, SSH_PORT);
    let site = Client::new(1);
    let mut uplink = site.uplink(&server, port(10_001), &key_file(10_001), "127.0.0.1:9");
    let asked = || Path::new("/mnt/held/twice").exists().then_some(());
    wait_until("sshd asks again", Duration::from_secs(20), asked);

    let other = Agent { key: make_key("/mnt/key-new"), ..one };
    let applied = tunnel.apply(table(&[other]));
    assert_eq!((applied.removed, applied.ended), (1, 0), "nobody is there yet");
    write_atomic(Path::new("/mnt/held/go"), b"", 0o644).unwrap();
    assert!(uplink.forwards(), "{}", uplink.said());
    assert!(applied.sweep.run().unwrap() > 0);
    uplink.ends(SECOND);
}

#[test]
fn a_server_has_so_many_sessions_at_once_and_the_youngest_stay() {
    if !inside("a_server_has_so_many_sessions_at_once_and_the_youngest_stay") {
        return;
    }
    let mut tunnel = Tunnel::new();
    let _ = tunnel.apply(table(&[agent(1, 10_001), agent(2, 10_002)]));
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let site = Client::new(1);
    let up = |number: u16| {
        let mut command = site.ssh(&server, &port(number).user(), &key_file(number));
        let mut session = Session::start({
            command.arg("-N").arg(site.tunnel());
            command
        });
        session.waits_for("Entering interactive session");
        session
    };
    let mut crowd: Vec<Session> = (0..4).map(|_| up(10_001)).collect();
    let mut other = up(10_002);
    assert_eq!(crowd::thin(Path::new("/proc"), 4).unwrap(), 0);
    assert_eq!(crowd::thin(Path::new("/proc"), 1).unwrap(), 3);
    for session in &mut crowd[..3] {
        session.ends(SECOND);
    }
    assert!(crowd[3].runs() && other.runs());
}

/// Set where a test runs as the service would.
const AS_SERVICE: &str = "CLUSTERDUCKS_TEST_TABLE";

#[test]
fn the_service_s_own_user_does_all_of_this_with_two_capabilities() {
    if !inside("the_service_s_own_user_does_all_of_this_with_two_capabilities") {
        return;
    }
    if let Ok(path) = env::var(AS_SERVICE) {
        let table: Table = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let applied = users::apply(&Folders::default(), None, &table).unwrap();
        let chains = isolation::chains(BROKER, API_PORT, SSH_PORT, Some(&table));
        for family in Family::BOTH {
            block_on(iptables::apply(&chains, family)).unwrap();
        }
        println!("ended {}", applied.ended);
        return;
    }
    let tunnel = Tunnel::new();
    fs::create_dir("/run/userdb").unwrap();
    for folder in [&tunnel.folders.data, &tunnel.folders.run, &tunnel.folders.userdb] {
        chown(folder, Some(BROKER), Some(BROKER)).unwrap();
    }
    let act = |name: &str, table: &Table| {
        let path = format!("/mnt/{name}.json");
        write_atomic(Path::new(&path), &serde_json::to_vec(table).unwrap(), 0o644).unwrap();
        let mut command = ground::appliance("setpriv");
        command.args([
            &format!("--reuid={BROKER}"),
            &format!("--regid={BROKER}"),
            "--clear-groups",
        ]);
        for set in ["bounding-set", "inh-caps", "ambient-caps"] {
            command.arg(format!("--{set}=-all,+kill,+net_admin"));
        }
        command.arg("--no-new-privs").arg(env::current_exe().unwrap());
        command.args(["--exact", "the_service_s_own_user_does_all_of_this_with_two_capabilities"]);
        let output = command.arg("--nocapture").env(AS_SERVICE, path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    act("first", &table(&[agent(1, 10_001)]));
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let site = Client::new(1);
    site.listen("127.0.0.1:8443");
    let mut uplink = site.uplink(&server, port(10_001), &key_file(10_001), "127.0.0.1:8443");
    assert!(uplink.forwards(), "{}", uplink.said());
    assert!(reaches_as(BROKER, "127.0.0.1:10001"));
    assert!(!reaches_as(0, "127.0.0.1:10001"));
    let said = act("second", &Table::default());
    assert!(!said.contains("ended 0"), "{said}");
    uplink.ends(SECOND);
}

#[test]
fn two_hundred_servers_come_at_once_from_one_address() {
    if !inside("two_hundred_servers_come_at_once_from_one_address") {
        return;
    }
    let mut tunnel = Tunnel::new();
    let numbers = 10_000..10_200;
    let agents: Vec<Agent> =
        numbers.clone().map(|number| agent(u64::from(number), number)).collect();
    let _ = tunnel.apply(table(&agents));
    tunnel.isolate(&tunnel.chains());
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let site = Client::new(1);
    site.listen("127.0.0.1:8443");
    let start = Instant::now();
    let mut uplinks: Vec<_> = numbers
        .clone()
        .map(|number| site.uplink(&server, port(number), &key_file(number), "127.0.0.1:8443"))
        .collect();
    for uplink in &mut uplinks {
        assert!(uplink.forwards(), "{}", uplink.said());
    }
    println!("tunnel_storm_200_ms {}", start.elapsed().as_millis());
    for number in [10_000, 10_199] {
        assert!(reaches_as(BROKER, &format!("127.0.0.1:{number}")), "{number}");
    }
    let start = Instant::now();
    let applied = tunnel.apply(table(&agents[..1]));
    assert!(applied.ended >= 199, "{}", applied.ended);
    for uplink in &mut uplinks[1..] {
        uplink.ends(Duration::from_secs(10));
    }
    println!("tunnel_revoke_199_ms {}", start.elapsed().as_millis());
    assert!(uplinks[0].runs());
}

#[test]
fn a_box_without_a_known_key_reaches_the_service_and_nothing_else() {
    if !inside("a_box_without_a_known_key_reaches_the_service_and_nothing_else") {
        return;
    }
    let mut tunnel = Tunnel::new();
    let _ = tunnel.apply(Table::default());
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let site = Client::new(3);
    make_key("/mnt/key-box");
    let mark = tunnel.log.end();
    let join = |request: &[u8]| {
        let mut command = site.ssh(&server, "join", "/mnt/key-box");
        let mut child = command.arg(site.tunnel()).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(request).unwrap();
        child.wait_with_output().unwrap()
    };
    let alone = join(b"hello");
    let said = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(
        said.contains("refused to join from \"10.99.3.2\": this tunnel takes nobody in"),
        "{said}"
    );
    assert!(tunnel.log.tells(mark, "this tunnel takes nobody in", SECOND));

    let path = Folders::join_socket(&tunnel.folders.run);
    fs::create_dir(path.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = vec![0; b"10.99.3.2\nhello".len()];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(b"welcome").unwrap();
        heard
    });
    let joined = join(b"hello");
    assert_eq!(served.join().unwrap(), b"10.99.3.2\nhello");
    assert_eq!(joined.stdout, b"welcome");
    assert!(joined.status.success());
}

#[test]
fn somebody_s_flush_is_seen_and_put_back_in_both_families_and_his_own_rules_stay() {
    if !inside("somebody_s_flush_is_seen_and_put_back_in_both_families_and_his_own_rules_stay") {
        return;
    }
    let tunnel = Tunnel::new();
    let wanted = tunnel.chains();
    let there = |family| {
        block_on(iptables::observe(family))
            .is_ok_and(|observed| iptables::plan(&tunnel.chains(), &observed, family).is_none())
    };
    let run = |program: &str, words: &str| {
        let mut command = ground::appliance(program);
        assert!(command.args(words.split(' ')).status().unwrap().success(), "{program} {words}");
    };
    run("iptables", "-A OUTPUT -p udp --dport 9 -j DROP");
    let (changed, chains) = watch::channel(wanted);
    let (faults, told) = watch::channel(Vec::new());
    let kept = thread::spawn(move || block_on(isolation::keep(chains, faults)));
    let limit = Duration::from_secs(20);
    let all = || Family::BOTH.into_iter().all(there).then_some(());
    wait_until("both families are in place", limit, all);
    for (program, words) in [
        ("iptables", "-F"),
        ("ip6tables", "-F"),
        ("iptables", "-D OUTPUT -j CLUSTERDUCKS-OUTPUT"),
        ("ip6tables", "-I INPUT -j ACCEPT"),
        ("iptables", "-I CLUSTERDUCKS-OUTPUT -j RETURN"),
    ] {
        run(program, words);
        wait_until(&format!("put back after {program} {words}"), limit, all);
    }
    run("iptables", "-A OUTPUT -p udp --dport 9 -j DROP");
    let before = block_on(iptables::observe(Family::V4)).unwrap();
    assert!(format!("{before:?}").contains("--dport 9 -j DROP"), "{before:?}");
    assert_eq!(*told.borrow(), Vec::<String>::new());
    drop(changed);
    kept.join().unwrap();
    assert!(all().is_some(), "the chains outlive who keeps them");
}
