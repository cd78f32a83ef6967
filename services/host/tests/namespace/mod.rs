//! Runs a test again inside a network namespace of its own, so that it can never meet the machine's interfaces.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests start unshare and ip, which are no programs of the agent"
)]

use std::process::Command;

const INSIDE: &str = "CLUSTERDUCKS_TEST_NAMESPACE";

/// True inside the namespace. Outside it runs the test of this name inside, and panics when that fails or can't be done.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    // Without a name space of users only root may make one of networks, and some root may not either.
    let ways: [&[&str]; 2] =
        [&["--net", "--mount"], &["--user", "--map-root-user", "--net", "--mount"]];
    let can = |way: &&&[&str]| {
        Command::new("unshare").args(**way).arg("true").output().is_ok_and(|o| o.status.success())
    };
    let Some(way) = ways.iter().find(can) else {
        panic!(
            "this test needs a network namespace: run it as root, or allow unprivileged user namespaces"
        );
    };
    let status = Command::new("unshare")
        .args(*way)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespace");
    false
}

/// Runs ip(8) with these words.
pub(crate) fn ip(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
