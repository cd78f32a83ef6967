//! Whom a paired tunnel answers, and what it takes from the panel.

use std::{sync::atomic::Ordering, time::Duration};

use hyper::{Request, StatusCode};
use model::tunnel::{Paired, Renewed, Table};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::lab::{Ca, Client, NAME, Tunnel, forwarded, table, wait_for};

/// How long a certificate that was taken back may go on.
const CUT: Duration = Duration::from_secs(1);

fn kind(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["type"].as_str().unwrap_or_default())
}

/// In TLS 1.3 the client is done before the server has looked at its certificate.
async fn refused(client: std::io::Result<Client>) {
    if let Ok(mut client) = client {
        client.get("/v1/status").await.unwrap_err();
    }
}

async fn counted(tunnel: &Tunnel, ca: &Ca, reason: &str) {
    let line = format!("clusterducks_tunnel_tls_refused_total{{reason=\"{reason}\"}} 1");
    let metrics = tunnel.panel(ca).await.metrics().await;
    assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_of_another_authority_is_refused() {
    let (tunnel, ca) = Tunnel::paired(Table::default()).await;
    let stranger = Ca::new("somebody");
    refused(tunnel.client(&ca, &stranger.issue("panel", 1)).await).await;
    counted(&tunnel, &ca, "issuer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_right_authority_is_refused_and_so_is_a_tunnel() {
    for name in ["agent-7.clusterducks.internal", NAME] {
        let (tunnel, ca) = Tunnel::paired(Table::default()).await;
        refused(tunnel.client(&ca, &ca.issue(name, 7)).await).await;
        counted(&tunnel, &ca, "name").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_certificate_is_refused() {
    let (tunnel, ca) = Tunnel::paired(Table::default()).await;
    refused(tunnel.stranger().await).await;
    counted(&tunnel, &ca, "no-certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_whose_certificate_was_taken_back_is_cut_at_once_with_its_streams() {
    let (agent, listener) = forwarded(1).await;
    let agents = vec![agent];
    let (tunnel, ca) = Tunnel::paired(table(1, agents.clone())).await;
    let (lost, kept) = (ca.issue("panel", 7), ca.issue("panel", 8));
    let mut idle = tunnel.client(&ca, &lost).await.unwrap();
    idle.get("/v1/status").await.unwrap();
    let mut streaming = tunnel.client(&ca, &lost).await.unwrap();
    let (mut stream, _) = streaming.stream("/v1/connect/1").await.unwrap();
    let mut other = tunnel.client(&ca, &kept).await.unwrap();
    let (_held, _) =
        tunnel.client(&ca, &kept).await.unwrap().stream("/v1/connect/1").await.unwrap();
    let (mut at_agent, _) = listener.accept().await.unwrap();

    let list = Some(ca.revoked(&[7]));
    let revoked = Table { revocation_list_pem: list, ..table(2, agents) };
    assert_eq!(other.put("/v1/table", &revoked).await.unwrap().0, StatusCode::NO_CONTENT);
    let cut = async {
        let _cut = stream.read_u8().await.unwrap_err();
        let _cut = at_agent.read_u8().await.unwrap_err();
        while idle.get("/v1/status").await.is_ok() {}
    };
    tokio::time::timeout(CUT, cut).await.unwrap();
    refused(tunnel.client(&ca, &lost).await).await;
    let status = other.status_with(|status| status["agents"]["1"]["streams"] == 1).await;
    assert_eq!(status["generation"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_taken_whole_or_not_at_all() {
    let (first, _listener) = forwarded(1).await;
    let (tunnel, ca) = Tunnel::paired(table(5, vec![first.clone()])).await;
    let mut panel = tunnel.panel(&ca).await;
    let twice = table(6, vec![first.clone(), first.clone()]);
    let list = Some(ca.pem.replace("CERTIFICATE", "X509 CRL"));
    let bad_list = Table { revocation_list_pem: list, ..table(6, vec![first.clone()]) };
    for (bad, told) in [
        (table(4, Vec::new()), (409, "late")),
        (twice, (422, "table")),
        (bad_list, (422, "certificate")),
    ] {
        assert_eq!(kind(&panel.put("/v1/table", &bad).await.unwrap()), told);
    }
    let nonsense = panel.ask(Request::put("/v1/table"), "{}").await.unwrap();
    assert_eq!(kind(&nonsense), (422, "request"));
    let status = panel.get("/v1/status").await.unwrap().1;
    assert_eq!(status["generation"], 5);
    let same = panel.put("/v1/table", &table(5, vec![first])).await.unwrap();
    assert_eq!(same.0, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_users_cannot_be_made_is_not_said_to_be_in_force_until_they_are() {
    let (tunnel, ca) = Tunnel::paired(table(1, Vec::new())).await;
    let mut panel = tunnel.panel(&ca).await;
    tunnel.no_users.store(true, Ordering::Relaxed);
    let answer = panel.put("/v1/table", &table(2, Vec::new())).await.unwrap();
    assert_eq!(kind(&answer), (500, "users"));
    let status = panel.get("/v1/status").await.unwrap().1;
    assert_eq!(status["generation"], 1);
    assert_eq!(status["faults"], json!(["the users of the table can't be made: no users"]));
    tunnel.no_users.store(false, Ordering::Relaxed);
    let answer = panel.put("/v1/table", &table(2, Vec::new())).await.unwrap();
    assert_eq!(answer.0, StatusCode::NO_CONTENT);
    let status = panel.get("/v1/status").await.unwrap().1;
    assert_eq!((&status["generation"], &status["faults"]), (&json!(2), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_for_the_tunnels_own_key_alone() {
    let (tunnel, ca) = Tunnel::paired(Table::default()).await;
    let mut panel = tunnel.panel(&ca).await;
    let request = panel.get("/v1/status").await.unwrap().1;
    let request = request["certificate_request_pem"].as_str().unwrap().to_owned();
    for (chain, told) in [
        (ca.issue(NAME, 9).chain, (422, "certificate")),
        (String::new(), (422, "certificate")),
        (ca.answer(&request), (204, "")),
    ] {
        let chain_pem = chain;
        let answer = panel.put("/v1/certificate", &Renewed { chain_pem }).await.unwrap();
        assert_eq!(kind(&answer), told);
    }
    let old = panel.certificate.clone();
    let new = tunnel.panel(&ca).await.certificate;
    assert_ne!(old, new);
    assert_eq!(panel.get("/v1/status").await.unwrap().0, StatusCode::OK, "this one stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_status_waits_for_another() {
    let (agent, listener) = forwarded(1).await;
    let (tunnel, ca) = Tunnel::paired(table(1, vec![agent.clone()])).await;
    let mut panel = tunnel.panel(&ca).await;
    panel.status_with(|status| status["agents"]["1"]["since_ms"].is_u64()).await;
    let tag_of = async |panel: &mut Client| {
        let response = panel.send(Request::get("/v1/status"), "").await.unwrap();
        response.headers()["etag"].to_str().unwrap().to_owned()
    };
    let tag = tag_of(&mut panel).await;
    let ask = |wait: u64, tag: &str| {
        let request = Request::get("/v1/status").header("if-none-match", tag);
        request.header("prefer", format!("wait={wait}"))
    };
    assert_eq!(panel.ask(ask(0, &tag), "").await.unwrap().0, StatusCode::NOT_MODIFIED);

    let mut other = tunnel.panel(&ca).await;
    let (waited, changed) = tokio::join!(panel.ask(ask(20, &tag), ""), async {
        wait_for("the one who waits", async || {
            let metrics = other.metrics().await;
            metrics.contains("clusterducks_tunnel_connections 2").then_some(())
        })
        .await;
        other.put("/v1/table", &table(2, vec![agent])).await
    });
    assert_eq!(changed.unwrap().0, StatusCode::NO_CONTENT);
    let (status, shown) = waited.unwrap();
    assert_eq!((status, &shown["generation"]), (StatusCode::OK, &json!(2)));
    drop(listener);
    let gone = panel.status_with(|status| status["agents"]["1"]["since_ms"].is_null()).await;
    assert_eq!(gone["agents"]["1"]["streams"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_starts_again_is_whose_it_was_and_lets_in_who_was_let_in() {
    let (agent, _listener) = forwarded(4).await;
    let (mut tunnel, ca) = Tunnel::paired(table(3, vec![agent])).await;
    let before = tunnel.panel(&ca).await.certificate;
    tunnel.restart().await;
    let mut panel = tunnel.panel(&ca).await;
    assert_eq!(panel.certificate, before);
    assert_eq!(panel.get("/v1/status").await.unwrap().1["generation"], 3);
    tunnel.panel(&ca).await.stream("/v1/connect/4").await.unwrap();
    let other = Ca::new("somebody");
    let paired = Paired {
        name: "south".to_owned(),
        chain_pem: String::new(),
        root_pem: other.pem,
        table: Table::default(),
    };
    let answer = panel.put("/v1/pair", &paired).await.unwrap();
    assert_eq!(kind(&answer), (409, "paired"));
}
