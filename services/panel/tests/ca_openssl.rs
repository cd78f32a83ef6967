//! The authority's certificates before openssl(1), which has no idea of ours.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod authorities;

use authorities::{DAY, Fleet, NOW, host, now};
use panel::{
    ca::{
        Algorithm::{EcdsaP256, Rsa2048},
        Authority, Certificate, Error, Key, PublicKey, Reason, Revoked, Role, Subject,
    },
    noun::Id,
};

/// Every kind of subject, how openssl shall use its certificate, and the name it shall find.
fn subjects() -> Vec<(Subject, &'static str)> {
    let name = |text: &str| text.parse().unwrap();
    vec![
        (
            Subject::Panel(vec![host("panel.school.example"), host("10.77.0.9")]),
            "-purpose sslserver -verify_hostname panel.school.example",
        ),
        (
            Subject::Panel(vec![host("panel.local"), host("192.0.2.7")]),
            "-purpose sslserver -verify_ip 192.0.2.7",
        ),
        (Subject::Fleet, "-purpose sslclient -verify_hostname panel"),
        (
            Subject::Agent(Id::new(7), name("srv-1")),
            "-purpose sslserver -verify_hostname server-7.agent.clusterducks.internal",
        ),
        (
            Subject::Tunnel(name("relay"), vec![]),
            "-purpose sslserver -verify_hostname relay.tunnel.clusterducks.internal",
        ),
        (Subject::User("jane.doe".to_owned()), "-purpose sslclient"),
    ]
}

impl Fleet {
    /// Puts the lists of both authorities of a chain where `-CRLfile` finds them.
    fn lists(&self, revoked: &[Revoked]) {
        let of_root = self.root.revocation_list(&[], 1, now()).unwrap();
        let of_issuing = self.ca.issuing().revocation_list(revoked, 7, now()).unwrap();
        self.file("lists.pem", of_root.pem() + &of_issuing.pem());
        self.file("issuing.crl", of_issuing.der());
    }
}

/// Verification as strict as openssl has it.
fn verify(at: u64) -> String {
    format!(
        "verify -x509_strict -policy_check -attime {at} -CAfile root.pem -untrusted issuing.pem -CRLfile lists.pem -crl_check_all"
    )
}

#[test]
fn certificates_of_every_kind_are_verified() {
    let fleet = Fleet::found();
    fleet.lists(&[]);
    for (subject, expected) in subjects() {
        for algorithm in [EcdsaP256, Rsa2048] {
            let identity = fleet.issue(&subject, algorithm);
            fleet.file("leaf.pem", identity.issued.certificate.pem());
            fleet.shown(&format!("{} {expected} leaf.pem", verify(NOW)));
        }
    }
}

#[test]
fn a_certificate_is_good_for_its_own_purpose_and_name_alone() {
    let fleet = Fleet::found();
    fleet.lists(&[]);
    let wrong = [
        (Subject::Fleet, "-purpose sslserver", "unsuitable certificate purpose"),
        (Subject::User("ada".to_owned()), "-purpose sslserver", "unsuitable certificate purpose"),
        (Subject::User("ada".to_owned()), "-verify_hostname panel", "hostname mismatch"),
        (
            Subject::Agent(Id::new(7), "a".parse().unwrap()),
            "-purpose sslclient",
            "unsuitable certificate purpose",
        ),
        (
            Subject::Agent(Id::new(7), "a".parse().unwrap()),
            "-verify_hostname panel",
            "hostname mismatch",
        ),
    ];
    for (subject, use_as, why) in wrong {
        let identity = fleet.issue(&subject, EcdsaP256);
        fleet.file("leaf.pem", identity.issued.certificate.pem());
        let told = fleet.refused(&format!("{} {use_as} leaf.pem", verify(NOW)));
        assert!(told.contains(why), "{subject:?} {told}");
    }
}

#[test]
fn a_revoked_certificate_and_no_other_is_refused() {
    let fleet = Fleet::found();
    let [lost, kept] = [(); 2].map(|()| fleet.issue(&Subject::Fleet, EcdsaP256).issued.certificate);
    let revoked = Revoked { serial: lost.serial(), at: now(), reason: Reason::KeyCompromise };
    fleet.lists(&[revoked]);
    fleet.file("lost.pem", lost.pem());
    fleet.file("kept.pem", kept.pem());
    let told = fleet.refused(&format!("{} lost.pem", verify(NOW)));
    assert!(told.contains("certificate revoked"), "{told}");
    fleet.shown(&format!("{} kept.pem", verify(NOW)));

    let list = fleet.shown("crl -inform DER -in issuing.crl -noout -text -nameopt sep_multiline");
    for fact in [
        "X509v3 CRL Number: \n                7\n",
        "Last Update: Nov 18 01:46:40 2026 GMT",
        "Next Update: Dec 19 01:46:40 2026 GMT",
        &format!("Serial Number: {}", openssl_serial(&lost)),
        "Key Compromise",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(list.contains(fact), "{fact} in {list}");
    }
}

