use std::{
    sync::atomic::Ordering,
    time::{Duration, UNIX_EPOCH},
};

use model::wire::Status;
use serde_json::json;

use super::*;
use crate::{
    ca::{Algorithm, Authority, Ca, Key, Kind, Subject},
    fleet::Refused,
    noun::{Organization, User},
    testing::{ROOT, Rig, device, rig, value},
};

fn own() -> Own {
    Own { started_ms: 1, authorities: Vec::new() }
}

fn look(rig: &Rig) -> bool {
    rig.panel.look_around(&own()).unwrap()
}

fn keys(rig: &Rig, actor: Actor) -> Vec<String> {
    rig.panel.alerts(actor, None).unwrap().into_iter().map(|alert| alert.key).collect()
}

/// The server of the rig shows a pool of this health.
fn show(rig: &Rig, health: &str) {
    let mut status = Status::default();
    let pool = json!({ "guid": 1, "health": health, "size_bytes": 100, "free_bytes": 99 });
    status.pools.insert("tank".parse().unwrap(), value(pool));
    rig.panel.observe(rig.server.id, &status).unwrap();
}

#[test]
fn an_alert_begins_and_ends_with_what_it_tells_of() {
    let rig = rig();
    show(&rig, "DEGRADED");
    assert!(look(&rig));
    assert_eq!(keys(&rig, ROOT), ["backup-never/panel", "pool-unsound/1/tank"]);
    assert!(!look(&rig), "nothing changed");
    show(&rig, "ONLINE");
    assert!(look(&rig));
    assert_eq!(keys(&rig, ROOT), ["backup-never/panel"]);
}

#[test]
fn a_certificate_of_the_panels_own_that_ends_is_told_until_it_is_renewed() {
    let rig = rig();
    let at = |days: u64| UNIX_EPOCH + Duration::from_secs((20_000 + days) * 24 * 3600);
    let root = Authority::root(at(0)).unwrap();
    let issuing = root.issuing(&[], at(0)).unwrap();
    let boot = Authority::boot(at(0)).unwrap();
    let ca = Ca::new(root.certificate().clone(), issuing, boot).unwrap();
    let book = |days| {
        let key = Key::generate(Algorithm::EcdsaP256).unwrap();
        let issued = ca.issue(&Subject::Fleet, &key.public(), at(days)).unwrap();
        rig.panel.book(Kind::Fleet, &issued.certificate).unwrap();
    };
    let ends = |days| {
        let now = at(days).duration_since(UNIX_EPOCH).unwrap();
        rig.now.store(u64::try_from(now.as_millis()).unwrap(), Ordering::Relaxed);
        look(&rig);
        keys(&rig, ROOT).contains(&"certificate-ends/fleet".to_owned())
    };
    book(0);
    assert!(!ends(367));
    assert!(ends(369));
    book(369);
    assert!(!ends(369));
}

#[test]
fn an_alert_keeps_its_beginning_when_the_panel_is_started_anew() {
    let rig = rig();
    show(&rig, "DEGRADED");
    look(&rig);
    let before = rig.panel.alerts(ROOT, None).unwrap();
    rig.now.fetch_add(50_000, Ordering::Relaxed);
    let store = crate::store::Store::open(&rig.folder.path().join("panel.db")).unwrap();
    let now_ms = rig.panel.now_ms();
    let again = Panel::new(store, std::sync::Arc::new(move || now_ms));
    let own = Own { started_ms: now_ms, ..own() };
    again.look_around(&own).unwrap();
    assert_eq!(again.alerts(ROOT, None).unwrap(), before);
}

#[test]
fn everybody_sees_the_alerts_of_their_own_networks_and_no_others() {
    let rig = rig();
    show(&rig, "DEGRADED");
    let elsewhere: Organization = value(json!({ "name": "Elsewhere" }));
    let elsewhere =
        Place::Organization(rig.panel.create(ROOT, Place::Panel, elsewhere).unwrap().id);
    let stranger: User =
        value(json!({ "name": "eve", "full_name": "E", "standing": "organization-admin" }));
    let stranger = Actor::User(rig.panel.create(ROOT, elsewhere, stranger).unwrap().id);
    look(&rig);
    let (all, pool) = (vec!["backup-never/panel", "pool-unsound/1/tank"], "pool-unsound/1/tank");
    for (actor, expected) in [
        (stranger, vec![]),
        (rig.user("nemo", "member", None), vec![]),
        (rig.user("vera", "member", Some("viewer")), vec![pool]),
        (rig.user("tina", "member", Some("technician")), vec![pool]),
        (rig.user("anna", "member", Some("admin")), vec![pool]),
        (rig.user("olga", "organization-admin", None), vec![pool]),
        (rig.user("root", "superadmin", None), all),
    ] {
        assert_eq!(keys(&rig, actor), expected, "{actor:?}");
        let count = rig.panel.count_alerts(actor).unwrap();
        assert_eq!(count.count, u64::try_from(expected.len()).unwrap(), "{actor:?}");
        assert_eq!(count.worst, (!expected.is_empty()).then_some(Severity::Warning));
    }
    assert_eq!(rig.panel.alerts(ROOT, Some(rig.network)).unwrap().len(), 1);
    assert_eq!(rig.panel.alerts(ROOT, Some(Id::new(99))).unwrap(), []);
}

