//! How a tunnel becomes a panel's.

use std::sync::atomic::Ordering;

use hyper::{Request, StatusCode};
use model::{
    code::{JoinSecret, OneTime, PairingCode, Pin},
    tunnel::{Side, Table},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::lab::{Ca, Tunnel, anybody, table, tls_stream, write};

const DAY_MS: u64 = 24 * 3600 * 1000;

fn kind(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["type"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_that_has_the_code_pairs_and_is_the_only_one_that_is_answered_then() {
    let (tunnel, ca) = (Tunnel::start().await, Ca::new("clusterducks"));
    let code = tunnel.code().await;
    let mut client = tunnel.stranger().await.unwrap();
    let (_, certificate) = X509Certificate::from_der(&client.certificate).unwrap();
    let digest: [u8; 32] = Sha256::digest(certificate.public_key().raw).into();
    assert_eq!(code.key, Some(Pin::Typed(digest[..12].try_into().unwrap())), "the pin");

    let paired = client.pair(&code.secret, &ca, table(7, Vec::new())).await.unwrap();
    assert_eq!(paired, StatusCode::NO_CONTENT);

    let mut panel = tunnel.panel(&ca).await;
    let (status, shown) = panel.get("/v1/status").await.unwrap();
    assert_eq!((status, &shown["generation"]), (StatusCode::OK, &json!(7)));
    assert_eq!(shown["panel_address"], "127.0.0.1");
    assert_eq!(shown["certificate_ends_ms"], 2_208_988_800_000_u64);
    let again = panel.offer(&panel.proof(Side::Panel, &code.secret)).await.unwrap();
    assert_eq!(kind(&again), (409, "paired"));
    let mut late = match tunnel.stranger().await {
        Ok(client) => client,
        Err(_refused) => return,
    };
    let proof = late.proof(Side::Panel, &code.secret);
    late.offer(&proof).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn before_pairing_nothing_else_is_answered() {
    let tunnel = Tunnel::start().await;
    let mut client = tunnel.stranger().await.unwrap();
    for (method, path) in [
        ("GET", "/v1/status"),
        ("PUT", "/v1/table"),
        ("PUT", "/v1/certificate"),
        ("GET", "/v1/connect/1"),
        ("GET", "/v1/joins"),
        ("GET", "/metrics"),
    ] {
        let answer = client.ask(Request::builder().method(method).uri(path), "{}").await.unwrap();
        assert_eq!(kind(&answer), (403, "unpaired"), "{path}");
    }
    assert_eq!(kind(&client.get("/v1/other").await.unwrap()), (404, "not-found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_for_another_connection_another_side_or_another_code_is_refused() {
    let tunnel = Tunnel::start().await;
    let secret = tunnel.code().await.secret;
    let (mut first, mut second) =
        (tunnel.stranger().await.unwrap(), tunnel.stranger().await.unwrap());
    let good = first.proof(Side::Panel, &secret);
    let (status, offer) = first.offer(&good).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    // Whoever stands between a panel and the tunnel has two connections, and what came over either.
    for carried in [good.as_str(), offer["proof"].as_str().unwrap(), "", "00"] {
        let answer = second.offer(carried).await.unwrap();
        assert_eq!(kind(&answer), (403, "wrong-proof"), "{carried}");
    }
    assert_ne!(offer["proof"], json!(second.proof(Side::Tunnel, &secret)));
    let other = second.proof(Side::Panel, &JoinSecret::new([0; 8]).into());
    assert_eq!(kind(&second.offer(&other).await.unwrap()), (403, "wrong-proof"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_wrong_proofs_is_slowed_down_the_right_one_included() {
    let tunnel = Tunnel::start().await;
    let secret = tunnel.code().await.secret;
    let mut client = tunnel.stranger().await.unwrap();
    for _ in 0..5 {
        assert_eq!(kind(&client.offer("00").await.unwrap()), (403, "wrong-proof"));
    }
    let proof = client.proof(Side::Panel, &secret);
    let request = Request::post("/v1/pair").header("clusterducks-proof", proof);
    let response = client.send(request, "").await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=21).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_for_a_day_and_then_another_is_shown() {
    let mut tunnel = Tunnel::start().await;
    let old = tunnel.code().await.secret;
    tunnel.clock.fetch_add(DAY_MS - 1, Ordering::Relaxed);
    tunnel.restart().await;
    assert!(tunnel.code().await.secret.is(&old), "a restart changes nothing");
    let shown = tunnel.standing().await.unwrap();
    let left = shown["pairing"]["expires_ms"].as_u64().unwrap();
    assert_eq!(left - tunnel.clock.load(Ordering::Relaxed), 1);

    tunnel.clock.fetch_add(1, Ordering::Relaxed);
    let mut client = tunnel.stranger().await.unwrap();
    let proof = client.proof(Side::Panel, &old);
    assert_eq!(kind(&client.offer(&proof).await.unwrap()), (403, "wrong-proof"));
    let new = tunnel.code().await.secret;
    assert!(!new.is(&old));
    let proof = client.proof(Side::Panel, &new);
    assert_eq!(client.offer(&proof).await.unwrap().0, StatusCode::OK);
    tunnel.clock.fetch_sub(2 * DAY_MS, Ordering::Relaxed);
    assert!(tunnel.code().await.secret.is(&new), "a clock that was put back changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_the_seed_file_counts_in_the_place_of_the_other_and_does_not_grow_old() {
    let written = PairingCode { secret: OneTime::new([9; 16]).into(), key: None };
    let text = written.text().expose_secret().to_owned();
    let tunnel = Tunnel::start_with(|settings| {
        write(&settings.seed, &format!("hostname = \"north\"\n[pair]\ncode = \"{text}\"\n"));
    })
    .await;
    tunnel.clock.fetch_add(400 * DAY_MS, Ordering::Relaxed);
    let shown = tunnel.standing().await.unwrap();
    assert_eq!(shown["pairing"]["expires_ms"], Value::Null);
    assert!(tunnel.code().await.secret.is(&written.secret));
    let (mut client, ca) = (tunnel.stranger().await.unwrap(), Ca::new("clusterducks"));
    let paired = client.pair(&written.secret, &ca, Table::default()).await.unwrap();
    assert_eq!(paired, StatusCode::NO_CONTENT);
    assert_eq!(tunnel.panel(&ca).await.get("/v1/status").await.unwrap().0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_without_a_proof_is_not_even_read() {
    let tunnel = Tunnel::start().await;
    let mut stream = tls_stream(tunnel.address, &anybody()).await.unwrap();
    let head = "PUT /v1/pair HTTP/1.1\r\nhost: tunnel\r\ncontent-length: 30000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
}

#[tokio::test(flavor = "multi_thread")]
async fn papers_that_are_no_good_leave_the_tunnel_unpaired_with_its_code() {
    let (tunnel, ca) = (Tunnel::start().await, Ca::new("clusterducks"));
    let secret = tunnel.code().await.secret;
    let mut client = tunnel.stranger().await.unwrap();
    let proof = client.proof(Side::Panel, &secret);
    let other = ca.issue("north.tunnel.clusterducks.internal", 5).chain;
    for (chain, root, told) in [
        ("none", ca.pem.as_str(), "certificate"),
        (other.as_str(), ca.pem.as_str(), "certificate"),
        (other.as_str(), "none", "certificate"),
    ] {
        let table = Table::default();
        let paired =
            json!({ "name": "north", "chain_pem": chain, "root_pem": root, "table": table });
        let request = Request::put("/v1/pair").header("clusterducks-proof", &proof);
        let answer = client.ask(request, paired.to_string()).await.unwrap();
        assert_eq!(kind(&answer), (422, told));
    }
    assert!(tunnel.code().await.secret.is(&secret));
    let paired = client.pair(&secret, &ca, Table::default()).await.unwrap();
    assert_eq!(paired, StatusCode::NO_CONTENT);
}
