//! Planning of the iSCSI targets.

use super::Planner;
use crate::{
    boot::{Backing, Wanted},
    name::{Iqn, Mark},
    step::Step,
};

impl Planner<'_> {
    /// Takes down what no boot needs, what is half made, and what shows another object than it should.
    pub(super) fn take_down_exports(&mut self) {
        let observed = self.observed;
        for (target, state) in &observed.targets {
            let sound = state.export.as_ref().zip(self.wanted.get(target)).is_some_and(
                |(now, Wanted { export, .. })| {
                    now.backing == export.backing
                        && now.serial == export.serial
                        && !self.to_be_destroyed(&now.backing)
                },
            );
            if !sound {
                self.close(target);
            }
        }
    }

    fn to_be_destroyed(&self, backing: &Backing) -> bool {
        let state = self.observed.datasets.get(backing.dataset());
        state
            .and_then(|state| state.mark.as_ref())
            .is_some_and(|mark| self.desired.destroy.contains(mark))
    }

    /// Takes a target down, once.
    pub(super) fn close(&mut self, target: &Iqn) {
        if self.observed.targets.contains_key(target) && self.closed.insert(target.clone()) {
            self.step(Step::Unexport(target.clone()));
        }
    }

    /// Puts up what the boots need and is there to be shown.
    pub(super) fn put_up_exports(&mut self) {
        for (target, Wanted { export, portals }) in std::mem::take(&mut self.wanted) {
            let standing =
                self.observed.targets.get(&target).filter(|_| !self.closed.contains(&target));
            let same = standing
                .is_some_and(|now| now.export.as_ref() == Some(&export) && now.portals == portals);
            if !same && self.backing_is_ready(&export.backing) {
                self.step(Step::Export { export, portals });
            }
        }
    }

    fn backing_is_ready(&self, backing: &Backing) -> bool {
        match backing {
            Backing::Snapshot(snapshot) => self.has(snapshot),
            Backing::Zvol(dataset) => {
                let standing =
                    self.observed.datasets.get(dataset).filter(|_| !self.gone.contains(dataset));
                let ours = |mark: &Mark| matches!(mark, Mark::Device(_) | Mark::Vdisk(_));
                self.made.contains(dataset)
                    || standing.is_some_and(|state| state.mark.as_ref().is_some_and(ours))
            }
        }
    }
}
