//! What the tunnel costs, measured on the ground of its tests: `make bench` runs these one after the other, optimized, and reads their
//! lines `figure <name> <value> <unit>`. Each comparison has both of its sides in the same run.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what can't be measured fails by panicking"
)]

#[path = "../ground/mod.rs"]
mod ground;
#[path = "../service/lab.rs"]
mod lab;
#[path = "../whole/service.rs"]
mod service;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use ground::{
    BROKER, Client as Site, Sshd, Tunnel, agent, client::Session, inside, key_file, listens, port,
    wait_until,
};
use lab::Ca;
use model::tunnel::{Agent, SSH_PORT, Table};
use nix::unistd::{Uid, setfsuid};
use service::{Service, pair, panel};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ECHOES: usize = 2_000;
const BULK_BYTES: u64 = 256 << 20;
const CROWD: u16 = 1_000;
const GIB: f64 = (1u64 << 30) as f64;

fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// A server's API for this purpose: the first byte says whether to give back each byte, or to count them and to say when all were there.
fn serve(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        thread::spawn(move || {
            stream.set_nodelay(true).unwrap();
            let mut kind = [0];
            stream.read_exact(&mut kind).unwrap();
            if kind == *b"e" {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            } else {
                let all = std::io::copy(&mut (&stream).take(BULK_BYTES), &mut std::io::sink());
                assert_eq!(all.unwrap(), BULK_BYTES);
                stream.write_all(b"!").unwrap();
            }
        });
    }
}

/// A connection to the server as a bare `ssh -R` gives it: to the forwarded port, as the user who may.
fn bare() -> TcpStream {
    thread::spawn(|| {
        // The rules go by who made the socket, and that is this thread alone (setfsuid(2)).
        setfsuid(Uid::from_raw(BROKER));
        let stream = TcpStream::connect("127.0.0.1:10001").unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    })
    .join()
    .unwrap()
}

/// The processor time that each program has used, in milliseconds (proc_pid_stat(5), `utime` and `stime`: ticks of 10 ms).
fn cpu_ms() -> BTreeMap<String, u64> {
    let mut used = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let stat = fs::read_to_string(entry.unwrap().path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") "))
        else {
            continue;
        };
        let ticks = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
        *used.entry(name.to_owned()).or_default() += ticks.sum::<u64>() * 10;
    }
    used
}

/// What each program used since then, where that is worth a word.
fn used_since(before: &BTreeMap<String, u64>) -> String {
    let since = cpu_ms().into_iter().map(|(name, now)| {
        let used = now.saturating_sub(before.get(&name).copied().unwrap_or_default());
        (name, used)
    });
    let told = since.filter(|(_, used)| *used >= 50).map(|(name, used)| format!("{name} {used}"));
    told.collect::<Vec<_>>().join(", ")
}

fn percentile(times: &mut [Duration], hundredth: usize) -> f64 {
    times.sort();
    times[times.len() * hundredth / 100].as_secs_f64() * 1000.0
}

#[test]
#[ignore = "make bench measures it"]
fn latency_and_throughput_beside_bare_ssh() {
    if !inside("latency_and_throughput_beside_bare_ssh") {
        return;
    }
    let tunnel = Tunnel::new();
    let _service = Service::start(&tunnel);
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ca = Ca::new("clusterducks");
        pair(&ca, vec![agent(1, 10_001)]).await;
        let site = Site::new(1);
        site.serve("127.0.0.1:8443", serve);
        let mut uplink = site.uplink(&server, port(10_001), &key_file(10_001), "127.0.0.1:8443");
        assert!(uplink.forwards(), "{}", uplink.said());

        let mut direct = bare();
        direct.write_all(b"e").unwrap();
        let (mut through, _) = panel(&ca).await.stream("/v1/connect/1").await.unwrap();
        through.write_all(b"e").await.unwrap();
        let (mut plain, mut relayed) = (Vec::new(), Vec::new());
        for _ in 0..ECHOES {
            let (mut byte, start) = ([b'x'], Instant::now());
            direct.write_all(&byte).unwrap();
            direct.read_exact(&mut byte).unwrap();
            plain.push(start.elapsed());
            let start = Instant::now();
            through.write_all(&byte).await.unwrap();
            through.flush().await.unwrap();
            through.read_exact(&mut byte).await.unwrap();
            relayed.push(start.elapsed());
        }
        for hundredth in [50, 99] {
            let (plain, relayed) =
                (percentile(&mut plain, hundredth), percentile(&mut relayed, hundredth));
            eprintln!("# echo p{hundredth}: bare ssh -R {plain:.3} ms, tunnel {relayed:.3} ms");
            figure(&format!("tunnel_latency_added_p{hundredth}_ms"), relayed - plain, "ms");
        }

        let piece = vec![0x5a; 64 << 10];
        let pieces = BULK_BYTES / piece.len() as u64;
        let (mut plain, mut relayed) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut direct = bare();
            let (start, before) = (Instant::now(), cpu_ms());
            direct.write_all(b"b").unwrap();
            for _ in 0..pieces {
                direct.write_all(&piece).unwrap();
            }
            direct.read_exact(&mut [0]).unwrap();
            plain.push(start.elapsed());
            eprintln!("# bare ssh -R {:?}; cpu ms: {}", start.elapsed(), used_since(&before));
            let (mut through, _) = panel(&ca).await.stream("/v1/connect/1").await.unwrap();
            let (start, before) = (Instant::now(), cpu_ms());
            through.write_all(b"b").await.unwrap();
            for _ in 0..pieces {
                through.write_all(&piece).await.unwrap();
            }
            through.flush().await.unwrap();
            through.read_exact(&mut [0]).await.unwrap();
            relayed.push(start.elapsed());
            eprintln!("# tunnel {:?}; cpu ms: {}", start.elapsed(), used_since(&before));
        }
        let (plain, relayed) = (percentile(&mut plain, 50), percentile(&mut relayed, 50));
        eprintln!("# 256 MiB: bare ssh -R {plain:.0} ms, tunnel {relayed:.0} ms");
        figure("tunnel_throughput_vs_ssh", plain / relayed, "x");
    });
}

