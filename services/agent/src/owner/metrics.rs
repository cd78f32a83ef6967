//! What the owner counts, for Prometheus, and what is read from its status at each scrape. Labels are kinds of steps and the
//! document's own pools.

use model::step::Step;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tokio::sync::watch;

use super::Status;

/// The counters; cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    run_seconds: Histogram,
    steps: Family<StepLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    kind: &'static str,
    outcome: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry, status: watch::Receiver<Status>) -> Self {
        let metrics = Self {
            run_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 10)),
            steps: Family::default(),
        };
        let registry = registry.sub_registry_with_prefix("clusterducks_owner");
        let help = "Time that runs took, from looking at the machine to being done with it";
        registry.register_with_unit("run", help, Unit::Seconds, metrics.run_seconds.clone());
        registry.register("steps", "Steps applied to the machine", metrics.steps.clone());
        registry.register_collector(Box::new(Shown(status)));
        metrics
    }

    pub(super) fn time_run(&self, seconds: f64) {
        self.run_seconds.observe(seconds);
    }

    pub(super) fn count_step(&self, step: &Step, succeeded: bool) {
        let outcome = if succeeded { "done" } else { "failed" };
        self.steps.get_or_create(&StepLabels { kind: kind(step), outcome }).inc();
    }
}

fn kind(step: &Step) -> &'static str {
    match step {
        Step::SetServerName(_) => "set-server-name",
        Step::Lease(_) => "lease",
        Step::SetResolvers(_) => "set-resolvers",
        Step::SetTimeServers(_) => "set-time-servers",
        Step::SetLink { .. } => "set-link",
        Step::ImportPool { .. } => "import-pool",
        Step::CreatePool { .. } => "create-pool",
        Step::CreateFolder { .. } => "create-folder",
        Step::Mount(_) => "mount",
        Step::CreateZvol { .. } => "create-zvol",
        Step::Grow { .. } => "grow",
        Step::StartImport { .. } => "start-import",
        Step::TakeSnapshot(_) => "take-snapshot",
        Step::Clone { .. } => "clone",
        Step::ShowSnapshots(_) => "show-snapshots",
        Step::MakeNew(_) => "make-new",
        Step::Destroy { .. } => "destroy",
        Step::StartExtraction { .. } => "start-extraction",
        Step::Unexport(_) => "unexport",
        Step::Export { .. } => "export",
        Step::SetAcls { .. } => "set-acls",
        Step::ConfigureDhcp(_) => "configure-dhcp",
        Step::StopDhcp => "stop-dhcp",
    }
}

/// The status as gauges: read when they are asked for, so that a pool that is gone has none.
#[derive(Debug)]
struct Shown(watch::Receiver<Status>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.0.borrow().clone();
        let sessions = status.observed.targets.values().map(|target| target.sessions.len());
        let alone: [(&str, &str, u64); 5] = [
            (
                "converged",
                "1 when the machine is as the document wants it",
                u64::from(status.converged),
            ),
            ("generation", "Generation of the document in force", status.generation),
            ("failures", "Resources that failed in the last run", count(status.failures.len())),
            ("waiting", "Resources that wait for something", count(status.waiting.len())),
            ("sessions", "iSCSI sessions", count(sessions.sum())),
        ];
        for (name, help, value) in alone {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let pools = &status.observed.pools;
        let sizes = pools.iter().map(|(name, pool)| (name, pool.size_bytes));
        let free = pools.iter().map(|(name, pool)| (name, pool.free_bytes));
        let by_pool: [(&str, &str, Vec<_>); 2] = [
            ("pool_size", "Size of a pool", sizes.collect()),
            ("pool_free", "Free space of a pool", free.collect()),
        ];
        for (name, help, values) in by_pool {
            let unit = Some(&Unit::Bytes);
            let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            for (pool, value) in values {
                let labels = PoolLabels { pool: pool.to_string() };
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
