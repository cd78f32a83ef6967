//! Planning of the iSCSI targets.

use std::collections::BTreeSet;

use super::Planner;
use crate::{
    boot::{Acls, Backing, Export, Wanted},
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
                    shows_the_same(now, export) && !self.to_be_destroyed(&now.backing)
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

    /// Puts up what the boots need and is there to be shown. A device that boots from a target that stands costs its own entry
    /// there, however many others use it.
    pub(super) fn put_up_exports(&mut self) {
        for (target, Wanted { export, portals }) in std::mem::take(&mut self.wanted) {
            let standing = self.observed.targets.get(&target);
            let standing =
                standing.filter(|now| now.portals == portals && !self.closed.contains(&target));
            match standing.and_then(|now| now.export.as_ref()) {
                Some(now) if shows_the_same(now, &export) => {
                    self.set_acls(target, &now.acls, &export.acls);
                }
                _ if self.backing_is_ready(&export.backing) => {
                    self.step(Step::Export { export, portals });
                }
                _ => {}
            }
        }
    }

    fn set_acls(&mut self, target: Iqn, now: &Acls, wanted: &Acls) {
        if now == wanted {
            return;
        }
        let differs = |(initiator, chap): &(&Iqn, _)| now.get(*initiator) != Some(*chap);
        let set: Acls =
            wanted.iter().filter(differs).map(|(i, chap)| (i.clone(), chap.clone())).collect();
        let gone = |initiator: &&Iqn| !wanted.contains_key(*initiator);
        let remove: BTreeSet<Iqn> = now.keys().filter(gone).cloned().collect();
        self.step(Step::SetAcls { target, set, remove });
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

/// Whether two exports of one target differ in their initiators at most.
fn shows_the_same(one: &Export, other: &Export) -> bool {
    one.backing == other.backing && one.serial == other.serial
}