/// The memory of the sshd processes that are there, each page counted in parts by those who share it (proc_pid_smaps(5)).
fn sshd_pss_bytes() -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir("/proc").unwrap() {
        let folder = entry.unwrap().path();
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let rollup = fs::read_to_string(folder.join("smaps_rollup")).unwrap_or_default();
        let kib =
            rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next());
        if name.starts_with("sshd") {
            sum += kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10;
        }
    }
    sum
}

#[test]
#[ignore = "make bench measures it"]
fn a_thousand_servers_come_at_once() {
    if !inside("a_thousand_servers_come_at_once") {
        return;
    }
    let mut tunnel = Tunnel::new();
    let first = agent(1, 10_001);
    // One key for all: making them is not what is measured.
    let of = |number: u16| Agent {
        server: number.into(),
        forward: port(10_000 + number),
        ..first.clone()
    };
    let table = Table { agents: (1..=CROWD).map(of).collect(), ..Table::default() };
    let _ = tunnel.apply(table);
    let server = Sshd::start(&tunnel.config(SSH_PORT), SSH_PORT);
    let site = Site::new(1);
    let key = key_file(10_001);
    let up = |number: u16| site.uplink(&server, port(10_000 + number), &key, "127.0.0.1:9");
    let there = |number: u16| listens(&format!("127.0.0.1:{}", 10_000 + number));

    let empty = sshd_pss_bytes();
    let start = Instant::now();
    let mut crowd: Vec<(u16, Session)> = (1..=CROWD).map(|number| (number, up(number))).collect();
    let mut again = 0;
    wait_until("a thousand servers are there", Duration::from_secs(600), || {
        // As servers do: who was turned away comes again.
        for (number, session) in &mut crowd {
            if !session.runs() {
                *session = up(*number);
                again += 1;
            }
        }
        thread::sleep(Duration::from_millis(250));
        let count = (1..=CROWD).filter(|number| there(*number)).count();
        (count == usize::from(CROWD)).then_some(())
    });
    figure("tunnel_storm_1000_s", start.elapsed().as_secs_f64(), "s");
    let all = sshd_pss_bytes();
    let half = CROWD / 2;
    crowd.truncate(usize::from(half));
    wait_until("half of them are gone", Duration::from_secs(120), || {
        (half + 1..=CROWD).all(|number| !there(number)).then_some(())
    });
    let rest = sshd_pss_bytes();
    eprintln!(
        "# sshd: {empty} bytes alone, {all} with {CROWD} servers, {rest} with {half}; {again} came again"
    );
    let per_gib = |bytes: u64, servers: u16| GIB / (bytes as f64 / f64::from(servers));
    figure("tunnel_agents_per_gib", per_gib(all - empty, CROWD), "agents");
    figure("tunnel_agents_per_gib_slope", per_gib(all - rest, CROWD - half), "agents");
}

#[test]
#[ignore = "make bench measures it"]
fn a_key_is_found_among_ten_thousand() {
    let mut times = lookups::times();
    figure("authorized_keys_p50_ms", percentile(&mut times, 50), "ms");
    figure("authorized_keys_p99_ms", percentile(&mut times, 99), "ms");
}

#[path = "../lookups/mod.rs"]
mod lookups;
