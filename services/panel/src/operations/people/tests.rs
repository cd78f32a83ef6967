use super::*;
use crate::{
    access::Rank,
    noun::Device,
    store::EntryQuery,
    testing::{ROOT, device, fields, rig},
};

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn number(actor: Actor) -> Id<User> {
    match actor {
        Actor::User(user) | Actor::Token { user, .. } => user,
        Actor::Panel(name) => panic!("{name} is no user"),
    }
}

#[test]
fn a_session_is_good_until_it_ends_or_is_revoked() {
    let rig = rig();
    let (panel, vera) = (&rig.panel, rig.user("vera", "member", Some("viewer")));
    let user = number(vera);
    panel.begin_session(user, digest(1), 1_000_000, "192.0.2.1", "Firefox").unwrap();
    panel.begin_session(user, digest(2), 1_000_000, "192.0.2.2", "curl").unwrap();
    panel.begin_session(user, digest(3), 0, "192.0.2.3", "none").unwrap();
    assert_eq!(panel.session(digest(1)).unwrap().map(|(actor, _)| actor), Some(vera));
    assert_eq!(panel.session(digest(3)).unwrap(), None, "over");
    assert_eq!(panel.session(digest(4)).unwrap(), None, "never was");
    let sessions = panel.sessions(vera, user).unwrap();
    let browsers: Vec<_> = sessions.iter().map(|session| session.browser.as_str()).collect();
    assert_eq!(browsers, ["curl", "Firefox"]);
    assert_eq!(panel.end_sessions(vera, user, Some(sessions[0].id)).unwrap(), 1);
    assert_eq!(panel.session(digest(2)).unwrap(), None);
    panel.set_password(vera, user, "x").unwrap();
    assert_eq!(panel.session(digest(1)).unwrap(), None, "a new password ends all");
    let name = "vera".parse().unwrap();
    let credentials = Credentials { password_hash: Some("x".into()), ..Credentials::default() };
    assert_eq!(panel.credentials(&name).unwrap().unwrap().1, credentials);
    let log = panel.audit(ROOT, &EntryQuery::default()).unwrap();
    assert_eq!((log.rows[0].actor.as_str(), log.rows[0].object.as_str()), ("vera", "vera"));
    assert_eq!(log.rows[0].after, Some(serde_json::json!({ "changed": "password" })));
}

#[test]
fn a_code_is_good_once() {
    let rig = rig();
    let (panel, vera) = (&rig.panel, rig.user("vera", "member", None));
    let user = number(vera);
    panel.set_recovery_codes(vera, user, &[digest(1), digest(2)]).unwrap();
    assert!(panel.use_recovery_code(user, digest(1)).unwrap());
    assert!(!panel.use_recovery_code(user, digest(1)).unwrap());
    assert!(!panel.use_recovery_code(user, digest(9)).unwrap());
    assert!(panel.use_totp_step(user, 100).unwrap());
    assert!(!panel.use_totp_step(user, 100).unwrap());
    assert!(!panel.use_totp_step(user, 99).unwrap());
    assert!(panel.use_totp_step(user, 101).unwrap());
}

#[test]
fn a_token_does_no_more_than_its_limit_and_nothing_when_it_is_over() {
    let rig = rig();
    let (panel, tina) = (&rig.panel, rig.user("tina", "member", Some("technician")));
    let read_only = Limit { most: Rank::Viewer, network: Some(rig.network) };
    let make = |name: &str, byte, ends| panel.make_token(tina, name, digest(byte), read_only, ends);
    assert_eq!(fields(make("late", 1, 5)), ["expires_ms"]);
    let id = make("script", 1, u64::MAX >> 1).unwrap();
    assert_eq!(fields(make("script", 2, u64::MAX >> 1)), ["name"]);
    let token = panel.token(digest(1)).unwrap().unwrap();
    let kept = rig.add(device(10));
    assert_eq!(panel.get(token, kept.id).unwrap(), kept);
    assert_eq!(
        panel.list::<Device>(token, &crate::store::ListQuery::default()).unwrap().rows,
        [kept]
    );
    let refused = panel.create(token, rig.at(), device(11));
    assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
    let refused = panel.set_password(token, number(tina), "x");
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    let refused = panel.make_token(token, "more", digest(3), read_only, u64::MAX >> 1);
    assert!(matches!(refused, Err(Error::Forbidden { .. })));
    assert!(panel.revoke_token(tina, number(tina), id).unwrap());
    assert_eq!(panel.token(digest(1)).unwrap(), None);
    assert!(matches!(panel.get(token, rig.network), Err(Error::SignedOut)));
}

