//! The one task that owns the machine: nobody else observes it or applies a step. It converges it to the document, and makes
//! devices ready to boot between any two steps of a long run.
//!
//! A run is: observe, plan, apply in order, plan again, until nothing is left; a failed step fails its resources and what needs
//! them, and the rest goes on. Between observations the owner keeps its picture of the machine up to date by the effect of each
//! step that succeeded, so that a boot need not wait for a listing of thousands of datasets.

mod metrics;
mod provision;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use host::{seam::Host, sim::SimHost};
use model::{
    Plan,
    boot::Boots,
    desired::Desired,
    name::DeviceName,
    observed::Observed,
    plan,
    step::{Resource, Step},
    wire::EventKind,
};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};

use self::metrics::Metrics;
use crate::{
    boot::{ProvisionError, Provisioned, events::Events, view::View},
    clock,
    seed::Seed,
    store::{self, Store},
};

/// How long a converged machine is left alone before it is looked at again.
const QUIET: Duration = Duration::from_secs(60);
/// How long until a run after a failure, or while jobs run.
const RETRY: Duration = Duration::from_secs(5);
/// Rounds of one run; a plan takes three from a blank server (pool, tree, what hangs on jobs).
const ROUNDS: usize = 8;
/// Of a step that succeeded, and that the next observation asks for again.
const DID_NOT_HOLD: &str = "it was done, and the machine does not show it; see the server's log";
/// Why a run began: a device asked to boot.
const BOOT: &str = "boot";
/// Why a run began: a document came into force.
const DOCUMENT: &str = "document";

/// What others ask of the owner.
pub enum Request {
    /// Puts a document in force. It is valid already.
    Apply {
        /// The document.
        desired: Box<Desired>,
        /// Answered when it is kept on the disk.
        reply: oneshot::Sender<Result<(), ApplyError>>,
    },
    /// Makes a device ready to boot.
    Provision {
        /// Which.
        device: DeviceName,
        /// The generation it shall boot.
        generation: u32,
        /// Answered when the device can boot.
        reply: oneshot::Sender<Result<Provisioned, ProvisionError>>,
    },
    /// Something happened on the machine.
    Wake(&'static str),
}

/// Why a valid document was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A newer one is in force.
    #[error("the document has generation {offered}, and {current} is in force already")]
    Late {
        /// The document's.
        offered: u64,
        /// The one in force.
        current: u64,
    },
    /// Another document of the same generation is in force.
    #[error(
        "another document with generation {0} is in force; a changed document needs a higher number"
    )]
    Changed(u64),
    /// It could not be kept on the disk.
    #[error("the document could not be kept")]
    Store(#[from] store::Error),
}

/// What the owner shows of itself.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The generation of the document in force.
    pub generation: u64,
    /// Whether the machine is as the document wants it.
    pub converged: bool,
    /// What failed, and why.
    pub failures: BTreeMap<Resource, String>,
    /// What waits, and for what.
    pub waiting: Vec<model::plan::Waiting>,
    /// The machine as it was last seen.
    pub observed: Arc<Observed>,
}

/// The way to the owner.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<Arc<View>>,
    status: watch::Receiver<Status>,
    beat: Arc<Mutex<Instant>>,
}

impl Handle {
    /// Sends a request; false when the owner is gone.
    pub async fn send(&self, request: Request) -> bool {
        self.requests.send(request).await.is_ok()
    }

