//! The authorities as they lie in the data folder, each with its key sealed under the key file of the box, and the console's own
//! certificate. What they sign, and for whom, is [`panel::ca`]'s business.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::join::PANEL_HOST;
use panel::{
    ca::{
        self, Algorithm, Authority, Ca, Certificate, Host, Issued, Key, Kind, PublicKey,
        RevocationList, Role, Serial, Subject,
    },
    fleet::Identity,
    operations::{self, Panel},
    secret::{self, BoxKey, ExposeSecret as _, Purpose, SecretSlice},
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use serde::{Deserialize, Serialize};

use crate::{
    browsers::Asking,
    folder::{self, Folder},
};

/// The name of the key file in the data folder, and in a backup.
pub(crate) const BOX_KEY: &str = "box.key";
const WEB: &str = "web";
const FLEET: &str = "fleet";

/// Why the authorities can't be opened, or the console has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("the data folder can't be used")]
    Folder(#[from] folder::Error),
    /// A secret can't be opened.
    #[error("{what} can't be opened")]
    Sealed {
        /// Whose.
        what: &'static str,
        /// Why.
        source: secret::Error,
    },
    /// A file is not what was written.
    #[error("{what} is damaged")]
    Damaged {
        /// Whose.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// An authority can't be made, or can't sign.
    #[error("the certificate authority failed")]
    Ca(#[from] ca::Error),
    /// The certificate can't be shown to anybody.
    #[error("the panel's certificate can't be used")]
    Tls(#[from] rustls::Error),
    /// The books can't be read or written.
    #[error("the books of certificates can't be used")]
    Books(#[from] operations::Error),
}

/// A certificate, or a chain of them, and its key.
#[derive(Serialize, Deserialize)]
struct Kept {
    chain: Vec<String>,
    key: String,
    #[serde(default)]
    hosts: Vec<String>,
}

/// The key file of the box, made at the first start.
///
/// # Errors
/// It can't be read or made.
pub fn box_key(folder: &Folder) -> Result<BoxKey, Error> {
    if let Some(bytes) = folder.read(BOX_KEY)? {
        return BoxKey::parse(&bytes).map_err(sealed(BOX_KEY));
    }
    let key = BoxKey::generate();
    folder.write(BOX_KEY, key.reveal())?;
    Ok(key)
}

fn sealed(what: &'static str) -> impl FnOnce(secret::Error) -> Error {
    move |source| Error::Sealed { what, source }
}

/// Opens the authorities, and makes those that are missing. The issuing one vouches for `hosts` beside the names of the fleet.
///
/// # Errors
/// One can't be opened or made.
pub fn open(
    folder: &Folder,
    box_key: &BoxKey,
    hosts: &[Host],
    now: SystemTime,
) -> Result<Ca, Error> {
    let root = authority(folder, box_key, "root", Role::Root, || Authority::root(now))?;
    let issuing =
        authority(folder, box_key, "issuing", Role::Issuing, || root.issuing(hosts, now))?;
    let boot = authority(folder, box_key, "boot", Role::Boot, || Authority::boot(now))?;
    Ok(Ca::new(root.certificate().clone(), issuing, boot)?)
}

fn authority(
    folder: &Folder,
    box_key: &BoxKey,
    name: &'static str,
    role: Role,
    make: impl FnOnce() -> Result<Authority, ca::Error>,
) -> Result<Authority, Error> {
    if let Some(kept) = kept_authority(folder, box_key, name, role)? {
        return Ok(kept);
    }
    let made = make()?;
    let chain = [made.certificate().der().clone()];
    seal(folder, box_key, Purpose::AuthorityKey, name, &Kept::new(&chain, made.pkcs8(), &[]))?;
    tracing::info!(authority = name, fingerprint = %made.certificate().fingerprint(), "authority made");
    Ok(made)
}

fn kept_authority(
    folder: &Folder,
    box_key: &BoxKey,
    name: &'static str,
    role: Role,
) -> Result<Option<Authority>, Error> {
    let Some(kept) = unseal(folder, box_key, Purpose::AuthorityKey, name)? else { return Ok(None) };
    let (mut chain, key) = kept.parts(name)?;
    let der = chain.pop().ok_or(ca::Error::Certificate)?;
    Ok(Some(Authority::open(role, der.to_vec(), key)?))
}

impl Kept {
    fn new(chain: &[CertificateDer<'_>], key: &SecretSlice<u8>, hosts: &[Host]) -> Self {
        Self {
            chain: chain.iter().map(hex::encode).collect(),
            key: hex::encode(key.expose_secret()),
            hosts: names(hosts),
        }
    }

    fn parts(self, what: &'static str) -> Result<(Vec<CertificateDer<'static>>, Key), Error> {
        let bytes = |text: &String| {
            hex::decode(text)
                .map_err(|error| Error::Damaged { what, source: serde::de::Error::custom(error) })
        };
        let chain = self.chain.iter().map(|text| bytes(text).map(CertificateDer::from));
        let chain = chain.collect::<Result<_, _>>()?;
        Ok((chain, Key::parse(bytes(&self.key)?.into())?))
    }
}

fn names(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(|host| host.to_str().into_owned()).collect()
}

fn unseal(
    folder: &Folder,
    box_key: &BoxKey,
    purpose: Purpose,
    name: &'static str,
) -> Result<Option<Kept>, Error> {
    let Some(bytes) = folder.read(&format!("{name}.sealed"))? else { return Ok(None) };
    let opened = box_key.open(purpose, name, &bytes).map_err(sealed(name))?;
    let kept = serde_json::from_slice(opened.expose_secret());
    kept.map(Some).map_err(|source| Error::Damaged { what: name, source })
}

fn seal(
    folder: &Folder,
    box_key: &BoxKey,
    purpose: Purpose,
    name: &'static str,
    kept: &Kept,
) -> Result<(), Error> {
    let json = SecretSlice::from(
        serde_json::to_vec(kept).map_err(|source| Error::Damaged { what: name, source })?,
    );
    let bytes = box_key.seal(purpose, name, json.expose_secret());
    Ok(folder.write(&format!("{name}.sealed"), &bytes)?)
}

/// What the console serves HTTPS with, and until when.
#[derive(Debug, Clone)]
pub struct Served {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// The certificate.
    pub certificate: Certificate,
    /// For whom it is.
    pub hosts: Vec<Host>,
}

impl Served {
    /// Whether another one is to be made now.
    pub fn due(&self, hosts: &[Host], now: SystemTime) -> bool {
        Kind::Panel.renewal_due(self.certificate.validity().not_after, now) || self.hosts != hosts
    }
}

/// The console's certificate: the kept one while it holds, names these hosts, and was not taken back, else a new one.
///
/// # Errors
/// It can't be issued: a name that the issuing authority may not vouch for. It can't be put on the books.
pub fn serve(
    folder: &Folder,
    (box_key, ca, panel): (&BoxKey, &Ca, &Panel),
    hosts: Vec<Host>,
    now: SystemTime,
) -> Result<Served, Error> {
    if let Some(kept) = unseal(folder, box_key, Purpose::CertificateKey, WEB)?
        && kept.hosts == names(&hosts)
    {
        let served = served(ca, kept, hosts.clone())?;
        panel.book(Kind::Panel, &served.certificate)?;
        if !served.due(&hosts, now) && !panel.is_revoked(served.certificate.serial())? {
            return Ok(served);
        }
    }
    let key = Key::generate(Algorithm::EcdsaP256)?;
    let issued = issued(ca, &hosts, &key.public(), now)?;
    panel.book(Kind::Panel, &issued.certificate)?;
    let kept = Kept::new(&issued.chain(), key.pkcs8(), &hosts);
    seal(folder, box_key, Purpose::CertificateKey, WEB, &kept)?;
    tracing::info!(hosts = ?names(&hosts), "the console has a new certificate");
    served(ca, kept, hosts)
}

/// A certificate for these hosts, but for those that the issuing authority may not vouch for: a box that goes on with another's
/// authorities may stand at public addresses that they never heard of, and is still to be reached by the others.
fn issued(ca: &Ca, hosts: &[Host], key: &PublicKey, now: SystemTime) -> Result<Issued, Error> {
    let issue = |hosts: &[Host]| ca.issue(&Subject::Panel(hosts.to_vec()), key, now);
    match issue(hosts) {
        Err(ca::Error::OutsideScope(_)) => {}
        done => return Ok(done?),
    }
    let vouched = |host: &Host| issue(std::slice::from_ref(host)).is_ok();
    let (within, outside): (Vec<Host>, Vec<_>) = hosts.iter().cloned().partition(vouched);
    tracing::warn!(outside = ?names(&outside), "the console's certificate lacks what the authority may not vouch for");
    Ok(issue(&within)?)
}

fn served(ca: &Ca, kept: Kept, hosts: Vec<Host>) -> Result<Served, Error> {
    let (chain, key) = kept.parts(WEB)?;
    let first = chain.first().ok_or(ca::Error::Certificate)?;
    let certificate = Certificate::parse(first.to_vec())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(Asking::new(ca)?))
        .with_single_cert(chain, key.rustls())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Served { config: Arc::new(config), certificate, hosts })
}

/// What the panel shows its servers' agents.
#[derive(Debug, Clone)]
pub struct Client {
    /// For the link.
    pub identity: Identity,
    /// The certificate.
    pub certificate: Certificate,
}

/// The panel's certificate for agents: the kept one while it holds and was not taken back, else a new one. One that is kept can
/// be taken back; of those that each start made anew, all but the last would be good and forgotten.
///
/// # Errors
/// It can't be issued, or not be put on the books.
pub fn client(
    folder: &Folder,
    box_key: &BoxKey,
    ca: &Ca,
    panel: &Panel,
    now: SystemTime,
) -> Result<Client, Error> {
    if let Some(kept) = unseal(folder, box_key, Purpose::CertificateKey, FLEET)? {
        let (chain, key) = kept.parts(FLEET)?;
        let chain = chain.iter().map(|der| Certificate::parse(der.to_vec()));
        let mut chain: VecDeque<_> = chain.collect::<Result<_, _>>()?;
        let certificate = chain.pop_front().ok_or(ca::Error::Certificate)?;
        let due = Kind::Fleet.renewal_due(certificate.validity().not_after, now);
        panel.book(Kind::Fleet, &certificate)?;
        if !due && !panel.is_revoked(certificate.serial())? {
            let issued = Issued { certificate: certificate.clone(), above: chain.into() };
            return Ok(Client { identity: Identity::new(ca.root(), &issued, &key)?, certificate });
        }
    }
    let key = Key::generate(Algorithm::EcdsaP256)?;
    let issued = ca.issue(&Subject::Fleet, &key.public(), now)?;
    let identity = Identity::new(ca.root(), &issued, &key)?;
    panel.book(Kind::Fleet, &issued.certificate)?;
    seal(
        folder,
        box_key,
        Purpose::CertificateKey,
        FLEET,
        &Kept::new(&issued.chain(), key.pkcs8(), &[]),
    )?;
    tracing::info!("the panel has a new certificate for its agents");
    Ok(Client { identity, certificate: issued.certificate })
}

/// Forgets the panel's certificate for agents, so that the next start has a new one: what came out of a backup may have been taken
/// back since, and agents that know so would never hear otherwise.
///
/// # Errors
/// The file can't be removed.
pub fn forget_client(folder: &Folder) -> Result<(), Error> {
    Ok(folder.remove(&format!("{FLEET}.sealed"))?)
}

/// Gives the panel the lists of what its authorities took back: the kept ones while nothing else was taken back and they hold for
/// long, else new ones. Their numbers are the seconds since 1970, so that they rise though the files are lost.
///
/// # Errors
/// One can't be signed, kept or handed over; those of the others are up to date all the same.
pub fn revocations(
    folder: &Folder,
    (box_key, ca, panel): (&BoxKey, &Ca, &Panel),
    now: SystemTime,
) -> Result<(), Error> {
    let done = Role::ALL.map(|role| revocations_of(role, folder, (box_key, ca, panel), now));
    done.into_iter().collect()
}

fn revocations_of(
    role: Role,
    folder: &Folder,
    (box_key, ca, panel): (&BoxKey, &Ca, &Panel),
    now: SystemTime,
) -> Result<(), Error> {
    let (file, issuer) = match role {
        Role::Root => ("root.crl", ca.root()),
        Role::Issuing => ("issuing.crl", ca.issuing().certificate()),
        Role::Boot => ("boot.crl", ca.boot().certificate()),
    };
    let revoked = panel.revoked(role)?;
    let serials: BTreeSet<Serial> = revoked.iter().map(|one| one.serial).collect();
    let current = |list: &RevocationList| {
        list.serials() == &serials
            && list.issuer() == issuer.subject()
            && !RevocationList::renewal_due(list.next_update(), now)
    };
    let held = panel.revocation_list(role);
    if held.as_deref().is_some_and(current) {
        return Ok(());
    }
    let kept = folder.read(file)?.and_then(|der| RevocationList::parse(der).ok());
    if let Some(list) = kept.clone().filter(|list| held.is_none() && current(list)) {
        return Ok(panel.keep_revocation_list(role, list)?);
    }
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let before = held.as_deref().or(kept.as_ref()).map_or(0, RevocationList::number);
    let number = seconds.max(before.saturating_add(1));
    let list = match role {
        Role::Issuing => ca.issuing().revocation_list(&revoked, number, now)?,
        Role::Boot => ca.boot().revocation_list(&revoked, number, now)?,
        // Its key is opened for this alone.
        Role::Root => kept_authority(folder, box_key, "root", role)?
            .ok_or(ca::Error::Certificate)?
            .revocation_list(&revoked, number, now)?,
    };
    folder.write(file, list.der())?;
    tracing::info!(file, number, revoked = serials.len(), "revocation list signed");
    Ok(panel.keep_revocation_list(role, list)?)
}

/// The names and addresses that this box is reached by: what it is told, its host name (also by mDNS), its addresses, and the name
/// that boxes ask for which come through a tunnel.
pub fn hosts(told: &[Host]) -> Vec<Host> {
    let own = rustix::system::uname();
    let own = own.nodename().to_str().unwrap_or_default().to_ascii_lowercase();
    let short = own.split('.').next().unwrap_or_default();
    let local = format!("{short}.local");
    let mut hosts: Vec<Host> = told.to_vec();
    hosts.extend(Host::try_from(local).ok());
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = addresses.filter_map(|found| {
        let address = found.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    // A link-local address of IPv6 means nothing without its zone, which no certificate has.
    let fine = |address: &IpAddr| match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    hosts.extend(addresses.filter(fine).map(Host::from));
    hosts.extend(Host::try_from(PANEL_HOST).ok());
    let mut seen = std::collections::BTreeSet::new();
    hosts.retain(|host| seen.insert(host.to_str().into_owned()));
    hosts
}

/// How often it is looked whether a certificate is to be renewed.
pub const LOOK_EVERY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
