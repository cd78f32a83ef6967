use std::sync::atomic::Ordering;

use model::wire::Status;
use serde_json::json;

use super::*;
use crate::{
    operations::{Own, Settings},
    testing::{ROOT, Rig, fields, rig, value},
};

fn hook(name: &str, least: &str) -> Channel {
    value(json!({ "name": name, "least": least, "way": "hook", "url": "https://hook.example/x" }))
}

fn key() -> BoxKey {
    BoxKey::parse(&[7; 32]).unwrap()
}

fn make(rig: &Rig, actor: Actor, channel: &Channel) -> Result<i64, Error> {
    rig.panel.create_channel(actor, rig.organization, channel, &ChannelSecret::Keep, &key())
}

/// The server of the rig shows a pool of this health, and the panel looks around.
fn show(rig: &Rig, health: &str) {
    let mut status = Status::default();
    let pool = json!({ "guid": 1, "health": health, "size_bytes": 100, "free_bytes": 99 });
    status.pools.insert("tank".parse().unwrap(), value(pool));
    rig.panel.observe(rig.server.id, &status).unwrap();
    rig.panel.look_around(&Own::default()).unwrap();
}

/// What waits in a channel, the eldest first: the keys that began, and those that ended.
fn waits(rig: &Rig, channel: i64) -> Vec<(Vec<String>, Vec<String>)> {
    let keys = |alerts: &[Alert]| alerts.iter().map(|alert| alert.key.clone()).collect();
    let (_, notices) = rig.panel.channel(ROOT, channel).unwrap();
    let waiting = notices.iter().rev().filter(|queued| queued.sent_ms.is_none());
    waiting.map(|queued| (keys(&queued.notice.began), keys(&queued.notice.ended))).collect()
}

#[test]
fn a_channel_is_told_once_that_an_alert_began_and_once_that_it_ended() {
    let rig = rig();
    let channel = make(&rig, ROOT, &hook("hook", "warning")).unwrap();
    let pool = || vec!["pool-unsound/1/tank".to_owned()];
    show(&rig, "DEGRADED");
    show(&rig, "DEGRADED");
    assert_eq!(waits(&rig, channel), [(pool(), vec![])]);
    // Started anew, over the same store.
    let store = crate::store::Store::open(&rig.folder.path().join("panel.db")).unwrap();
    let again = Panel::new(store, std::sync::Arc::new(|| 2_000_000));
    again.look_around(&Own { started_ms: 2_000_000, ..Own::default() }).unwrap();
    assert_eq!(waits(&rig, channel).len(), 1);
    show(&rig, "ONLINE");
    show(&rig, "ONLINE");
    assert_eq!(waits(&rig, channel), [(pool(), vec![]), (vec![], pool())]);
    let due = rig.panel.due_notices().unwrap();
    assert_eq!(due.len(), 1, "the eldest first: {due:?}");
}

#[test]
fn a_channel_is_told_of_what_is_bad_enough_and_of_its_own_organization() {
    let rig = rig();
    let (bad, all) = (hook("bad", "critical"), hook("all", "info"));
    let (bad, all) = (make(&rig, ROOT, &bad).unwrap(), make(&rig, ROOT, &all).unwrap());
    let other: crate::noun::Organization = value(json!({ "name": "Elsewhere" }));
    let other = rig.panel.create(ROOT, crate::noun::Place::Panel, other).unwrap().id;
    let secret = ChannelSecret::Keep;
    let stranger = rig.panel.create_channel(ROOT, other, &hook("x", "info"), &secret, &key());
    let stranger = stranger.unwrap();
    show(&rig, "DEGRADED");
    assert_eq!((waits(&rig, bad).len(), waits(&rig, all).len()), (0, 1));
    assert_eq!(waits(&rig, stranger), [], "the panel's own troubles are nobody's yet");
    show(&rig, "FAULTED");
    assert_eq!(waits(&rig, bad).len(), 1, "it got worse");
    show(&rig, "DEGRADED");
    assert_eq!(waits(&rig, bad).len(), 1, "it is not over");
    let settings = Settings { notices_of: Some(other), ..Settings::default() };
    rig.panel.change_settings(ROOT, 1, &settings).unwrap();
    show(&rig, "DEGRADED");
    assert_eq!(waits(&rig, stranger), [(vec!["backup-never/panel".to_owned()], vec![])]);
}

#[test]
fn a_notice_is_tried_later_and_later_and_given_up_after_a_day() {
    let rig = rig();
    let channel = make(&rig, ROOT, &hook("hook", "warning")).unwrap();
    show(&rig, "DEGRADED");
    let mut at_ms = rig.now.load(Ordering::Relaxed);
    let mut waits_ms = Vec::new();
    for _ in 0..9 {
        rig.now.store(at_ms, Ordering::Relaxed);
        let due = rig.panel.due_notices().unwrap().remove(0).queued;
        rig.now.store(at_ms, Ordering::Relaxed);
        rig.panel.note_notice(due.id, Some("it answered with status 500")).unwrap();
        assert_eq!(rig.panel.due_notices().unwrap().len(), 0, "it waits");
        let (_, notices) = rig.panel.channel(ROOT, channel).unwrap();
        waits_ms.push(notices[0].due_ms - at_ms);
        at_ms = notices[0].due_ms + 1;
    }
    assert_eq!(waits_ms[..3], [30_000, 60_000, 120_000]);
    assert_eq!(waits_ms[8], LONGEST_WAIT_MS);
    let (_, notices) = rig.panel.channel(ROOT, channel).unwrap();
    assert_eq!(
        (notices[0].attempts, notices[0].error.as_deref()),
        (9, Some("it answered with status 500"))
    );
    show(&rig, "DEGRADED");
    let alerts = rig.panel.alerts(ROOT, None).unwrap();
    assert!(
        alerts.iter().any(|alert| alert.key == format!("notices-fail/{channel}")),
        "{alerts:?}"
    );
    assert_eq!(waits(&rig, channel).len(), 1, "that it fails is not told by itself");
    rig.now.fetch_add(GIVE_UP_MS, Ordering::Relaxed);
    assert_eq!(rig.panel.due_notices().unwrap().len(), 0);
    let (kept, notices) = rig.panel.channel(ROOT, channel).unwrap();
    assert_eq!((kept.dropped, notices.len()), (1, 0));
}