    /// How long the owner has not got on: it is at one step, or hangs.
    pub fn idle_for(&self) -> Duration {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// The document in force and the boot files.
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// What the owner shows of itself; the receiver wakes at each change.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

/// The owner.
pub struct Owner<H> {
    host: H,
    seed: Seed,
    store: Store,
    events: Arc<Events>,
    requests: mpsc::Receiver<Request>,
    beat: Arc<Mutex<Instant>>,
    /// The document as it was sent.
    document: Desired,
    /// The document with what the seed file fills in: what the machine is converged to.
    desired: Desired,
    boots: Boots,
    /// The machine as last observed, brought forward by each step since.
    picture: SimHost,
    /// The picture may be wrong: a step failed or the machine was not observed yet.
    stale: bool,
    observed_at: Instant,
    failures: BTreeMap<Resource, String>,
    converged: bool,
    asked: Vec<provision::Asked>,
    view: watch::Sender<Arc<View>>,
    status: watch::Sender<Status>,
    metrics: Metrics,
}

impl<H: Host> Owner<H> {
    /// Takes over the machine with the state that was kept; its metrics are registered in `registry`.
    ///
    /// # Errors
    /// The kept state can't be read.
    pub fn new(
        make_host: impl FnOnce(Box<dyn Fn(&'static str) + Send + Sync>) -> H,
        seed: Seed,
        store: Store,
        events: Arc<Events>,
        registry: &mut Registry,
    ) -> Result<(Self, Handle), store::Error> {
        let (document, boots) = (store.desired()?, store.boots()?);
        let mut desired = document.clone();
        seed.complete(&mut desired);
        let (sender, requests) = mpsc::channel(4096);
        let wake = sender.downgrade();
        let host = make_host(Box::new(move |reason| {
            // A full queue wakes the owner as well.
            let _full = wake.upgrade().map(|requests| requests.try_send(Request::Wake(reason)));
        }));
        let beat = Arc::new(Mutex::new(Instant::now()));
        let (view, view_receiver) =
            watch::channel(Arc::new(View::new(desired.clone(), BTreeMap::new())));
        let (status, status_receiver) =
            watch::channel(Status { generation: desired.generation, ..Status::default() });
        let owner = Self {
            host,
            seed,
            store,
            events,
            requests,
            document,
            desired,
            boots,
            beat: Arc::clone(&beat),
            picture: SimHost::default(),
            stale: true,
            observed_at: Instant::now(),
            failures: BTreeMap::new(),
            converged: false,
            asked: Vec::new(),
            view,
            status,
            metrics: Metrics::register(registry, status_receiver.clone()),
        };
        Ok((owner, Handle { requests: sender, view: view_receiver, status: status_receiver, beat }))
    }

    /// Works until nobody can send a request any more.
    pub async fn run(mut self) {
        let mut reason = "start";
        loop {
            let started = Instant::now();
            self.beat();
            self.converge(reason).await;
            let took = started.elapsed();
            self.metrics.time_run(took.as_secs_f64());
            tracing::debug!(
                reason,
                ms = took.as_millis() as u64,
                converged = self.converged,
                "run"
            );
            let pause = if self.converged { QUIET } else { RETRY };
            self.beat();
            reason = match tokio::time::timeout(pause, self.requests.recv()).await {
                Err(_) => "timer",
                Ok(None) => return,
                Ok(Some(request)) => self.take(request),
            };
            // The one who sent wakes this task before any other that is about to send: without letting them go first, devices
            // that ask in the same moment would be made ready one by one.
            tokio::task::yield_now().await;
        }
    }

    /// One run. Devices that asked to boot go first, by the picture; only a picture that may be wrong is renewed before.
    async fn converge(&mut self, reason: &'static str) {
        let mut failed: BTreeMap<Resource, String> = BTreeMap::new();
        let mut look = reason != BOOT || self.observed_at.elapsed() > QUIET;
        self.drain();
        if !self.stale {
            self.provision().await;
        }
        let mut done: Vec<Step> = Vec::new();
        let mut rounds = 0;
        while rounds < ROUNDS {
            if (look || self.stale) && !self.observe().await {
                self.refuse_asked("the server can't read its own state");
                return;
            }
            self.provision().await;
            let plan = plan(&self.desired, &self.boots, &self.picture.state);
            for step in plan.steps.iter().filter(|step| done.contains(step)) {
                if blocked_by(step, &failed).is_some() {
                    continue;
                }
                tracing::warn!(?step, "did not hold");
                let undone = |resource| (resource, DID_NOT_HOLD.to_owned());
                failed.extend(step.changes().into_iter().map(undone));
            }
            if plan.steps.iter().all(|step| blocked_by(step, &failed).is_some()) {
                break;
            }
            look = self.apply_all(&plan, &mut failed).await == Applied::Whole;
            done = if look { plan.steps } else { Vec::new() };
            rounds += usize::from(look);
        }
        self.conclude(failed);
    }

    /// Applies a plan in order. Requests that came in are taken between any two steps; they can change what is planned, so the
    /// rest is left to the next plan then.
    async fn apply_all(&mut self, plan: &Plan, failed: &mut BTreeMap<Resource, String>) -> Applied {
        for step in &plan.steps {
            if let Some(broken) = blocked_by(step, failed) {
                tracing::debug!(%step, %broken, "left out");
                continue;
            }
            self.apply(step, failed).await;
            if self.drain() {
                return Applied::Part;
            }
        }
        Applied::Whole
    }

    async fn apply(&mut self, step: &Step, failed: &mut BTreeMap<Resource, String>) {
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

    fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn observe(&mut self) -> bool {
        self.beat();
        match self.host.observe().await {
            Ok(observed) => {
                self.picture.state = observed;
                self.stale = false;
                self.observed_at = Instant::now();
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

    /// Compares the failures with those of the last run, tells what changed, and shows the new status.
    fn conclude(&mut self, failed: BTreeMap<Resource, String>) {
        let plan = plan(&self.desired, &self.boots, &self.picture.state);
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
        let converged =
            plan.steps.is_empty() && plan.waiting.is_empty() && self.failures.is_empty();
        if converged && !self.converged {
            tracing::info!(
                generation = self.desired.generation,
                "the machine is as the document wants it"
            );
            self.events.publish(now, EventKind::Converged { generation: self.desired.generation });
        }
        self.converged = converged;
        self.publish_status(plan.waiting);
    }

    /// Shows the boot service the document and the boot files, when either changed.
    fn publish(&mut self) {
        let boot_files = &self.picture.state.boot_files;
        self.view.send_if_modified(|view| {
            if *view.desired() == self.desired && view.all_boot_files() == boot_files {
                return false;
            }
            *view = Arc::new(View::new(self.desired.clone(), boot_files.clone()));
            true
        });
    }

    fn publish_status(&self, waiting: Vec<model::plan::Waiting>) {
        self.status.send_replace(Status {
            generation: self.desired.generation,
            converged: self.converged,
            failures: self.failures.clone(),
            waiting,
            observed: Arc::new(self.picture.state.clone()),
        });
    }

    /// Takes every request that waits, without waiting for more; answers whether planning has to see them now.
    fn drain(&mut self) -> bool {
        let mut urgent = false;
        while let Ok(request) = self.requests.try_recv() {
            urgent |= matches!(self.take(request), BOOT | DOCUMENT);
        }
        urgent
    }

    /// Takes one request, and answers why there is something to do now.
    fn take(&mut self, request: Request) -> &'static str {
        match request {
            Request::Wake(reason) => reason,
            Request::Apply { desired, reply } => {
                let answer = self.put_in_force(*desired);
                // The one who asked may have gone; the document is in force all the same.
                let _gone = reply.send(answer);
                DOCUMENT
            }
            Request::Provision { device, generation, reply } => {
                self.asked.push(provision::Asked { device, generation, reply });
                BOOT
            }
        }
    }

    fn put_in_force(&mut self, desired: Desired) -> Result<(), ApplyError> {
        let (offered, current) = (desired.generation, self.desired.generation);
        if offered < current {
            return Err(ApplyError::Late { offered, current });
        }
        if desired == self.document {
            return Ok(());
        }
        if offered == current {
            return Err(ApplyError::Changed(current));
        }
        self.store.keep_desired(&desired)?;
        self.document = desired.clone();
        self.desired = desired;
        self.seed.complete(&mut self.desired);
        self.boots.retain(|device, _| self.desired.device(device).is_some());
        self.store.keep_boots(&self.boots)?;
        self.converged = false;
        tracing::info!(generation = offered, "document in force");
        self.events.publish(clock::now_ms(), EventKind::Applied { generation: offered });
        self.publish();
        self.publish_status(Vec::new());
        Ok(())
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

/// The failed resource that keeps a step from making sense.
fn blocked_by<'a>(step: &Step, failed: &'a BTreeMap<Resource, String>) -> Option<&'a Resource> {
    let concerned = step.needs().into_iter().chain(step.changes());
    concerned
        .filter_map(|resource| failed.get_key_value(&resource))
        .map(|(resource, _)| resource)
        .next()
}
