//! The link to the fleet, against agents that are real processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod room;

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use model::wire::EventKind;
use panel::{
    ca::Subject,
    fleet::{Identity, State},
};
use room::{Room, authorities, connection, identity, wait_for};

/// What somebody who saves waits for at the most; a busy builder gets some more for all but the fastest.
const TARGET: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_applied_within_a_second() {
    let room = Room::new();
    let fleet = room.fleet();
    let given = room.join(1);
    let _agent = room.start(&given);
    let found = connection(&fleet, given.id(), State::Connected).await;
    assert_eq!(found.address, Some(Room::address(1).into()));
    let mut fastest = Duration::MAX;
    for volume in 1..=3 {
        let began = Instant::now();
        room.save(given.id(), volume);
        let document = room.applied(given.id(), volume).await;
        fastest = fastest.min(began.elapsed());
        assert_eq!(document.acknowledged, document.generation);
    }
    println!("save to applied: {fastest:?}");
    assert!(fastest < TARGET, "{fastest:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_knowing_nothing_is_told_again() {
    let room = Room::new();
    let fleet = room.fleet();
    let given = room.join(1);
    let mut agent = room.start(&given);
    room.save(given.id(), 1);
    let before = room.applied(given.id(), 1).await.generation;
    agent.kill();
    let lost = connection(&fleet, given.id(), State::Lost).await;
    assert!(lost.error.is_some() && lost.trouble.is_some(), "{lost:?}");
    let health = room.panel.health(room::ROOT, None).unwrap().remove(0);
    assert_eq!(health.connection, Some(State::Lost));
    wait_for("the last sight is kept", async || {
        (room.document(given.id()).status_ms >= lost.seen_ms).then_some(())
    })
    .await;
    let mut events = fleet.events();
    agent.restart_blank();
    let back = async {
        loop {
            let happened = events.recv().await.unwrap();
            if happened.event.kind == (EventKind::Converged { generation: before }) {
                return happened.server;
            }
        }
    };
    let server = tokio::time::timeout(Duration::from_secs(20), back).await.unwrap();
    assert_eq!(server, given.id());
    assert_eq!(room.document(given.id()).generation, before, "nothing had changed");
    connection(&fleet, given.id(), State::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_can_not_be_kept_is_told_until_it_is_and_costs_no_connection() {
    let room = Room::new();
    let fleet = room.fleet();
    let given = room.join(1);
    let agent = room.start(&given);
    room.save(given.id(), 1);
    room.applied(given.id(), 1).await;
    let before = connection(&fleet, given.id(), State::Connected).await;
    // A file can't be put in the place of a folder with something in it.
    let file = agent.state().join("desired.json");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in-the-way")).unwrap();
    room.save(given.id(), 2);
    let refused = wait_for("the server says why", async || {
        fleet.connections().borrow()[&given.id()].refused.clone()
    })
    .await;
    assert!(refused.faults[0].message.contains("kept"), "{refused:?}");
    std::fs::remove_dir_all(&file).unwrap();
    room.applied(given.id(), 2).await;
    let after = wait_for("it is forgotten", async || {
        let now = fleet.connections().borrow()[&given.id()].clone();
        now.refused.is_none().then_some(now)
    })
    .await;
    assert_eq!((after.state, after.since_ms), (State::Connected, before.since_ms));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_does_not_delay_another() {
    let room = Room::new();
    let fleet = room.fleet();
    let dead: Vec<_> = (10..30).map(|number| (room.silence(number), room.join(number))).collect();
    let given = room.join(1);
    let _agent = room.start(&given);
    connection(&fleet, given.id(), State::Connected).await;
    let began = Instant::now();
    room.save(given.id(), 1);
    room.applied(given.id(), 1).await;
    let (took, other) = (began.elapsed(), dead[0].1.id());
    assert_eq!(fleet.connections().borrow()[&other].state, State::Connecting, "it hangs");
    assert!(took < 4 * TARGET, "{took:?}");
    let began = Instant::now();
    fleet.stop().await;
    assert!(began.elapsed() < TARGET, "nobody waits for the dead to stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panel_that_the_agents_do_not_know_is_refused() {
    let room = Room::new();
    let given = room.join(1);
    let _agent = room.start(&given);
    let refused = async |identity: Identity| {
        let fleet = room.fleet_as(identity);
        let lost = connection(&fleet, given.id(), State::Lost).await;
        fleet.stop().await;
        lost.error.unwrap()
    };
    // A server's certificate is of the right authority, and not the panel's.
    let server = Subject::Tunnel("relay".parse().unwrap(), Vec::new());
    wait_for("the agent listens", async || {
        let why = refused(identity(&room.ca, &server)).await;
        (!why.contains("reached")).then(|| assert!(why.contains("connection"), "{why}"))
    })
    .await;
    // Another authority's panel does not even know the agent.
    let why = refused(identity(&authorities(), &Subject::Fleet)).await;
    assert!(why.contains("no secure connection") && why.contains("UnknownIssuer"), "{why}");
    assert_eq!(room.panel.told(given.id()).unwrap().map(|(number, _)| number), Some(1));
    assert_eq!(room.document(given.id()).acknowledged, 0, "nobody told the agent anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_the_server_is_refused() {
    let room = Room::new();
    let (one, mut other) = (room.join(1), room.join(2));
    // It stands at the first one's address, with the certificate of its own number.
    other.move_to(&one);
    let _agent = room.start(&other);
    let fleet = room.fleet();
    let why = wait_for("the agent is found", async || {
        let why = fleet.connections().borrow().get(&one.id())?.error.clone()?;
        (!why.contains("reached")).then_some(why)
    })
    .await;
    assert!(why.contains("no secure connection") && why.contains("not valid for name"), "{why}");
    // And one of another authority.
    let elsewhere = Room::new();
    let mut stranger = elsewhere.join(1);
    let three = room.join(3);
    stranger.move_to(&three);
    let _stranger = room.start(&stranger);
    let why = wait_for("the stranger is found", async || {
        let why = fleet.connections().borrow().get(&three.id())?.error.clone()?;
        (!why.contains("reached")).then_some(why)
    })
    .await;
    assert!(why.contains("no secure connection") && why.contains("UnknownIssuer"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_whose_place_was_taken_is_cut_off_though_it_is_connected() {
    let room = Room::new();
    let fleet = room.fleet();
    let first = room.join(1);
    let _agent = room.start(&first);
    connection(&fleet, first.id(), State::Connected).await;
    let began = Instant::now();
    let second = room.join_as(2, Some(first.id()));
    assert_eq!(second.id(), first.id());
    let lost = connection(&fleet, first.id(), State::Lost).await;
    let why = lost.error.unwrap();
    // It looks for the newcomer at once, who is not there yet.
    let expected = why.contains("replaced") || why.contains("refused");
    assert!(expected, "{why} after {:?}", began.elapsed());
    assert!(began.elapsed() < 5 * TARGET, "{:?}", began.elapsed());
    let _agent = room.start(&second);
    let found = connection(&fleet, first.id(), State::Connected).await;
    assert_eq!(found.address, Some(Room::address(2).into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_another_document_of_the_same_number_is_told_anew() {
    let room = Room::new();
    let given = room.join(1);
    let agent = room.start(&given);
    let mut socket =
        wait_for("the agent listens", async || UnixStream::connect(agent.socket()).ok()).await;
    let document = r#"{"generation":1}"#;
    write!(
        socket,
        "PUT /v1/desired HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{document}",
        document.len()
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let fleet = room.fleet();
    wait_for("it is told", async || {
        let document = room.panel.document(room::ROOT, given.id()).unwrap()?;
        (document.generation == 2 && document.applied == 2).then_some(())
    })
    .await;
    fleet.stop().await;
}