#[test]
fn a_notice_that_was_delivered_is_not_sent_again() {
    let rig = rig();
    let channel = make(&rig, ROOT, &hook("hook", "warning")).unwrap();
    show(&rig, "DEGRADED");
    let due = rig.panel.due_notices().unwrap().remove(0).queued;
    rig.panel.note_notice(due.id, None).unwrap();
    rig.panel.note_notice(due.id, Some("late")).unwrap();
    assert!(rig.panel.due_notices().unwrap().is_empty());
    let (_, notices) = rig.panel.channel(ROOT, channel).unwrap();
    assert_eq!((notices[0].sent_ms.is_some(), notices[0].error.as_deref()), (true, None));
}

#[test]
fn the_queue_is_bounded_and_tells_what_it_gave_up() {
    let rig = rig();
    let channel = make(&rig, ROOT, &hook("hook", "warning")).unwrap();
    for round in 0..120 {
        show(&rig, if round % 2 == 0 { "DEGRADED" } else { "ONLINE" });
    }
    let (kept, notices) = rig.panel.channel(ROOT, channel).unwrap();
    assert_eq!((notices.len(), kept.dropped), (100, 20));
}

#[test]
fn a_channel_is_for_the_admins_of_its_organization() {
    let rig = rig();
    let channel = make(&rig, ROOT, &hook("hook", "info")).unwrap();
    let olga = rig.user("olga", "organization-admin", None);
    for actor in [rig.user("anna", "member", Some("admin")), rig.user("nemo", "member", None)] {
        assert_eq!(rig.panel.channels(actor).unwrap().len(), 0);
        let refused = rig.panel.channel(actor, channel);
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
        assert!(matches!(rig.panel.delete_channel(actor, channel, 1), Err(Error::NotFound { .. })));
        let made = make(&rig, actor, &hook("other", "info"));
        assert!(matches!(made, Err(Error::NotFound { .. })), "{made:?}");
    }
    assert_eq!(rig.panel.channels(olga).unwrap().len(), 1);
    let mut private = hook("hook", "info");
    private.private = true;
    let change = |actor, version| {
        let secret = (&ChannelSecret::Keep, &key());
        rig.panel.change_channel(actor, channel, version, &private, secret)
    };
    assert_eq!(fields(change(olga, 1)), ["private"]);
    change(ROOT, 1).unwrap();
    change(olga, 2).unwrap();
    assert!(matches!(change(olga, 2), Err(Error::Conflict { version: 3, .. })));
    assert_eq!(fields(make(&rig, olga, &hook("hook", "info"))), ["name"]);
    let late = rig.panel.delete_channel(olga, channel, 2);
    assert!(matches!(late, Err(Error::Conflict { version: 3, .. })), "{late:?}");
    rig.panel.delete_channel(olga, channel, 3).unwrap();
    assert_eq!(rig.panel.channels(ROOT).unwrap().len(), 0);
}

#[test]
fn a_channel_that_can_reach_nobody_is_refused() {
    let rig = rig();
    let refused = |json| fields(make(&rig, ROOT, &value(json)));
    let url = |url| json!({ "name": "x", "least": "info", "way": "hook", "url": url });
    for wrong in ["", "x", "ftp://x/", "/hook", "https:///x"] {
        assert_eq!(refused(url(wrong)), ["url"], "{wrong}");
    }
    assert_eq!(refused(url("https://me:secret@hook.example/")), ["url"]);
    let mail = json!({ "name": "x", "least": "info", "way": "mail", "host": "", "port": 0,
        "security": "tls", "from": "x", "to": [] });
    assert_eq!(refused(mail), ["host", "port", "to", "from"]);
}

#[test]
fn a_secret_lies_sealed_and_opens_for_its_channel_alone() {
    let rig = rig();
    let secret = ChannelSecret::Set("hunter2".into());
    let made = |name| {
        let id =
            rig.panel.create_channel(ROOT, rig.organization, &hook(name, "info"), &secret, &key());
        rig.panel.channel(ROOT, id.unwrap()).unwrap().0
    };
    let (one, mut other) = (made("one"), made("other"));
    let opened = open_channel_secret(&key(), &one).unwrap().unwrap();
    assert_eq!(opened.expose_secret(), b"hunter2");
    let sealed = one.sealed.clone().unwrap();
    assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
    let entries = rig.panel.audit(ROOT, &crate::store::EntryQuery::default()).unwrap().rows;
    assert!(!format!("{entries:?} {one:?}").contains("hunter2"));
    other.sealed = Some(sealed);
    assert!(open_channel_secret(&key(), &other).is_err());
    let remove = (&ChannelSecret::Remove, &key());
    rig.panel.change_channel(ROOT, one.id, 1, &one.value, remove).unwrap();
    let (bare, _) = rig.panel.channel(ROOT, one.id).unwrap();
    assert!(open_channel_secret(&key(), &bare).unwrap().is_none());
}
