//! What the box's screen shows.

use std::io;

use model::tunnel::{Pairing, Standing};
use serde_json::json;

use crate::lab::{Tunnel, own_uid, table};

#[tokio::test(flavor = "multi_thread")]
async fn the_screen_shows_the_code_and_afterwards_whose_the_tunnel_is() {
    let tunnel = Tunnel::start().await;
    let shown = tunnel.standing().await.unwrap();
    let read: Standing = serde_json::from_value(shown.clone()).unwrap();
    assert!(matches!(read.pairing, Pairing::Unpaired { expires_ms: Some(_), .. }), "{read:?}");
    let printed = include_str!("../../testdata/ssh-keygen-l.txt");
    assert_eq!(read.host_key_fingerprint.as_deref(), printed.split(' ').nth(1));
    assert_eq!(shown["faults"], json!([]));

    let (tunnel, ca) = Tunnel::paired(table(1, Vec::new())).await;
    let shown = tunnel.standing().await.unwrap();
    assert_eq!(
        shown["pairing"],
        json!({ "state": "paired", "name": "north", "panel_seen_ms": null })
    );
    tunnel.panel(&ca).await.get("/v1/status").await.unwrap();
    let shown = tunnel.standing().await.unwrap();
    assert!(shown["pairing"]["panel_seen_ms"].is_u64(), "{shown}");

    std::fs::remove_file(tunnel.path("sshd/ssh_host_ed25519_key.pub")).unwrap();
    let shown = tunnel.standing().await.unwrap();
    assert_eq!(shown["faults"], json!(["the SSH server has no host key yet"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_its_reader_is_shown_the_code() {
    let tunnel = Tunnel::start_with(|settings| settings.reader = own_uid() + 1).await;
    let refused = tunnel.standing().await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::Other, "{refused:?}");
}
