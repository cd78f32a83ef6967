//! What the panel costs with a whole fleet: `make bench` runs this optimized and alone, and reads its lines `figure <name> <value>
//! <unit>`; what stands behind a figure is told in lines that begin with `#`. The panel and the agents are the programs that are
//! released, over real TLS on loopback; agents, panel and whoever asks share this machine's processors.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what can't be measured fails by panicking"
)]

#[expect(dead_code, reason = "the panel's own tests do more to agents")]
#[path = "../../../services/panel/tests/room/agent.rs"]
mod agent;
mod past;
mod paths;
#[expect(dead_code, reason = "the console's own tests use the rest")]
#[path = "../console/rig.rs"]
mod rig;
mod service;
mod site;

use std::{
    fs::read_to_string,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use serde_json::Value;

use crate::{
    agent::Agent,
    rig::Browser,
    service::Service,
    site::{DEVICES, Fleet, NETWORKS, PASSWORD},
};

/// How often each page and each answer of the API is asked for.
const ROUNDS: usize = 100;
/// How many devices are saved.
const SAVES: usize = 40;
/// Somebody who waits asks so often.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);

fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

fn load() -> String {
    let load = read_to_string("/proc/loadavg").unwrap();
    load.split(' ').next().unwrap().to_owned()
}

/// The nearest rank, in milliseconds.
fn percentile(times: &mut [Duration], hundredth: usize) -> f64 {
    times.sort();
    let rank = (times.len() * hundredth).div_ceil(100);
    times[rank - 1].as_secs_f64() * 1000.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make bench measures it"]
async fn the_whole_panel_against_a_fleet() {
    println!(
        "# {NETWORKS} networks with a server and {DEVICES} devices each; load {} before",
        load()
    );
    let fleet = tokio::task::spawn_blocking(Fleet::new).await.unwrap();
    let (fleet, mut renders) = tokio::task::spawn_blocking(|| {
        let times = fleet.render();
        (fleet, times)
    })
    .await
    .unwrap();
    figure("panel_render_50_ms", percentile(&mut renders, 50), "ms");

    let folder = fleet.folder.path().to_owned();
    let boxes = folder.join("boxes");
    let start = Instant::now();
    let _agents: Vec<Agent> = fleet.boxes.iter().map(|given| given.start(&boxes)).collect();
    let service = Service::start(&folder, &fleet.root_pem, fleet.port);
    let mut browser = service.browser();
    service.answers(&mut browser).await;
    // As people do, two at once: what hashing took is to be given back.
    let mut other = service.browser();
    tokio::join!(sign_in(&mut browser), sign_in(&mut other));
    all_applied(&mut browser).await;
    println!(
        "# all servers are at their documents {:.1} s after the start",
        start.elapsed().as_secs_f64()
    );
    println!("# the panel has {} then", service.memory().told());

    let pages = measure("page", &mut browser, fleet.pages()).await;
    figure("panel_page_p95_ms", pages, "ms");
    let answers = measure("api", &mut browser, fleet.api()).await;
    figure("panel_api_p95_ms", answers, "ms");
    let mut saves = save(&mut browser, &fleet).await;
    for hundredth in [95, 99] {
        println!("# save to applied p{hundredth}: {:.1} ms", percentile(&mut saves, hundredth));
    }
    figure("panel_save_to_applied_ms", percentile(&mut saves, 50), "ms");
    let memory = service.memory();
    println!("# the panel has {} after all that", memory.told());
    figure("panel_rss_mib", memory.resident_mib, "MiB");
    println!("# load {} at the end", load());
}

async fn sign_in(browser: &mut Browser) {
    browser.get("/sign-in").await.page();
    let fields = [("name", "ada"), ("password", PASSWORD), ("next", "")];
    assert_eq!(browser.post("/sign-in", &fields).await.to(), "/");
    browser.get("/account").await.page();
}

async fn json(browser: &mut Browser, path: &str) -> Value {
    serde_json::from_str(browser.get(path).await.page()).unwrap()
}

async fn all_applied(browser: &mut Browser) {
    let since = Instant::now();
    loop {
        let health = json(browser, "/api/v1/health").await;
        let servers = health.as_array().unwrap();
        let ready =
            |server: &&Value| server["state"] == "ready" && server["connection"] == "connected";
        if servers.iter().filter(ready).count() == NETWORKS {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "not all are ready: {health:#}");
        tokio::time::sleep(LOOK_EVERY * 20).await;
    }
}

/// Asks for each of these in turn, again and again; the worst of their 95th percentiles. What leads elsewhere is no page.
async fn measure(kind: &str, browser: &mut Browser, mut paths: Vec<String>) -> f64 {
    for path in std::mem::take(&mut paths) {
        if browser.get(&path).await.status != StatusCode::SEE_OTHER {
            paths.push(path);
        }
    }
    let mut times = vec![Vec::new(); paths.len()];
    let mut bytes = vec![0; paths.len()];
    for _ in 0..ROUNDS {
        for (number, path) in paths.iter().enumerate() {
            let start = Instant::now();
            let answer = browser.get(path).await;
            times[number].push(start.elapsed());
            bytes[number] = answer.body.len();
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        }
    }
    let mut all: Vec<_> = paths
        .iter()
        .zip(&mut times)
        .zip(bytes)
        .map(|((path, times), bytes)| ([50, 95, 99].map(|at| percentile(times, at)), bytes, path))
        .collect();
    all.sort_by(|one, other| other.0[1].total_cmp(&one.0[1]));
    for ([p50, p95, p99], bytes, path) in &all {
        println!("# {kind} p50 {p50:7.2} p95 {p95:7.2} p99 {p99:7.2} ms {bytes:8} bytes {path}");
    }
    println!("# {} {kind} paths, {ROUNDS} times each; load {}", all.len(), load());
    all[0].0[1]
}

/// Saves devices of one network after the other by their forms: the time from that to where the panel shows that their server has
/// applied what was saved.
async fn save(browser: &mut Browser, fleet: &Fleet) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..SAVES {
        let at = &fleet.networks[number % NETWORKS];
        let status = format!("/api/v1/servers/{}/status", at.server);
        let before = json(browser, &status).await["generation"].as_u64().unwrap();
        let device = json(browser, &format!("/api/v1/devices/{}", at.device)).await;
        let value = |name: &str| device["value"][name].as_str().unwrap().to_owned();
        let form = format!("/devices/{}/edit", at.device);
        browser.get(&form).await.page();
        let version = device["version"].to_string();
        let macs = device["value"]["macs"][0].as_str().unwrap();
        let (name, network, address) = (value("name"), value("network"), value("address"));
        let group = if value("group") == "exam" { "lab" } else { "exam" };
        let fields = [
            ("version", version.as_str()),
            ("name", &name),
            ("macs", macs),
            ("network", &network),
            ("address", &address),
            ("group", group),
            ("boot_mode", "overlay"),
            ("on_failure", "retry"),
        ];
        let start = Instant::now();
        browser.post(&form, &fields).await.to();
        loop {
            let shown = json(browser, &status).await;
            if shown["generation"].as_u64() > Some(before)
                && shown["applied"] == shown["generation"]
            {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "it is not applied: {shown:#}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        times.push(start.elapsed());
    }
    times
}
