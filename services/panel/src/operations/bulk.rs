//! One change to many devices: all or none.

use model::{
    desired::{BootMode, OnFailure},
    name::{GroupName, MenuName},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Actor, Data, Error, Panel, Work, invalid};
use crate::{
    noun::{Device, Id, Stored},
    store::FieldError,
};

/// What to set on each device; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DevicePatch {
    /// The group whose image it boots; a generation that it is pinned to is let go.
    pub group: Option<GroupName>,
    /// How it boots.
    pub boot_mode: Option<BootMode>,
    /// Whether it boots the group's test generation.
    pub test: Option<bool>,
    /// The generation that it is pinned to; 0 lets go.
    pub pinned: Option<u32>,
    /// The menu that it shows.
    pub menu: Option<MenuName>,
    /// It shows no menu.
    pub no_menu: bool,
    /// What its initrd does when it can't go on.
    pub on_failure: Option<OnFailure>,
}

impl DevicePatch {
    fn apply(&self, device: &Device) -> Device {
        let mut device = device.clone();
        if let Some(group) = &self.group
            && device.group != *group
        {
            device.group = group.clone();
            device.pinned = None;
        }
        if let Some(pinned) = self.pinned {
            device.pinned = (pinned > 0).then_some(pinned);
        }
        if self.no_menu {
            device.menu = None;
        }
        if let Some(menu) = &self.menu {
            device.menu = Some(menu.clone());
        }
        device.boot_mode = self.boot_mode.unwrap_or(device.boot_mode);
        device.test = self.test.unwrap_or(device.test);
        device.on_failure = self.on_failure.unwrap_or(device.on_failure);
        device
    }
}

/// The most faults that are told of a bulk operation.
const MOST_FAULTS: usize = 100;

impl Panel {
    /// Changes devices, each at the version that the actor knows.
    ///
    /// # Errors
    /// One can't be changed; then none is. A fault's field begins with the device's name: `pc-01.group`.
    pub fn change_devices(
        &self,
        actor: Actor,
        devices: &[(Id<Device>, u64)],
        patch: &DevicePatch,
    ) -> Result<Vec<Stored<Device>>, Error> {
        self.each(actor, devices, |work, id, version| {
            let before = work.seen(id)?;
            work.change(id, version, &patch.apply(&before.value))
        })
    }

    /// Deletes devices, each at the version that the actor knows.
    ///
    /// # Errors
    /// One can't be deleted; then none is.
    pub fn delete_devices(
        &self,
        actor: Actor,
        devices: &[(Id<Device>, u64)],
        data: Data,
    ) -> Result<(), Error> {
        self.each(actor, devices, |work, id, version| work.delete(id, version, data)).map(drop)
    }

    fn each<T>(
        &self,
        actor: Actor,
        devices: &[(Id<Device>, u64)],
        act: impl Fn(Work<'_>, Id<Device>, u64) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.write(actor, |work| {
            let mut done = Vec::new();
            let mut faults = Vec::new();
            for (id, version) in devices {
                match act(work, *id, *version) {
                    Ok(one) => done.push(one),
                    Err(Error::Invalid(of)) => {
                        let name = work.tx.get(*id)?.map(|device| device.value.name.to_string());
                        let name = name.unwrap_or_else(|| id.to_string());
                        faults.extend(of.into_iter().map(|fault| {
                            FieldError::new(format!("{name}.{}", fault.field), fault.message)
                        }));
                    }
                    Err(other) => return Err(other),
                }
                if faults.len() >= MOST_FAULTS {
                    break;
                }
            }
            invalid(faults)?;
            Ok(done)
        })
    }
}