#[test]
fn a_token_is_limited_to_a_network_that_its_owner_sees() {
    let rig = rig();
    let (tina, vera) =
        (rig.user("tina", "member", Some("technician")), rig.user("vera", "member", None));
    let limit = |network| Limit { most: Rank::Viewer, network: Some(network) };
    let make =
        |actor, network| rig.panel.make_token(actor, "x", digest(1), limit(network), u64::MAX >> 1);
    let refused = make(vera, rig.network);
    assert!(matches!(refused, Err(Error::NotFound { noun: Noun::Network })), "{refused:?}");
    let refused = make(tina, Id::new(99));
    assert!(matches!(refused, Err(Error::NotFound { noun: Noun::Network })), "{refused:?}");
    make(tina, rig.network).unwrap();
}

#[test]
fn a_new_password_revokes_the_tokens_and_a_new_hash_of_the_same_one_does_not() {
    let rig = rig();
    let (panel, vera) = (&rig.panel, rig.user("vera", "member", Some("viewer")));
    let (user, limit) = (number(vera), Limit { most: Rank::Viewer, network: None });
    panel.set_password(vera, user, "old").unwrap();
    panel.make_token(vera, "script", digest(1), limit, u64::MAX >> 1).unwrap();
    panel.begin_session(user, digest(2), 1_000_000, "192.0.2.1", "Firefox").unwrap();
    assert!(panel.rehash(user, "old", "better").unwrap());
    assert!(!panel.rehash(user, "old", "late").unwrap(), "changed meanwhile");
    let token = panel.token(digest(1)).unwrap().unwrap();
    assert!(panel.session(digest(2)).unwrap().is_some());
    panel.set_password(ROOT, user, "new").unwrap();
    assert_eq!(panel.token(digest(1)).unwrap(), None);
    assert!(matches!(panel.get(token, rig.network), Err(Error::SignedOut)));
    assert_eq!(panel.session(digest(2)).unwrap(), None);
}

#[test]
fn tokens_are_listed_with_their_last_use_to_who_may_see_their_owner() {
    let rig = rig();
    let (panel, vera) = (&rig.panel, rig.user("vera", "member", Some("viewer")));
    let (tina, olga) =
        (rig.user("tina", "member", Some("admin")), rig.user("olga", "organization-admin", None));
    let (user, limit) = (number(vera), Limit { most: Rank::Viewer, network: Some(rig.network) });
    let id = panel.make_token(vera, "script", digest(1), limit, u64::MAX >> 1).unwrap();
    let listed = |actor| panel.tokens(actor, user).unwrap();
    assert_eq!(
        (listed(vera)[0].id, listed(vera)[0].used_ms, listed(vera)[0].limit),
        (id, None, limit)
    );
    let token = panel.token(digest(1)).unwrap().unwrap();
    let used = listed(olga)[0].used_ms;
    assert!(used.is_some());
    panel.token(digest(1)).unwrap();
    assert_eq!(listed(vera)[0].used_ms, used, "in the same minute");
    for stranger in [tina, token] {
        let refused = panel.tokens(stranger, user);
        assert!(matches!(refused, Err(Error::NotFound { noun: Noun::User })), "{refused:?}");
    }
}

#[test]
fn a_used_one_time_password_stays_used_until_there_is_a_new_secret() {
    let rig = rig();
    let (panel, vera) = (&rig.panel, rig.user("vera", "member", None));
    let user = number(vera);
    panel.set_totp(vera, user, Some(b"one")).unwrap();
    assert!(panel.use_totp_step(user, 100).unwrap());
    panel.set_password(vera, user, "x").unwrap();
    panel.rehash(user, "x", "y").unwrap();
    panel.set_totp(vera, user, Some(b"one")).unwrap();
    assert!(!panel.use_totp_step(user, 100).unwrap());
    panel.set_totp(vera, user, Some(b"two")).unwrap();
    assert!(panel.use_totp_step(user, 50).unwrap());
}

#[test]
fn nobody_sets_the_password_of_somebody_above() {
    let rig = rig();
    let olga = rig.user("olga", "organization-admin", None);
    let vera = rig.user("vera", "member", None);
    let root = rig.user("root", "superadmin", None);
    let set = |actor, of| rig.panel.set_password(actor, number(of), "x");
    set(olga, vera).unwrap();
    assert!(matches!(set(olga, root), Err(Error::Forbidden { .. })));
    assert!(matches!(set(vera, olga), Err(Error::NotFound { .. })));
    set(root, olga).unwrap();
    set(ROOT, root).unwrap();
}

#[test]
fn secrets_are_not_printed() {
    let credentials = Credentials {
        password_hash: Some("hash".into()),
        totp_secret: Some(b"seal".to_vec()),
        ..Credentials::default()
    };
    let printed = format!("{credentials:?} {:?}", digest(7));
    assert!(
        !printed.contains("hash\"") && !printed.contains("115") && !printed.contains('7'),
        "{printed}"
    );
}
