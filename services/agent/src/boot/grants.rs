//! What a boot of a device entitles it to: one fetch of its metadata, and its own boot steps. In memory only, and only the
//! digest of each token; a new boot of the device takes the old one's rights away.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{
    boot::{Boot, Secret},
    name::{BootId, DeviceName},
    wire::BootStep,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::view::View;

/// How many failures one boot may report; a device that tries again for ever must not fill the ring of events.
const FAILURES: u32 = 100;

/// Why a token opens nothing. All of them look the same to the one who asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a token of a boot that is the newest of its device.
    #[error("the token is unknown, or the device was booted again since")]
    Unknown,
    /// Not asked from the device's own address.
    #[error("the token of {device} was sent from {from}, which is not its address {address}")]
    Elsewhere {
        /// Whose token it is.
        device: DeviceName,
        /// The address of the device.
        address: Ipv4Addr,
        /// Where it came from.
        from: Ipv4Addr,
    },
    /// The metadata was fetched before.
    #[error("the token of {device} was used before")]
    Used {
        /// Whose token it is.
        device: DeviceName,
    },
}

/// One boot, as the one who holds its token may see it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The device.
    pub device: DeviceName,
    /// Its boot.
    pub boot: Arc<Boot>,
}

/// The rights of the newest boot of each device.
#[derive(Debug, Default)]
pub struct Grants(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    held: HashMap<DeviceName, Held>,
    by_token: HashMap<Prefix, DeviceName>,
    by_boot: HashMap<BootId, DeviceName>,
}

// The table is searched by the first half of a digest, which tells an observer of times nothing about a token; what is
// found is compared whole.
type Prefix = [u8; 16];

#[derive(Debug)]
struct Held {
    grant: Grant,
    address: Ipv4Addr,
    digest: [u8; 32],
    fetched: bool,
    steps: BTreeSet<BootStep>,
    failures: u32,
}

impl Grants {
    /// Makes the token of a boot: 32 random bytes in hexadecimal. The device's earlier ones are void.
    pub fn issue(&self, device: &DeviceName, address: Ipv4Addr, boot: Arc<Boot>) -> Secret {
        let token = hex::encode(rand::random::<[u8; 32]>());
        let digest = digest(&token);
        let mut table = self.table();
        table.remove(device);
        table.by_token.insert(prefix(&digest), device.clone());
        table.by_boot.insert(boot.id.clone(), device.clone());
        let grant = Grant { device: device.clone(), boot };
        let held =
            Held { grant, address, digest, fetched: false, steps: BTreeSet::new(), failures: 0 };
        table.held.insert(device.clone(), held);
        Secret::new(token)
    }

    /// Uses the token for the one fetch of the metadata.
    ///
    /// # Errors
    /// When it opens nothing here and now; a fetch from a wrong address does not use it up.
    pub fn fetch(&self, token: &str, from: Ipv4Addr) -> Result<Grant, Error> {
        let mut table = self.table();
        let held = table.open(token, from)?;
        if std::mem::replace(&mut held.fetched, true) {
            return Err(Error::Used { device: held.grant.device.clone() });
        }
        Ok(held.grant.clone())
    }

    /// Whose token it is, for the life of the boot.
    ///
    /// # Errors
    /// When it opens nothing here and now.
    pub fn holder(&self, token: &str, from: Ipv4Addr) -> Result<Grant, Error> {
        self.table().open(token, from).map(|held| held.grant.clone())
    }

    /// Whose boot it is, when it is the newest of its device. A boot's id is no secret: nothing may be given out for it.
    pub fn of_boot(&self, boot: &BootId) -> Option<Grant> {
        let table = self.table();
        table.held.get(table.by_boot.get(boot)?).map(|held| held.grant.clone())
    }

    /// Whether the boot reaches the step for the first time, so that it is worth telling. Failures may come again.
    pub fn reaches(&self, boot: &BootId, step: BootStep) -> bool {
        let mut table = self.table();
        let Some(device) = table.by_boot.get(boot).cloned() else { return false };
        let Some(held) = table.held.get_mut(&device) else { return false };
        if step == BootStep::Failed {
            held.failures += 1;
            return held.failures <= FAILURES;
        }
        held.steps.insert(step)
    }

