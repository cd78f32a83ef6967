//! The chains alone, met by processes of other users on the tunnel and from other addresses; and odd names, met by the program
//! that looks keys up.

use std::{net::UdpSocket, process::Stdio, time::Duration};

use clusterducks_tunnel::users::JOIN_UID;
use host::iptables::{Protocol, Rule};

use crate::{
    Off,
    field::{B, B_PORT, Field, STRANGE},
    ground::{BROKER, KEYS, appliance, inside, listen, outside, port, reaches_as},
    table::{broker_only, panel_only, shut_in, ssh_only},
};

#[test]
fn each_chain_refuses_what_it_is_for_and_without_it_that_succeeds() {
    if !inside("chains::each_chain_refuses_what_it_is_for_and_without_it_that_succeeds") {
        return;
    }
    let mut field = Field::new();
    listen("[::1]:10001");
    listen("0.0.0.0:9999");
    let b = port(B_PORT).uid();
    let ports = ["127.0.0.1:10001", "::1:10001"];
    field.without([], |field| {
        for address in ports {
            assert!(reaches_as(BROKER, address), "{address}");
            for uid in [0, KEYS, JOIN_UID, b, 65_534] {
                assert!(!reaches_as(uid, address), "{uid} {address}");
            }
        }
        for address in ["127.0.0.1:8444", "127.0.0.1:22", "10.99.3.2:80", "10.99.2.1:22"] {
            assert!(!reaches_as(b, address), "{address}");
            assert!(!reaches_as(JOIN_UID, address), "{address}");
        }
        assert!(reaches_as(0, "10.99.3.2:80"));
        assert!(field.panel.reaches("10.99.4.1:8444"));
        assert!(!field.b.reaches("10.99.2.1:8444"));
        assert!(!field.b.reaches("10.99.2.1:9999"));
    });
    field.without([Off::Rules(broker_only)], |_| {
        for address in ports {
            assert!(reaches_as(0, address), "{address}");
            assert!(!reaches_as(b, address), "{address}: by the chain that shuts servers in");
        }
    });
    field.without([Off::Rules(shut_in)], |_| {
        for uid in [b, JOIN_UID] {
            assert!(reaches_as(uid, "10.99.3.2:80"), "{uid}");
            assert!(!reaches_as(uid, "127.0.0.1:10001"), "{uid}: by the chain of forwarded ports");
            assert!(!reaches_as(uid, "127.0.0.1:8444"), "{uid}: by the chain of the API");
        }
    });
    field.without([Off::Rules(panel_only)], |field| {
        assert!(!field.b.reaches("10.99.2.1:8444"), "by the chain that leaves SSH alone public");
    });
    field.without([Off::Rules(panel_only), Off::Rules(ssh_only)], |field| {
        assert!(field.b.reaches("10.99.2.1:8444"));
    });
    field.without([Off::Rules(ssh_only)], |field| assert!(field.b.reaches("10.99.2.1:9999")));
}

fn shut_in_but_tcp(rule: &Rule) -> bool {
    shut_in(rule) && rule.protocol == Protocol::NotTcp
}

#[test]
fn a_server_s_user_sends_no_datagram_either() {
    if !inside("chains::a_server_s_user_sends_no_datagram_either") {
        return;
    }
    let mut field = Field::new();
    let socket = UdpSocket::bind("127.0.0.1:7000").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Who is allowed to sends last: what comes first tells whether the other one could.
    let first = || {
        for (uid, text) in [(port(B_PORT).uid(), "B"), (0, "root")] {
            let script = format!("echo {text} > /dev/udp/127.0.0.1/7000");
            let uid = format!("--reuid={uid}");
            let mut command = outside("setpriv");
            command.args([&uid, "--clear-groups", "bash", "-c", &script]).stderr(Stdio::null());
            let _ = command.status().unwrap();
        }
        let mut received = Vec::new();
        while received.last().is_none_or(|last| last != "root\n") {
            let mut bytes = [0; 16];
            let length = socket.recv(&mut bytes).unwrap();
            received.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        received
    };
    assert_eq!(field.without([], |_| first()), ["root\n"]);
    assert_eq!(field.without([Off::Rules(shut_in_but_tcp)], |_| first()), ["B\n", "root\n"]);
}

#[test]
fn odd_names_of_users_get_no_key_and_no_session() {
    if !inside("chains::odd_names_of_users_get_no_key_and_no_session") {
        return;
    }
    let mut field = Field::new();
    let key = std::fs::read_to_string("/mnt/key-10002.pub").unwrap();
    let (kind, key) = key.trim().split_once(' ').unwrap();
    let long = "a".repeat(300);
    let keys = |user: &str| {
        let mut command = appliance("setpriv");
        command.args([&format!("--reuid={KEYS}"), "--clear-groups", "clusterducks-tunnel", "keys"]);
        command.args(["--", user, kind, key]).output().unwrap()
    };
    assert!(String::from_utf8(keys(B).stdout).unwrap().starts_with("restrict,port-forwarding,"));
    for user in [
        "root",
        "a10002/../a10002",
        "-x",
        "",
        &long,
        "a10002\n",
        "A10002",
        "a010002",
        "--help",
        "a10001",
    ] {
        let answer = keys(user);
        let why = String::from_utf8(answer.stderr).unwrap();
        assert!(answer.status.success() && answer.stdout.is_empty(), "{user:?}: {why}");
        assert!(why.starts_with("refused: ") && why.lines().count() == 1, "{user:?}: {why}");
    }
    field.without([], |field| {
        let nobody = "Invalid user";
        let locked = "not allowed because account is locked";
        for (user, seen) in [
            // What stands behind a slash is not a part of the name for sshd: this is a10002, by another key.
            ("a10002/../a10002", "Failed publickey for a10002"),
            (&long, nobody),
            ("A10002", nobody),
            ("a010002", nobody),
            ("clusterducks-tunnel", locked),
            ("sshd", locked),
        ] {
            let mark = field.tunnel.log.end();
            let mut ssh = field.ssh_by(user, STRANGE, &["--", "true"]);
            let said = String::from_utf8_lossy(&ssh.output().unwrap().stderr).into_owned();
            assert!(!said.contains("Authenticated to "), "{user:?}: {said}");
            let told = field.tunnel.log.tells(mark, seen, Duration::from_secs(5));
            assert!(told, "{user:?}: {}", field.tunnel.log.since(mark));
        }
    });
}
