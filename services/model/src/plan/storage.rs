//! Planning of the storage tree: folders, volumes, groups with generations, device clones, vDisks, boot files.

use std::collections::{BTreeMap, BTreeSet};

use super::Planner;
use crate::{
    desired::{BootMode, Device, Group, Vdisk, Volume, tree},
    name::{Dataset, GroupName, Iqn, Mark, PoolName, Snapshot},
    observed::{DatasetState, GenerationId, Job},
    step::{Resource, Step},
};

/// Whether a dataset that the document wants is there.
enum Claim<'a> {
    /// Nothing is there.
    Absent,
    /// It is there and carries the mark.
    Ours(&'a DatasetState),
    /// Something is there that is not ours: it is left alone, and so is all that would depend on it.
    Foreign,
}

impl<'a> Planner<'a> {
    /// Destroys what the document lists, clones before what they are clones of.
    pub(super) fn destroy(&mut self) {
        let mut listed: Vec<(u8, &Dataset, &Mark)> = Vec::new();
        for (dataset, state) in &self.observed.datasets {
            if let Some(mark) =
                state.mark.as_ref().filter(|mark| self.desired.destroy.contains(mark))
            {
                let order = match mark {
                    Mark::Device(_) | Mark::Vdisk(_) => 0,
                    Mark::Group(_) => 1,
                    Mark::Volume(_) => 2,
                    Mark::Tree(_) => continue,
                };
                listed.push((order, dataset, mark));
            }
        }
        listed.sort();
        for (_, dataset, mark) in listed {
            self.step(Step::Destroy { dataset: dataset.clone(), mark: mark.clone() });
            self.gone.insert(dataset.clone());
        }
    }

    /// Builds the tree of every imported pool, parents first.
    pub(super) fn storage(&mut self) {
        let desired = self.desired;
        let usable: Vec<&PoolName> = desired
            .pools
            .iter()
            .map(|pool| &pool.name)
            .filter(|pool| self.observed.pools.contains_key(*pool))
            .collect();
        for pool in usable {
            if !self.folders(pool) {
                continue;
            }
            for volume in desired.volumes.iter().filter(|volume| volume.pool == *pool) {
                self.volume(volume);
            }
            for vdisk in desired.vdisks.iter().filter(|vdisk| vdisk.pool == *pool) {
                self.vdisk(vdisk);
            }
            for group in &desired.groups {
                if let Some(volume) =
                    desired.volume(&group.volume).filter(|volume| volume.pool == *pool)
                {
                    self.group(pool, volume, group);
                }
            }
            for device in &desired.devices {
                let group = desired.group(&device.group);
                if let Some(group) = group.filter(|group| desired.pool_of(group) == Some(pool)) {
                    self.device_clone(pool, group, device);
                }
            }
        }
    }

    fn folders(&mut self, pool: &PoolName) -> bool {
        let root = tree::root(pool);
        let below = tree::FOLDERS.iter().map(|name| (root.child(name), *name));
        for (dataset, name) in std::iter::once((root.clone(), "clusterducks")).chain(below) {
            let mark = Mark::Tree(name.to_owned());
            let mounted = name == "files";
            match self.claim(&dataset, &mark) {
                Claim::Ours(state) if mounted && !state.mounted => self.step(Step::Mount(dataset)),
                Claim::Ours(_) => {}
                Claim::Absent => {
                    self.made.insert(dataset.clone());
                    self.step(Step::CreateFolder { dataset, mark, mounted });
                }
                Claim::Foreign => return false,
            }
        }
        true
    }

    fn volume(&mut self, volume: &Volume) {
        let dataset = tree::volume(&volume.pool, &volume.name);
        let first = tree::promoted(&volume.pool, &volume.name, 1);
        if !self.zvol(&dataset, &Mark::Volume(volume.name.clone()), volume.size_bytes)
            || self.has(&first)
        {
            return;
        }
        let Some(source) = &volume.source else {
            self.take_snapshot(first);
            return;
        };
        let import = Step::StartImport {
            volume: volume.name.clone(),
            dataset: dataset.clone(),
            files: tree::files(&volume.pool),
            source: source.clone(),
        };
        match self.observed.imports.get(&volume.name) {
            Some(Job::Done { source: read }) if read.as_ref() == Some(source) => {
                self.take_snapshot(first)
            }
            Some(Job::Running { source: read, phase, .. }) if read.as_ref() == Some(source) => {
                self.wait(
                    Resource::Dataset(dataset),
                    format!("the image is being imported: {phase}"),
                );
            }
            Some(Job::Failed { source: read, message }) if read.as_ref() == Some(source) => {
                self.wait(Resource::Dataset(dataset), message.clone());
            }
            _ => self.step(import),
        }
    }

