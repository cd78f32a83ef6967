//! Making devices ready to boot: all that asked in the same moment in one batch.

use std::collections::{BTreeMap, BTreeSet};

use host::seam::Host;
use model::{
    boot::{Boot, Chap, Secret, Wanted, exports},
    desired::{BootMode, Device, tree},
    name::{BootId, DeviceName, Iqn},
    observed::GenerationId,
    plan,
    step::{Resource, Step},
};
use rand::{RngExt as _, distr::Alphanumeric};
use tokio::sync::oneshot;

use super::Owner;
use crate::boot::{ProvisionError, Provisioned};

/// A device that asked to boot.
pub(super) struct Asked {
    pub(super) device: DeviceName,
    pub(super) generation: u32,
    pub(super) reply: oneshot::Sender<Result<Provisioned, ProvisionError>>,
}

impl Asked {
    fn answer(self, answer: Result<Provisioned, ProvisionError>) {
        // The device may have given up and asked again; its clone is ready all the same.
        let _gone = self.reply.send(answer);
    }
}

impl<H: Host> Owner<H> {
    /// Makes every device ready that asked. Each gets one new boot, however often it asked meanwhile.
    pub(super) async fn provision(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        if asked.is_empty() {
            return;
        }
        let mut sound = Vec::new();
        for one in asked {
            match self.new_boot(&one.device, one.generation) {
                Ok(boot) => sound.push((one, boot)),
                Err(error) => one.answer(Err(error)),
            }
        }
        // Of several requests of one device the last one counts, as it does for the device.
        let made: BTreeMap<DeviceName, Boot> =
            sound.iter().map(|(one, boot)| (one.device.clone(), boot.clone())).collect();
        self.boots.extend(made.clone());
        if let Err(error) = self.store.keep_boots(&self.boots) {
            tracing::error!(%error, "boots can't be kept");
            let what = "the server can't write to its own disk".to_owned();
            sound.into_iter().for_each(|(one, _)| {
                one.answer(Err(ProvisionError::Failed { what: what.clone() }))
            });
            return;
        }
        let failed = self.make_ready(&made).await;
        let mut ready = self.outcomes(&made, &failed);
        self.drain();
        let meanwhile = std::mem::take(&mut self.asked);
        let (again, later): (Vec<_>, Vec<_>) = meanwhile.into_iter().partition(|one| {
            made.get(&one.device).is_some_and(|boot| boot.generation == one.generation)
        });
        self.asked = later;
        for one in sound.into_iter().map(|(one, _)| one).chain(again) {
            let outcome = ready.get_mut(&one.device).cloned();
            one.answer(outcome.unwrap_or_else(|| {
                Err(ProvisionError::Failed { what: "the device is gone".to_owned() })
            }));
        }
    }

    /// Tells everybody who asked that it can't be done now.
    pub(super) fn refuse_asked(&mut self, what: &str) {
        for one in std::mem::take(&mut self.asked) {
            one.answer(Err(ProvisionError::Failed { what: what.to_owned() }));
        }
    }

    /// A new boot of a device, when all that it will boot from is there.
    fn new_boot(&self, device: &DeviceName, generation: u32) -> Result<Boot, ProvisionError> {
        let not_ready = |what: String| ProvisionError::NotReady { what };
        let known = self
            .desired
            .device(device)
            .ok_or_else(|| not_ready(format!("{device} is not known any more")))?;
        let group = self.desired.group(&known.group);
        let pool = group.and_then(|group| self.desired.pool_of(group));
        let (Some(group), Some(pool)) = (group, pool) else {
            return Err(not_ready(format!("{device} has no image")));
        };
        let snapshot = tree::generation(pool, &group.name, generation);
        let standing = self.picture.state.datasets.get(&snapshot.dataset);
        if !standing
            .is_some_and(|state| state.mark.is_some() && state.snapshots.contains(&snapshot.tag))
        {
            let why = self.why(&[Resource::Dataset(snapshot.dataset.clone())]);
            return Err(not_ready(why.unwrap_or_else(|| {
                format!("generation {generation} of {} is not there yet", group.name)
            })));
        }
        let id = GenerationId { group: group.name.clone(), number: generation };
        if known.boot_mode == BootMode::Overlay && !self.picture.state.boot_files.contains_key(&id)
        {
            let why = self.why(&[Resource::BootFiles(id.clone())]);
            return Err(not_ready(
                why.unwrap_or_else(|| format!("the kernel of {id} is not there yet")),
            ));
        }
        Ok(boot(known, generation))
    }

