use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::*;

/// An authority, and its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new(name: &str, serial: u64, above: Option<&Self>) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(serial));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let made = match above {
            None => params.self_signed(&key).unwrap(),
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
        };
        let (pem, der) = (made.pem(), made.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    fn panel(&self, serial: u64) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([PANEL.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().clone()
    }

    fn list(&self, revoked: &[u64]) -> String {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

#[test]
fn the_panel_is_held_to_the_list_of_each_authority_above_it() {
    let root = Authority::new("root", 1, None);
    let issuing = Authority::new("issuing", 2, Some(&root));
    let panel = issuing.panel(3);
    let lets_in = |lists: Option<String>| {
        let known = panel_alone(root.pem.as_bytes(), lists.as_deref().map(str::as_bytes)).unwrap();
        known
            .verify_client_cert(&panel, std::slice::from_ref(&issuing.der), UnixTime::now())
            .map(drop)
    };
    let revoked = Err(Error::InvalidCertificate(CertificateError::Revoked));
    for (lists, expected) in [
        (None, Ok(())),
        (Some(issuing.list(&[])), Ok(())),
        (Some(issuing.list(&[]) + &root.list(&[])), Ok(())),
        (Some(issuing.list(&[3]) + &root.list(&[])), revoked.clone()),
        (Some(issuing.list(&[]) + &root.list(&[2])), revoked.clone()),
        (Some(root.list(&[2])), revoked),
        // Numbers count for the authority that gave them.
        (Some(issuing.list(&[2]) + &root.list(&[3])), Ok(())),
    ] {
        assert_eq!(lets_in(lists.clone()), expected, "{lists:?}");
    }
}

#[test]
fn what_is_no_list_is_refused_wherever_it_stands() {
    let root = Authority::new("root", 1, None);
    let (good, nonsense) = (root.list(&[7]), root.pem.replace("CERTIFICATE", "X509 CRL"));
    assert_eq!(revocation_lists(format!("{good}{good}").as_bytes()).unwrap().len(), 2);
    assert!(matches!(revocation_lists(b"none"), Err(TlsError::NoList)));
    let refused = revocation_lists((good + &nonsense).as_bytes());
    assert!(matches!(refused, Err(TlsError::List(_))), "{refused:?}");
}