    fn vdisk(&mut self, vdisk: &Vdisk) {
        self.zvol(
            &tree::vdisk(&vdisk.pool, &vdisk.name),
            &Mark::Vdisk(vdisk.name.clone()),
            vdisk.size_bytes,
        );
    }

    /// Makes or grows a zvol; answers whether it can be counted on.
    fn zvol(&mut self, dataset: &Dataset, mark: &Mark, size_bytes: u64) -> bool {
        match self.claim(dataset, mark) {
            Claim::Foreign => return false,
            Claim::Absent => {
                self.made.insert(dataset.clone());
                self.step(Step::CreateZvol { dataset: dataset.clone(), mark: mark.clone(), size_bytes });
            }
            Claim::Ours(state) => match state.volume_size_bytes {
                Some(now) if now < size_bytes => self.step(Step::Grow { dataset: dataset.clone(), size_bytes }),
                Some(now) if now > size_bytes => self.wait(
                    Resource::Dataset(dataset.clone()),
                    format!("it has {now} bytes, and {size_bytes} are asked for: it is never made smaller"),
                ),
                _ => {}
            },
        }
        true
    }

    fn group(&mut self, pool: &PoolName, volume: &Volume, group: &Group) {
        let dataset = tree::group(pool, &group.name);
        let mark = Mark::Group(group.name.clone());
        let present = match self.claim(&dataset, &mark) {
            Claim::Foreign => return,
            Claim::Ours(state) => Some(state),
            Claim::Absent => None,
        };
        if present.is_none() {
            let origin_of = tree::volume(pool, &volume.name);
            let Some(newest) = self.newest_promoted(&origin_of) else {
                self.wait(
                    Resource::Dataset(dataset),
                    format!("the volume {} has no content yet", volume.name),
                );
                return;
            };
            self.made.insert(dataset.clone());
            self.step(Step::Clone { origin: newest, dataset: dataset.clone(), mark });
        }
        if present.is_none_or(|state| !state.snapdev_visible) {
            self.step(Step::ShowSnapshots(dataset.clone()));
        }
        for (index, number) in group.generations.iter().enumerate() {
            let generation = tree::generation(pool, &group.name, *number);
            if !self.has(&generation) {
                if index == 0 {
                    self.take_snapshot(generation);
                } else {
                    self.wait(
                        Resource::Dataset(dataset.clone()),
                        format!("generation g{number} is not on this server"),
                    );
                }
            }
        }
    }

    /// The volume's snapshot with the highest number, one that this plan takes included.
    fn newest_promoted(&self, volume: &Dataset) -> Option<Snapshot> {
        let planned = self.taken.iter().find(|snapshot| snapshot.dataset == *volume).cloned();
        let state = self.observed.datasets.get(volume);
        let number =
            |tag: &String| tag.strip_prefix('p').and_then(|number| number.parse::<u32>().ok());
        let standing = state.and_then(|state| state.snapshots.iter().filter_map(number).max());
        planned.or_else(|| {
            standing.map(|number| Snapshot::new(volume.clone(), format_args!("p{number}")))
        })
    }

    /// Makes the clone of a device ahead of its boot. The clone of an ephemeral device belongs to its newest boot's
    /// generation: a device that runs is never robbed of its disk because a pointer moved.
    fn device_clone(&mut self, pool: &PoolName, group: &Group, device: &Device) {
        let Some(generation) = self.clone_wanted(device) else { return };
        let mode = device.boot_mode;
        let dataset = tree::device(pool, &device.name);
        let mark = Mark::Device(device.name.clone());
        let origin = tree::generation(pool, &group.name, generation);
        if !self.has(&origin) {
            self.wait(
                Resource::Dataset(dataset),
                format!("generation g{generation} of {} is not there yet", group.name),
            );
            return;
        }
        let clean = tree::clean(pool, &device.name);
        match self.claim(&dataset, &mark) {
            Claim::Foreign => return,
            Claim::Ours(state)
                if mode == BootMode::Persistent || state.origin.as_ref() == Some(&origin) =>
            {
                if !state.snapshots.contains("clean") && mode == BootMode::Ephemeral {
                    // Made but not yet snapshotted when the power went: nobody has booted from it, so it is clean.
                    self.take_snapshot(clean);
                }
                return;
            }
            Claim::Ours(_) => {
                self.close(&Iqn::device(&device.name));
                self.step(Step::Destroy { dataset: dataset.clone(), mark: mark.clone() });
            }
            Claim::Absent => {}
        }
        self.made.insert(dataset.clone());
        self.step(Step::Clone { origin, dataset, mark });
        self.take_snapshot(clean);
    }

