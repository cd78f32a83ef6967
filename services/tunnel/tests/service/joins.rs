//! Boxes that join, handed from the relay's socket to the panel.

use std::time::Duration;

use clusterducks_tunnel::run::Settings;
use hyper::{Request, StatusCode};
use model::{throttle::Rate, tunnel::Table};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::lab::{Ca, Tunnel, own_uid, wait_for};

async fn paired(change: impl FnOnce(&mut Settings)) -> (Tunnel, Ca) {
    Tunnel::paired_with(Table::default(), change).await
}

/// What relay does for a box.
async fn bring(tunnel: &Tunnel, said: &str) -> UnixStream {
    let mut stream = UnixStream::connect(tunnel.run().join("join/socket")).await.unwrap();
    // Who is closed at once may not hear it any more.
    let _closed = stream.write_all(said.as_bytes()).await;
    stream
}

async fn closed(mut stream: UnixStream) {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let _reset = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    assert_eq!(rest, b"");
}

async fn counted(tunnel: &Tunnel, ca: &Ca, reason: &str, times: u32) {
    let line = format!("clusterducks_tunnel_joins_total{{reason=\"{reason}\"}} {times}");
    let mut panel = tunnel.panel(ca).await;
    wait_for(&line, async || {
        panel.metrics().await.lines().any(|found| found == line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_and_the_panel_talk_whoever_comes_first() {
    let (tunnel, ca) = paired(|_| {}).await;
    for panel_first in [true, false] {
        let mut client = tunnel.panel(&ca).await;
        let ask = async move { client.stream("/v1/joins").await.unwrap() };
        let (mut stream, headers, mut at_box) = if panel_first {
            let asked = tokio::spawn(ask);
            let at_box = bring(&tunnel, "2001:db8::7\nhello").await;
            let (stream, headers) = asked.await.unwrap();
            (stream, headers, at_box)
        } else {
            let at_box = bring(&tunnel, "2001:db8::7\nhello").await;
            let (stream, headers) = ask.await;
            (stream, headers, at_box)
        };
        assert_eq!(headers["clusterducks-box-address"], "2001:db8::7");
        at_box.shutdown().await.unwrap();
        let mut came = String::new();
        stream.read_to_string(&mut came).await.unwrap();
        assert_eq!(came, "hello");
        stream.write_all(b"welcome").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        at_box.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "welcome");
    }
    counted(&tunnel, &ca, "done", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_that_waits_in_vain_is_told_so_and_takes_nobodys_box() {
    let (tunnel, ca) = paired(|_| {}).await;
    let mut panel = tunnel.panel(&ca).await;
    let soon = || {
        let request = Request::get("/v1/joins").header("prefer", "wait=0");
        request.header("connection", "upgrade").header("upgrade", "clusterducks-stream")
    };
    for _ in 0..40 {
        assert_eq!(panel.ask(soon(), "").await.unwrap().0, StatusCode::NO_CONTENT);
    }
    let _box = bring(&tunnel, "192.0.2.1\n").await;
    let (_, headers) = panel.stream("/v1/joins").await.unwrap();
    assert_eq!(headers["clusterducks-box-address"], "192.0.2.1");
    let plain = tunnel.panel(&ca).await.get("/v1/joins").await.unwrap();
    assert_eq!(plain.0, StatusCode::UPGRADE_REQUIRED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_no_panel_takes_is_closed() {
    let soon = Duration::from_millis(50);
    let (tunnel, ca) = paired(|settings| settings.joins.panel_timeout = soon).await;
    closed(bring(&tunnel, "192.0.2.1\n").await).await;
    counted(&tunnel, &ca, "no-panel", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_say_whom_it_brings_is_closed() {
    let soon = Duration::from_millis(50);
    let (tunnel, ca) = paired(|settings| settings.joins.address_timeout = soon).await;
    let long = "1".repeat(100);
    for said in ["", "192.0.2.1", "nobody\n", &long] {
        closed(bring(&tunnel, said).await).await;
    }
    counted(&tunnel, &ca, "relay", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_of_one_site_come_so_often_and_others_come_all_the_same() {
    let rate = Rate { burst: 2, every: Duration::from_secs(3600) };
    let (tunnel, ca) = paired(|settings| settings.joins.of_address = rate).await;
    let taken = async |said: &str| {
        let at_box = bring(&tunnel, said).await;
        let (_stream, headers) = tunnel.panel(&ca).await.stream("/v1/joins").await.unwrap();
        assert_eq!(headers["clusterducks-box-address"], said.trim());
        at_box
    };
    let _boxes = [taken("2001:db8::1\n").await, taken("2001:db8::2\n").await];
    closed(bring(&tunnel, "2001:db8::3\n").await).await;
    counted(&tunnel, &ca, "throttled", 1).await;
    taken("2001:db8:0:1::1\n").await;
    taken("192.0.2.1\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_boxes_are_there_at_once() {
    let (tunnel, ca) = paired(|settings| settings.joins.boxes = 1).await;
    let first = bring(&tunnel, "192.0.2.1\n").await;
    closed(bring(&tunnel, "192.0.2.2\n").await).await;
    counted(&tunnel, &ca, "full", 1).await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_sends_too_much_or_takes_too_long_is_cut() {
    let (tunnel, ca) = paired(|settings| settings.joins.bytes = 1000).await;
    let mut at_box = bring(&tunnel, "192.0.2.1\n").await;
    let (mut stream, _) = tunnel.panel(&ca).await.stream("/v1/joins").await.unwrap();
    let _cut = at_box.write_all(&[7; 100_000]).await;
    let mut came = Vec::new();
    let _cut = stream.read_to_end(&mut came).await;
    assert!(came.len() <= 1001, "{}", came.len());
    counted(&tunnel, &ca, "too-much", 1).await;

    let soon = Duration::from_millis(50);
    let (tunnel, ca) = paired(|settings| settings.joins.total_timeout = soon).await;
    let at_box = bring(&tunnel, "192.0.2.1\n").await;
    let _stream = tunnel.panel(&ca).await.stream("/v1/joins").await.unwrap();
    closed(at_box).await;
    counted(&tunnel, &ca, "too-long", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_relay_brings_nobody() {
    let (tunnel, ca) = paired(|settings| settings.relay = own_uid() + 1).await;
    closed(bring(&tunnel, "192.0.2.1\n").await).await;
    counted(&tunnel, &ca, "not-relay", 1).await;
}
