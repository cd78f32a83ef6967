//! One run: observe, plan, apply in order, and again, until nothing is left. A failed step fails its resources and what needs them,
//! and the rest goes on. Devices that asked to boot go first.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use host::seam::Host;
use model::{
    Plan,
    plan::{self, Waiting},
    step::{Resource, Step},
    wire::EventKind,
};

use super::{BOOT, Owner, QUIET};
use crate::clock;

/// Rounds of one run; a plan takes three from a blank server (pool, tree, what hangs on jobs).
const ROUNDS: usize = 8;
/// Of a step that succeeded, and that the next observation asks for again.
const DID_NOT_HOLD: &str = "it was done, and the machine does not show it; see the server's log";

/// What failed in a run, and why.
pub(super) type Failures = BTreeMap<Resource, String>;

impl<H: Host> Owner<H> {
    /// Devices that asked are made ready by the picture; only a picture that may be wrong is renewed before. What is left of
    /// their plan is done after they were answered.
    pub(super) async fn converge(&mut self, reason: &'static str) {
        let mut failed = Failures::new();
        let mut look = reason != BOOT || self.observed_at.elapsed() > QUIET;
        let mut done: Vec<Step> = Vec::new();
        let mut waiting = Vec::new();
        let mut rounds = 0;
        self.drain().await;
        while rounds < ROUNDS {
            let begun = if self.stale { None } else { self.provision().await };
            if look || self.stale || !self.doubtful.is_empty() {
                if !self.observe().await {
                    self.refuse_asked("the server can't read its own state");
                    return;
                }
                self.end_boots().await;
                look = false;
                continue;
            }
            let plan = begun.unwrap_or_else(|| self.plan());
            note_undone(&plan, &done, &mut failed);
            if plan.steps.iter().all(|step| blocked_by(step, &failed).is_some()) {
                waiting = plan.waiting;
                break;
            }
            look = self.apply_all(&plan, &mut failed).await == Applied::Whole;
            waiting = plan.waiting;
            done = if look { plan.steps } else { Vec::new() };
            rounds += usize::from(look);
        }
        self.conclude(failed, waiting, rounds < ROUNDS);
    }

    pub(super) fn plan(&self) -> Plan {
        plan::plan(&self.document, &self.boots, &self.picture.state)
    }

    /// Applies a plan in order. Requests that came in are taken between any two steps; they can change what is planned, so the
    /// rest is left to the next plan then. Who asked while others were made ready waits for one step, not for the rest of a plan.
    async fn apply_all(&mut self, plan: &Plan, failed: &mut Failures) -> Applied {
        for step in &plan.steps {
            if let Some(broken) = blocked_by(step, failed) {
                tracing::debug!(%step, %broken, "left out");
                continue;
            }
            self.apply(step, failed).await;
            if self.drain().await || !self.asked.is_empty() {
                return Applied::Part;
            }
        }
        Applied::Whole
    }

    pub(super) async fn apply(&mut self, step: &Step, failed: &mut Failures) {
        self.beat();
        let started = Instant::now();
        let applied = self.host.apply(step).await;
        self.metrics.count_step(step, applied.is_ok());
        match applied {
            Ok(()) => {
                tracing::info!(%step, ms = started.elapsed().as_millis() as u64, "applied");
                if self.picture.change(step).is_err() {
                    self.stale = true;
                }
            }
            Err(error) => {
                let message = error.chain();
                tracing::warn!(%step, error = message, "step failed");
                self.stale = true;
                failed
                    .extend(step.changes().into_iter().map(|resource| (resource, message.clone())));
            }
        }
    }

    async fn observe(&mut self) -> bool {
        self.beat();
        let begun = Instant::now();
        match self.host.observe().await {
            Ok(observed) => {
                self.picture.state = observed;
                self.stale = false;
                self.observed_at = begun;
                self.asked.append(&mut self.doubtful);
                self.publish();
                true
            }
            Err(error) => {
                let message = error.chain();
                tracing::error!(error = message, "the machine can't be observed");
                self.converged = false;
                false
            }
        }
    }

    /// Compares the failures with those of the last run, tells what changed, and shows the new status. `settled` says that
    /// nothing was left to do but what failed.
    fn conclude(&mut self, failed: Failures, waiting: Vec<Waiting>, settled: bool) {
        let now = clock::now_ms();
        let all: BTreeSet<Resource> = failed.keys().chain(self.failures.keys()).cloned().collect();
        for resource in all {
            let failure = failed.get(&resource).cloned();
            if failure != self.failures.get(&resource).cloned() {
                let resource = resource.to_string();
                self.events.publish(now, EventKind::Resource { resource, failure });
            }
        }
        self.failures = failed;
        let converged = settled && waiting.is_empty() && self.failures.is_empty();
        if converged && !self.converged {
            let generation = self.document.generation;
            tracing::info!(generation, "the machine is as the document wants it");
            self.events.publish(now, EventKind::Converged { generation });
        }
        self.converged = converged;
        self.publish_status(waiting);
    }
}

/// How much of a plan was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applied {
    /// All that could be.
    Whole,
    /// Requests came in between.
    Part,
}

/// A step that was done and is planned again did not hold, unless it hangs on one that failed.
fn note_undone(plan: &Plan, done: &[Step], failed: &mut Failures) {
    for step in plan.steps.iter().filter(|step| done.contains(step)) {
        if blocked_by(step, failed).is_none() {
            tracing::warn!(?step, "did not hold");
            failed.extend(step.changes().into_iter().map(|it| (it, DID_NOT_HOLD.to_owned())));
        }
    }
}

/// The failed resource that keeps a step from making sense.
pub(super) fn blocked_by<'a>(step: &Step, failed: &'a Failures) -> Option<&'a Resource> {
    let concerned = step.needs().into_iter().chain(step.changes());
    concerned
        .filter_map(|resource| failed.get_key_value(&resource))
        .map(|(resource, _)| resource)
        .next()
}
