//! The panel's process, as its unit starts it, and what it holds in memory.

use std::{
    fs::{File, read_to_string},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

use crate::{agent::free_port, rig::Browser};

const UNIT: &str =
    include_str!("../../../rootfs/panel/usr/lib/systemd/system/clusterducks-panel.service");
const PATIENCE: Duration = Duration::from_secs(20);

/// What the unit gives the panel along (systemd.exec(5)).
fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = UNIT.lines().filter_map(|line| line.strip_prefix("Environment="));
    lines.flat_map(str::split_whitespace).map(|pair| pair.split_once('=').unwrap())
}

/// It dies with the test.
pub(crate) struct Service {
    child: Child,
    address: SocketAddr,
    tls: TlsConnector,
    log: PathBuf,
}

/// What a process holds.
pub(crate) struct Memory {
    pub(crate) resident_mib: f64,
    peak_mib: f64,
    private_mib: f64,
}

impl Memory {
    pub(crate) fn told(&self) -> String {
        let Self { resident_mib, peak_mib, private_mib } = self;
        format!(
            "{resident_mib:.1} MiB resident ({private_mib:.1} MiB of it anonymous), {peak_mib:.1} MiB at its peak"
        )
    }
}

impl Service {
    /// Serves what lies in `folder/panel`, with agents at this port.
    pub(crate) fn start(folder: &Path, root_pem: &str, agents: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let log = folder.join("panel.log");
        #[expect(clippy::disallowed_methods, reason = "the panel itself is measured")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterducks-panel"));
        let child = command
            .args(["serve", "--host", "127.0.0.1", "--data"])
            .arg(folder.join("panel"))
            .args(["--listen", &address.to_string(), "--agents-port", &agents.to_string()])
            .args(["--tunnels-port", &free_port().to_string()])
            .envs(environment())
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { child: child.unwrap(), address, tls: TlsConnector::from(Arc::new(config)), log }
    }

    /// A browser at which nobody is signed in.
    pub(crate) fn browser(&self) -> Browser {
        Browser::new(Ipv4Addr::LOCALHOST, self.address, self.tls.clone())
    }

    /// Waits until it listens.
    pub(crate) async fn answers(&self, browser: &mut Browser) {
        let since = Instant::now();
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            let log = || read_to_string(&self.log).unwrap_or_default();
            assert!(since.elapsed() < PATIENCE, "the panel does not answer: {}", log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        browser.get("/sign-in").await.page();
    }

    /// What it holds now (proc_pid_status(5)).
    pub(crate) fn memory(&self) -> Memory {
        let status = read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            kib / 1024.0
        };
        let (resident_mib, private_mib) = (mib("VmRSS"), mib("RssAnon"));
        Memory { resident_mib, peak_mib: mib("VmHWM"), private_mib }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
