//! How long the program that looks keys up takes among 10,000 servers, started as sshd starts it.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "what can't be measured fails by panicking"
)]

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use host::files;
use model::tunnel::ForwardPort;

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS";

/// The times of 200 look-ups.
pub(crate) fn times() -> Vec<Duration> {
    let run = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(run.path().join("keys")).unwrap();
    let ports: Vec<ForwardPort> =
        (10_000..20_000).map(|port| ForwardPort::new(port).unwrap()).collect();
    for port in &ports {
        let path = run.path().join("keys").join(port.user());
        files::write_atomic(&path, format!("ssh-ed25519 {KEY}").as_bytes(), 0o644).unwrap();
    }
    ports
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
        .collect()
}