    /// The generation of the clone that a device needs; none for an overlay.
    fn clone_wanted(&self, device: &Device) -> Option<u32> {
        if device.boot_mode == BootMode::Overlay {
            return None;
        }
        let boot = self.boots.get(&device.name);
        let its = boot.filter(|boot| boot.boot_mode == device.boot_mode);
        its.map(|boot| boot.generation).or_else(|| self.desired.generation_of(device))
    }

    /// Rolls back the clones of ephemeral devices that were given a boot since they were made new last: all in one step.
    pub(super) fn make_new(&mut self) {
        let mut clones = BTreeMap::new();
        let ephemeral = self.boots.iter().filter(|(_, boot)| boot.boot_mode == BootMode::Ephemeral);
        for (name, boot) in ephemeral {
            let group = self.desired.device(name).and_then(|it| self.desired.group(&it.group));
            let Some(pool) = group.and_then(|group| self.desired.pool_of(group)) else { continue };
            let dataset = tree::device(pool, name);
            let standing =
                self.observed.datasets.get(&dataset).filter(|_| !self.gone.contains(&dataset));
            let done = standing.is_some_and(|state| state.boot.as_ref() == Some(&boot.id));
            let ours = standing.is_some_and(|state| state.mark == Some(Mark::Device(name.clone())));
            if self.made.contains(&dataset) || (ours && !done) {
                self.close(&Iqn::device(name));
                clones.insert(dataset, boot.id.clone());
            }
        }
        if !clones.is_empty() {
            self.step(Step::MakeNew(clones));
        }
    }

    /// Takes kernel and initrd out of every generation that an overlay device may boot.
    pub(super) fn boot_files(&mut self) {
        let desired = self.desired;
        let overlay = |device: &&Device| device.boot_mode == BootMode::Overlay;
        let booted: BTreeSet<&GroupName> =
            desired.devices.iter().filter(overlay).map(|device| &device.group).collect();
        for group in desired.groups.iter().filter(|group| booted.contains(&group.name)) {
            let Some(pool) = desired.pool_of(group) else { continue };
            for number in &group.generations {
                let snapshot = tree::generation(pool, &group.name, *number);
                let generation = GenerationId { group: group.name.clone(), number: *number };
                if !self.has(&snapshot) || self.observed.boot_files.contains_key(&generation) {
                    continue;
                }
                match self.observed.extractions.get(&generation) {
                    None | Some(Job::Done { .. }) => {
                        let files = tree::files(pool);
                        self.step(Step::StartExtraction { generation, snapshot, files });
                    }
                    Some(Job::Running { .. }) => {
                        self.wait(
                            Resource::BootFiles(generation),
                            "the kernel is being read out of the generation",
                        );
                    }
                    Some(Job::Failed { message, .. }) => {
                        self.wait(Resource::BootFiles(generation), message.clone())
                    }
                }
            }
        }
    }

    /// Whether a snapshot stands on a dataset of ours, or will once the plan is done.
    pub(super) fn has(&self, snapshot: &Snapshot) -> bool {
        let standing = self
            .observed
            .datasets
            .get(&snapshot.dataset)
            .filter(|_| !self.gone.contains(&snapshot.dataset));
        standing
            .is_some_and(|state| state.mark.is_some() && state.snapshots.contains(&snapshot.tag))
            || self.taken.contains(snapshot)
    }

    fn claim(&mut self, dataset: &Dataset, mark: &Mark) -> Claim<'a> {
        match self.observed.datasets.get(dataset) {
            None => Claim::Absent,
            Some(_) if self.gone.contains(dataset) => Claim::Absent,
            Some(state) if state.mark.as_ref() == Some(mark) => Claim::Ours(state),
            Some(_) => {
                self.wait(
                    Resource::Dataset(dataset.clone()),
                    "a dataset of this name is there and does not carry our mark; rename it, or choose another name",
                );
                Claim::Foreign
            }
        }
    }
}
