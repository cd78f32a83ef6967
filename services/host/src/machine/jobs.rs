//! Jobs that outlast a step: imports and extractions. Each owns one zvol or one folder until it ends; the owner sees them in
//! the next observation.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use model::{
    desired::Source,
    name::{Dataset, Snapshot, VolumeName},
    observed::{GenerationId, Job},
};
use tokio::task::AbortHandle;

use super::Wake;
use crate::{bootfiles, image, seam::chain, zfs};

/// How long a job that may succeed the next time rests after a failure.
const REST: Duration = Duration::from_secs(60);
/// How long a job that can't succeed as things are rests: somebody may have mended the image.
const LONG_REST: Duration = Duration::from_secs(900);

/// A job, as its task and the owner share it.
#[derive(Debug, Clone)]
struct State {
    job: Job,
    forget_at: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a job failed: in words, and whether the same can succeed later.
struct Failure {
    message: String,
    retryable: bool,
}

/// All jobs of this life of the agent.
pub(super) struct Jobs {
    imports: BTreeMap<VolumeName, Slot>,
    extractions: BTreeMap<GenerationId, Slot>,
    wake: Wake,
}

impl Jobs {
    pub(super) fn new(wake: Wake) -> Self {
        Self { imports: BTreeMap::new(), extractions: BTreeMap::new(), wake }
    }

    pub(super) fn imports(&mut self) -> BTreeMap<VolumeName, Job> {
        list(&mut self.imports)
    }

    pub(super) fn extractions(&mut self) -> BTreeMap<GenerationId, Job> {
        list(&mut self.extractions)
    }

    /// Stops an import: its volume is about to go.
    pub(super) fn stop_import(&mut self, volume: &VolumeName) {
        self.imports.remove(volume);
    }

    /// Starts to fill a volume. One that runs for it, from another source, is stopped.
    pub(super) fn start_import(
        &mut self,
        volume: &VolumeName,
        dataset: Dataset,
        import: image::Import,
    ) {
        let source = Some(import.source.clone());
        let slot = self.start(source.clone(), move |state| async move {
            zfs::apply::wait_for_device(&dataset.device_path())
                .await
                .map_err(|error| failure(&error, true))?;
            let device_bytes = zfs::apply::zvol_size(&dataset)
                .await
                .map_err(|error| failure(&error, error.retryable()))?;
            let import = image::Import { device_bytes, ..import };
            let report = |progress: image::Progress| {
                set(
                    &state,
                    Job::Running {
                        phase: progress.phase.to_string(),
                        done_bytes: progress.done_bytes,
                        total_bytes: progress.total_bytes,
                        source: source.clone(),
                    },
                );
            };
            image::import(&import, &report)
                .await
                .map_err(|error| failure(&error, error.retryable()))
        });
        self.imports.insert(volume.clone(), slot);
    }

    /// Starts to read kernel and initrd out of a generation.
    pub(super) fn start_extraction(
        &mut self,
        generation: &GenerationId,
        snapshot: Snapshot,
        folder: PathBuf,
    ) {
        let id = generation.clone();
        let slot = self.start(None, move |_| async move {
            let device = snapshot.device_path();
            zfs::apply::wait_for_device(&device).await.map_err(|error| failure(&error, true))?;
            let extracted = bootfiles::extract(device.as_ref(), &folder, &id).await;
            extracted.map(drop).map_err(|error| failure(&error, error.retryable()))
        });
        self.extractions.insert(generation.clone(), slot);
    }

    fn start<F>(
        &self,
        source: Option<Source>,
        work: impl FnOnce(Arc<Mutex<State>>) -> F + Send + 'static,
    ) -> Slot
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let job = Job::Running {
            phase: "starting".to_owned(),
            done_bytes: 0,
            total_bytes: None,
            source: source.clone(),
        };
        let state = Arc::new(Mutex::new(State { job, forget_at: None }));
        let (shared, wake) = (Arc::clone(&state), Arc::clone(&self.wake));
        let task = tokio::spawn(async move {
            let outcome = work(Arc::clone(&shared)).await;
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(()) => state.job = Job::Done { source },
                Err(Failure { message, retryable }) => {
                    tracing::warn!(error = message, "job failed");
                    state.job = Job::Failed { message, source };
                    state.forget_at =
                        Some(Instant::now() + if retryable { REST } else { LONG_REST });
                }
            }
            drop(state);
            wake("job ended");
        });
        Slot { state, task: task.abort_handle() }
    }
}

fn set(state: &Mutex<State>, job: Job) {
    state.lock().unwrap_or_else(PoisonError::into_inner).job = job;
}

/// The jobs, without those that rested long enough after a failure: planning starts them again.
fn list<K: Ord + Clone>(slots: &mut BTreeMap<K, Slot>) -> BTreeMap<K, Job> {
    let now = Instant::now();
    slots.retain(|_, slot| {
        let forget_at = slot.state.lock().unwrap_or_else(PoisonError::into_inner).forget_at;
        forget_at.is_none_or(|at| at > now)
    });
    let job = |slot: &Slot| slot.state.lock().unwrap_or_else(PoisonError::into_inner).job.clone();
    slots.iter().map(|(key, slot)| (key.clone(), job(slot))).collect()
}

fn failure(error: &dyn std::error::Error, retryable: bool) -> Failure {
    Failure { message: chain(error), retryable }
}
