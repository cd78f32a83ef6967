use std::time::Duration;

use model::wire::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    SerialNumber, date_time_ymd,
};

use super::*;
use crate::certificates::Certificates;

const NAME: &str = "server-7.agent.clusterducks.internal";

/// What the panel signs with.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "clusterducks");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = keys::ecdsa().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn params(name: &str, serial: u64) -> CertificateParams {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params
    }

    /// The certificate for a request, under this name.
    fn answer(&self, request: &str, params: CertificateParams) -> String {
        let mut asked = CertificateSigningRequestParams::from_pem(request).unwrap();
        asked.params = params;
        asked.signed_by(&self.issuer).unwrap().pem()
    }
}

/// A box that joined with the certificate number 1.
struct Joined {
    folder: tempfile::TempDir,
    ca: Ca,
}

impl Joined {
    fn new() -> Self {
        let joined = Self { folder: tempfile::tempdir().unwrap(), ca: Ca::new() };
        joined.join(1);
        joined
    }

    fn join(&self, serial: u64) {
        let key = keys::ecdsa().unwrap();
        let chain = Ca::params(NAME, serial).signed_by(&key, &self.ca.issuer).unwrap().pem();
        for (name, content) in [
            ("api.key", key.serialize_pem()),
            ("panel-ca.crt", self.ca.pem.clone()),
            ("boot-ca.crt", self.ca.pem.clone()),
            ("api.crt", chain),
        ] {
            self.write(name, content.as_bytes());
        }
    }

    fn write(&self, name: &str, content: &[u8]) {
        files::write_atomic(&self.folder.path().join(name), content, MODE).unwrap();
    }

    fn renewals(&self) -> Renewals {
        Renewals::new(self.folder.path(), Arc::default())
    }

    /// The number of the certificate that an agent which starts now works with: rustls takes none without its key.
    fn in_use(&self, endpoint: Endpoint) -> u64 {
        let certificates = Certificates::open(self.folder.path(), Box::new(|| None));
        match &certificates.states().borrow()[endpoint.as_str()] {
            Certificate::InUse { leaf: Some(leaf) } => {
                u64::from_str_radix(&leaf.serial, 16).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    /// A request, and the certificate for it.
    fn certified(&self, endpoint: Endpoint, serial: u64) -> String {
        let request = self.renewals().request(endpoint).unwrap();
        self.ca.answer(&request, Ca::params(NAME, serial))
    }
}

#[test]
fn cut_off_at_any_step_the_agent_comes_up_with_a_key_and_its_certificate() {
    for endpoint in Endpoint::ALL {
        for cut in 0..=2 {
            let joined = Joined::new();
            let chain = joined.certified(endpoint, 2);
            joined.renewals().renew(endpoint, chain).unwrap();
            assert_eq!(joined.in_use(endpoint), 2);
            let chain = joined.certified(endpoint, 3);
            assert_eq!(joined.in_use(endpoint), 2, "its certificate is not there yet");
            let next = joined.renewals().verified(endpoint, chain.clone(), UnixTime::now());
            let steps = steps(joined.folder.path(), endpoint, &next.unwrap()).unwrap();
            // What a power cut leaves of a file that was not renamed yet.
            joined.write(".new-abcdef", b"{\"joined\":");
            for step in &steps[..cut] {
                step.take().unwrap();
            }
            assert_eq!(joined.in_use(endpoint), if cut == 0 { 2 } else { 3 }, "cut after {cut}");
            let again = joined.renewals().renew(endpoint, chain);
            match cut {
                2 => assert!(matches!(again, Err(Error::NotAsked)), "{again:?}"),
                _ => again.unwrap(),
            }
            assert_eq!(joined.in_use(endpoint), 3);
            joined.renewals().renew(endpoint, joined.certified(endpoint, 4)).unwrap();
            assert_eq!(joined.in_use(endpoint), 4);
        }
    }
}

#[test]
fn each_certificate_has_a_new_key_which_is_the_same_until_it_came() {
    let joined = Joined::new();
    let key = |request: &str| {
        let asked = CertificateSigningRequestParams::from_pem(request).unwrap();
        rcgen::PublicKeyData::der_bytes(&asked.public_key).to_vec()
    };
    let ask = || key(&joined.renewals().request(Endpoint::Api).unwrap());
    let first = ask();
    assert_eq!(first, ask());
    joined.renewals().renew(Endpoint::Api, joined.certified(Endpoint::Api, 2)).unwrap();
    assert_ne!(first, ask());
    // A power cut left the key that is in use.
    let path = |name: &str| joined.folder.path().join(name);
    let in_use = renewed(joined.folder.path(), Endpoint::Api).unwrap().unwrap().key_pem;
    joined.write("api.next.key", in_use.as_bytes());
    assert_ne!(first, ask());
    joined.write("api.next.key", b"spoilt");
    ask();
    use std::os::unix::fs::PermissionsExt as _;
    for name in ["api.next.key", "api.renewed.json"] {
        assert_eq!(std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_certificate_that_is_not_good_changes_nothing() {
    let joined = Joined::new();
    let request = joined.renewals().request(Endpoint::Api).unwrap();
    let other_request = keys::request(&keys::ecdsa().unwrap()).unwrap();
    let mut ended = Ca::params(NAME, 2);
    (ended.not_before, ended.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
    let stranger = Ca::new();
    for chain in [
        String::new(),
        stranger.answer(&request, Ca::params(NAME, 2)),
        joined.ca.answer(&other_request, Ca::params(NAME, 2)),
        joined.ca.answer(&request, ended),
    ] {
        let refused = joined.renewals().renew(Endpoint::Api, chain);
        assert!(matches!(refused, Err(Error::Certificate(_))), "{refused:?}");
    }
    let other = Ca::params("server-8.agent.clusterducks.internal", 2);
    let refused = joined.renewals().renew(Endpoint::Api, joined.ca.answer(&request, other));
    assert!(matches!(refused, Err(Error::OtherName)), "{refused:?}");
    assert_eq!(joined.in_use(Endpoint::Api), 1);
    let good = joined.ca.answer(&request, Ca::params(NAME, 2));
    let late = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
    let refused = joined.renewals().verified(Endpoint::Api, good.clone(), late);
    assert!(matches!(refused, Err(Error::Certificate(_))));
    joined.renewals().renew(Endpoint::Api, good).unwrap();
    assert_eq!(joined.in_use(Endpoint::Api), 2);
}

#[test]
fn what_was_renewed_counts_until_the_box_joins_anew() {
    let joined = Joined::new();
    for endpoint in Endpoint::ALL {
        joined.renewals().renew(endpoint, joined.certified(endpoint, 2)).unwrap();
        assert_eq!(joined.in_use(endpoint), 2);
    }
    joined.join(9);
    assert_eq!(joined.in_use(Endpoint::Api), 9);
    let certificates = Certificates::open(joined.folder.path(), Box::new(|| None));
    assert_eq!(certificates.states().borrow()["boot"], Certificate::Absent);
}

#[test]
fn a_box_that_has_not_joined_asks_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let renewals = Renewals::new(folder.path(), Arc::default());
    for endpoint in Endpoint::ALL {
        assert!(matches!(renewals.request(endpoint), Err(Error::NotJoined)));
        let refused = renewals.renew(endpoint, String::new());
        assert!(matches!(refused, Err(Error::NotJoined)));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
