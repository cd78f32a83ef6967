//! Owns the load on an HTTP server: many devices at once, each from its own address, each with a connection of its own for
//! every request, as a device has that boots. Dull on purpose: what the client costs is not to be the figure.

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A device as the load knows it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The address that it asks from.
    pub(crate) address: Ipv4Addr,
    /// Where its script is.
    pub(crate) script: String,
}

/// Where its metadata are.
pub(crate) const METADATA: &str = "/metadata/v1/boot";

/// What a load came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Answers a second.
    pub(crate) rate: f64,
    /// How long each request took, connection included, in milliseconds, sorted.
    pub(crate) times_ms: Vec<f64>,
}

impl Outcome {
    /// The time that 99 of 100 requests stay below.
    pub(crate) fn p99_ms(&self) -> Result<f64> {
        let rank = (self.times_ms.len() * 99).div_ceil(100).saturating_sub(1);
        self.times_ms.get(rank).copied().context("nothing was measured")
    }
}

/// What one boot got.
#[derive(Debug)]
pub(crate) struct Boot {
    /// The script's bytes.
    pub(crate) script: Vec<u8>,
    /// The metadata's bytes.
    pub(crate) metadata: Vec<u8>,
    times_ms: [f64; 2],
}

/// Lets every caller boot `boots` times, `at_once` of them at the same time at most, on processors other than the server's.
pub(crate) async fn run(
    server: SocketAddr,
    callers: Arc<Vec<Caller>>,
    boots: usize,
    at_once: usize,
) -> Result<Outcome> {
    tokio::task::spawn_blocking(move || {
        leave_processor(SERVER_PROCESSOR)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(boot_all(server, &callers, boots, at_once))
    })
    .await?
}

/// The processor that the servers under load have to themselves, where there is another.
pub(crate) const SERVER_PROCESSOR: usize = 0;

fn leave_processor(taken: usize) -> Result<()> {
    let processors = std::thread::available_parallelism()?.get();
    if processors < 2 {
        return Ok(());
    }
    let mut others = CpuSet::new();
    for processor in (0..processors).filter(|processor| *processor != taken) {
        others.set(processor)?;
    }
    sched_setaffinity(Pid::from_raw(0), &others).context("the load can't choose its processor")
}

async fn boot_all(
    server: SocketAddr,
    callers: &[Caller],
    boots: usize,
    at_once: usize,
) -> Result<Outcome> {
    let places = Arc::new(Semaphore::new(at_once));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in callers {
        let (caller, places) = (caller.clone(), Arc::clone(&places));
        tasks.spawn(async move {
            let mut times_ms = Vec::with_capacity(boots * 2);
            for _ in 0..boots {
                let _place = places.acquire().await?;
                times_ms.extend(boot(server, &caller).await?.times_ms);
            }
            anyhow::Ok(times_ms)
        });
    }
    let mut times_ms = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times_ms.extend(ended??);
    }
    let rate = times_ms.len() as f64 / started.elapsed().as_secs_f64();
    times_ms.sort_by(f64::total_cmp);
    Ok(Outcome { rate, times_ms })
}

/// Asks for the script and, with its token, for the metadata.
pub(crate) async fn boot(server: SocketAddr, caller: &Caller) -> Result<Boot> {
    let (script, script_ms) = get(server, caller.address, &caller.script, "none").await?;
    let text = std::str::from_utf8(&script)?;
    let token = text.split_once("cd.token=").and_then(|(_, rest)| rest.split_whitespace().next());
    let token = token.with_context(|| format!("{} got no token: {text}", caller.address))?;
    let (metadata, metadata_ms) = get(server, caller.address, METADATA, token).await?;
    Ok(Boot { metadata, times_ms: [script_ms, metadata_ms], script })
}

/// No request may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

async fn get(
    server: SocketAddr,
    from: Ipv4Addr,
    path: &str,
    token: &str,
) -> Result<(Vec<u8>, f64)> {
    let started = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, exchange(server, from, path, token)).await;
    let answer =
        answer.context("no answer came")?.with_context(|| format!("GET {path} from {from}"))?;
    Ok((body(&answer)?.to_vec(), started.elapsed().as_secs_f64() * 1000.0))
}

async fn exchange(server: SocketAddr, from: Ipv4Addr, path: &str, token: &str) -> Result<Vec<u8>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let mut stream = socket.connect(server).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(4096);
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The body of a whole answer with the status 200 and a length.
fn body(answer: &[u8]) -> Result<&[u8]> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").context("no whole answer")?;
    let (head, body) = answer.split_at(end + 4);
    let head = std::str::from_utf8(head)?;
    let mut lines = head.lines();
    ensure!(lines.next().is_some_and(|status| status.contains(" 200 ")), "answered: {head}");
    let length = lines.filter_map(|line| line.split_once(": "));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    match length.next().and_then(|(_, value)| value.parse::<usize>().ok()) {
        Some(length) if length == body.len() => Ok(body),
        Some(length) => bail!("{} bytes of {length} came", body.len()),
        None => bail!("an answer of no length: {head}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_short_or_refused_is_no_answer() {
        let answer = |text: &str| body(text.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab").unwrap(), b"ab");
        let error = |text| answer(text).unwrap_err().to_string();
        assert_eq!(error("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"), "2 bytes of 3 came");
        assert!(error("HTTP/1.1 403 Forbidden\r\n\r\n").starts_with("answered: HTTP/1.1 403"));
        assert_eq!(error("HTTP/1.1 200 OK"), "no whole answer");
    }

    #[test]
    fn of_a_hundred_requests_the_99th_is_the_p99() {
        let times_ms = (1..=100).map(f64::from).collect();
        assert_eq!(Outcome { rate: 1.0, times_ms }.p99_ms().unwrap(), 99.0);
    }
}
