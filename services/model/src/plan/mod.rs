//! Planning: what to change so that the machine becomes what the document and the boots ask for.
//!
//! Pure: no clock, no I/O. Removal comes first and in reverse order of dependence, then what is built, parents first. A plan
//! only counts on what it observed or on its own earlier steps; what it can't know yet (the content of a pool that is not
//! imported) it leaves to the next plan. Once all steps are done the next plan is empty, whatever prefix was done before.

mod exports;
mod machine;
mod own;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Document,
    boot::{Boots, Wanted, exports},
    name::{Dataset, Iqn, Snapshot},
    observed::Observed,
    step::{Resource, Step},
};

/// What to do, and what can't be done by us.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they are applied.
    pub steps: Vec<Step>,
    /// What the document asks for and no step of ours can bring about now.
    pub waiting: Vec<Waiting>,
}

/// A resource that waits for something outside the agent's power, or for a job of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which.
    pub resource: Resource,
    /// What for, in words that an admin can act on.
    pub reason: String,
}

/// Compares what is wanted with what was observed.
pub fn plan(desired: &Document, boots: &Boots, observed: &Observed) -> Plan {
    let mut planner = Planner {
        desired,
        boots,
        observed,
        plan: Plan::default(),
        wanted: exports(desired, boots),
        made: BTreeSet::new(),
        taken: BTreeSet::new(),
        closed: BTreeSet::new(),
        gone: BTreeSet::new(),
    };
    planner.take_down_exports();
    planner.destroy();
    planner.server_name();
    planner.leases();
    planner.links();
    planner.name_service();
    planner.clock();
    planner.pools();
    planner.storage();
    planner.make_new();
    planner.boot_files();
    planner.put_up_exports();
    planner.dhcp();
    planner.plan
}

/// A plan in the making.
struct Planner<'a> {
    desired: &'a Document,
    boots: &'a Boots,
    observed: &'a Observed,
    plan: Plan,
    /// The exports that the document and the boots ask for.
    wanted: BTreeMap<Iqn, Wanted>,
    /// Datasets that earlier steps of this plan make.
    made: BTreeSet<Dataset>,
    /// Snapshots that earlier steps of this plan take.
    taken: BTreeSet<Snapshot>,
    /// Targets that earlier steps of this plan take down.
    closed: BTreeSet<Iqn>,
    /// Datasets that earlier steps of this plan destroy.
    gone: BTreeSet<Dataset>,
}

impl Planner<'_> {
    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn take_snapshot(&mut self, snapshot: Snapshot) {
        self.taken.insert(snapshot.clone());
        self.step(Step::TakeSnapshot(snapshot));
    }

    fn wait(&mut self, resource: Resource, reason: impl Into<String>) {
        self.plan.waiting.push(Waiting { resource, reason: reason.into() });
    }
}
