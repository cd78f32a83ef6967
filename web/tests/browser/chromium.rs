//! Debian's chromium and its driver as processes: started once, and gone with the test however it ends.

#![expect(clippy::disallowed_methods, reason = "the browser is the test's own")]

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

const BROWSER: &str = "/usr/bin/chromium";
const DRIVER: &str = "/usr/bin/chromedriver";

/// The driver of the browser. The browser itself hangs on a pipe to it, and ends when the pipe does.
pub(crate) struct Chromium {
    driver: Child,
    port: u16,
    profile: TempDir,
}

impl Chromium {
    /// Starts the driver on a port that is free.
    pub(crate) fn start() -> Self {
        for (program, package) in [(BROWSER, "chromium"), (DRIVER, "chromium-driver")] {
            assert!(
                Path::new(program).exists(),
                "{program} is missing: apt-get install {package} (make unit does)"
            );
        }
        // prctl(2), PR_SET_PDEATHSIG: the driver dies with the thread of the test, even when that one is killed.
        let mut driver = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", DRIVER, "--port=0"])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv of util-linux starts");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_suffix('.')?.rsplit_once("successfully on port ")?.1.parse().ok()
        });
        let port = port.expect("chromedriver says its port once it listens");
        Self { driver, port, profile: tempfile::tempdir().unwrap() }
    }

    /// Where it takes commands.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What the browser shall be like.
    pub(crate) fn capabilities(&self) -> Value {
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let mut arguments = vec![
            "--headless=new",
            "--remote-debugging-pipe",
            "--window-size=1280,800",
            "--force-color-profile=srgb",
            "--hide-scrollbars",
            "--lang=en-US",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            profile.as_str(),
        ];
        if rustix::process::geteuid().is_root() {
            // chromium refuses to sandbox what root runs.
            arguments.push("--no-sandbox");
        }
        json!({
            // The panel's authority is as new as the panel; that its chain is right is tested over real TLS elsewhere.
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "binary": BROWSER, "args": arguments },
        })
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.driver);
        let _gone_already = kill_process_group(group, Signal::KILL);
        let _reaped = self.driver.wait();
    }
}
