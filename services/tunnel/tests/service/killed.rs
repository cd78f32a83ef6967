//! What is left of a tunnel that was killed in the middle of being paired.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clusterducks_tunnel::run::{Service, wall_clock};
use hyper::StatusCode;
use model::code::{JoinSecret, PairingCode};
use model::tunnel::Side;
use secrecy::ExposeSecret as _;

use crate::lab::{Ca, Client, anybody, forwarded, known, settings, table, wait_for, write};

/// Where the service of the other process has its folders.
const FOLDER: &str = "CLUSTERDUCKS_TEST_FOLDER";
/// Moments at which it is killed.
const ROUNDS: u32 = 16;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the process that the next test kills"]
async fn the_service_of_the_next_test() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let folder = Path::new(&folder);
    let mut settings = settings(folder);
    settings.seed = folder.join("seed.toml");
    let mut service =
        Service::start(settings, wall_clock(), Box::new(|_, _| Ok(()))).await.unwrap();
    write(&folder.join("address"), &service.address.to_string());
    service.ended().await;
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

async fn start(folder: &Path) -> (Process, SocketAddr) {
    host::files::remove_if_exists(&folder.join("address")).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a tunnel that can be killed alone")]
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::the_service_of_the_next_test", "--ignored"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let process = Process(child.unwrap());
    let address = wait_for("the service", async || {
        std::fs::read_to_string(folder.join("address")).ok()?.parse().ok()
    });
    (process, address.await)
}

/// What happens to a tunnel that is killed so long after a panel begins to pair with it.
struct Killed {
    /// How long the panel was at it.
    took: Duration,
    /// Whether it is nobody's still.
    open: bool,
}

async fn killed_after(moment: Duration) -> Killed {
    let folder = tempfile::tempdir().unwrap();
    let code = PairingCode { secret: JoinSecret::new([5; 8]).into(), key: None };
    let text = code.text().expose_secret().to_owned();
    write(&folder.path().join("seed.toml"), &format!("[pair]\ncode = \"{text}\"\n"));
    let (process, address) = start(folder.path()).await;
    let (agent, _listener) = forwarded(1).await;
    let ca = Ca::new("clusterducks");
    let mut client = Client::connect(address, &anybody()).await.unwrap();
    let begin = Instant::now();
    let pair = client.pair(&code.secret, &ca, table(3, vec![agent]));
    let heard = tokio::time::timeout(moment, pair).await;
    let took = begin.elapsed();
    drop(process);

    let (_process, address) = start(folder.path()).await;
    let mut stranger = Client::connect(address, &anybody()).await.unwrap();
    let proof = stranger.proof(Side::Panel, &code.secret);
    if matches!(stranger.offer(&proof).await, Ok((StatusCode::OK, _))) {
        let told = matches!(heard, Ok(Ok(StatusCode::NO_CONTENT)));
        assert!(!told, "the panel was told that the tunnel is its own");
        return Killed { took, open: true };
    }
    let panel = known(&ca, &ca.issue("panel", 1));
    let mut panel = Client::connect(address, &panel).await.unwrap();
    let (status, shown) = panel.get("/v1/status").await.unwrap();
    assert_eq!((status, &shown["generation"]), (StatusCode::OK, &3.into()));
    Killed { took, open: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_killed_at_any_moment_of_pairing_is_nobodys_with_its_code_or_the_panels() {
    let undisturbed = killed_after(Duration::from_secs(20)).await;
    assert!(!undisturbed.open);
    let mut open = 0;
    for moment in 0..ROUNDS {
        let killed = killed_after(undisturbed.took * moment / ROUNDS).await;
        open += u32::from(killed.open);
    }
    assert!(open > 0, "each of them was the panel's");
}
