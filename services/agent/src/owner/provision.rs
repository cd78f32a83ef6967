//! Making devices ready to boot: all that asked in the same moment in one batch, whose cost is that of its own devices beside
//! one plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Instant,
};

use host::seam::Host;
use model::{
    Plan,
    boot::{Backing, Boot, Boots, Chap, Secret, objects},
    desired::{BootMode, Device, tree},
    name::{BootId, DeviceName, Iqn},
    observed::GenerationId,
    plan::Waiting,
    step::{Resource, Step},
};
use rand::{RngExt as _, distr::Alphanumeric};
use tokio::sync::oneshot;

use super::{
    Owner,
    converge::{Failures, blocked_by},
};
use crate::{
    boot::{ProvisionError, Provisioned},
    store,
};

/// A device that asked to boot.
pub(super) struct Asked {
    pub(super) device: DeviceName,
    pub(super) generation: u32,
    pub(super) from: Ipv4Addr,
    pub(super) at: Instant,
    pub(super) reply: oneshot::Sender<Outcome>,
}

impl Asked {
    /// Answers; false when the one who asked has given up waiting.
    fn answer(self, answer: Outcome) -> bool {
        self.reply.send(answer).is_ok()
    }
}

/// What a boot needs and is not there; `what` says so when nobody knows why.
struct Missing {
    resources: Vec<Resource>,
    what: String,
}

/// What became of a boot.
type Outcome = Result<Provisioned, ProvisionError>;

/// Devices that asked in the same moment.
#[derive(Default)]
struct Batch {
    /// Their new boots.
    made: Boots,
    sound: Vec<Asked>,
    /// Those that can't boot yet.
    unready: Vec<(Asked, Missing)>,
}

fn missing(resources: impl Into<Vec<Resource>>, what: String) -> Missing {
    Missing { resources: resources.into(), what }
}

impl<H: Host> Owner<H> {
    /// Makes every device ready that asked. Each gets one new boot, however often it asked meanwhile. Answers what is left of
    /// the plan that was made for it, if it still counts.
    pub(super) async fn provision(&mut self) -> Option<Plan> {
        let asked = self.take_asked();
        if asked.is_empty() {
            return None;
        }
        let document = Arc::clone(&self.document);
        let Batch { mut made, mut sound, unready } = self.new_boots(asked);
        if let Err(error) = self.keep_boots(&made).await {
            tracing::error!(error = host::seam::chain(&error), "boots can't be kept");
            let what = "the server can't write to its own disk".to_owned();
            for one in std::mem::take(&mut sound) {
                one.answer(Err(ProvisionError::Failed { what: what.clone() }));
            }
            made.clear();
        }
        let mut plan = self.plan();
        for (one, missing) in unready {
            one.answer(Err(self.not_ready(missing, &plan.waiting)));
        }
        let failed = self.make_ready(&made, &mut plan).await;
        let outcome = |(name, boot)| (name, self.outcome(name, boot, &failed, &plan.waiting));
        let ready: BTreeMap<&DeviceName, Outcome> = made.iter().map(outcome).collect();
        self.drain().await;
        self.answer(sound, &made, &ready);
        Arc::ptr_eq(&document, &self.document).then_some(plan)
    }

    /// Those who are whom they say, as far as the server knows; the others wait until it has looked.
    fn take_asked(&mut self) -> Vec<Asked> {
        let asked = std::mem::take(&mut self.asked);
        let (doubtful, asked) = asked.into_iter().partition(|one| self.is_doubtful(one));
        self.doubtful.extend::<Vec<_>>(doubtful);
        asked
    }

    fn new_boots(&mut self, asked: Vec<Asked>) -> Batch {
        let mut batch = Batch::default();
        for one in asked {
            if let Some(ready) = self.unclaimed(&one) {
                one.answer(Ok(ready));
            } else if let Some(address) = self.runs_elsewhere(&one) {
                let device = one.device.clone();
                one.answer(Err(ProvisionError::Runs { device, address }));
            } else {
                match self.new_boot(&one) {
                    Ok(boot) => {
                        // Of several requests of one device the last one counts, as it does for the device.
                        batch.made.insert(one.device.clone(), boot);
                        batch.sound.push(one);
                    }
                    Err(missing) => batch.unready.push((one, missing)),
                }
            }
        }
        batch
    }