    /// Takes the rights of devices away that are not in the document any more.
    pub fn forget_unknown(&self, view: &View) {
        let mut table = self.table();
        let gone: Vec<DeviceName> = table
            .held
            .keys()
            .filter(|name| view.document().device(name).is_none())
            .cloned()
            .collect();
        for name in gone {
            table.remove(&name);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn open(&mut self, token: &str, from: Ipv4Addr) -> Result<&mut Held, Error> {
        let digest = digest(token);
        let device = self.by_token.get(&prefix(&digest)).ok_or(Error::Unknown)?;
        let held = self.held.get_mut(device).ok_or(Error::Unknown)?;
        if !bool::from(held.digest.ct_eq(&digest)) {
            return Err(Error::Unknown);
        }
        if held.address != from {
            let device = held.grant.device.clone();
            return Err(Error::Elsewhere { device, address: held.address, from });
        }
        Ok(held)
    }

    fn remove(&mut self, device: &DeviceName) {
        if let Some(old) = self.held.remove(device) {
            self.by_token.remove(&prefix(&old.digest));
            self.by_boot.remove(&old.grant.boot.id);
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn prefix(digest: &[u8; 32]) -> Prefix {
    let mut prefix = Prefix::default();
    prefix.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    prefix
}

#[cfg(test)]
mod tests {
    use model::{boot::Chap, desired::BootMode};

    use super::*;

    const ITS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);

    fn boot(id: char) -> Arc<Boot> {
        let chap = Chap {
            user: "u".into(),
            password: Secret::new("p"),
            target_user: "t".into(),
            target_password: Secret::new("q"),
        };
        let id = id.to_string().repeat(32).parse().unwrap();
        Arc::new(Boot {
            id,
            generation: 1,
            boot_mode: BootMode::Overlay,
            from: ITS,
            chap: Arc::new(chap),
        })
    }

    fn pc(number: u32) -> DeviceName {
        format!("pc-{number}").parse().unwrap()
    }

    #[test]
    fn a_token_fetches_once_and_then_only_names_its_holder() {
        let grants = Grants::default();
        let token = grants.issue(&pc(1), ITS, boot('a'));
        assert_eq!(token.reveal().len(), 64);
        assert_eq!(grants.fetch(token.reveal(), ITS).unwrap().device, pc(1));
        assert_eq!(grants.fetch(token.reveal(), ITS).unwrap_err(), Error::Used { device: pc(1) });
        assert_eq!(grants.holder(token.reveal(), ITS).unwrap().boot.id, boot('a').id);
    }

    #[test]
    fn a_token_from_a_wrong_address_opens_nothing_and_is_not_used_up() {
        let grants = Grants::default();
        let token = grants.issue(&pc(1), ITS, boot('a'));
        grants.issue(&pc(2), OTHER, boot('b'));
        assert!(matches!(grants.fetch(token.reveal(), OTHER), Err(Error::Elsewhere { .. })));
        assert!(matches!(grants.holder(token.reveal(), OTHER), Err(Error::Elsewhere { .. })));
        assert!(grants.fetch(token.reveal(), ITS).is_ok());
    }

    #[test]
    fn a_new_boot_voids_the_old_token_and_the_old_boot() {
        let grants = Grants::default();
        let old = grants.issue(&pc(1), ITS, boot('a'));
        let new = grants.issue(&pc(1), ITS, boot('b'));
        assert_eq!(grants.holder(old.reveal(), ITS).unwrap_err(), Error::Unknown);
        assert!(grants.of_boot(&boot('a').id).is_none());
        assert!(!grants.reaches(&boot('a').id, BootStep::Kernel));
        assert!(grants.fetch(new.reveal(), ITS).is_ok());
    }

    #[test]
    fn a_device_that_is_gone_has_no_rights() {
        let grants = Grants::default();
        let token = grants.issue(&pc(1), ITS, boot('a'));
        grants.forget_unknown(&View::default());
        assert_eq!(grants.fetch(token.reveal(), ITS).unwrap_err(), Error::Unknown);
        let table = grants.table();
        assert!(table.by_token.is_empty() && table.by_boot.is_empty());
    }

    #[test]
    fn a_step_is_reached_once_and_failures_are_bounded() {
        let grants = Grants::default();
        grants.issue(&pc(1), ITS, boot('a'));
        assert!(grants.reaches(&boot('a').id, BootStep::Root));
        assert!(!grants.reaches(&boot('a').id, BootStep::Root));
        let told = (0..200).filter(|_| grants.reaches(&boot('a').id, BootStep::Failed)).count();
        assert_eq!(told, FAILURES as usize);
    }
}
