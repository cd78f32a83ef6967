//! The boot service: what devices hear on the netboot interface, from iPXE's first script to `up`.
//!
//! It reads the document through [`View`] and asks the owner of the machine to make devices ready through [`Provisioner`].
//! It must never change the machine itself, nor write a file.
//!
//! A tour: [`routes`] holds the one route table; [`script`] decides what a machine gets and [`ipxe`] writes it down;
//! [`grants`] keeps the tokens that [`metadata`] is given for; [`files`] streams; [`serve`] holds the connections and their
//! limits; [`events`], [`discovered`] and [`metrics`] are what the rest of the agent sees of it.

pub mod discovered;
pub mod events;
pub mod files;
pub mod grants;
pub mod ipxe;
pub mod metadata;
pub mod metrics;
pub mod routes;
pub mod script;
pub mod serve;
pub mod text;
pub mod view;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{
    boot::Boot,
    name::{BootId, DeviceName, NetworkName},
    wire::{BootStep, EventKind},
};
use prometheus_client::registry::Registry;

use self::{
    discovered::Discoveries, events::Events, grants::Grants, metadata::Seed, metrics::Metrics,
};
pub use self::{routes::router, view::View};

/// Addresses at which a device was refused that are told between two of its boots.
const TOLD_REFUSALS: usize = 8;

/// What the boot service asks of the one who owns the machine.
pub trait Provisioner: Send + Sync + 'static {
    /// Makes the device, which asks from this address, ready to boot `generation` in its boot mode: clone, LUN, secrets. Answers
    /// when all of it was observed done. Two requests of one device in the same moment provision once. The future may be dropped before it answers;
    /// the work then goes on, and the device's next request finds it done.
    fn provision(
        &self,
        device: DeviceName,
        generation: u32,
        from: Ipv4Addr,
    ) -> impl Future<Output = Result<Provisioned, ProvisionError>> + Send;

    /// The document in force and what is needed of the observed state.
    fn view(&self) -> Arc<View>;
}

/// A device that is ready to boot.
#[derive(Debug, Clone)]
pub struct Provisioned {
    /// The boot it was made ready for.
    pub boot: Boot,
}

/// Why a device can't boot now. The text is shown on the device's screen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionError {
    /// Something that it needs is not there yet; the device asks again by itself.
    #[error("{what}")]
    NotReady {
        /// What is awaited, as a sentence: `the image of group lab is still being imported`.
        what: String,
    },
    /// The device runs, at another address than the one that asks; the machine that asks is told to ask again.
    #[error("{device} runs{}; if this is {device}, it boots within a minute", at(.address))]
    Runs {
        /// Which.
        device: DeviceName,
        /// Where, when that is known.
        address: Option<Ipv4Addr>,
    },
    /// The machine refused.
    #[error("{what}")]
    Failed {
        /// What was tried and why it failed, as a sentence.
        what: String,
    },
}

fn at(address: &Option<Ipv4Addr>) -> String {
    address.map(|address| format!(" at {address}")).unwrap_or_default()
}

/// What does not change while the agent lives.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What machine ids are made of, beside the device's name.
    pub seed: Seed,
    /// Folder with the iPXE binaries; the same that TFTP shows.
    pub ipxe_folder: PathBuf,
    /// How long a device's request for its script may wait for provisioning before it is told to ask again.
    pub provision_timeout: Duration,
    /// Milliseconds since 1970.
    pub clock: fn() -> u64,
}

/// One address that devices reach the service by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The network that it stands in: only its subnet is answered, only its devices boot.
    pub network: NetworkName,
    /// How devices write it: scheme, host and, unless it is the scheme's own, port; no slash at the end.
    pub base_url: String,
}

/// The service. One for all endpoints.
pub struct BootService<P> {
    provisioner: P,
    settings: Settings,
    grants: Grants,
    discoveries: Discoveries,
    events: Arc<Events>,
    metrics: Metrics,
    /// The addresses that each device was refused at since its last boot, as far as they were told.
    refused: Mutex<HashMap<DeviceName, BTreeSet<Ipv4Addr>>>,
}

impl<P: Provisioner> BootService<P> {
    /// Makes the service; its metrics are registered in `registry`. `discoveries` are those that were saved.
    pub fn new(
        provisioner: P,
        settings: Settings,
        events: Arc<Events>,
        discoveries: Discoveries,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Metrics::register(registry);
        let (grants, refused) = Default::default();
        Self { provisioner, settings, grants, discoveries, events, metrics, refused }
    }

    /// Forgets tokens of devices that are gone, and discovered machines that are devices now. The owner calls it after a
    /// document came into force.
    pub fn document_changed(&self) {
        let view = self.provisioner.view();
        self.grants.forget_unknown(&view);
        self.refused().retain(|device, _| view.document().device(device).is_some());
        self.discoveries.forget_known(&view);
    }

    /// The machines that asked to boot and are not known.
    pub fn discoveries(&self) -> &Discoveries {
        &self.discoveries
    }

    /// Where the service counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Tells that a device's boot was asked for from a wrong address: once, however often it goes on to ask. Of one who takes
    /// ever new addresses only the first are told, or nothing else would be left among the events.
    fn note_refusal(&self, device: &DeviceName, address: Ipv4Addr, reason: String) {
        let new = {
            let mut refused = self.refused();
            let at = refused.entry(device.clone()).or_default();
            at.len() < TOLD_REFUSALS && at.insert(address)
        };
        if new {
            let kind = EventKind::Refused { device: device.clone(), address, reason };
            self.events.publish((self.settings.clock)(), kind);
        }
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<DeviceName, BTreeSet<Ipv4Addr>>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_step(&self, device: &DeviceName, boot: &BootId, step: BootStep, message: String) {
        if step == BootStep::Failed {
            tracing::warn!(%device, %boot, ?step, message, "boot step");
        } else {
            tracing::info!(%device, %boot, ?step, message, "boot step");
        }
        self.metrics.count_step(step);
        if step == BootStep::Up {
            self.refused().remove(device);
        }
        let kind = EventKind::Boot { device: device.clone(), boot: boot.clone(), step, message };
        self.events.publish((self.settings.clock)(), kind);
    }
}

impl<P> std::fmt::Debug for BootService<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootService").field("settings", &self.settings).finish_non_exhaustive()
    }
}
