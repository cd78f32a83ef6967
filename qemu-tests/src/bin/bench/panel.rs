//! The whole panel without machines: its own test measures it against agents on simulated machines, optimized.

use crate::figures::{Figures, Section};
use anyhow::Result;
use qemu_tests::{run_tool, secs};

pub(crate) const SECTION: Section = Section {
    names: &[
        "panel_page_p95_ms",
        "panel_api_p95_ms",
        "panel_rss_mib",
        "panel_save_to_applied_ms",
        "panel_render_50_ms",
    ],
    limit: || secs(240),
    measure: |figures| Box::pin(measure(figures)),
};

// Built before by the Makefile: the limit is for measuring.
const RUN: [&str; 10] = [
    "test",
    "--release",
    "--locked",
    "--package",
    "clusterducks-panel",
    "--test",
    "figures",
    "--",
    "--ignored",
    "--nocapture",
];

async fn measure(figures: &mut Figures) -> Result<()> {
    let told = tokio::task::spawn_blocking(|| run_tool("cargo", &RUN)).await??;
    figures.take(&told)
}