#[test]
fn whatever_a_revoked_authority_signed_is_refused() {
    let fleet = Fleet::found();
    let issuing = fleet.ca.issuing().certificate();
    let revoked = Revoked { serial: issuing.serial(), at: now(), reason: Reason::KeyCompromise };
    let leaf = fleet.issue(&Subject::Fleet, EcdsaP256).issued.certificate;
    fleet.file("leaf.pem", leaf.pem());
    fleet.lists(&[]);
    fleet.shown(&format!("{} leaf.pem", verify(NOW)));
    let of_issuing = fleet.ca.issuing().revocation_list(&[], 1, now()).unwrap();
    let of_root = fleet.root.revocation_list(&[revoked], 2, now()).unwrap();
    fleet.file("lists.pem", of_issuing.pem() + &of_root.pem());
    let told = fleet.refused(&format!("{} leaf.pem", verify(NOW)));
    assert!(told.contains("certificate revoked") && told.contains("1 depth lookup"), "{told}");
    // Without the root's list nobody could tell.
    fleet.file("lists.pem", of_issuing.pem());
    let told = fleet.refused(&format!("{} leaf.pem", verify(NOW)));
    assert!(told.contains("unable to get certificate CRL"), "{told}");
}

#[test]
fn a_revoked_boot_endpoint_stands_on_the_boot_roots_list() {
    let fleet = Fleet::found();
    let subject = Subject::Boot("srv-1".parse().unwrap(), vec![host("10.77.0.1")]);
    let [lost, kept] = [(); 2].map(|()| fleet.issue(&subject, Rsa2048).issued.certificate);
    let revoked = Revoked { serial: lost.serial(), at: now(), reason: Reason::Removed };
    let list = fleet.ca.boot().revocation_list(&[revoked], 1, now()).unwrap();
    fleet.file("boot-list.pem", list.pem());
    fleet.file("lost.pem", lost.pem());
    fleet.file("kept.pem", kept.pem());
    let verify =
        format!("verify -attime {NOW} -CAfile boot.pem -CRLfile boot-list.pem -crl_check_all");
    fleet.shown(&format!("{verify} kept.pem"));
    let told = fleet.refused(&format!("{verify} lost.pem"));
    assert!(told.contains("certificate revoked"), "{told}");
}

/// openssl leaves leading zeros out, by whole bytes.
fn openssl_serial(certificate: &Certificate) -> String {
    certificate.serial().to_string().to_uppercase().trim_start_matches("00").to_owned()
}

#[test]
fn a_certificate_holds_for_clocks_that_are_a_year_behind_and_ends_in_time() {
    let fleet = Fleet::found();
    fleet.lists(&[]);
    let leaf = fleet.issue(&Subject::Fleet, EcdsaP256).issued.certificate;
    fleet.file("leaf.pem", leaf.pem());
    let verify = |days: i64| {
        let at = NOW as i64 + days * 86_400;
        format!("verify -attime {at} -CAfile root.pem -untrusted issuing.pem leaf.pem")
    };
    fleet.shown(&verify(-364));
    fleet.shown(&verify(397));
    assert!(fleet.refused(&verify(-366)).contains("not yet valid"));
    assert!(fleet.refused(&verify(399)).contains("certificate has expired"));
    assert_eq!(leaf.validity().not_after, now() + 398 * DAY);
}

#[test]
fn a_boot_chain_is_rsa_of_two_and_holds_for_any_clock() {
    let fleet = Fleet::found();
    let subject = Subject::Boot("srv-1".parse().unwrap(), vec![host("10.77.0.1")]);
    for algorithm in [Rsa2048, EcdsaP256] {
        let identity = fleet.issue(&subject, algorithm);
        assert_eq!(identity.issued.chain().len(), 2);
        fleet.file("leaf.pem", identity.issued.certificate.pem());
        for at in [946_684_800, NOW, NOW + (5 * 365 - 1) * 86_400] {
            fleet.shown(&format!(
                "verify -x509_strict -attime {at} -CAfile boot.pem -purpose sslserver -verify_ip 10.77.0.1 leaf.pem"
            ));
        }
        fleet.refused(&format!(
            "verify -attime {NOW} -CAfile root.pem -untrusted boot.pem leaf.pem"
        ));
    }
    for certificate in ["boot.pem", "leaf.pem"] {
        let text = fleet.shown(&format!("x509 -in {certificate} -noout -text"));
        assert!(text.contains("Signature Algorithm: sha256WithRSAEncryption"), "{text}");
        // iPXE refuses critical extensions that it does not know; it knows these two (its crypto/x509.c).
        for line in text.lines().filter(|line| line.ends_with(": critical")) {
            let known = ["Basic Constraints", "Key Usage"];
            assert!(known.iter().any(|name| line.contains(name)), "{line}");
        }
    }
    let text = fleet.shown("x509 -in boot.pem -noout -text");
    assert!(text.contains("Public-Key: (2048 bit)") && text.contains("CA:TRUE, pathlen:0"));
}

