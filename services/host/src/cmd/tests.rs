//! `setpriv` without options runs the rest of its arguments: through it these tests start what they like.

use std::time::Instant;

use super::*;

fn sh(script: &str) -> Cmd {
    Cmd::new(Program::Setpriv).args(["sh", "-c", script])
}

#[tokio::test]
async fn the_environment_is_clean_and_the_locale_is_c() {
    let printed = Cmd::new(Program::Setpriv).arg("env").run().await.unwrap();
    let mut lines: Vec<&str> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
}

#[tokio::test]
async fn a_bad_status_carries_what_was_run_and_what_it_said() {
    let error = sh("echo 'no such pool' >&2; exit 3").run().await.unwrap_err();
    let Error::Status { program, status, stderr, .. } = &error else { panic!("{error:?}") };
    assert_eq!(
        (*program, status.code(), stderr.as_str()),
        (Program::Setpriv, Some(3), "no such pool")
    );
    let line = "/usr/bin/setpriv sh -c 'echo '\\''no such pool'\\'' >&2; exit 3'";
    assert_eq!(error.to_string(), format!("{line} ended with exit status: 3: no such pool"));
}

#[tokio::test]
async fn standard_input_is_closed_or_holds_what_was_given() {
    assert_eq!(sh("cat").run().await.unwrap(), "");
    assert_eq!(sh("cat").stdin_bytes("given").run().await.unwrap(), "given");
    assert_eq!(sh("exit 0").stdin_bytes(vec![0; 1 << 20]).run().await.unwrap(), "");
}

#[tokio::test]
async fn a_process_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let script = format!("sleep 1000 & echo $! >{}; wait", pid_file.display());
    let begun = Instant::now();
    let error = sh(&script).timeout(Duration::from_millis(500)).run().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let sleeper = std::fs::read_to_string(pid_file).unwrap();
    wait_until_gone(sleeper.trim()).await;
}

/// A killed orphan stays a zombie until its new parent reaps it; either is death.
async fn wait_until_gone(pid: &str) {
    for _ in 0..200 {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return,
            Ok(stat) if stat.contains(") Z ") => return,
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{pid} lives on");
}

#[tokio::test]
async fn output_beyond_the_limit_is_an_error_and_ends_the_process() {
    let error = sh("cat /dev/zero").stdout_limit(100_000).run_bytes().await.unwrap_err();
    assert!(matches!(error, Error::TooMuchOutput { limit_bytes: 100_000, .. }), "{error:?}");
}

#[tokio::test]
async fn a_flood_of_complaints_is_cut_and_does_not_hang() {
    let output = sh("head -c 1000000 /dev/zero | tr '\\0' x >&2").output().await.unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr.len() as u64, STDERR_BYTES);
}

#[tokio::test]
async fn progress_that_ends_with_a_carriage_return_is_seen_line_by_line() {
    let mut seen = Vec::new();
    sh(r"printf '(10.00/100%%)\r(100.00/100%%)\r\n'")
        .run_lines(|line| seen.push(line.to_owned()))
        .await
        .unwrap();
    assert_eq!(seen, ["(10.00/100%)", "(100.00/100%)", ""]);
}

#[test]
fn programs_that_are_not_there_are_named() {
    assert_eq!(missing(&[Program::Setpriv]), []);
    for program in Program::ALL {
        assert!(program.path().starts_with("/usr/"), "{program}");
    }
}