    /// Answers those for whom the boots were made, and those who asked for the same meanwhile. A boot is for the address that asked
    /// for it: who asked from elsewhere in the same moment is looked at for himself.
    fn answer(&mut self, sound: Vec<Asked>, made: &Boots, ready: &BTreeMap<&DeviceName, Outcome>) {
        let its = |one: &Asked| made.get(&one.device).filter(|boot| boot.from == one.from);
        let (sound, elsewhere): (Vec<_>, Vec<_>) =
            sound.into_iter().partition(|one| its(one).is_some());
        let (again, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.asked)
            .into_iter()
            .partition(|one| its(one).is_some_and(|boot| boot.generation == one.generation));
        self.asked = elsewhere.into_iter().chain(later).collect();
        let mut unclaimed: BTreeSet<&DeviceName> = made.keys().collect();
        for one in sound.into_iter().chain(again) {
            let Some((device, outcome)) = ready.get_key_value(&one.device) else { continue };
            if one.answer(outcome.clone()) {
                unclaimed.remove(*device);
            }
        }
        let unclaimed = unclaimed.into_iter().map(|device| (device.clone(), made.get(device)));
        self.unclaimed.extend(unclaimed.filter_map(|(device, boot)| Some((device, boot?.clone()))));
    }

    /// The boot that was ready when the device had given up waiting for it: it is as good as new. It goes on waiting when somebody
    /// else asks.
    fn unclaimed(&mut self, one: &Asked) -> Option<Provisioned> {
        let boot = self.unclaimed.get(&one.device)?;
        let newest = self.boots.get(&one.device) == Some(boot);
        if newest && (boot.generation != one.generation || boot.from != one.from) {
            return None;
        }
        let boot = self.unclaimed.remove(&one.device)?;
        let ready = || self.outcome(&one.device, &boot, &Failures::new(), &[]).ok();
        newest.then(ready).flatten()
    }

    /// Tells everybody who asked that it can't be done now.
    pub(super) fn refuse_asked(&mut self, what: &str) {
        let doubtful = std::mem::take(&mut self.doubtful);
        for one in std::mem::take(&mut self.asked).into_iter().chain(doubtful) {
            one.answer(Err(ProvisionError::Failed { what: what.to_owned() }));
        }
    }

    /// Puts new boots in the place of the devices' old ones, when they are kept on the disk.
    async fn keep_boots(&mut self, made: &Boots) -> Result<(), store::Error> {
        let old: Vec<_> = made
            .iter()
            .map(|(device, boot)| (device, self.boots.insert(device.clone(), boot.clone())))
            .collect();
        let kept = self.boot_log.keep(&self.boots, made.keys()).await;
        if kept.is_err() {
            for (device, boot) in old {
                match boot {
                    Some(boot) => drop(self.boots.insert(device.clone(), boot)),
                    None => drop(self.boots.remove(device)),
                }
            }
        }
        Ok(kept?)
    }

    /// Ends the boots of these devices. It counts in this life even when it can't be kept.
    pub(super) async fn forget_boots(&mut self, gone: Vec<DeviceName>) -> Result<(), store::Error> {
        for device in &gone {
            self.boots.remove(device);
        }
        Ok(self.boot_log.keep(&self.boots, &gone).await?)
    }

