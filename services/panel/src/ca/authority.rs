//! Authorities: the root, which signs the issuing one; the issuing one, which signs all that speaks TLS inside the fleet; and
//! the boot root, which signs boot endpoints. Each is a certificate and its key.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SerialNumber,
};

use super::{
    Error, beginning,
    certificate::{Certificate, Serial},
    key::{Algorithm, Key, PublicKey},
    subject::{self, DOMAIN, FLEET_CLIENT, Host, Kind, Subject},
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Addresses that are nobody's on the internet: private, shared, link-local and loopback ones (RFC 1918, 6598, 3927, 4193, 4291).
const PRIVATE: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// What an authority is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Signs issuing authorities alone; its key may lie in a safe.
    Root,
    /// Signs the certificates of panel, servers, tunnels and people.
    Issuing,
    /// Signs boot endpoints: iPXE's only root of trust.
    Boot,
}

impl Role {
    /// All.
    pub const ALL: [Self; 3] = [Self::Root, Self::Issuing, Self::Boot];

    /// How long its certificate holds.
    pub fn lifetime(self) -> Duration {
        match self {
            Self::Root | Self::Boot => 25 * YEAR,
            Self::Issuing => 10 * YEAR,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
            Self::Boot => "boot root",
        }
    }

    /// How many authorities may follow in a chain.
    fn path_length(self) -> u8 {
        match self {
            Self::Root => 1,
            Self::Issuing | Self::Boot => 0,
        }
    }

    /// Boot chains are RSA from end to end: iPXE verifies RSA in every version.
    fn algorithm(self) -> Algorithm {
        match self {
            Self::Root | Self::Issuing => Algorithm::EcdsaP256,
            Self::Boot => Algorithm::Rsa2048,
        }
    }
}

/// An authority that can sign.
pub struct Authority {
    role: Role,
    certificate: Certificate,
    pkcs8: secrecy::SecretSlice<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("role", &self.role)
            .field("certificate", &self.certificate.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A new root.
    ///
    /// # Errors
    /// No key can be made.
    pub fn root(now: SystemTime) -> Result<Self, Error> {
        Self::self_signed(Role::Root, now)
    }

    /// A new root of boot endpoints, apart from the other: it has no constraints (iPXE refuses a critical extension that it
    /// does not know), so what is stamped into devices must vouch for nothing but what devices boot from.
    ///
    /// # Errors
    /// No key can be made.
    pub fn boot(now: SystemTime) -> Result<Self, Error> {
        Self::self_signed(Role::Boot, now)
    }

    /// A new issuing authority under this root. It can vouch for names of the fleet, private addresses, and the `hosts` that the
    /// panel and its tunnels are reached by: whoever steals its key can't pose as anybody else to the browsers that trust the root.
    ///
    /// # Errors
    /// This is not a root, or no key can be made.
    pub fn issuing(&self, hosts: &[Host], now: SystemTime) -> Result<Self, Error> {
        if self.role != Role::Root {
            return Err(Error::NotARoot);
        }
        let key = Key::generate(Role::Issuing.algorithm())?;
        let mut params = parameters(Role::Issuing, now, Some(&self.certificate))?;
        params.use_authority_key_identifier_extension = true;
        params.name_constraints = Some(constraints(hosts));
        let made = params.signed_by(key.pair(), &self.issuer)?;
        Self::open(Role::Issuing, made.der().to_vec(), key)
    }

    fn self_signed(role: Role, now: SystemTime) -> Result<Self, Error> {
        let key = Key::generate(role.algorithm())?;
        let made = parameters(role, now, None)?.self_signed(key.pair())?;
        Self::open(role, made.der().to_vec(), key)
    }

    /// Takes an authority back from what was kept of it.
    ///
    /// # Errors
    /// The certificate can't be read, or is not of this key.
    pub fn open(role: Role, certificate_der: Vec<u8>, key: Key) -> Result<Self, Error> {
        let certificate = Certificate::parse(certificate_der)?;
        let (_, read) = x509_parser::parse_x509_certificate(certificate.der())
            .map_err(|_| Error::Certificate)?;
        if read.public_key().subject_public_key.data.as_ref() != key.pair().public_key_raw() {
            return Err(Error::OtherKey);
        }
        let pkcs8 = key.pkcs8().clone();
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key.into_pair())?;
        Ok(Self { role, certificate, pkcs8, issuer })
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its key as PKCS#8, to be sealed.
    pub fn pkcs8(&self) -> &secrecy::SecretSlice<u8> {
        &self.pkcs8
    }

    /// Whether it is to be followed by a new one: less than a third of its life is left.
    pub fn renewal_due(&self, now: SystemTime) -> bool {
        let not_after = self.certificate.validity().not_after;
        subject::renewal_due(self.role.lifetime(), not_after, now)
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn sign(
        &self,
        subject: &Subject,
        key: &PublicKey,
        now: SystemTime,
    ) -> Result<Certificate, Error> {
        let kind = subject.kind();
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(&subject.common_name());
        params.subject_alt_names = subject.alternative_names()?;
        params.serial_number = Some(SerialNumber::from_slice(Serial::random().bytes()));
        params.not_before = kind.not_before(now).into();
        let end = now.checked_add(kind.lifetime()).ok_or(Error::Clock)?;
        params.not_after = end.min(self.certificate.validity().not_after).into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if kind == Kind::Boot {
            // For the key exchange of iPXE 1.21, which RSA keys take part in themselves.
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = kind.extended_usage();
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(key.spki(), &self.issuer)?;
        Certificate::parse(made.der().to_vec())
    }
}

fn parameters(
    role: Role,
    now: SystemTime,
    above: Option<&Certificate>,
) -> Result<CertificateParams, Error> {
    let serial = Serial::random();
    let end = now.checked_add(role.lifetime()).ok_or(Error::Clock)?;
    let mut params = CertificateParams::default();
    // Names of two panels, or of an authority and the one that follows it, must differ: chains are looked up by them.
    let mark = hex::encode(serial.bytes().first_chunk::<4>().ok_or(Error::Certificate)?);
    params.distinguished_name = distinguished(&format!("clusterducks {} {mark}", role.name()));
    params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
    params.not_before = beginning().into();
    params.not_after = above.map_or(end, |above| end.min(above.validity().not_after)).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(role.path_length()));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn distinguished(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "clusterducks");
    name.push(DnType::CommonName, common_name);
    name
}

fn constraints(hosts: &[Host]) -> NameConstraints {
    let own = [FLEET_CLIENT, DOMAIN, "local"].map(str::to_owned);
    let dns = hosts.iter().filter_map(|host| match host {
        Host::DnsName(name) => Some(name.as_ref().to_ascii_lowercase()),
        _ => None,
    });
    let private = PRIVATE.iter().filter_map(|net| net.parse::<IpNet>().ok());
    let addresses = hosts.iter().filter_map(|host| match host {
        Host::IpAddress(address) => Some(IpNet::from(IpAddr::from(*address))),
        _ => None,
    });
    let mut permitted: Vec<_> = own.into_iter().chain(dns).map(GeneralSubtree::DnsName).collect();
    permitted.extend(private.chain(addresses).map(|net| GeneralSubtree::IpAddress(cidr(net))));
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() }
}

fn cidr(net: IpNet) -> CidrSubnet {
    match net {
        IpNet::V4(net) => CidrSubnet::V4(net.network().octets(), net.netmask().octets()),
        IpNet::V6(net) => CidrSubnet::V6(net.network().octets(), net.netmask().octets()),
    }
}
