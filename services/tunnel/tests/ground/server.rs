//! sshd as the appliance runs it, and the log that it and the tunnel's programs speak to.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests too, and start what they need in a namespace"
)]

use std::{
    fs,
    net::SocketAddrV4,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use super::wait_until;

/// What programs of the tunnel told the log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    /// Listens where syslog(3) speaks to.
    pub(super) fn listen() -> Self {
        let log = Self::default();
        let socket = UnixDatagram::bind("/dev/log").unwrap();
        fs::set_permissions("/dev/log", fs::Permissions::from_mode(0o666)).unwrap();
        let kept = log.clone();
        thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length) = socket.recv(&mut bytes) {
                let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if std::env::var_os("SHOW_LOG").is_some() {
                    eprintln!("{line}");
                }
                kept.0.0.lock().unwrap().push(line);
                kept.0.1.notify_all();
            }
        });
        log
    }

    /// Where it ends now.
    pub(crate) fn end(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }

    /// What was told since then.
    pub(crate) fn since(&self, mark: usize) -> String {
        self.0.0.lock().unwrap()[mark..].join("\n")
    }

    /// Whether that was told since then, or is before the time is over.
    pub(crate) fn tells(&self, mark: usize, text: &str, limit: Duration) -> bool {
        let lines = self.0.0.lock().unwrap();
        let missing =
            |lines: &mut Vec<String>| !lines[mark..].iter().any(|line| line.contains(text));
        !self.0.1.wait_timeout_while(lines, limit, missing).unwrap().1.timed_out()
    }
}

/// An sshd that runs.
pub(crate) struct Sshd {
    child: Child,
    /// Where.
    pub(crate) port: u16,
}

impl Sshd {
    /// Starts it with this configuration, and waits until it listens.
    pub(crate) fn start(config: &str, port: u16) -> Self {
        let file = format!("/run/sshd_config-{port}");
        host::files::write_atomic(Path::new(&file), config.as_bytes(), 0o644).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f", &file])
            .env_clear()
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, port };
        wait_until("sshd listens", Duration::from_secs(20), || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "sshd ended with {ended:?}");
            listens(&format!("0.0.0.0:{port}")).then_some(())
        });
        server
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether something listens at this IPv4 address and port.
pub(crate) fn listens(address: &str) -> bool {
    let address: SocketAddrV4 = address.parse().unwrap();
    let host = u32::from_ne_bytes(address.ip().octets());
    let wanted = format!("{host:08X}:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1] == wanted && words[3] == "0A"
    })
}
