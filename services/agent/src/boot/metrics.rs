//! What the boot service counts, for Prometheus. Labels come from fixed sets only, so that no client can make series.

use std::{
    net::IpAddr,
    sync::atomic::AtomicI64,
    time::{Duration, Instant},
};

use model::wire::{BootStep, Stranger};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tokio::sync::watch;

/// Who is refused is told to the minute.
const MINUTE_MS: u64 = 60_000;

/// The counters; cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    steps: Family<StepLabels, Counter>,
    provision_seconds: Histogram,
    transfers: Gauge<i64, AtomicI64>,
    connections: Connections,
}

/// A route of the table, and what was asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Route {
    /// `/boot.ipxe`
    Chain,
    /// `/boot/<mac>.ipxe`
    Script,
    /// `/files/...`
    Files,
    /// `/ipxe/<binary>`
    Ipxe,
    /// `/metadata/v1/boot`
    Metadata,
    /// `/metadata/v1/events`
    Events,
    /// Anything else.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Route,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            steps: Family::default(),
            provision_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            transfers: Gauge::default(),
            connections: Connections::register(registry, "clusterducks_boot"),
        };
        let registry = registry.sub_registry_with_prefix("clusterducks_boot");
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register("steps", "Steps that boots of devices reached", metrics.steps.clone());
        registry.register_with_unit(
            "provision",
            "Time from a device's request until it was ready",
            Unit::Seconds,
            metrics.provision_seconds.clone(),
        );
        registry.register("transfers", "Files being sent", metrics.transfers.clone());
        metrics
    }

    pub(super) fn count_request(&self, route: Route, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    pub(super) fn count_step(&self, step: BootStep) {
        let step = match step {
            BootStep::Script => "script",
            BootStep::Kernel => "kernel",
            BootStep::Initrd => "initrd",
            BootStep::Network => "network",
            BootStep::Root => "root",
            BootStep::Up => "up",
            BootStep::Failed => "failed",
        };
        self.steps.get_or_create(&StepLabels { step }).inc();
    }

    pub(super) fn time_provision(&self, since: Instant) -> Duration {
        let took = since.elapsed();
        self.provision_seconds.observe(took.as_secs_f64());
        took
    }

    pub(super) fn transfer(&self) -> Held {
        Held::of(&self.transfers)
    }

    /// Where the connections of its servers are counted.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }
}

/// What a server counts of its connections.
#[derive(Debug, Clone)]
pub struct Connections {
    open: Gauge<i64, AtomicI64>,
    refused: Family<RefusalLabels, Counter>,
    stranger: watch::Sender<Option<Stranger>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

impl Connections {
    /// Registers them under the server's prefix.
    pub fn register(registry: &mut Registry, prefix: &str) -> Self {
        let (open, refused, stranger) = Default::default();
        let connections = Self { open, refused, stranger };
        let registry = registry.sub_registry_with_prefix(prefix);
        registry.register("connections", "Connections open", connections.open.clone());
        let help = "Connections whose TLS handshake was refused";
        registry.register("tls_refused", help, connections.refused.clone());
        connections
    }

    pub(super) fn held(&self) -> Held {
        Held::of(&self.open)
    }

    /// Who was refused last.
    pub fn stranger(&self) -> watch::Receiver<Option<Stranger>> {
        self.stranger.subscribe()
    }

    /// Counts a refusal of who came from there at that time, in milliseconds since 1970; answers the word that it is counted by.
    pub(super) fn count_refusal(
        &self,
        refusal: &rustls::Error,
        from: IpAddr,
        now_ms: u64,
    ) -> &'static str {
        let reason = host::tls::refusal(refusal);
        self.refused.get_or_create(&RefusalLabels { reason }).inc();
        if matches!(refusal, rustls::Error::AlertReceived(_)) {
            // It turned us away: it may be the panel, which does not take our certificate.
            return reason;
        }
        let at_ms = now_ms - now_ms % MINUTE_MS;
        let stranger = Stranger { address: from.to_canonical(), reason: reason.to_owned(), at_ms };
        self.stranger.send_if_modified(|last| {
            let news = last.as_ref() != Some(&stranger);
            *last = Some(stranger);
            news
        });
        reason
    }
}

/// Counts one until it is dropped.
#[derive(Debug)]
pub struct Held(Gauge<i64, AtomicI64>);

impl Held {
    fn of(gauge: &Gauge<i64, AtomicI64>) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
