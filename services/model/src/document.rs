//! The document with its look-ups made ahead: planning and the boot service ask for objects by name for every device, and a
//! server has thousands. Immutable; nothing of its meaning stands here.

use std::{collections::HashMap, hash::Hash, ops::Deref};

use crate::{
    desired::{Desired, Device, Group, Menu, Network, Vdisk, Volume},
    name::{DeviceName, GroupName, Mac, MenuName, NetworkName, PoolName, VdiskName, VolumeName},
};

/// A document with its look-ups.
#[derive(Debug, Clone, Default)]
pub struct Document {
    desired: Desired,
    networks: Places<NetworkName>,
    volumes: Places<VolumeName>,
    groups: Places<GroupName>,
    vdisks: Places<VdiskName>,
    menus: Places<MenuName>,
    devices: Places<DeviceName>,
    cards: Places<Mac>,
}

/// Where each object stands in its list.
type Places<K> = HashMap<K, usize>;

/// Where two objects claim one key, which a valid document never has, the first one has it.
fn places<K: Hash + Eq>(keys: impl IntoIterator<Item = (usize, K)>) -> Places<K> {
    let mut places = Places::new();
    for (place, key) in keys {
        places.entry(key).or_insert(place);
    }
    places
}

impl Document {
    /// Makes the look-ups of a document.
    pub fn new(desired: Desired) -> Self {
        macro_rules! by_name {
            ($list:ident) => {
                places(desired.$list.iter().map(|object| object.name.clone()).enumerate())
            };
        }
        let cards = desired.devices.iter().enumerate();
        let cards =
            cards.flat_map(|(place, device)| device.macs.iter().map(move |mac| (place, *mac)));
        Self {
            networks: by_name!(networks),
            volumes: by_name!(volumes),
            groups: by_name!(groups),
            vdisks: by_name!(vdisks),
            menus: by_name!(menus),
            devices: by_name!(devices),
            cards: places(cards),
            desired,
        }
    }

    /// The group of this name.
    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.get(name).and_then(|place| self.desired.groups.get(*place))
    }

    /// The volume of this name.
    pub fn volume(&self, name: &VolumeName) -> Option<&Volume> {
        self.volumes.get(name).and_then(|place| self.desired.volumes.get(*place))
    }

    /// The vDisk of this name.
    pub fn vdisk(&self, name: &VdiskName) -> Option<&Vdisk> {
        self.vdisks.get(name).and_then(|place| self.desired.vdisks.get(*place))
    }

    /// The network of this name.
    pub fn network(&self, name: &NetworkName) -> Option<&Network> {
        self.networks.get(name).and_then(|place| self.desired.networks.get(*place))
    }

    /// The menu of this name.
    pub fn menu(&self, name: &MenuName) -> Option<&Menu> {
        self.menus.get(name).and_then(|place| self.desired.menus.get(*place))
    }

    /// The device of this name.
    pub fn device(&self, name: &DeviceName) -> Option<&Device> {
        self.devices.get(name).and_then(|place| self.desired.devices.get(*place))
    }

    /// The device with a card of this address.
    pub fn device_by_mac(&self, mac: Mac) -> Option<&Device> {
        self.cards.get(&mac).and_then(|place| self.desired.devices.get(*place))
    }

    /// The pool that a group's clones lie in: its volume's.
    pub fn pool_of(&self, group: &Group) -> Option<&PoolName> {
        self.volume(&group.volume).map(|volume| &volume.pool)
    }

    /// The generation that a device boots now.
    pub fn generation_of(&self, device: &Device) -> Option<u32> {
        let group = self.group(&device.group)?;
        let test = group.test.filter(|_| device.test);
        Some(device.pinned.or(test).unwrap_or(group.production))
    }
}

impl Deref for Document {
    type Target = Desired;

    fn deref(&self) -> &Desired {
        &self.desired
    }
}

impl From<Desired> for Document {
    fn from(desired: Desired) -> Self {
        Self::new(desired)
    }
}
