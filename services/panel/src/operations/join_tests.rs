use std::sync::{LazyLock, atomic::Ordering};

use model::{
    code::JoinSecret,
    join::{Fact, Hardware},
    wire::Status,
};
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::{
    ca::{Algorithm, Authority, Certificate, Key, Kind},
    noun::{Organization, Place, User},
    operations::Data,
    store::EntryQuery,
    testing::{self, ROOT, Rig, value},
};

/// 2026-11-19.
const NOW_MS: u64 = 1_795_052_800_000;

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let now = UNIX_EPOCH + Duration::from_millis(NOW_MS);
    let root = Authority::root(now).unwrap();
    let issuing = root.issuing(&[], now).unwrap();
    let boot = Authority::boot(now).unwrap();
    Ca::new(root.certificate().clone(), issuing, boot).unwrap()
});

/// The rig in a year in which certificates hold.
fn rig() -> Rig {
    let rig = testing::rig();
    rig.now.store(NOW_MS, Ordering::Relaxed);
    rig
}

/// A box with its keys.
struct Newcomer {
    api: String,
    boot: Option<String>,
    name: Option<&'static str>,
}

fn request_of(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

fn newcomer(name: Option<&'static str>) -> Newcomer {
    Newcomer { api: request_of(&KeyPair::generate().unwrap()), boot: None, name }
}

const SECRET: [u8; 8] = [7; 8];

impl Newcomer {
    fn request(&self, secret: [u8; 8]) -> Request {
        Request {
            secret: JoinSecret::new(secret),
            name: self.name.map(|name| name.parse().unwrap()),
            certificate_request_pem: self.api.clone(),
            boot_request_pem: self.boot.clone(),
            ssh_key: None,
            hardware: Hardware { serial: Fact::clip("S-1"), ..Hardware::default() },
        }
    }

    fn asks(&self, rig: &Rig, secret: [u8; 8]) -> Result<Answer, JoinError> {
        let from = "192.0.2.9".parse().unwrap();
        rig.panel.join(&CA, &self.request(secret), from, Instant::now())
    }
}

fn joined(answer: Result<Answer, JoinError>) -> Joined {
    match answer {
        Ok(Answer::Joined(joined)) => *joined,
        other => panic!("not joined: {other:?}"),
    }
}

fn refused(answer: Result<Answer, JoinError>) -> Refusal {
    match answer {
        Err(JoinError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// Makes the code of [`SECRET`]; its number.
fn code(rig: &Rig, server: Option<Id<Server>>, confirm: bool) -> i64 {
    let digest = codes::digest(&JoinSecret::new(SECRET));
    rig.panel.make_join_code(ROOT, rig.network, server, digest, 60_000, confirm).unwrap().id
}

/// What the log has last.
fn logged(rig: &Rig) -> (String, String) {
    let query = EntryQuery { limit: Some(1), ..EntryQuery::default() };
    let entry = rig.panel.audit(ROOT, &query).unwrap().rows.remove(0);
    (entry.actor, entry.after.unwrap().to_string())
}

fn servers(rig: &Rig) -> u64 {
    rig.panel.count::<Server>(ROOT, &store::ListQuery::default()).unwrap()
}

#[test]
fn a_box_with_a_good_code_is_a_server_with_a_certificate_of_its_number() {
    let rig = rig();
    code(&rig, None, false);
    let mut changes = rig.panel.changes();
    changes.mark_unchanged();
    let joined = joined(newcomer(Some("box-1")).asks(&rig, SECRET));
    assert!(changes.has_changed().unwrap(), "the fleet is told");
    let id = Id::new(i64::try_from(joined.server).unwrap());
    let server = rig.panel.get::<Server>(ROOT, id).unwrap();
    assert_eq!((server.value.name.as_str(), server.place), ("box-1", rig.at()));
    assert!(!server.value.primary, "the network has one");
    let peers = rig.panel.peers().unwrap();
    let leaf = pem::parse(&joined.api_chain_pem).unwrap();
    let leaf = Certificate::parse(leaf.into_contents()).unwrap();
    let address: IpAddr = "192.0.2.9".parse().unwrap();
    assert_eq!(peers.len(), 1);
    assert_eq!((peers[0].server, &peers[0].addresses), (id, &vec![address]));
    assert_eq!(peers[0].serials, [leaf.serial()]);
    let named = format!("{:?}", x509_parser::parse_x509_certificate(leaf.der()).unwrap().1);
    assert!(named.contains(&ca::agent_host(id)), "{named}");
    assert_eq!((joined.root_pem, joined.link), (CA.root().pem(), Link::Direct));
    let facts = rig.panel.joined_box(ROOT, id).unwrap().unwrap().hardware;
    assert_eq!(facts.serial.as_str(), "S-1");
}

#[test]
fn a_server_is_looked_for_where_its_document_puts_it() {
    let rig = rig();
    code(&rig, Some(rig.server.id), false);
    joined(newcomer(None).asks(&rig, SECRET));
    let looked_for = || -> Vec<String> {
        rig.panel.peers().unwrap()[0].addresses.iter().map(IpAddr::to_string).collect()
    };
    assert_eq!(looked_for(), ["192.0.2.9", "10.77.0.1"]);
    let mut named = rig.panel.get::<Server>(ROOT, rig.server.id).unwrap();
    named.value.management = Some(value(json!({ "interface": { "mac": "52:54:00:00:00:02" },
        "address": "192.0.2.77/24" })));
    rig.panel.change(ROOT, rig.server.id, named.version, named.value).unwrap();
    assert_eq!(looked_for(), ["192.0.2.9", "192.0.2.77"]);
}

#[test]
fn an_answer_that_got_lost_is_given_again_to_the_same_keys_alone() {
    let rig = rig();
    code(&rig, None, false);
    let first = newcomer(None);
    let answer = joined(first.asks(&rig, SECRET));
    assert_eq!(joined(first.asks(&rig, SECRET)), answer);
    let before = servers(&rig);
    assert_eq!(refused(newcomer(None).asks(&rig, SECRET)), Refusal::Replayed);
    let (actor, what) = logged(&rig);
    assert!(actor == "join" && what.contains("used by another box"), "{what}");
    assert!(what.contains("192.0.2.9"), "{what}");
    assert_eq!(servers(&rig), before);
    // The same box with another boot key is another box.
    let boot = Some(request_of_rsa());
    let swapped = Newcomer { boot, ..first };
    assert_eq!(refused(swapped.asks(&rig, SECRET)), Refusal::Replayed);
}

#[test]
fn a_code_that_is_wrong_or_late_is_refused_and_logged() {
    let rig = rig();
    assert_eq!(refused(newcomer(None).asks(&rig, [9; 8])), Refusal::Wrong);
    assert!(logged(&rig).1.contains("no such join code"), "{:?}", logged(&rig));
    code(&rig, None, false);
    rig.now.fetch_add(60_000, Ordering::Relaxed);
    assert_eq!(refused(newcomer(None).asks(&rig, SECRET)), Refusal::Late);
    assert!(logged(&rig).1.contains("expired"), "{:?}", logged(&rig));
    assert_eq!(servers(&rig), 1);
}

#[test]
fn a_peer_is_told_the_document_that_is_kept() {
    let rig = rig();
    code(&rig, Some(rig.server.id), false);
    joined(newcomer(None).asks(&rig, SECRET));
    assert_eq!(rig.panel.peers().unwrap()[0].generation, 0, "there is none yet");
    rig.published();
    assert_eq!(rig.panel.peers().unwrap()[0].generation, 1);
}

#[test]
fn the_answer_is_given_again_for_a_day_and_no_longer() {
    let rig = rig();
    code(&rig, None, false);
    let first = newcomer(None);
    let answer = joined(first.asks(&rig, SECRET));
    rig.now.fetch_add(PATIENCE_MS - 1000, Ordering::Relaxed);
    assert_eq!(joined(first.asks(&rig, SECRET)), answer);
    rig.now.fetch_add(1000, Ordering::Relaxed);
    assert_eq!(refused(first.asks(&rig, SECRET)), Refusal::Late);
}

#[test]
fn an_address_that_guesses_has_to_wait_and_the_log_stays_short() {
    let rig = rig();
    code(&rig, None, false);
    let guesser = newcomer(None);
    let guess = |last: u8, now| {
        let from = IpAddr::from([198, 51, 100, last]);
        rig.panel.join(&CA, &guesser.request([9; 8]), from, now)
    };
    let now = Instant::now();
    for _ in 0..ADDRESS.burst {
        assert_eq!(refused(guess(1, now)), Refusal::Wrong);
    }
    let waiting = guess(1, now).unwrap_err();
    assert!(matches!(waiting, JoinError::Throttled(_)), "{waiting:?}");
    assert_eq!(waiting.problem().status, 429);
    for last in 2..=7 {
        for _ in 0..ADDRESS.burst {
            assert_eq!(refused(guess(last, now)), Refusal::Wrong);
        }
    }
    let query =
        EntryQuery { search: Some("join".to_owned()), limit: Some(200), ..EntryQuery::default() };
    let entries = rig.panel.audit(ROOT, &query).unwrap().rows;
    assert_eq!(entries.len(), usize::try_from(LOG.burst).unwrap());
    // Somebody else is not held back.
    joined(newcomer(None).asks(&rig, SECRET));
}

#[test]
fn a_good_secret_is_answered_behind_an_address_that_guesses_and_forgives_nothing() {
    let rig = rig();
    code(&rig, None, false);
    let first = newcomer(None);
    for _ in 0..ADDRESS.burst {
        assert_eq!(refused(first.asks(&rig, [9; 8])), Refusal::Wrong);
    }
    let throttled = |answer| matches!(answer, Err(JoinError::Throttled(_)));
    assert!(throttled(first.asks(&rig, [9; 8])));
    joined(first.asks(&rig, SECRET));
    assert!(throttled(first.asks(&rig, [9; 8])), "the guesses still count");
}

#[test]
fn a_replay_is_logged_however_many_wrong_codes_there_were() {
    let rig = rig();
    code(&rig, None, false);
    let first = newcomer(None);
    joined(first.asks(&rig, SECRET));
    let now = Instant::now();
    for number in 0..=LOG.burst {
        let from = IpAddr::from([198, 51, 100, u8::try_from(number).unwrap()]);
        assert_eq!(refused(rig.panel.join(&CA, &first.request([9; 8]), from, now)), Refusal::Wrong);
    }
    assert!(logged(&rig).1.contains("no such join code"));
    assert_eq!(refused(newcomer(None).asks(&rig, SECRET)), Refusal::Replayed);
    assert!(logged(&rig).1.contains("used by another box"), "{:?}", logged(&rig));
}

#[test]
fn a_box_waits_for_a_person_and_is_let_in_once_confirmed() {
    let rig = rig();
    let code = code(&rig, None, true);
    let first = newcomer(None);
    assert_eq!(first.asks(&rig, SECRET).unwrap(), Answer::Waiting { retry_s: RETRY_S });
    assert_eq!(servers(&rig), 1, "not yet");
    assert_eq!(refused(newcomer(None).asks(&rig, SECRET)), Refusal::Replayed);
    let waiting = rig.panel.waiting_joins(ROOT).unwrap();
    assert_eq!((waiting.len(), waiting[0].code, waiting[0].network), (1, code, rig.network));
    // The code ends, and the person takes their time.
    rig.now.fetch_add(3_600_000, Ordering::Relaxed);
    assert!(rig.panel.confirm_join(ROOT, code).unwrap());
    assert!(!rig.panel.confirm_join(ROOT, code).unwrap(), "once");
    assert!(!rig.panel.refuse_join(ROOT, code).unwrap(), "decided");
    assert_eq!(rig.panel.waiting_joins(ROOT).unwrap(), []);
    joined(first.asks(&rig, SECRET));
    assert_eq!(servers(&rig), 2);
}

#[test]
fn a_box_that_somebody_refused_stays_out() {
    let rig = rig();
    let code = code(&rig, None, true);
    let first = newcomer(None);
    first.asks(&rig, SECRET).unwrap();
    assert!(rig.panel.refuse_join(ROOT, code).unwrap());
    assert!(logged(&rig).1.contains("denied"), "{:?}", logged(&rig));
    assert_eq!(refused(first.asks(&rig, SECRET)), Refusal::Denied);
    assert_eq!(servers(&rig), 1);
}

#[test]
fn only_who_may_make_servers_there_sees_and_confirms_boxes() {
    let rig = rig();
    let code = code(&rig, None, true);
    newcomer(None).asks(&rig, SECRET).unwrap();
    let other: Organization = value(json!({ "name": "Elsewhere" }));
    let elsewhere = Place::Organization(rig.panel.create(ROOT, Place::Panel, other).unwrap().id);
    let stranger: User =
        value(json!({ "name": "stranger", "full_name": "S", "standing": "organization-admin" }));
    let stranger = Actor::User(rig.panel.create(ROOT, elsewhere, stranger).unwrap().id);
    for (actor, sees_servers) in [
        (stranger, false),
        (rig.user("m", "member", None), false),
        (rig.user("v", "member", Some("viewer")), true),
        (rig.user("t", "member", Some("technician")), true),
    ] {
        assert_eq!(rig.panel.waiting_joins(actor).unwrap(), [], "{actor:?}");
        for decided in [rig.panel.confirm_join(actor, code), rig.panel.refuse_join(actor, code)] {
            let fits = match decided {
                Err(Error::Forbidden { .. }) => sees_servers,
                Err(Error::NotFound { .. }) => !sees_servers,
                _ => false,
            };
            assert!(fits, "{actor:?}: {decided:?}");
        }
    }
    for actor in [
        rig.user("a", "member", Some("admin")),
        rig.user("o", "organization-admin", None),
        rig.user("s", "superadmin", None),
    ] {
        assert_eq!(rig.panel.waiting_joins(actor).unwrap().len(), 1, "{actor:?}");
    }
    let admin = rig.user("b", "member", Some("admin"));
    assert!(rig.panel.confirm_join(admin, code).unwrap());
}

fn request_of_rsa() -> String {
    static RSA: LazyLock<String> = LazyLock::new(|| {
        let key = Key::generate(Algorithm::Rsa2048).unwrap();
        request_of(&KeyPair::try_from(key.rustls().secret_der()).unwrap())
    });
    RSA.clone()
}

#[test]
fn a_box_that_takes_a_place_gets_its_name_and_the_one_before_is_known_no_more() {
    let rig = rig();
    code(&rig, Some(rig.server.id), false);
    let boot = Some(request_of_rsa());
    let first = joined(Newcomer { boot, ..newcomer(Some("box-1")) }.asks(&rig, SECRET));
    assert_eq!((first.name.as_str(), servers(&rig)), ("agent-1", 1));
    let boot = first.boot_chain_pem.expect("the server has an address that devices boot from");
    let leaf = Certificate::parse(pem::parse(boot).unwrap().into_contents()).unwrap();
    let named = x509_parser::parse_x509_certificate(leaf.der()).unwrap().1;
    let named = format!("{:?}", named.subject_alternative_name().unwrap().unwrap().value);
    assert!(named.contains("[10, 77, 0, 1]"), "{named}");
    let before = rig.panel.peers().unwrap()[0].serials.clone();
    rig.published();
    let status = Status { generation: 1, converged: true, ..Status::default() };
    rig.panel.observe(rig.server.id, &status).unwrap();
    let shown = || {
        let document = rig.panel.document(ROOT, rig.server.id).unwrap().unwrap();
        (
            document.acknowledged,
            document.applied,
            document.status.is_some(),
            document.status_ms.is_some(),
        )
    };
    assert_eq!(shown(), (1, 1, true, true));

    let digest = codes::digest(&JoinSecret::new([8; 8]));
    let (server, network) = (Some(rig.server.id), rig.network);
    rig.panel.make_join_code(ROOT, network, server, digest, 60_000, false).unwrap();
    let second = newcomer(None).asks(&rig, [8; 8]);
    assert_eq!(joined(second).boot_chain_pem, None, "it asked for none");
    let after = rig.panel.peers().unwrap()[0].serials.clone();
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_ne!(before, after);
    assert_eq!(shown(), (0, 0, false, false), "the newcomer did nothing yet");
}

#[test]
fn names_are_never_given_twice() {
    let rig = rig();
    let taken = ["agent-1", "agent-1-1", "agent-1-2"];
    for (number, expected) in (0_u8..).zip(["agent-1-1", "agent-1-2", "agent-1-3"]) {
        let secret = [number; 8];
        let digest = codes::digest(&JoinSecret::new(secret));
        rig.panel.make_join_code(ROOT, rig.network, None, digest, 60_000, false).unwrap();
        let answer = joined(newcomer(Some("agent-1")).asks(&rig, secret));
        assert_eq!(answer.name.as_str(), expected, "beside {taken:?}");
    }
}

#[test]
fn a_request_that_proves_nothing_uses_no_code() {
    let rig = rig();
    code(&rig, None, false);
    let good = newcomer(None);
    let nonsense = Newcomer { api: "nonsense".to_owned(), ..newcomer(None) };
    let error = nonsense.asks(&rig, SECRET).unwrap_err();
    assert!(matches!(error, JoinError::Request(ca::Error::Request)), "{error:?}");
    assert_eq!(error.problem().status, 400);
    let elliptic = Newcomer { boot: Some(good.api.clone()), ..newcomer(None) };
    let error = elliptic.asks(&rig, SECRET).unwrap_err();
    assert!(matches!(error, JoinError::BootKey), "{error:?}");
    joined(good.asks(&rig, SECRET));
}

#[test]
fn a_request_that_fails_halfway_leaves_the_code_as_it_was() {
    let rig = rig();
    code(&rig, None, false);
    let first = newcomer(None);
    let spoil =
        "CREATE TRIGGER spoil BEFORE INSERT ON certificates BEGIN SELECT RAISE(ABORT, 'no'); END";
    rig.panel.store().run_sql(spoil);
    let failed = first.asks(&rig, SECRET);
    assert!(matches!(failed, Err(JoinError::Operation(Error::Store(_)))), "{failed:?}");
    assert_eq!(servers(&rig), 1);
    assert_eq!(rig.panel.join_codes(ROOT, rig.network).unwrap()[0].used_ms, None);
    rig.panel.store().run_sql("DROP TRIGGER spoil");
    joined(newcomer(None).asks(&rig, SECRET));
}

#[test]
fn a_certificate_that_is_taken_back_or_whose_server_is_gone_is_on_the_list_and_counts_no_more() {
    let rig = rig();
    code(&rig, None, false);
    let first = joined(newcomer(None).asks(&rig, SECRET));
    let id: Id<Server> = Id::new(i64::try_from(first.server).unwrap());
    let booked = rig.panel.certificates(ROOT, id).unwrap();
    assert_eq!((booked.len(), booked[0].kind, booked[0].revoked_ms), (1, Kind::Agent, None));
    let serial = booked[0].serial;
    let revoke = |actor| rig.panel.revoke(actor, serial, Reason::KeyCompromise);
    let technician = rig.user("t", "member", Some("technician"));
    assert!(matches!(revoke(technician), Err(Error::Forbidden { .. })));
    let member = rig.user("m", "member", None);
    assert!(matches!(revoke(member), Err(Error::NotFound { .. })));
    assert!(matches!(rig.panel.certificates(member, id), Err(Error::NotFound { .. })));
    let admin = rig.user("a", "member", Some("admin"));
    assert!(revoke(admin).unwrap() && !revoke(admin).unwrap());
    assert_eq!(rig.panel.peers().unwrap()[0].serials, []);
    let on_the_list = || -> Vec<(ca::Serial, Reason)> {
        let list = rig.panel.revoked(ca::Role::Issuing).unwrap();
        list.into_iter().map(|revoked| (revoked.serial, revoked.reason)).collect()
    };
    assert_eq!(on_the_list(), [(serial, Reason::KeyCompromise)]);
    assert_eq!(rig.panel.revoked(ca::Role::Boot).unwrap(), []);

    let digest = codes::digest(&JoinSecret::new([8; 8]));
    rig.panel.make_join_code(ROOT, rig.network, None, digest, 60_000, false).unwrap();
    let second = joined(newcomer(None).asks(&rig, [8; 8]));
    let second: Id<Server> = Id::new(i64::try_from(second.server).unwrap());
    let kept = rig.panel.certificates(ROOT, second).unwrap()[0].serial;
    let server = rig.panel.get(ROOT, second).unwrap();
    rig.panel.delete(ROOT, second, server.version, Data::Keep).unwrap();
    assert_eq!(on_the_list(), [(serial, Reason::KeyCompromise), (kept, Reason::Removed)]);
    // What has ended by itself leaves the list.
    rig.now.fetch_add(400 * 24 * 3_600_000, Ordering::Relaxed);
    assert_eq!(on_the_list(), []);
}