#[test]
fn what_the_link_knows_is_kept_until_it_knows_better() {
    let rig = rig();
    rig.published();
    let server = rig.server.id;
    let fault = model::validate::Fault { path: "devices[0]".into(), message: "twice".into() };
    let connection = |state, seen_ms, error: Option<&str>, refused: Option<u64>| {
        let refused =
            refused.map(|generation| Refused { generation, faults: vec![fault.clone(); 3] });
        let error = error.map(str::to_owned);
        let known = Connection { state, seen_ms, error, refused, ..Connection::default() };
        Connections::from([(server, known)])
    };
    let look = |connections: &Connections| {
        rig.panel.look_with(&own(), connections).unwrap();
        let mut alerts = rig.panel.alerts(ROOT, Some(rig.network)).unwrap();
        alerts.retain(|alert| alert.about.id == server.number());
        alerts.into_iter().map(|alert| alert.cause.to_string()).collect::<Vec<_>>()
    };
    let now_ms = 50_000_000;
    rig.now.store(now_ms, Ordering::Relaxed);
    let refused = "it refuses document 1: devices[0]: twice (and 2 more)";
    let answered = connection(State::Connected, Some(now_ms), None, Some(1));
    assert_eq!(look(&answered), [refused]);
    // Started anew: nobody was asked yet, and after that nothing was refused yet.
    assert_eq!(look(&connection(State::Connecting, None, Some("old"), None)), [refused]);
    assert_eq!(look(&connection(State::Connected, Some(now_ms + 1), None, None)), [refused]);
    rig.panel.observe(server, &Status { generation: 1, ..Status::default() }).unwrap();
    assert_eq!(look(&Connections::new()), [""; 0], "it took the document");
    rig.now.store(now_ms + 1_000_000, Ordering::Relaxed);
    let lost = connection(State::Lost, Some(now_ms + 31_000), Some("no route"), None);
    assert_eq!(look(&lost), ["it does not answer: no route"]);
    let since = rig.panel.alerts(ROOT, Some(rig.network)).unwrap()[0].since_ms;
    assert_eq!(since, now_ms + 31_000, "when it answered last");
}

#[test]
fn a_machine_is_unknown_until_it_is_a_device_and_clashes_with_whose_address_it_has() {
    let rig = rig();
    rig.add(device(20));
    let mut status = Status::default();
    let machine = json!({ "mac": "52:54:00:00:01:63", "address": "10.77.0.20",
        "first_seen_ms": 5, "last_seen_ms": 1_000_000 });
    status.discovered.push(value(machine));
    rig.panel.observe(rig.server.id, &status).unwrap();
    look(&rig);
    let seen = |rig: &Rig| keys(rig, rig.user("x", "organization-admin", None));
    assert_eq!(seen(&rig), ["address-clash/1", "machines-waiting/1"]);
    let mut known = device(21);
    known.macs = vec!["52:54:00:00:01:63".parse().unwrap()];
    rig.add(known);
    look(&rig);
    assert_eq!(keys(&rig, ROOT), ["backup-never/panel"]);
}

#[test]
fn a_server_that_is_gone_has_no_alerts() {
    let rig = rig();
    show(&rig, "FAULTED");
    look(&rig);
    assert_eq!(rig.panel.count_alerts(ROOT).unwrap().worst, Some(Severity::Critical));
    rig.panel.store().run_sql(
        "PRAGMA foreign_keys = OFF; DELETE FROM servers; DELETE FROM contacts; PRAGMA foreign_keys = ON",
    );
    look(&rig);
    assert_eq!(keys(&rig, ROOT), [""; 0]);
}
