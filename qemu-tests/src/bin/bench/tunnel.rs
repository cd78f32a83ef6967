//! The tunnel without machines: its own tests measure it in namespaces, with real OpenSSH, optimized and one after the other.

use crate::figures::{Figures, Section};
use anyhow::Result;
use qemu_tests::{run_tool, secs};

pub(crate) const SECTION: Section = Section {
    names: &[
        "tunnel_latency_added_p50_ms",
        "tunnel_latency_added_p99_ms",
        "tunnel_throughput_vs_ssh",
        "tunnel_agents_per_gib",
        "tunnel_agents_per_gib_slope",
        "tunnel_storm_1000_s",
        "authorized_keys_p50_ms",
        "authorized_keys_p99_ms",
    ],
    limit: || secs(1_800),
    measure: |figures| Box::pin(measure(figures)),
};

const RUN: [&str; 11] = [
    "test",
    "--release",
    "--locked",
    "--package",
    "clusterducks-tunnel",
    "--test",
    "figures",
    "--",
    "--ignored",
    "--nocapture",
    "--test-threads=1",
];

async fn measure(figures: &mut Figures) -> Result<()> {
    let told = tokio::task::spawn_blocking(|| run_tool("cargo", &RUN)).await??;
    figures.take(&told)
}
