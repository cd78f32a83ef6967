//! Limits of connections, and HTTPS.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use host::tls::{TlsError, open_config};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::lab::{Answer, Lab};
use crate::{
    boot::{
        metrics::Connections,
        serve::{Limits, Server},
    },
    certificates::Offered,
};

const PC1: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 10);
const PC2: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 11);

/// Reads until the server closes; a reset counts.
async fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let _reset = tokio::time::timeout(Duration::from_secs(10), read).await.expect("closed in time");
    rest
}

#[tokio::test]
async fn a_client_that_dawdles_over_its_head_is_closed() {
    let limits = Limits { head_timeout: Duration::from_millis(200), ..Limits::default() };
    let lab = Lab::with(limits).await;
    let mut begun = lab.connect(PC1).await;
    begun.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    closed(begun).await;
    closed(lab.connect(PC1).await).await;
    let mut idle = lab.connect(PC1).await;
    idle.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(Answer::parse(&closed(idle).await).status, 200, "idle after an answer");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let lab = Lab::start().await;
    let request = format!("GET /boot.ipxe\nX: {}\n", "x".repeat(20_000));
    assert_eq!(lab.ask(PC1, &request, "").await.status, 431);
    let request = format!("GET /boot.ipxe\n{}", "X: y\n".repeat(100));
    assert_eq!(lab.ask(PC1, &request, "").await.status, 431);
}

#[tokio::test]
async fn one_client_can_not_take_the_connections_of_others() {
    let lab = Lab::with(Limits { connections_per_client: 2, ..Limits::default() }).await;
    let held = [lab.connect(PC1).await, lab.connect(PC1).await];
    assert!(closed(lab.connect(PC1).await).await.is_empty());
    assert_eq!(lab.get(PC2, "/boot.ipxe").await.status, 200);
    drop(held);
    let free = async {
        loop {
            let mut stream = lab.connect(PC1).await;
            let request = b"GET /boot.ipxe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let mut answer = Vec::new();
            if stream.write_all(request).await.is_ok()
                && stream.read_to_end(&mut answer).await.is_ok_and(|read| read > 0)
            {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.expect("places are given back");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed() {
    let limits = Limits { stall_timeout: Duration::from_millis(200), ..Limits::default() };
    let lab = Lab::with(limits).await;
    let file = std::fs::File::options().write(true).open(lab.folder.path().join("initrd")).unwrap();
    file.set_len(64 << 20).unwrap();
    let mut stream = lab.connect(PC1).await;
    stream.write_all(b"GET /files/lab/1/initrd HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let transfers = |lab: &Lab| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &lab.registry).unwrap();
        text.contains("clusterducks_boot_transfers 1")
    };
    let wait = async |wanted: bool| {
        while transfers(&lab) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait(true)).await.expect("it began");
    tokio::time::timeout(Duration::from_secs(10), wait(false)).await.expect("it was given up");
    assert!(closed(stream).await.len() < 64 << 20);
}

#[tokio::test]
async fn https_serves_the_same_and_ends_when_it_is_told() {
    let made = rcgen::generate_simple_self_signed(["boot.example".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    let tls = open_config(made.cert.pem().as_bytes(), key.as_bytes()).unwrap();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let refused = open_config(made.cert.pem().as_bytes(), other.as_bytes());
    assert!(matches!(refused, Err(TlsError::Refused(_))));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let connections =
        Connections::register(&mut prometheus_client::registry::Registry::default(), "test");
    let (_offer, offered) = tokio::sync::watch::channel(Some(Arc::new(Offered::open(tls))));
    let server = Server::new(Limits::default(), Some(offered), connections);
    let router = Router::new().route("/", get(async || "hello"));
    let served = tokio::spawn(server.serve(listener, router, async {
        let _sender_gone = stopped.await;
    }));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "boot.example".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.unwrap();
    assert_eq!(Answer::parse(&answer[..read]).text(), "hello");

    drop(stop);
    tokio::time::timeout(Duration::from_secs(2), served)
        .await
        .expect("idle ones are closed")
        .unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