#[test]
fn what_stands_in_the_certificates_is_what_they_are_for() {
    let fleet = Fleet::found();
    let root = fleet.shown("x509 -in root.pem -noout -text");
    let issuing = fleet.shown("x509 -in issuing.pem -noout -text");
    assert!(root.contains("CA:TRUE, pathlen:1") && issuing.contains("CA:TRUE, pathlen:0"));
    for text in [&root, &issuing] {
        assert!(text.contains("ASN1 OID: prime256v1"), "{text}");
        assert!(text.contains("Certificate Sign, CRL Sign"), "{text}");
    }
    let constraints = [
        "Name Constraints: critical",
        "DNS:panel\n",
        "DNS:clusterducks.internal",
        "DNS:panel.school.example",
        "IP:10.0.0.0/255.0.0.0",
        "IP:192.0.2.7/255.255.255.255",
    ];
    for fact in constraints {
        assert!(issuing.contains(fact), "{fact} in {issuing}");
    }
    let leaf = fleet.issue(&Subject::Agent(Id::new(7), "srv-1".parse().unwrap()), EcdsaP256);
    fleet.file("leaf.pem", leaf.issued.certificate.pem());
    let text = fleet.shown("x509 -in leaf.pem -noout -text");
    for fact in [
        "CA:FALSE",
        "Digital Signature\n",
        "TLS Web Server Authentication\n",
        "DNS:server-7.agent.clusterducks.internal\n",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "CN = server srv-1",
    ] {
        assert!(text.contains(fact), "{fact} in {text}");
    }
}

#[test]
fn names_come_from_the_registered_subject_and_never_from_the_request() {
    let fleet = Fleet::found();
    fleet.file("key.pem", fleet.shown("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"));
    let config = "[req]\ndistinguished_name=dn\nprompt=no\nreq_extensions=more\n[dn]\nCN=panel\n[more]\nsubjectAltName=DNS:panel,IP:192.0.2.7\nbasicConstraints=critical,CA:TRUE\nextendedKeyUsage=clientAuth\n";
    fleet.file("req.cnf", config);
    let request = fleet.shown("req -new -key key.pem -config req.cnf");
    let key = PublicKey::from_request(&request).unwrap();
    let issued =
        fleet.ca.issue(&Subject::Agent(Id::new(7), "srv-1".parse().unwrap()), &key, now()).unwrap();
    fleet.file("leaf.pem", issued.certificate.pem());
    let text = fleet.shown("x509 -in leaf.pem -noout -text");
    assert!(
        text.contains("DNS:server-7.agent.clusterducks.internal\n") && text.contains("CA:FALSE")
    );
    for claim in ["DNS:panel", "192.0.2.7", "CN = panel", "Client Authentication", "CA:TRUE"] {
        assert!(!text.contains(claim), "{claim} in {text}");
    }
    let same =
        fleet.shown("pkey -in key.pem -pubout") == fleet.shown("x509 -in leaf.pem -noout -pubkey");
    assert!(same, "the certificate is for the key that was asked for");
}

#[test]
fn a_request_with_a_weak_key_or_a_wrong_signature_is_refused() {
    let fleet = Fleet::found();
    let asked = |arguments: &str| {
        let request =
            fleet.shown(&format!("req -new -subj /CN=x -nodes -keyout /dev/null {arguments}"));
        PublicKey::from_request(&request)
    };
    assert!(asked("-newkey rsa:2048").is_ok());
    assert!(asked("-newkey ec -pkeyopt ec_paramgen_curve:P-384").is_ok());
    for weak in ["-newkey rsa:1024", "-newkey ec -pkeyopt ec_paramgen_curve:secp224r1"] {
        assert!(matches!(asked(weak), Err(Error::KeyKind)), "{weak}");
    }
    let request = fleet.shown(
        "req -new -subj /CN=x -nodes -keyout /dev/null -newkey ec -pkeyopt ec_paramgen_curve:P-256",
    );
    let mut parts = pem::parse(request).unwrap().into_contents();
    let last = parts.len() - 1;
    parts[last] ^= 1;
    let forged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", parts));
    assert!(matches!(PublicKey::from_request(&forged), Err(Error::NotPossessed)));
    assert!(matches!(PublicKey::from_request("hello"), Err(Error::Request)));
}

