//! The document in force, with the look-ups that every request needs made ahead. Immutable: the owner swaps the whole.

use std::collections::{BTreeMap, HashMap};

use model::{
    desired::{Desired, Device},
    name::{DeviceName, Mac},
    observed::{BootFiles, GenerationId},
};

/// The document in force and the boot files that were observed.
#[derive(Debug, Default)]
pub struct View {
    desired: Desired,
    boot_files: BTreeMap<GenerationId, BootFiles>,
    by_mac: HashMap<Mac, usize>,
    by_name: HashMap<DeviceName, usize>,
}

impl View {
    /// Indexes a document. Where two devices claim one card, which a valid document never has, the first one has it.
    pub fn new(desired: Desired, boot_files: BTreeMap<GenerationId, BootFiles>) -> Self {
        let mut by_mac = HashMap::new();
        let mut by_name = HashMap::new();
        for (index, device) in desired.devices.iter().enumerate() {
            by_name.entry(device.name.clone()).or_insert(index);
            for mac in &device.macs {
                by_mac.entry(*mac).or_insert(index);
            }
        }
        Self { desired, boot_files, by_mac, by_name }
    }

    /// The document.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// All boot files.
    pub fn all_boot_files(&self) -> &BTreeMap<GenerationId, BootFiles> {
        &self.boot_files
    }

    /// The kernel and initrd of a generation, once they were read out of it.
    pub fn boot_files(&self, generation: &GenerationId) -> Option<&BootFiles> {
        self.boot_files.get(generation)
    }

    /// The device with this card.
    pub fn device_by_mac(&self, mac: Mac) -> Option<&Device> {
        self.by_mac.get(&mac).and_then(|index| self.desired.devices.get(*index))
    }

    /// The device of this name.
    pub fn device(&self, name: &DeviceName) -> Option<&Device> {
        self.by_name.get(name).and_then(|index| self.desired.devices.get(*index))
    }
}
