//! Certificates that the panel renews through the API, over real TLS.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod lab;

use hyper::StatusCode;
use lab::{PC_01, connect, document, fleet::Fleet, wait_for};
use rustls::{
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// What the panel does: asks for a request, and gives the certificate.
async fn renew(fleet: &Fleet, endpoint: &str, serial: u64) {
    let path = format!("/v1/certificates/{endpoint}");
    let (status, asked) = fleet.panel("POST", &path, String::new()).await;
    assert_eq!(status, StatusCode::OK);
    let request = asked["certificate_request_pem"].as_str().unwrap();
    let chain_pem = fleet.ours.answer(request, serial);
    let body = json!({ "chain_pem": chain_pem }).to_string();
    assert_eq!(fleet.agent.api("PUT", &path, body).await.0, StatusCode::NO_CONTENT);
    in_use(fleet, endpoint, serial).await;
}

async fn in_use(fleet: &Fleet, endpoint: &str, serial: u64) {
    wait_for(async || {
        let mut shown: Value = fleet.agent.status().await["certificates"][endpoint].take();
        let serial = format!("{serial:032x}");
        (shown["leaf"]["serial"].take() == serial).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_panel_renews_is_offered_from_then_on_and_what_stands_goes_on() {
    let mut fleet = Fleet::start().await;
    fleet.put("boot-ca.crt", &fleet.ours.pem);
    fleet.agent.apply(&document(1)).await;
    fleet.agent.converged(1).await;
    let (panel, port) = (fleet.ours.issue("panel"), fleet.agent.ports().boot_tls);
    let client = fleet.client(Some(&panel), &[&TLS13]);
    let device = fleet.client(None, &[&TLS12]);
    let at_boot = async || {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        device.connect(name, connect(PC_01, port).await).await.unwrap()
    };
    let mut api = fleet.connect(&client).await.unwrap();
    renew(&fleet, "api", 0x21).await;
    assert_ne!(shown(&fleet.connect(&client).await.unwrap()), shown(&api));
    // The server joined without one, and devices now find it there.
    renew(&fleet, "boot", 0x31).await;
    let mut boot = at_boot().await;
    renew(&fleet, "boot", 0x32).await;
    assert_ne!(shown(&at_boot().await), shown(&boot));
    for stream in [&mut api, &mut boot] {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 404", "it is answered");
    }
    let before = [shown(&fleet.connect(&client).await.unwrap()), shown(&at_boot().await)];
    fleet.agent.restart().await;
    in_use(&fleet, "api", 0x21).await;
    in_use(&fleet, "boot", 0x32).await;
    let after = [shown(&fleet.connect(&client).await.unwrap()), shown(&at_boot().await)];
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_good_is_refused_with_the_reason() {
    let fleet = Fleet::start().await;
    let put = async |chain: String| {
        let body = json!({ "chain_pem": chain }).to_string();
        let (status, problem) = fleet.panel("PUT", "/v1/certificates/api", body).await;
        (status, problem["detail"].as_str().unwrap().to_owned())
    };
    let (status, why) = put(String::new()).await;
    assert_eq!((status, &*why), (StatusCode::UNPROCESSABLE_ENTITY, "no certificate is waited for"));
    let (status, _) = fleet.panel("POST", "/v1/certificates/api", String::new()).await;
    assert_eq!(status, StatusCode::OK);
    let (status, why) = put(fleet.ours.issue("127.0.0.1").chain).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "it is for another key");
    assert!(why.starts_with("the certificate is not good: "), "{why}");
    let odd = fleet.agent.api("POST", "/v1/certificates/ssh", String::new()).await;
    assert_eq!(odd.0, StatusCode::BAD_REQUEST);
}
