use panel::{ca::Reason, operations::Actor, store::Store};

use super::*;

fn host(name: &str) -> Host {
    Host::try_from(name.to_owned()).unwrap()
}

#[test]
fn what_was_made_at_the_first_start_is_there_at_the_next() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    let now = SystemTime::now();
    let panel = Panel::new(Store::open(&folder.path("panel.db")).unwrap(), crate::run::clock());
    let mut seen = Vec::new();
    for _ in 0..2 {
        let key = box_key(&folder).unwrap();
        let ca = open(&folder, &key, &[], now).unwrap();
        let served = serve(&folder, (&key, &ca, &panel), vec![host("192.168.7.1")], now).unwrap();
        seen.push((
            ca.root().fingerprint(),
            ca.issuing().certificate().serial(),
            served.certificate.serial(),
        ));
    }
    assert_eq!(seen[0], seen[1]);
    let key = box_key(&folder).unwrap();
    let ca = open(&folder, &key, &[], now).unwrap();
    let parts = (&key, &ca, &panel);
    let served = serve(&folder, parts, vec![host("192.168.7.1")], now).unwrap();
    assert!(served.due(&[host("192.168.7.2")], now), "another address needs another certificate");
    assert!(served.due(&served.hosts, served.certificate.validity().not_after));
    assert!(!served.due(&served.hosts, now));
    let serial = served.certificate.serial();
    panel.revoke(Actor::Panel("test"), serial, Reason::KeyCompromise).unwrap();
    let next = serve(&folder, parts, vec![host("192.168.7.1")], now).unwrap();
    assert_ne!(next.certificate.serial(), serial);
}

#[test]
fn the_panel_stays_who_it_is_for_its_agents_and_is_on_the_books() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    let now = SystemTime::now();
    let key = box_key(&folder).unwrap();
    let ca = open(&folder, &key, &[], now).unwrap();
    let store = Store::open(&folder.path("panel.db")).unwrap();
    let panel = Panel::new(store, crate::run::clock());
    let made = |now| client(&folder, &key, &ca, &panel, now).unwrap().certificate;
    let first = made(now);
    assert_eq!(made(now).serial(), first.serial());
    let next = made(first.validity().not_after);
    assert_ne!(next.serial(), first.serial(), "it is renewed before it ends");
    for certificate in [first, next] {
        assert!(!panel.is_revoked(certificate.serial()).unwrap());
        let twice = panel.book(Kind::Fleet, &certificate);
        assert!(twice.is_ok(), "it is on the books already");
    }
}

#[test]
fn a_list_is_signed_anew_when_something_was_taken_back_and_before_it_ends() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    let now = SystemTime::now();
    let key = box_key(&folder).unwrap();
    let ca = open(&folder, &key, &[], now).unwrap();
    let panel =
        |file: &str| Panel::new(Store::open(&folder.path(file)).unwrap(), crate::run::clock());
    let first = panel("panel.db");
    let look = |panel: &Panel, now| {
        revocations(&folder, (&key, &ca, panel), now).unwrap();
        panel.revocation_list(Role::Issuing).unwrap()
    };
    let empty = look(&first, now);
    assert!(empty.serials().is_empty());
    assert_eq!(look(&first, now), empty, "nothing happened");
    assert_eq!(look(&panel("panel.db"), now), empty, "it is kept");
    let own = client(&folder, &key, &ca, &first, now).unwrap().certificate.serial();
    first.revoke(Actor::Panel("test"), own, Reason::KeyCompromise).unwrap();
    let next = look(&first, now);
    assert_eq!(next.serials().iter().collect::<Vec<_>>(), [&own]);
    assert!(next.number() > empty.number());
    let month = Duration::from_secs(30 * 24 * 3600);
    let of_others = || [Role::Root, Role::Boot].map(|of| first.revocation_list(of).unwrap());
    let before = of_others();
    let later = look(&first, now + month);
    for (before, later) in before.into_iter().zip(of_others()) {
        assert!(later.number() > before.number() && later.next_update() > now + month);
        assert_eq!((before.issuer(), later.serials().len()), (later.issuer(), 0));
    }
    assert!(later.number() > next.number() && later.next_update() > now + month);
    let anew = client(&folder, &key, &ca, &first, now).unwrap().certificate.serial();
    assert_ne!(anew, own, "what was taken back is not shown to agents any more");
}

#[test]
fn a_box_at_an_address_that_the_authority_never_heard_of_serves_its_other_names() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    let now = SystemTime::now();
    let key = box_key(&folder).unwrap();
    let ca = open(&folder, &key, &[host("192.0.2.7")], now).unwrap();
    let panel = Panel::new(Store::open(&folder.path("panel.db")).unwrap(), crate::run::clock());
    let hosts = vec![host("198.51.100.9"), host("panel.local"), host("192.0.2.7")];
    let first = serve(&folder, (&key, &ca, &panel), hosts.clone(), now).unwrap();
    assert_eq!(first.hosts, hosts);
    assert!(!first.due(&hosts, now), "another one would be no better");
    let again = serve(&folder, (&key, &ca, &panel), hosts, now).unwrap();
    assert_eq!(again.certificate.serial(), first.certificate.serial());
    let der = first.certificate.der();
    let has = |part: &[u8]| der.windows(part.len()).any(|window| window == part);
    assert!(has(b"panel.local") && has(&[192, 0, 2, 7]) && !has(&[198, 51, 100, 9]));
}

#[test]
fn another_boxs_key_opens_nothing() {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    let now = SystemTime::now();
    open(&folder, &box_key(&folder).unwrap(), &[], now).unwrap();
    let refused = open(&folder, &BoxKey::generate(), &[], now);
    let other = secret::Error::OtherKey;
    assert!(matches!(refused, Err(Error::Sealed { source, .. }) if source == other));
}
