//! The switch with in-process ports, and with a machine's side of QEMU's stream protocol.

use super::{Switch, Tap};
use std::time::{Duration, Instant};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xa];
const B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xb];
const C: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xc];
const ALL: [u8; 6] = [0xff; 6];
const SOON: Duration = Duration::from_secs(5);
const NOTHING: Duration = Duration::from_millis(50);

fn frame(to: [u8; 6], from: [u8; 6], payload: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &[0x88, 0xb5], payload].concat()
}

async fn hears(tap: &mut Tap, expected: &[u8]) {
    assert_eq!(&*tap.receive(SOON).await.unwrap(), expected);
}

async fn hears_nothing(tap: &mut Tap) {
    assert!(tap.receive(NOTHING).await.unwrap_err().to_string().contains("no frame came"));
}

#[tokio::test]
async fn frames_to_unknown_addresses_reach_all_other_ports() {
    let switch = Switch::new();
    let (mut a, mut b, mut c) = (switch.tap(), switch.tap(), switch.tap());
    let sent = frame(B, A, b"hello");
    a.send(&sent);
    hears(&mut b, &sent).await;
    hears(&mut c, &sent).await;
    hears_nothing(&mut a).await;
}

#[tokio::test]
async fn frames_to_a_learned_address_reach_its_port_alone() {
    let switch = Switch::new();
    let (mut a, mut b, mut c) = (switch.tap(), switch.tap(), switch.tap());
    let announce = frame(ALL, B, b"i am b");
    b.send(&announce);
    hears(&mut a, &announce).await;
    hears(&mut c, &announce).await;
    let sent = frame(B, A, b"for b");
    a.send(&sent);
    hears(&mut b, &sent).await;
    hears_nothing(&mut c).await;
}

#[tokio::test]
async fn an_address_that_moves_is_learned_anew() {
    let switch = Switch::new();
    let (a, mut b, mut c) = (switch.tap(), switch.tap(), switch.tap());
    b.send(&frame(ALL, B, b"here"));
    c.send(&frame(ALL, B, b"now there"));
    hears(&mut c, &frame(ALL, B, b"here")).await;
    hears(&mut b, &frame(ALL, B, b"now there")).await;
    a.send(&frame(B, A, b"for b"));
    hears(&mut c, &frame(B, A, b"for b")).await;
    hears_nothing(&mut b).await;
}

#[tokio::test]
async fn broadcast_and_multicast_reach_all_even_if_someone_claims_the_address() {
    let switch = Switch::new();
    let (a, mut b, mut c) = (switch.tap(), switch.tap(), switch.tap());
    let multicast = [0x01, 0, 0x5e, 0, 0, 1];
    b.send(&frame(A, multicast, b"a forged source"));
    hears(&mut c, &frame(A, multicast, b"a forged source")).await;
    for to in [ALL, multicast] {
        a.send(&frame(to, A, b"all"));
        hears(&mut b, &frame(to, A, b"all")).await;
        hears(&mut c, &frame(to, A, b"all")).await;
    }
}

#[tokio::test]
async fn a_cut_port_passes_nothing_until_it_is_restored() {
    let switch = Switch::new();
    let (mut a, mut b) = (switch.tap(), switch.tap());
    b.cut();
    a.send(&frame(ALL, A, b"lost"));
    b.send(&frame(ALL, B, b"lost too"));
    hears_nothing(&mut b).await;
    hears_nothing(&mut a).await;
    assert_eq!(b.counters().lost, 2);
    b.restore();
    a.send(&frame(ALL, A, b"back"));
    hears(&mut b, &frame(ALL, A, b"back")).await;
}

#[tokio::test]
async fn loss_takes_about_the_asked_part_of_the_frames() {
    let switch = Switch::new();
    let (a, b) = (switch.tap(), switch.tap());
    a.set_loss(0.3);
    for _ in 0..2000 {
        a.send(&frame(ALL, A, b"maybe"));
    }
    // Five standard deviations of a binomial distribution on either side.
    assert!((500..=700).contains(&a.counters().lost), "{:?}", a.counters());
    assert_eq!(a.counters().lost + b.counters().sent, 2000);
}

