//! The agent's servers over TLS: whom the API answers, certificates that change, boots over HTTPS.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod lab;

use std::{net::Ipv4Addr, time::Duration};

use hyper::StatusCode;
use rustls::{
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use lab::{
    PC_01, ask, connect, document,
    fleet::{Fleet, Identity},
    token, wait_for,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_applies_a_document_and_reads_the_status() {
    let fleet = Fleet::start().await;
    let (status, accepted) = fleet.panel("PUT", "/v1/desired", document(1).to_string()).await;
    assert_eq!((status, accepted), (StatusCode::OK, json!({ "generation": 1 })));
    fleet.agent.converged(1).await;
    let (status, shown) = fleet.panel("GET", "/v1/status", String::new()).await;
    assert_eq!((status, &shown["generation"]), (StatusCode::OK, &json!(1)));
    assert_eq!(shown["certificates"]["boot"], json!({ "state": "absent" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_is_refused() {
    let fleet = Fleet::start().await;
    fleet.refused(&fleet.client(None, &[&TLS13]), "no-certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_ca_is_refused_and_the_panel_is_told() {
    let fleet = Fleet::start().await;
    let told = async || fleet.panel("GET", "/v1/status", String::new()).await.1["stranger"].clone();
    assert_eq!(told().await, Value::Null);
    let panel = fleet.stranger.issue("panel");
    fleet.refused(&fleet.client(Some(&panel), &[&TLS13]), "issuer").await;
    let told = told().await;
    assert_eq!((&told["address"], &told["reason"]), (&json!("127.0.0.1"), &json!("issuer")));
    assert!(told["at_ms"].as_u64().is_some_and(|ms| ms > 0 && ms % 60_000 == 0), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_right_ca_with_another_name_is_refused() {
    let fleet = Fleet::start().await;
    let agent = fleet.ours.issue("agent-02");
    fleet.refused(&fleet.client(Some(&agent), &[&TLS13]), "name").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_whose_certificate_was_taken_back_is_refused() {
    let fleet = Fleet::start().await;
    let (lost, other) = (fleet.ours.issue_numbered("panel", 7), fleet.ours.issue("panel"));
    let list = |list: &str| json!({ "generation": 1, "revocation_list_pem": list }).to_string();
    let wrong = fleet.ours.pem.replace("CERTIFICATE", "X509 CRL");
    for wrong in ["none", &wrong] {
        let (status, refused) = fleet.panel("PUT", "/v1/desired", list(wrong)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused["faults"][0]["path"], "revocation_list_pem", "{refused}");
    }
    let (status, _) = fleet.panel("PUT", "/v1/desired", list(&fleet.ours.revoked(&[7]))).await;
    assert_eq!(status, StatusCode::OK);
    let heard = async |identity: &Identity| {
        let client = fleet.client(Some(identity), &[&TLS13]);
        let mut answer = Vec::new();
        if let Ok(mut stream) = fleet.connect(&client).await {
            let request = b"GET /v1/status HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n";
            let _broken = stream.write_all(request).await;
            let _broken = stream.read_to_end(&mut answer).await;
        }
        answer.starts_with(b"HTTP/1.1 200")
    };
    wait_for(async || (!heard(&lost).await).then_some(())).await;
    assert!(heard(&other).await, "another one of the panel's is not on the list");
    fleet.state("api", "in-use").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_whose_certificate_is_taken_back_is_cut_while_another_of_its_own_goes_on() {
    let fleet = Fleet::start().await;
    let (lost, kept) = (fleet.ours.issue_numbered("panel", 7), fleet.ours.issue("panel"));
    let follow = async |identity: &Identity| {
        let client = fleet.client(Some(identity), &[&TLS13]);
        let mut stream = fleet.connect(&client).await.unwrap();
        let request = b"GET /v1/events?follow=true HTTP/1.1\r\nhost: agent\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        stream
    };
    let (mut idle, mut listening) =
        (fleet.connect(&fleet.client(Some(&lost), &[&TLS13])).await.unwrap(), follow(&lost).await);
    let mut other = follow(&kept).await;
    let list = json!({ "generation": 1, "revocation_list_pem": fleet.ours.revoked(&[7]) });
    fleet.panel("PUT", "/v1/desired", list.to_string()).await;
    let cut = async {
        for stream in [&mut idle, &mut listening] {
            let mut rest = Vec::new();
            let _broken = stream.read_to_end(&mut rest).await;
        }
    };
    // Far less than an idle connection may wait, or one that follows events may be silent.
    tokio::time::timeout(Duration::from_secs(10), cut).await.expect("they are cut");
    fleet.install("api");
    fleet.panel("PUT", "/v1/desired", json!({ "generation": 2 }).to_string()).await;
    let hears = async {
        let mut heard = String::new();
        while !heard.contains("\"event\":\"applied\",\"generation\":2") {
            heard.push(char::from(other.read_u8().await.unwrap()));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), hears).await.expect("it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_itself_is_refused_over_an_older_tls() {
    let fleet = Fleet::start().await;
    let panel = fleet.ours.issue("panel");
    fleet.refused(&fleet.client(Some(&panel), &[&TLS12]), "protocol").await;
}

/// Serves devices at .7, and is managed at this address of the same card.
fn managed_at(generation: u64, management: Ipv4Addr) -> String {
    let mut document = document(generation);
    document["networks"][0]["address"] = json!("127.0.0.7/8");
    let interface = &document["networks"][0]["interface"];
    document["management"] =
        json!({ "interface": interface, "address": format!("{management}/8") });
    document.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_lan_the_panel_alone_is_answered_and_at_the_management_address_alone() {
    let [devices, first, second] = [7, 5, 6].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let fleet = Fleet::start().await;
    fleet.panel("PUT", "/v1/desired", managed_at(1, first)).await;
    fleet.agent.converged(1).await;
    assert!(fleet.reach(first).await.is_none(), "no direct link was chosen");

    fleet.put("link", "direct\n");
    let (status, shown) = fleet.panel_at(first, "GET", "/v1/status", String::new()).await;
    assert_eq!((status, &shown["generation"]), (StatusCode::OK, &json!(1)));
    fleet.refused_at(first, &fleet.client(None, &[&TLS13]), "no-certificate").await;
    assert!(fleet.reach(devices).await.is_none(), "devices are served there");

    fleet.panel_at(first, "PUT", "/v1/desired", managed_at(2, second)).await;
    let (status, _) = fleet.panel_at(second, "GET", "/v1/status", String::new()).await;
    assert_eq!(status, StatusCode::OK);
    fleet.closed(first).await;

    fleet.put("link", "tunnel\n");
    fleet.closed(second).await;
    assert_eq!(fleet.panel("GET", "/v1/status", String::new()).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_while_a_connection_stands() {
    let fleet = Fleet::start().await;
    let panel = fleet.ours.issue("panel");
    let client = fleet.client(Some(&panel), &[&TLS13]);
    let mut standing = fleet.connect(&client).await.unwrap();
    let certificate = |stream: &TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let old = certificate(&standing);
    fleet.install("api");
    wait_for(async || {
        let stream = fleet.connect(&client).await.ok()?;
        (certificate(&stream) != old).then_some(())
    })
    .await;
    standing.write_all(b"GET /v1/status HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    standing.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_certificate_is_shown_and_the_last_good_one_stays_in_use() {
    let fleet = Fleet::start().await;
    fleet.put("api.crt", "nonsense");
    let shown = fleet.state("api", "faulty").await;
    let why = shown["why"].as_str().unwrap();
    assert!(why.contains("api.crt") && why.contains("no certificate"), "{why}");
    assert_eq!(fleet.panel("GET", "/v1/status", String::new()).await.0, StatusCode::OK);

    std::fs::remove_file(fleet.agent.tls().join("panel-ca.crt")).unwrap();
    let missing = wait_for(async || {
        let shown = fleet.agent.status().await["certificates"]["api"].take();
        shown["why"].as_str().filter(|why| why.contains("panel-ca.crt is missing")).map(drop)
    });
    missing.await;

    for name in ["api.crt", "api.key"] {
        std::fs::remove_file(fleet.agent.tls().join(name)).unwrap();
    }
    fleet.state("api", "absent").await;
    fleet.closed(Ipv4Addr::LOCALHOST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_ipxe_came_over_https_stays_there() {
    let fleet = Fleet::start().await;
    fleet.install("boot");
    fleet.agent.apply(&document(1)).await;
    fleet.agent.converged(1).await;
    let port = fleet.agent.ports().boot_tls;
    let client = fleet.client(None, &[&TLS12]);
    let get = async |path: &str, token: Option<&str>| {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = client.connect(name, connect(PC_01, port).await).await.unwrap();
        let (status, body) = ask(stream, "GET", path, String::new(), token).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        String::from_utf8(body.to_vec()).unwrap()
    };
    let script = get("/boot/52-54-00-00-01-01.ipxe", None).await;
    assert!(script.contains(&format!(" cd.server=https://127.0.0.1:{port} ")), "{script}");
    let metadata = get("/metadata/v1/boot", Some(token(&script))).await;
    assert!(metadata.contains("device=pc-01\n"), "{metadata}");

    let (_, plain) = fleet.agent.boot(PC_01, "/boot/52-54-00-00-01-01.ipxe", None).await;
    let port = fleet.agent.ports().boot;
    assert!(plain.contains(&format!(" cd.server=http://127.0.0.1:{port} ")), "{plain}");
}
