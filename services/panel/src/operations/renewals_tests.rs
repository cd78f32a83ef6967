use std::sync::{LazyLock, atomic::Ordering};

use model::{
    code::JoinSecret,
    join::{Answer, Hardware, Joined, Request},
    wire::Leaf,
};
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::{
    ca::{Algorithm, Authority, Key, Reason},
    codes,
    noun::ServerInterface,
    testing::{self, ROOT, Rig, value},
};

/// 2026-11-19.
const NOW_MS: u64 = 1_795_052_800_000;
const DAY_MS: u64 = 24 * 3600 * 1000;

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let now = UNIX_EPOCH + Duration::from_millis(NOW_MS);
    let root = Authority::root(now).unwrap();
    let issuing = root.issuing(&[], now).unwrap();
    let boot = Authority::boot(now).unwrap();
    Ca::new(root.certificate().clone(), issuing, boot).unwrap()
});

static RSA: LazyLock<String> = LazyLock::new(|| {
    let key = Key::generate(Algorithm::Rsa2048).unwrap();
    request_of(&KeyPair::try_from(key.rustls().secret_der()).unwrap())
});

fn request_of(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

fn request() -> String {
    request_of(&KeyPair::generate().unwrap())
}

/// A rig whose server a box joined as, and what that was given.
fn rig(boot: bool) -> (Rig, Joined) {
    let rig = testing::rig();
    rig.now.store(NOW_MS, Ordering::Relaxed);
    let digest = codes::digest(&JoinSecret::new([7; 8]));
    let (network, server) = (rig.network, Some(rig.server.id));
    rig.panel.make_join_code(ROOT, network, server, digest, 60_000, false).unwrap();
    let asked = Request {
        secret: JoinSecret::new([7; 8]),
        name: None,
        certificate_request_pem: request(),
        boot_request_pem: boot.then(|| RSA.clone()),
        ssh_key: None,
        hardware: Hardware::default(),
    };
    let from = "192.0.2.9".parse().unwrap();
    match rig.panel.join(&CA, &asked, from, std::time::Instant::now()).unwrap() {
        Answer::Joined(joined) => (rig, *joined),
        Answer::Waiting { .. } => panic!("nobody is to confirm it"),
    }
}

fn certificate(chain_pem: &str) -> Certificate {
    let first = pem::parse_many(chain_pem).unwrap().remove(0);
    Certificate::parse(first.into_contents()).unwrap()
}

/// As the agent shows it.
fn shows(chain_pem: Option<&str>) -> wire::Certificate {
    chain_pem.map_or(wire::Certificate::Absent, |pem| wire::Certificate::InUse {
        leaf: Some(Leaf { serial: certificate(pem).serial().to_string(), ends_ms: 0 }),
    })
}

fn due(rig: &Rig, api: &str, boot: Option<&str>) -> Vec<Endpoint> {
    let shown = [("api", shows(Some(api))), ("boot", shows(boot))];
    let shown = shown.map(|(name, certificate)| (name.to_owned(), certificate)).into();
    rig.panel.renewals_due(rig.server.id, &shown).unwrap()
}

fn later(rig: &Rig, days: u64) {
    rig.now.store(NOW_MS + days * DAY_MS, Ordering::Relaxed);
}

fn renew(rig: &Rig, endpoint: Endpoint, request: &str) -> Result<Given, RenewError> {
    rig.panel.renew_server(&CA, rig.server.id, endpoint, request)
}

/// Puts the server at this address of its network too, or at none.
fn serve_at(rig: &Rig, address: Option<&str>) {
    let mut stored = rig.panel.get(ROOT, rig.server.id).unwrap();
    let interface = |address| -> ServerInterface {
        value(json!({ "subnet": "lab", "interface": { "mac": "52:54:00:00:00:01" },
            "address": address }))
    };
    stored.value.interfaces = address.map(interface).into_iter().collect();
    rig.panel.change(ROOT, rig.server.id, stored.version, stored.value).unwrap();
}

#[test]
fn a_certificate_is_due_in_the_last_third_of_its_life_until_the_new_one_is_in_use() {
    let (rig, joined) = rig(true);
    let boot = joined.boot_chain_pem.as_deref();
    assert_eq!(due(&rig, &joined.api_chain_pem, boot), []);
    later(&rig, 265);
    assert_eq!(due(&rig, &joined.api_chain_pem, boot), []);
    later(&rig, 266);
    assert_eq!(due(&rig, &joined.api_chain_pem, boot), [Endpoint::Api]);
    let given = renew(&rig, Endpoint::Api, &request()).unwrap();
    assert_eq!(due(&rig, &joined.api_chain_pem, boot), [Endpoint::Api], "it is not in use yet");
    assert_eq!(due(&rig, &given.chain_pem, boot), []);
    let serials = &rig.panel.peers().unwrap()[0].serials;
    let old = certificate(&joined.api_chain_pem).serial();
    assert!(serials.contains(&old) && serials.contains(&given.serial), "both count");
    later(&rig, 4 * 365);
    let boots = due(&rig, &given.chain_pem, boot);
    assert_eq!(boots, Endpoint::ALL);
    let entries = rig.panel.audit(ROOT, &store::EntryQuery::default()).unwrap().rows;
    let noted = entries.iter().any(|entry| {
        entry.actor.contains("renewal")
            && entry.after.as_ref().is_some_and(|after| after["changed"] == "renewed")
    });
    assert!(noted, "{entries:?}");
}

#[test]
fn a_boot_certificate_is_due_when_the_server_boots_devices_from_other_addresses() {
    let (rig, joined) = rig(false);
    let api = &joined.api_chain_pem;
    assert_eq!(due(&rig, api, None), [Endpoint::Boot], "it has none");
    serve_at(&rig, None);
    assert_eq!(due(&rig, api, None), [], "it boots nobody");
    let refused = renew(&rig, Endpoint::Boot, &RSA);
    assert!(matches!(refused, Err(RenewError::Nameless)), "{refused:?}");
    serve_at(&rig, Some("10.77.0.1"));
    let first = renew(&rig, Endpoint::Boot, &RSA).unwrap();
    let names = certificate(&first.chain_pem).names().unwrap();
    assert_eq!(names.iter().collect::<Vec<_>>(), ["10.77.0.1"], "none of the request's");
    assert_eq!(due(&rig, api, Some(&first.chain_pem)), []);
    serve_at(&rig, Some("10.77.0.2"));
    assert_eq!(due(&rig, api, Some(&first.chain_pem)), [Endpoint::Boot]);
    let second = renew(&rig, Endpoint::Boot, &RSA).unwrap();
    assert_eq!(due(&rig, api, Some(&second.chain_pem)), []);
    rig.panel.revoke(ROOT, second.serial, Reason::KeyCompromise).unwrap();
    assert_eq!(due(&rig, api, Some(&second.chain_pem)), [Endpoint::Boot], "it was taken back");
    serve_at(&rig, None);
    assert_eq!(due(&rig, api, Some(&second.chain_pem)), [], "nothing follows it");
}

#[test]
fn an_agent_that_asks_again_and_again_gets_one_certificate_an_hour() {
    let (rig, joined) = rig(true);
    for (endpoint, asked) in [(Endpoint::Api, request()), (Endpoint::Boot, RSA.clone())] {
        later(&rig, 300);
        renew(&rig, endpoint, &asked).unwrap();
        for _ in 0..3 {
            let early = renew(&rig, endpoint, &asked);
            assert!(matches!(early, Err(RenewError::Early)), "{early:?}");
        }
        rig.now.fetch_add(AGAIN_MS, Ordering::Relaxed);
        renew(&rig, endpoint, &asked).unwrap();
    }
    let given = rig.panel.certificates(ROOT, rig.server.id).unwrap();
    assert_eq!(given.len(), 6, "{joined:?}");
}

#[test]
fn a_request_that_proves_nothing_and_a_server_that_never_joined_get_no_certificate() {
    let (rig, _joined) = rig(false);
    let nonsense = renew(&rig, Endpoint::Api, "nonsense");
    assert!(matches!(nonsense, Err(RenewError::Request(ca::Error::Request))));
    let elliptic = renew(&rig, Endpoint::Boot, &request());
    assert!(matches!(elliptic, Err(RenewError::BootKey)));
    let rig = testing::rig();
    rig.now.store(NOW_MS, Ordering::Relaxed);
    let stranger = renew(&rig, Endpoint::Api, &request());
    assert!(matches!(stranger, Err(RenewError::Operation(Error::NotFound { .. }))), "{stranger:?}");
}

#[test]
fn what_an_agent_does_not_tell_or_can_not_use_is_left_to_people() {
    let (rig, _joined) = rig(true);
    later(&rig, 390);
    let faulty = wire::Certificate::Faulty { why: "x".to_owned() };
    for shown in [wire::Certificate::InUse { leaf: None }, faulty] {
        let shown = ["api", "boot"].map(|name| (name.to_owned(), shown.clone())).into();
        assert_eq!(rig.panel.renewals_due(rig.server.id, &shown).unwrap(), []);
    }
    assert_eq!(rig.panel.renewals_due(rig.server.id, &BTreeMap::new()).unwrap(), []);
}
