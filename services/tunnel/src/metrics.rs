//! What the tunnel counts, for Prometheus. Labels come from fixed sets only, so that nobody outside can make series.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

/// The counters; cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    connections: Gauge<i64, AtomicI64>,
    tls_refused: Family<Why, Counter>,
    pairings: Family<Why, Counter>,
    agents: Gauge<i64, AtomicI64>,
    streams: Gauge<i64, AtomicI64>,
    streams_ended: Family<Why, Counter>,
    /// Bytes to servers.
    pub sent: Counter,
    /// Bytes from servers.
    pub received: Counter,
    joins: Family<Why, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("clusterducks_tunnel");
        registry.register("connections", "Connections open", metrics.connections.clone());
        let help = "Connections whose TLS handshake was refused";
        registry.register("tls_refused", help, metrics.tls_refused.clone());
        registry.register(
            "pairings",
            "Requests to pair, by what came of them",
            metrics.pairings.clone(),
        );
        registry.register("agents", "Servers that are connected", metrics.agents.clone());
        registry.register("streams", "Streams open to servers", metrics.streams.clone());
        let help = "Streams that ended or were refused";
        registry.register("streams_ended", help, metrics.streams_ended.clone());
        let help = "What went to servers";
        registry.register_with_unit("sent", help, Unit::Bytes, metrics.sent.clone());
        let help = "What came from servers";
        registry.register_with_unit("received", help, Unit::Bytes, metrics.received.clone());
        registry.register(
            "joins",
            "Boxes that came to join, by what came of it",
            metrics.joins.clone(),
        );
        metrics
    }

    /// A connection that is open until what is returned is dropped.
    pub fn connection(&self) -> Held {
        Held::of(&self.connections)
    }

    /// A stream that is open until what is returned is dropped.
    pub fn stream(&self) -> Held {
        Held::of(&self.streams)
    }

    /// Counts a handshake that was refused.
    pub fn refused(&self, reason: &'static str) {
        self.tls_refused.get_or_create(&Why { reason }).inc();
    }

    /// Counts a request to pair.
    pub fn pairing(&self, reason: &'static str) {
        self.pairings.get_or_create(&Why { reason }).inc();
    }

    /// Counts a stream that ended or did not begin.
    pub fn stream_ended(&self, reason: &'static str) {
        self.streams_ended.get_or_create(&Why { reason }).inc();
    }

    /// Counts a box that came to join.
    pub fn join(&self, reason: &'static str) {
        self.joins.get_or_create(&Why { reason }).inc();
    }

    /// How many servers are connected now.
    pub fn set_agents(&self, connected: usize) {
        self.agents.set(i64::try_from(connected).unwrap_or(i64::MAX));
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