    /// What is known of why a resource is not there.
    fn why(&self, resources: &[Resource]) -> Option<String> {
        let failure = resources.iter().find_map(|resource| self.failures.get(resource).cloned());
        failure.or_else(|| {
            let plan = plan(&self.desired, &self.boots, &self.picture.state);
            let mut waiting = plan.waiting.into_iter();
            waiting
                .find(|waiting| resources.contains(&waiting.resource))
                .map(|waiting| waiting.reason)
        })
    }

    /// Applies the steps that these devices need, and no others.
    async fn make_ready(
        &mut self,
        made: &BTreeMap<DeviceName, Boot>,
    ) -> BTreeMap<Resource, String> {
        let concerned = self.resources_of(made);
        let plan = plan(&self.desired, &self.boots, &self.picture.state);
        let mut failed = BTreeMap::new();
        let urgent =
            |step: &&Step| step.changes().iter().any(|resource| concerned.contains(resource));
        for step in plan.steps.iter().filter(urgent) {
            if super::blocked_by(step, &failed).is_none() {
                self.apply(step, &mut failed).await;
            }
        }
        failed
    }

    fn resources_of(&self, made: &BTreeMap<DeviceName, Boot>) -> BTreeSet<Resource> {
        let mut resources = BTreeSet::new();
        for (Wanted { export, .. }, _) in self.exports_of(made) {
            // A generation belongs to a whole group, and it stands: only what is the device's own is made for its boot.
            if !export.backing.read_only() {
                resources.insert(Resource::Dataset(export.backing.dataset().clone()));
            }
            resources.insert(Resource::Target(export.target));
        }
        resources
    }

    /// The exports that any of these devices uses, each once, with those of them that use it: a generation's has an entry for
    /// every device that runs.
    fn exports_of<'a>(
        &self,
        made: &'a BTreeMap<DeviceName, Boot>,
    ) -> Vec<(Wanted, Vec<&'a DeviceName>)> {
        let by_initiator: BTreeMap<Iqn, &DeviceName> =
            made.keys().map(|name| (Iqn::initiator(name), name)).collect();
        let all = exports(&self.desired, &self.boots).into_values();
        all.map(|wanted| {
            let initiators = wanted.export.acls.keys();
            let users = initiators.filter_map(|iqn| by_initiator.get(iqn).copied()).collect();
            (wanted, users)
        })
        .filter(|(_, users): &(_, Vec<_>)| !users.is_empty())
        .collect()
    }

    /// Whether each device's exports stand as they should.
    fn outcomes(
        &self,
        made: &BTreeMap<DeviceName, Boot>,
        failed: &BTreeMap<Resource, String>,
    ) -> BTreeMap<DeviceName, Result<Provisioned, ProvisionError>> {
        let mut outcomes: BTreeMap<DeviceName, Result<Provisioned, ProvisionError>> = made
            .iter()
            .map(|(name, boot)| (name.clone(), Ok(Provisioned { boot: boot.clone() })))
            .collect();
        for (Wanted { export, .. }, users) in self.exports_of(made) {
            let standing = self.picture.state.targets.get(&export.target);
            if standing.is_some_and(|target| target.export.as_ref() == Some(&export)) {
                continue;
            }
            let resources = [
                Resource::Target(export.target.clone()),
                Resource::Dataset(export.backing.dataset().clone()),
            ];
            let failure = resources.iter().find_map(|resource| failed.get(resource).cloned());
            let error = match failure {
                Some(what) => ProvisionError::Failed { what },
                None => ProvisionError::NotReady {
                    what: self
                        .why(&resources)
                        .unwrap_or_else(|| format!("{} is not there yet", export.target)),
                },
            };
            outcomes.extend(users.into_iter().map(|name| (name.clone(), Err(error.clone()))));
        }
        outcomes
    }
}

fn boot(device: &Device, generation: u32) -> Boot {
    Boot {
        id: boot_id(),
        generation,
        boot_mode: device.boot_mode,
        chap: Chap {
            user: device.name.to_string(),
            password: secret(),
            target_user: "clusterducks".to_owned(),
            target_password: secret(),
        },
    }
}

fn boot_id() -> BootId {
    let bytes: [u8; 16] = rand::rng().random();
    hex::encode(bytes).parse().expect("16 bytes are 32 digits")
}

/// 16 characters, the most that every initiator takes for CHAP (RFC 3720 asks for 96 bits; 16 of 62 letters are 95).
fn secret() -> Secret {
    Secret::new(rand::rng().sample_iter(Alphanumeric).take(16).map(char::from).collect::<String>())
}