#[tokio::test]
async fn a_delayed_port_keeps_order_and_takes_the_time_asked() {
    let switch = Switch::new();
    let (a, mut b) = (switch.tap(), switch.tap());
    b.set_delay(Duration::from_millis(120));
    let started = Instant::now();
    a.send(&frame(ALL, A, b"1"));
    a.send(&frame(ALL, A, b"2"));
    hears(&mut b, &frame(ALL, A, b"1")).await;
    assert!(started.elapsed() >= Duration::from_millis(120));
    hears(&mut b, &frame(ALL, A, b"2")).await;
    assert!(started.elapsed() < Duration::from_millis(220), "delays of two frames were added up");
}

#[tokio::test]
async fn a_port_that_nobody_reads_drops_what_exceeds_its_queue_and_stalls_nobody() {
    let switch = Switch::new();
    let (a, b, mut c) = (switch.tap(), switch.tap(), switch.tap());
    for _ in 0..super::QUEUE_FRAMES {
        a.send(&frame(ALL, A, b"flood"));
        hears(&mut c, &frame(ALL, A, b"flood")).await;
    }
    for _ in 0..10 {
        a.send(&frame(ALL, A, b"more"));
        hears(&mut c, &frame(ALL, A, b"more")).await;
    }
    assert_eq!(b.counters().overflowed, 10);
}

#[tokio::test]
async fn the_recording_is_a_pcap_with_cut_frames_of_their_true_length() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("lan.pcap");
    let switch = Switch::new();
    let (a, _b) = (switch.tap(), switch.tap());
    switch.record(&path, 20).unwrap();
    let sent = frame(B, A, b"a payload that is longer");
    a.send(&sent);
    a.send(&frame(C, A, b""));
    let bytes = std::fs::read(&path).unwrap();
    let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(bytes[..8], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]);
    assert_eq!((field(16), field(20)), (20, 1));
    assert_eq!((field(24 + 8), field(24 + 12)), (20, sent.len() as u32));
    assert_eq!(bytes[40..60], sent[..20]);
    assert_eq!((field(60 + 8), field(60 + 12)), (14, 14));
    assert_eq!(bytes.len(), 60 + 16 + 14);
}

async fn send_as_machine(stream: &mut UnixStream, frame: &[u8]) {
    stream.write_u32(frame.len() as u32).await.unwrap();
    stream.write_all(frame).await.unwrap();
}

async fn receive_as_machine(stream: &mut UnixStream) -> Vec<u8> {
    let length = stream.read_u32().await.unwrap();
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.unwrap();
    frame
}

#[tokio::test]
async fn a_machine_joins_by_a_stream_of_frames_behind_their_length() {
    let folder = tempdir().unwrap();
    let switch = Switch::new();
    let mut tap = switch.tap();
    let plug = switch.plug(&folder.path().join("port.sock")).unwrap();
    let mut machine = UnixStream::connect(plug.path()).await.unwrap();
    send_as_machine(&mut machine, &frame(ALL, A, b"up")).await;
    hears(&mut tap, &frame(ALL, A, b"up")).await;
    for number in 0..100u8 {
        tap.send(&frame(A, B, &[number; 1000]));
    }
    for number in 0..100u8 {
        assert_eq!(receive_as_machine(&mut machine).await, frame(A, B, &[number; 1000]));
    }
}

#[tokio::test]
async fn a_machine_that_leaves_can_come_again_on_the_same_port() {
    let folder = tempdir().unwrap();
    let switch = Switch::new();
    let mut tap = switch.tap();
    let plug = switch.plug(&folder.path().join("port.sock")).unwrap();
    let mut machine = UnixStream::connect(plug.path()).await.unwrap();
    send_as_machine(&mut machine, &frame(ALL, A, b"first")).await;
    hears(&mut tap, &frame(ALL, A, b"first")).await;
    drop(machine);
    let mut machine = UnixStream::connect(plug.path()).await.unwrap();
    send_as_machine(&mut machine, &frame(ALL, A, b"second")).await;
    hears(&mut tap, &frame(ALL, A, b"second")).await;
    tap.send(&frame(A, B, b"welcome back"));
    assert_eq!(receive_as_machine(&mut machine).await, frame(A, B, b"welcome back"));
}
