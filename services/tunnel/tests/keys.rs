//! The program that looks keys up, as sshd starts it: how long it takes among 10,000 servers.
#![expect(clippy::disallowed_methods, reason = "the test starts the program as sshd does")]

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use host::files;
use model::tunnel::ForwardPort;

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS";

/// sshd asks twice for each connection. The figure is for an optimized build on a quiet machine; the bound holds on any.
#[test]
fn a_key_among_ten_thousand_is_found_at_once() {
    let run = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(run.path().join("keys")).unwrap();
    let ports: Vec<ForwardPort> =
        (10_000..20_000).map(|port| ForwardPort::new(port).unwrap()).collect();
    for port in &ports {
        let path = run.path().join("keys").join(port.user());
        files::write_atomic(&path, format!("ssh-ed25519 {KEY}").as_bytes(), 0o644).unwrap();
    }
    let mut times: Vec<Duration> = ports
        .iter()
        .step_by(50)
        .map(|port| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_clusterducks-tunnel"));
            command.arg("keys").arg("--run").arg(run.path());
            command.args(["--", &port.user(), "ssh-ed25519", KEY]);
            let start = Instant::now();
            let output = command.output().unwrap();
            let took = start.elapsed();
            let line = String::from_utf8(output.stdout).unwrap();
            assert!(line.contains(&format!("permitlisten=\"127.0.0.1:{port}\"")), "{line}");
            took
        })
        .collect();
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "authorized_keys_p50_us {} authorized_keys_p99_us {}",
        p50.as_micros(),
        p99.as_micros()
    );
    assert!(p50 < Duration::from_millis(100), "{p50:?}");
}
