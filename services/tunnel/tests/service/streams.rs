//! Streams to servers: what passes, who may have them, and how they end.

use std::{sync::Arc, time::Duration};

use hyper::{Request, StatusCode};
use model::tunnel::Table;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::lab::{Client, Tunnel, Upgraded, agent, forwarded, roots, table, wait_for};

/// More than all the kernel's buffers on the way hold together (tcp(7), tcp_rmem and tcp_wmem).
const MUCH: usize = 64 << 20;

fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_both_ways_unchanged_and_are_counted_and_each_end_is_passed_on() {
    let (agent, listener) = forwarded(1).await;
    let (tunnel, ca) = Tunnel::paired(table(1, vec![agent])).await;
    let (up, down) = (bytes(3 << 20), bytes(2 << 20));
    let mut client = tunnel.panel(&ca).await;
    let (mut stream, _) = client.stream("/v1/connect/1").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let (sent, answer) = (up.clone(), down.clone());
    let served = tokio::spawn(async move {
        let mut came = Vec::new();
        // The end of what the panel sends comes before anything is answered.
        server.read_to_end(&mut came).await.unwrap();
        server.write_all(&answer).await.unwrap();
        came
    });
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut came = Vec::new();
    stream.read_to_end(&mut came).await.unwrap();
    assert!(came == down, "{} bytes came", came.len());
    assert!(served.await.unwrap() == up);

    let mut panel = tunnel.panel(&ca).await;
    let ended = |status: &serde_json::Value| status["agents"]["1"]["streams"] == 0;
    panel.status_with(ended).await;
    let metrics = panel.metrics().await;
    for line in [
        format!("clusterducks_tunnel_sent_bytes_total {}", up.len()),
        format!("clusterducks_tunnel_received_bytes_total {}", down.len()),
        "clusterducks_tunnel_streams_ended_total{reason=\"closed\"} 1".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_to_a_server_that_does_not_read_has_to_wait_and_nothing_is_lost() {
    let (agent, listener) = forwarded(1).await;
    let (tunnel, ca) = Tunnel::paired(table(1, vec![agent])).await;
    let (mut stream, _) = tunnel.panel(&ca).await.stream("/v1/connect/1").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let sent = bytes(MUCH);
    let mut stalled = 0;
    while stalled < sent.len() {
        let chunk = &sent[stalled..sent.len().min(stalled + (64 << 10))];
        match tokio::time::timeout(Duration::from_millis(500), stream.write(chunk)).await {
            Ok(written) => stalled += written.unwrap(),
            Err(_elapsed) => break,
        }
    }
    assert!(stalled < MUCH, "the tunnel or the kernel took {stalled} bytes that nobody read");
    let rest = sent[stalled..].to_vec();
    let sender = tokio::spawn(async move {
        stream.write_all(&rest).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    });
    let mut came = Vec::new();
    server.read_to_end(&mut came).await.unwrap();
    assert!(came == sent, "{} of {} bytes came", came.len(), sent.len());
    drop(sender.await.unwrap());
}

/// Stands where the tunnel's connection to a server ends, passes all on, and tells what passed.
fn recorded(
    listener: TcpListener,
    behind: std::net::SocketAddr,
) -> mpsc::UnboundedReceiver<Vec<u8>> {
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (from_tunnel, _) = listener.accept().await.unwrap();
        let to_server = TcpStream::connect(behind).await.unwrap();
        let (mut a, mut b) = from_tunnel.into_split();
        let (mut c, mut d) = to_server.into_split();
        let pass = async |from: &mut tokio::net::tcp::OwnedReadHalf,
                          to: &mut tokio::net::tcp::OwnedWriteHalf| {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                tell.send(buffer[..count].to_vec()).unwrap();
                to.write_all(&buffer[..count]).await.unwrap();
            }
            let _gone = to.shutdown().await;
        };
        tokio::join!(pass(&mut a, &mut d), pass(&mut c, &mut b));
    });
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_the_panel_and_a_server_say_the_tunnel_sees_ciphertext() {
    let (agent, listener) = forwarded(1).await;
    let (tunnel, ca) = Tunnel::paired(table(1, vec![agent])).await;
    let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut passed = recorded(listener, behind.local_addr().unwrap());

    let identity = ca.issue("server-1", 20);
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes()).map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key)
        .unwrap();
    let (asked, answered) = (b"PUT /v1/desired HTTP/1.1", b"the secret of a device");
    let served = tokio::spawn(async move {
        let (stream, _) = behind.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let mut came = [0; 24];
        stream.read_exact(&mut came).await.unwrap();
        assert_eq!(&came, asked);
        stream.write_all(answered).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&ca))
        .with_no_client_auth();
    let (stream, _) = tunnel.panel(&ca).await.stream("/v1/connect/1").await.unwrap();
    let name = ServerName::try_from("server-1").unwrap();
    let mut inner = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    inner.write_all(asked).await.unwrap();
    let mut came = vec![0; answered.len()];
    inner.read_exact(&mut came).await.unwrap();
    assert_eq!(came, answered);
    drop(inner);
    served.await.unwrap();

    let mut seen = Vec::new();
    while let Some(part) = passed.recv().await {
        seen.extend(part);
    }
    assert!(seen.len() > asked.len() + answered.len(), "what passed was read");
    for plain in [&asked[..], &answered[..]] {
        // Half of it would be too much as well.
        for part in plain.chunks_exact(plain.len() / 2) {
            assert!(!seen.windows(part.len()).any(|window| window == part));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_so_many_streams_and_one_that_ends_makes_room() {
    let (agent, listener) = forwarded(1).await;
    let (tunnel, ca) = Tunnel::paired(table(1, vec![agent])).await;
    let mut open: Vec<Upgraded> = Vec::new();
    let mut held = Vec::new();
    for _ in 0..8 {
        open.push(tunnel.panel(&ca).await.stream("/v1/connect/1").await.unwrap().0);
        held.push(listener.accept().await.unwrap());
    }
    let mut panel = tunnel.panel(&ca).await;
    let (status, problem) = panel.stream("/v1/connect/1").await.unwrap_err();
    assert_eq!((status.as_u16(), &problem["type"]), (429, &"too-many-streams".into()));
    drop(open.pop());
    panel.status_with(|status| status["agents"]["1"]["streams"] == 7).await;
    panel.stream("/v1/connect/1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_servers_together_have_so_many_streams() {
    let ((first, _a), (second, _b)) = (forwarded(1).await, forwarded(2).await);
    let few = |settings: &mut clusterducks_tunnel::run::Settings| settings.streams.streams = 1;
    let (tunnel, ca) = Tunnel::paired_with(table(1, vec![first, second]), few).await;
    let _held = tunnel.panel(&ca).await.stream("/v1/connect/1").await.unwrap();
    let refused = tunnel.panel(&ca).await.stream("/v1/connect/2").await;
    let (status, problem) = refused.unwrap_err();
    assert_eq!((status.as_u16(), &problem["type"]), (503, &"full".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_unknown_or_not_there_is_told_apart() {
    let (gone, listener) = forwarded(1).await;
    drop(listener);
    let (tunnel, ca) = Tunnel::paired(table(1, vec![gone])).await;
    let mut panel = tunnel.panel(&ca).await;
    for (path, told) in [
        ("/v1/connect/1", (503, "not-connected")),
        ("/v1/connect/2", (404, "unknown-server")),
        ("/v1/connect/x", (404, "not-found")),
    ] {
        let (status, problem) = panel.stream(path).await.unwrap_err();
        assert_eq!((status.as_u16(), problem["type"].as_str().unwrap()), told);
    }
    let (status, problem) = panel.ask(Request::get("/v1/connect/1"), "").await.unwrap();
    assert_eq!((status, &problem["type"]), (StatusCode::UPGRADE_REQUIRED, &"upgrade".into()));
    let shown = panel.status_with(|status| status["agents"]["1"]["last_error"].is_string()).await;
    assert_eq!(shown["agents"]["1"]["last_error"], "the server is not connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_somebody_else_holds_is_a_fault_and_never_connected_to() {
    let (agent, listener) = forwarded(1).await;
    let port = agent.forward;
    let own = crate::lab::own_uid();
    let (tunnel, ca) = Tunnel::paired_with(table(1, vec![agent]), |settings| {
        settings.ports.uid_of = |_| crate::lab::own_uid() + 1;
    })
    .await;
    let mut panel = tunnel.panel(&ca).await;
    let (status, problem) = panel.stream("/v1/connect/1").await.unwrap_err();
    assert_eq!((status.as_u16(), &problem["type"]), (502, &"stranger".into()));
    let fault = format!("port {port} of server 1 is held by user {own}");
    let shown = panel.status_with(|status| status["faults"][0].is_string()).await;
    assert_eq!(shown["faults"], serde_json::json!([fault]));
    assert!(shown["agents"]["1"]["since_ms"].is_null());
    let knock = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(knock.is_err(), "{knock:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_a_server_that_left_the_table_are_cut_and_no_others() {
    let ((first, a), (second, b)) = (forwarded(1).await, forwarded(2).await);
    let (tunnel, ca) = Tunnel::paired(table(1, vec![first.clone(), second.clone()])).await;
    let (mut gone, _) = tunnel.panel(&ca).await.stream("/v1/connect/1").await.unwrap();
    let (mut kept, _) = tunnel.panel(&ca).await.stream("/v1/connect/2").await.unwrap();
    let (mut at_gone, mut at_kept) = (a.accept().await.unwrap().0, b.accept().await.unwrap().0);
    let mut panel = tunnel.panel(&ca).await;
    panel.put("/v1/table", &table(2, vec![second.clone()])).await.unwrap();
    is_cut(&mut gone).await;
    is_cut(&mut at_gone).await;
    kept.write_all(b"x").await.unwrap();
    assert_eq!(at_kept.read_u8().await.unwrap(), b'x');
    // Its number may stand for another server's port then.
    panel.put("/v1/table", &table(3, vec![agent(2, first.forward)])).await.unwrap();
    is_cut(&mut kept).await;
}

async fn is_cut(stream: &mut (impl AsyncRead + Unpin)) {
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await;
    end.expect("the stream is cut").unwrap_err();
}

async fn ended(panel: &mut Client, word: &str) {
    let line = format!("clusterducks_tunnel_streams_ended_total{{reason=\"{word}\"}} 1");
    wait_for(&line, async || panel.metrics().await.contains(&line).then_some(())).await;
}

/// A stream that is cut here is no fault of its server.
async fn cut(change: impl FnOnce(&mut clusterducks_tunnel::run::Settings), word: &str) {
    let (agent, listener) = forwarded(1).await;
    let (tunnel, ca) = Tunnel::paired_with(table(1, vec![agent]), change).await;
    let (mut stream, _) = tunnel.panel(&ca).await.stream("/v1/connect/1").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    is_cut(&mut server).await;
    is_cut(&mut stream).await;
    let mut panel = tunnel.panel(&ca).await;
    ended(&mut panel, word).await;
    let shown = panel.status_with(|status| status["agents"]["1"]["streams"] == 0).await;
    assert!(shown["agents"]["1"]["last_error"].is_null(), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_on_which_nothing_passes_is_cut() {
    let idle = Duration::from_millis(50);
    cut(|settings| settings.streams.idle_timeout = idle, "idle").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_too_long_in_all_is_cut() {
    let total = Duration::from_millis(50);
    cut(|settings| settings.streams.total_timeout = total, "total").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_breaks_is_told_of_it_and_what_the_panel_breaks_is_not() {
    for of_server in [true, false] {
        let (agent, listener) = forwarded(1).await;
        let agents = vec![agent];
        let (tunnel, ca) = Tunnel::paired(table(1, agents.clone())).await;
        let (mut stream, _) = tunnel.panel(&ca).await.stream("/v1/connect/1").await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        if of_server {
            // What was not read when it closes resets the connection.
            stream.write_all(b"unheard").await.unwrap();
            server.peek(&mut [0; 7]).await.unwrap();
            drop(server);
        } else {
            drop(stream);
        }
        let mut panel = tunnel.panel(&ca).await;
        ended(&mut panel, "broken").await;
        // It brings the status up to date.
        panel.put("/v1/table", &table(1, agents)).await.unwrap();
        let shown = panel.get("/v1/status").await.unwrap().1["agents"]["1"].take();
        assert_eq!(shown["streams"], 0);
        let told = shown["last_error"].as_str();
        let broke = told.is_some_and(|told| told.starts_with("a stream broke: "));
        assert_eq!(broke, of_server, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_used_again_for_requests_that_are_refused() {
    let (tunnel, ca) = Tunnel::paired(Table::default()).await;
    let mut panel = tunnel.panel(&ca).await;
    for _ in 0..3 {
        assert_eq!(panel.stream("/v1/connect/1").await.unwrap_err().0, StatusCode::NOT_FOUND);
    }
}
