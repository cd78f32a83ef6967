//! Clients that are slow, or many, or never say anything.

use std::time::Duration;

use clusterducks_tunnel::run::Settings;
use hyper::StatusCode;
use model::tunnel::Table;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::lab::{Tunnel, anybody, forwarded, known, table, tls_stream};

const SOON: Duration = Duration::from_millis(100);

fn hasty(settings: &mut Settings) {
    settings.connections.head_timeout = SOON;
}

async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let _reset = tokio::time::timeout(Duration::from_secs(10), read).await.expect("it is closed");
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_half_of_it_is_closed() {
    let tunnel = Tunnel::start_with(hasty).await;
    is_closed(&mut TcpStream::connect(tunnel.address).await.unwrap()).await;
    let mut half = tls_stream(tunnel.address, &anybody()).await.unwrap();
    half.write_all(b"POST /v1/pair HTTP/1.1\r\nhost: ").await.unwrap();
    is_closed(&mut half).await;
    is_closed(&mut tls_stream(tunnel.address, &anybody()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_that_says_nothing_more_is_closed_and_its_stream_is_not() {
    let (agent, listener) = forwarded(1).await;
    let (tunnel, ca) = Tunnel::paired_with(table(1, vec![agent]), hasty).await;
    let (mut stream, _) = tunnel.panel(&ca).await.stream("/v1/connect/1").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let panel = known(&ca, &ca.issue("panel", 2));
    is_closed(&mut tls_stream(tunnel.address, &panel).await.unwrap()).await;
    server.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections_before_it_is_the_panels() {
    let few = |settings: &mut Settings| settings.connections.connections_per_client = 2;
    let tunnel = Tunnel::start_with(few).await;
    let silent = || TcpStream::connect(tunnel.address);
    let held = [silent().await.unwrap(), silent().await.unwrap()];
    is_closed(&mut silent().await.unwrap()).await;
    drop(held);

    let (tunnel, ca) = Tunnel::paired_with(Table::default(), few).await;
    let mut panels = Vec::new();
    for _ in 0..8 {
        let mut panel = tunnel.panel(&ca).await;
        assert_eq!(panel.get("/v1/status").await.unwrap().0, StatusCode::OK);
        panels.push(panel);
    }
}
