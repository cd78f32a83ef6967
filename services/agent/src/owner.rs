//! The one task that owns the machine: nobody else observes it or applies a step. It converges it to the document, and makes
//! devices ready to boot between any two steps of a long run.
//!
//! Between observations the owner keeps its picture of the machine up to date by the effect of each step that succeeded, so that
//! a boot need not wait for a listing of thousands of datasets. Here is who asks it for what; `converge` is one run, `provision` a
//! batch of boots, `elsewhere` who may have one, `ended` when it is over.

mod converge;
mod elsewhere;
mod ended;
mod metrics;
mod provision;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use host::{seam::Host, sim::SimHost};
use model::{
    Document, boot::Boots, desired::Desired, name::DeviceName, observed::Observed, plan::Waiting,
    step::Resource, wire::EventKind,
};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};

use self::metrics::Metrics;
use crate::{
    boot::{ProvisionError, Provisioned, events::Events, view::View},
    clock,
    seed::Seed,
    store::{self, Store, boots::BootLog},
};

/// How long a converged machine is left alone before it is looked at again.
const QUIET: Duration = Duration::from_secs(60);
/// How long until a run after a failure, or while jobs run.
const RETRY: Duration = Duration::from_secs(5);
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
        /// The address that it asks from.
        from: Ipv4Addr,
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
    pub waiting: Vec<Waiting>,
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
    boot_log: BootLog,
    events: Arc<Events>,
    requests: mpsc::Receiver<Request>,
    beat: Arc<Mutex<Instant>>,
    /// The document as it was sent.
    sent: Desired,
    /// The document with what the seed file fills in: what the machine is converged to.
    document: Arc<Document>,
    boots: Boots,
    /// The machine as last observed, brought forward by each step since.
    picture: SimHost,
    /// The picture may be wrong: a step failed or the machine was not observed yet.
    stale: bool,
    observed_at: Instant,
    failures: BTreeMap<Resource, String>,
    converged: bool,
    left: ended::Left,
    asked: Vec<provision::Asked>,
    /// Those who may be others than they say: the machine is looked at first.
    doubtful: Vec<provision::Asked>,
    /// Boots that were ready when nobody waited for them any more.
    unclaimed: Boots,
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
        let (sent, (boot_log, mut boots)) = (store.desired()?, store.boots()?);
        let document = complete(&seed, &sent);
        boots.retain(|device, _| document.device(device).is_some());
        let (sender, requests) = mpsc::channel(4096);
        let wake = sender.downgrade();
        let host = make_host(Box::new(move |reason| {
            // A full queue wakes the owner as well.
            let _full = wake.upgrade().map(|requests| requests.try_send(Request::Wake(reason)));
        }));
        let beat = Arc::new(Mutex::new(Instant::now()));
        let shown = View::new(Arc::clone(&document), BTreeMap::new());
        let (view, view_receiver) = watch::channel(Arc::new(shown));
        let (status, status_receiver) =
            watch::channel(Status { generation: document.generation, ..Status::default() });
        let owner = Self {
            host,
            seed,
            store,
            boot_log,
            events,
            requests,
            sent,
            document,
            boots,
            beat: Arc::clone(&beat),
            picture: SimHost::default(),
            stale: true,
            observed_at: Instant::now(),
            failures: BTreeMap::new(),
            converged: false,
            left: ended::Left::new(),
            asked: Vec::new(),
            doubtful: Vec::new(),
            unclaimed: Boots::new(),
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
            reason = if self.asked.is_empty() {
                match tokio::time::timeout(pause, self.requests.recv()).await {
                    Err(_) => "timer",
                    Ok(None) => return,
                    Ok(Some(request)) => self.take(request).await,
                }
            } else {
                // They came while others were made ready.
                BOOT
            };
            // The one who sent wakes this task before any other that is about to send: without letting them go first, devices
            // that ask in the same moment would be made ready one by one.
            tokio::task::yield_now().await;
        }
    }

    fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Takes every request that waits, without waiting for more; answers whether planning has to see them now.
    async fn drain(&mut self) -> bool {
        let mut urgent = false;
        while let Ok(request) = self.requests.try_recv() {
            urgent |= matches!(self.take(request).await, BOOT | DOCUMENT);
        }
        urgent
    }

    /// Takes one request, and answers why there is something to do now.
    async fn take(&mut self, request: Request) -> &'static str {
        match request {
            Request::Wake(reason) => reason,
            Request::Apply { desired, reply } => {
                let answer = self.put_in_force(*desired).await;
                // The one who asked may have gone; the document is in force all the same.
                let _gone = reply.send(answer);
                DOCUMENT
            }
            Request::Provision { device, generation, from, reply } => {
                let at = Instant::now();
                self.asked.push(provision::Asked { device, generation, from, at, reply });
                BOOT
            }
        }
    }

    async fn put_in_force(&mut self, desired: Desired) -> Result<(), ApplyError> {
        let (offered, current) = (desired.generation, self.sent.generation);
        if offered < current {
            return Err(ApplyError::Late { offered, current });
        }
        if desired == self.sent {
            return Ok(());
        }
        if offered == current {
            return Err(ApplyError::Changed(current));
        }
        self.store.keep_desired(&desired)?;
        self.document = complete(&self.seed, &desired);
        self.sent = desired;
        self.converged = false;
        tracing::info!(generation = offered, "document in force");
        self.events.publish(clock::now_ms(), EventKind::Applied { generation: offered });
        self.publish();
        self.publish_status(Vec::new());
        let unknown = |device: &&DeviceName| self.document.device(device).is_none();
        let gone: Vec<DeviceName> = self.boots.keys().filter(unknown).cloned().collect();
        if let Err(error) = self.forget_boots(gone).await {
            let error = host::seam::chain(&error);
            tracing::warn!(error, "the boots of devices that are gone can't be taken off the disk");
        }
        Ok(())
    }

    /// Shows the boot service the document and the boot files, when either changed.
    fn publish(&mut self) {
        let boot_files = &self.picture.state.boot_files;
        self.view.send_if_modified(|view| {
            if Arc::ptr_eq(view.document(), &self.document) && view.all_boot_files() == boot_files {
                return false;
            }
            *view = Arc::new(View::new(Arc::clone(&self.document), boot_files.clone()));
            true
        });
    }

    fn publish_status(&self, waiting: Vec<Waiting>) {
        self.status.send_replace(Status {
            generation: self.document.generation,
            converged: self.converged,
            failures: self.failures.clone(),
            waiting,
            observed: Arc::new(self.picture.state.clone()),
        });
    }
}

fn complete(seed: &Seed, sent: &Desired) -> Arc<Document> {
    let mut desired = sent.clone();
    seed.complete(&mut desired);
    Arc::new(Document::new(desired))
}