    /// A new boot of a device, when all that it will boot from is there.
    fn new_boot(&self, one: &Asked) -> Result<Boot, Missing> {
        let (device, generation) = (&one.device, one.generation);
        let unknown = |what| missing([], what);
        let document = &self.document;
        let known = document
            .device(device)
            .ok_or_else(|| unknown(format!("{device} is not known any more")))?;
        let group = document.group(&known.group);
        let pool = group.and_then(|group| document.pool_of(group));
        let (Some(group), Some(pool)) = (group, pool) else {
            return Err(unknown(format!("{device} has no image")));
        };
        let snapshot = tree::generation(pool, &group.name, generation);
        let standing = self.picture.state.datasets.get(&snapshot.dataset);
        if !standing
            .is_some_and(|state| state.mark.is_some() && state.snapshots.contains(&snapshot.tag))
        {
            let what = format!("generation {generation} of {} is not there yet", group.name);
            return Err(missing([Resource::Dataset(snapshot.dataset)], what));
        }
        let id = GenerationId { group: group.name.clone(), number: generation };
        if known.boot_mode == BootMode::Overlay && !self.picture.state.boot_files.contains_key(&id)
        {
            let what = format!("the kernel of {id} is not there yet");
            return Err(missing([Resource::BootFiles(id)], what));
        }
        Ok(boot(known, generation, one.from))
    }

    fn not_ready(&self, missing: Missing, waiting: &[Waiting]) -> ProvisionError {
        let failure = missing.resources.iter().find_map(|it| self.failures.get(it).cloned());
        let awaited = || {
            let awaited = waiting.iter().find(|one| missing.resources.contains(&one.resource));
            awaited.map(|one| one.reason.clone())
        };
        ProvisionError::NotReady { what: failure.or_else(awaited).unwrap_or(missing.what) }
    }

    /// Takes the steps that these devices need out of the plan and applies them.
    async fn make_ready(&mut self, made: &Boots, plan: &mut Plan) -> Failures {
        let concerned = self.resources_of(made);
        let urgent =
            |step: &mut Step| step.changes().iter().any(|resource| concerned.contains(resource));
        let steps: Vec<Step> = plan.steps.extract_if(.., urgent).collect();
        let mut failed = Failures::new();
        for step in &steps {
            if blocked_by(step, &failed).is_none() {
                self.apply(step, &mut failed).await;
            }
        }
        failed
    }

    fn resources_of(&self, made: &Boots) -> BTreeSet<Resource> {
        let mut resources = BTreeSet::new();
        for (device, boot) in made {
            let Some(device) = self.document.device(device) else { continue };
            for object in objects(&self.document, device, boot) {
                resources.insert(Resource::Target(object.target()));
                // A generation belongs to a whole group, and it stands: only what is the device's own is made for its boot.
                if let Backing::Zvol(dataset) = object.backing() {
                    resources.insert(Resource::Dataset(dataset));
                }
            }
        }
        resources
    }

    /// Whether all that the boot needs is exported to it.
    fn outcome(
        &self,
        name: &DeviceName,
        boot: &Boot,
        failed: &Failures,
        waiting: &[Waiting],
    ) -> Outcome {
        let gone = || ProvisionError::Failed { what: "the device is gone".to_owned() };
        let device = self.document.device(name).ok_or_else(gone)?;
        let initiator = Iqn::initiator(name);
        for object in objects(&self.document, device, boot) {
            let (target, backing) = (object.target(), object.backing());
            let standing = self.picture.state.targets.get(&target);
            let lets_in =
                standing.and_then(|target| target.export.as_ref()).is_some_and(|export| {
                    export.backing == backing && export.acls.get(&initiator) == Some(&boot.chap)
                });
            if lets_in {
                continue;
            }
            let what = format!("{target} is not there yet");
            let dataset = Resource::Dataset(backing.dataset().clone());
            let missing = missing([Resource::Target(target), dataset], what);
            let failure = missing.resources.iter().find_map(|it| failed.get(it).cloned());
            return Err(match failure {
                Some(what) => ProvisionError::Failed { what },
                None => self.not_ready(missing, waiting),
            });
        }
        Ok(Provisioned { boot: boot.clone() })
    }
}

fn boot(device: &Device, generation: u32, from: Ipv4Addr) -> Boot {
    Boot {
        id: boot_id(),
        generation,
        boot_mode: device.boot_mode,
        from,
        chap: Arc::new(Chap {
            user: device.name.to_string(),
            password: secret(),
            target_user: "clusterducks".to_owned(),
            target_password: secret(),
        }),
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
