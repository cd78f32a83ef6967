use std::time::{Duration, SystemTime};

use super::*;
use crate::{
    ca::{Algorithm, Authority, Key},
    noun::Place,
    operations::Data,
    store::{BookedQuery, EntryQuery},
    testing::{ROOT, Rig, fields, rig},
};

fn authorities() -> Ca {
    let now = SystemTime::now();
    let root = Authority::root(now).unwrap();
    let issuing = root.issuing(&[], now).unwrap();
    Ca::new(root.certificate().clone(), issuing, Authority::boot(now).unwrap()).unwrap()
}

fn number(actor: Actor) -> Id<User> {
    match actor {
        Actor::User(user) | Actor::Token { user, .. } => user,
        Actor::Panel(name) => panic!("{name} is no user"),
    }
}

fn give(rig: &Rig, ca: &Ca, actor: Actor, label: &str) -> Result<Certificate, GiveError> {
    let key = Key::generate(Algorithm::EcdsaP256).unwrap().public();
    let given = rig.panel.give_certificate(ca, actor, label, &key, SystemTime::now());
    given.map(|issued| issued.certificate)
}

fn refused(given: Result<Certificate, GiveError>) -> Vec<String> {
    match given {
        Err(GiveError::Operation(error)) => fields(Err::<(), _>(error)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_counts_for_its_owner_alone_and_until_it_is_taken_back_or_ends() {
    let rig = rig();
    let (panel, ca) = (&rig.panel, authorities());
    let (vera, tina) = (rig.user("vera", "member", None), rig.user("tina", "member", None));
    let laptop = give(&rig, &ca, vera, "laptop").unwrap();
    assert_eq!(laptop.subject(), "O=clusterducks, CN=user vera, laptop");
    let weigh = |actor, der: &[u8]| panel.weigh_certificate(number(actor), Some(der)).unwrap();
    assert_eq!(weigh(vera, laptop.der()), Proof::Good(laptop.serial()));
    assert_eq!(weigh(tina, laptop.der()), Proof::OfAnother);
    assert_eq!(panel.weigh_certificate(number(vera), None).unwrap(), Proof::Nothing);

    let elsewhere = self::rig();
    let namesake = elsewhere.user("vera", "member", None);
    let stranger = give(&elsewhere, &authorities(), namesake, "laptop").unwrap();
    assert_eq!(weigh(vera, stranger.der()), Proof::Foreign);
    assert_eq!(weigh(vera, b"no certificate"), Proof::Foreign);
    let key = Key::generate(Algorithm::EcdsaP256).unwrap().public();
    let forged = ca.issue(&Subject::User("vera".into()), &key, SystemTime::now()).unwrap();
    assert_eq!(weigh(vera, forged.certificate.der()), Proof::Foreign, "it is not on the books");
    let fleet = ca.issue(&Subject::Fleet, &key, SystemTime::now()).unwrap().certificate;
    panel.book(Kind::Fleet, &fleet).unwrap();
    assert_eq!(weigh(vera, fleet.der()), Proof::Foreign, "it is no person's");

    assert!(panel.revoke(vera, laptop.serial(), Reason::KeyCompromise).unwrap());
    assert_eq!(weigh(vera, laptop.der()), Proof::Revoked);
    let long_ago = SystemTime::now() - Duration::from_secs(400 * 86_400);
    let old = panel.give_certificate(&ca, vera, "old", &key, long_ago).unwrap().certificate;
    rig.now.store(
        u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap(),
        std::sync::atomic::Ordering::Relaxed,
    );
    assert_eq!(weigh(vera, old.der()), Proof::Ended);
}

#[test]
fn a_certificate_is_given_to_whoever_asks_under_a_name_of_its_own() {
    let rig = rig();
    let ca = authorities();
    let vera = rig.user("vera", "member", None);
    give(&rig, &ca, vera, "laptop").unwrap();
    for label in ["laptop", "", "  ", "a\nb", &"x".repeat(41)] {
        assert_eq!(refused(give(&rig, &ca, vera, label)), ["name"], "{label:?}");
    }
    let forbidden = give(&rig, &ca, ROOT, "box");
    assert!(matches!(forbidden, Err(GiveError::Operation(Error::Forbidden { .. }))));
    for number in 1..MOST {
        give(&rig, &ca, vera, &format!("browser {number}")).unwrap();
    }
    assert_eq!(refused(give(&rig, &ca, vera, "one more")), ["name"]);
    let log = rig.panel.audit(ROOT, &EntryQuery::default()).unwrap();
    let told = log.rows[0].after.as_ref().unwrap();
    assert_eq!((&told["changed"], &told["label"]), (&json!("given"), &json!("browser 19")));
    assert_eq!((log.rows[0].actor.as_str(), log.rows[0].object.as_str()), ("vera", "vera"));
}

#[test]
fn a_certificate_is_asked_for_once_it_was_shown_and_nobody_locks_themselves_out() {
    let rig = rig();
    let (panel, ca) = (&rig.panel, authorities());
    let vera = rig.user("vera", "member", None);
    let user = number(vera);
    let asked =
        || panel.credentials(&"vera".parse().unwrap()).unwrap().unwrap().1.certificate_required;
    let (one, two) = (give(&rig, &ca, vera, "one").unwrap(), give(&rig, &ca, vera, "two").unwrap());
    assert_eq!(fields(panel.ask_for_certificate(vera, user, None)), ["ask"]);
    assert!(!asked());
    panel.ask_for_certificate(vera, user, Some(one.der())).unwrap();
    assert!(asked());
    let revoke = |of: &Certificate| panel.revoke(vera, of.serial(), Reason::Unspecified);
    assert!(revoke(&one).unwrap());
    assert_eq!(fields(revoke(&two)), ["certificate"]);
    panel.set_totp(vera, user, Some(b"sealed")).unwrap();
    assert!(revoke(&two).unwrap(), "a code lets them in");
    assert_eq!(fields(panel.set_totp(vera, user, None)), ["certificate"]);
    panel.stop_asking(vera, user).unwrap();
    panel.set_totp(vera, user, None).unwrap();
    assert!(!asked());
}

#[test]
fn an_admin_takes_away_what_somebody_lost_and_ends_what_it_opened() {
    let rig = rig();
    let (panel, ca) = (&rig.panel, authorities());
    let (vera, olga) =
        (rig.user("vera", "member", None), rig.user("olga", "organization-admin", None));
    let (tina, user) = (rig.user("tina", "member", Some("admin")), number(vera));
    let one = give(&rig, &ca, vera, "one").unwrap();
    let two = give(&rig, &ca, vera, "two").unwrap();
    panel.ask_for_certificate(vera, user, Some(one.der())).unwrap();
    let session = || {
        panel.begin_session(user, store::Digest([1; 32]), 1_000_000, "192.0.2.1", "x").unwrap();
    };
    let signed_in = || panel.session(store::Digest([1; 32])).unwrap().is_some();
    let listed = |actor| panel.issued(actor, &BookedQuery::default()).unwrap().rows.len();
    assert_eq!((listed(olga), listed(tina), listed(vera)), (2, 0, 0));
    session();
    let strange = panel.revoke(tina, one.serial(), Reason::Unspecified);
    assert!(matches!(strange, Err(Error::NotFound { .. })), "{strange:?}");
    assert!(matches!(panel.user_certificates(tina, user), Err(Error::NotFound { .. })));
    assert!(matches!(panel.own_certificate(olga, one.serial()), Err(Error::NotFound { .. })));
    assert_eq!(panel.own_certificate(vera, one.serial()).unwrap(), one);
    assert!(panel.revoke(olga, one.serial(), Reason::KeyCompromise).unwrap());
    assert!(!signed_in());
    session();
    panel.drop_certificates(olga, user).unwrap();
    assert!(!signed_in());
    let proof = panel.weigh_certificate(user, Some(two.der())).unwrap();
    assert_eq!(proof, Proof::Revoked);
    let known = panel.credentials(&"vera".parse().unwrap()).unwrap().unwrap().1;
    assert!(!known.certificate_required);
    let before = panel.audit(ROOT, &EntryQuery::default()).unwrap().rows.len();
    panel.drop_certificates(olga, user).unwrap();
    assert_eq!(panel.audit(ROOT, &EntryQuery::default()).unwrap().rows.len(), before);
}

#[test]
fn whoever_is_deleted_takes_their_certificates_along() {
    let rig = rig();
    let (panel, ca) = (&rig.panel, authorities());
    let vera = rig.user("vera", "member", None);
    let laptop = give(&rig, &ca, vera, "laptop").unwrap();
    let kept = panel.get(ROOT, number(vera)).unwrap();
    assert!(matches!(kept.place, Place::Organization(_)));
    panel.delete(ROOT, kept.id, kept.version, Data::Keep).unwrap();
    let booked = panel.certificate(ROOT, laptop.serial()).unwrap();
    assert_eq!((booked.user, booked.reason), (None, Some(Reason::Removed)));
}

#[test]
fn whoever_comes_in_by_a_certificate_that_ends_is_told_of() {
    let rig = rig();
    let (panel, ca) = (&rig.panel, authorities());
    let (vera, tina) = (rig.user("vera", "member", None), rig.user("tina", "member", None));
    let user = number(vera);
    let told = |actor| -> Vec<String> {
        panel.look_around(&crate::operations::Own::default()).unwrap();
        let alerts = panel.alerts(actor, None).unwrap();
        let of = alerts.iter().filter(|alert| alert.about.noun == Some(Noun::User));
        of.map(|alert| alert.cause.to_string()).collect()
    };
    let now_ms = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let clock = |days: u64| {
        let ms = u64::try_from(now_ms).unwrap() + days * 86_400_000;
        rig.now.store(ms, std::sync::atomic::Ordering::Relaxed);
    };
    clock(0);
    let laptop = give(&rig, &ca, vera, "laptop").unwrap();
    clock(380);
    assert!(told(ROOT).is_empty(), "their password alone lets them in");
    panel.ask_for_certificate(vera, user, Some(laptop.der())).unwrap();
    assert_eq!(told(ROOT), ["the certificate to sign in with ends soon and was not renewed"]);
    assert_eq!(told(rig.user("olga", "organization-admin", None)).len(), 1);
    assert!(told(tina).is_empty());
    clock(300);
    assert!(told(ROOT).is_empty());
    clock(380);
    panel.set_totp(vera, user, Some(b"sealed")).unwrap();
    assert!(told(ROOT).is_empty(), "a code lets them in");
}