#[test]
fn the_issuing_authority_can_not_vouch_for_strangers_names() {
    let fleet = Fleet::found();
    let key = Key::generate(EcdsaP256).unwrap();
    for name in ["bank.example", "192.0.2.8"] {
        let subject = Subject::Panel(vec![host(name)]);
        let issued = fleet.ca.issue(&subject, &key.public(), now());
        assert!(matches!(issued, Err(Error::OutsideScope(_))), "{name}");
    }

    // Whoever has its key can sign anything; nobody believes it.
    let stolen =
        rcgen::KeyPair::try_from(secrecy::ExposeSecret::expose_secret(fleet.ca.issuing().pkcs8()));
    let issuer =
        rcgen::Issuer::from_ca_cert_der(fleet.ca.issuing().certificate().der(), stolen.unwrap());
    let params = rcgen::CertificateParams::new(["bank.example".to_owned()]).unwrap();
    let leaf = params.signed_by(&rcgen::KeyPair::generate().unwrap(), &issuer.unwrap()).unwrap();
    fleet.file("leaf.pem", leaf.pem());
    let told = fleet
        .refused(&format!("verify -attime {NOW} -CAfile root.pem -untrusted issuing.pem leaf.pem"));
    assert!(told.contains("permitted subtree violation"), "{told}");
}

#[test]
fn a_fingerprint_is_the_one_that_openssl_prints() {
    let fleet = Fleet::found();
    let shown = fleet.shown("x509 -in root.pem -noout -fingerprint -sha256");
    let (_, digits) = shown.trim().split_once('=').unwrap();
    let fingerprint = fleet.ca.root().fingerprint();
    assert_eq!(fingerprint.with_colons(), digits);
    assert_eq!(digits.parse(), Ok(fingerprint));
    assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    fleet.file("root.der", fleet.ca.root().der());
    let der = fleet.shown("x509 -inform DER -in root.der");
    assert_eq!(der, fleet.ca.root().pem());
}

#[test]
fn an_authority_comes_back_from_what_was_kept_of_it() {
    let fleet = Fleet::found();
    let kept = |authority: &Authority| {
        (authority.certificate().der().to_vec(), Key::parse(authority.pkcs8().clone()).unwrap())
    };
    let (certificate, key) = kept(fleet.ca.issuing());
    let issuing = Authority::open(Role::Issuing, certificate, key).unwrap();
    let (certificate, key) = kept(fleet.ca.boot());
    let boot = Authority::open(Role::Boot, certificate, key).unwrap();
    let ca = panel::ca::Ca::new(fleet.ca.root().clone(), issuing, boot).unwrap();
    let issued = ca.issue(&Subject::Fleet, &Key::generate(EcdsaP256).unwrap().public(), now());
    fleet.lists(&[]);
    fleet.file("leaf.pem", issued.unwrap().certificate.pem());
    fleet.shown(&format!("{} leaf.pem", verify(NOW)));

    let (certificate, _) = kept(fleet.ca.issuing());
    let (_, other) = kept(&fleet.root);
    let mixed = Authority::open(Role::Issuing, certificate, other);
    assert!(matches!(mixed, Err(Error::OtherKey)));
    assert!(matches!(fleet.ca.issuing().issuing(&[], now()), Err(Error::NotARoot)));
}

#[test]
fn an_authority_is_renewed_in_the_last_third_of_its_life() {
    let fleet = Fleet::found();
    let due = |years: u32| fleet.ca.issuing().renewal_due(now() + years * 365 * DAY);
    assert!(!due(0) && !due(6) && due(7) && due(11));
}

#[test]
fn a_persons_bundle_opens_with_its_pass_phrase_alone() {
    let fleet = Fleet::found();
    let identity = fleet.issue(&Subject::User("ada".to_owned()), EcdsaP256);
    let bundle = panel::ca::bundle(&identity.issued, &identity.key, &"duck pond".into()).unwrap();
    fleet.file("ada.p12", bundle);
    fleet.file("right", "duck pond\n");
    fleet.file("wrong", "duck ponds\n");
    let text = fleet.shown("pkcs12 -in ada.p12 -passin file:right -nodes");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 3, "{text}");
    fleet.file("opened.pem", &text);
    let key = fleet.shown("pkey -in opened.pem -pubout");
    assert_eq!(key, fleet.shown("x509 -in opened.pem -noout -pubkey"));
    let told = fleet.refused("pkcs12 -in ada.p12 -passin file:wrong -nodes");
    assert!(told.contains("invalid password"), "{told}");
}
