//! One ephemeral device that is made new through the agent, beside `zfs clone` with the same LUN by `targetcli`, and beside a
//! bare `zfs clone`: in turn, in one guest. The device's clone is written to before each boot, so that there is something to
//! roll back.

use crate::figures::{Figures, Section, list, median, note};
use crate::guest::Guest;
use anyhow::{Context, Result};
use qemu_tests::{Site, mac_of, secs};
use std::time::Duration;

pub(crate) const SECTION: Section = Section {
    names: &["provision_vs_targetcli", "provision_vs_targetcli_batch", "provision_vs_clone"],
    limit: || secs(400),
    measure: |figures| Box::pin(measure(figures)),
};

const ROUNDS: usize = 3;
const DEVICE: u32 = 10;
/// For anything that is done once.
const STEP: fn() -> Duration = || secs(60);

/// Milliseconds of each round.
#[derive(Debug, Default)]
struct Times {
    agent: Vec<f64>,
    clone: Vec<f64>,
    targetcli: Vec<f64>,
    batch: Vec<f64>,
}

impl Times {
    fn tell(&self, rounds: usize) {
        note(&format!(
            "{rounds} rounds, ms: agent {}; clone {}; clone and targetcli, a call a command {}; in one call {}",
            list(&self.agent),
            list(&self.clone),
            list(&self.targetcli),
            list(&self.batch)
        ));
    }
}

async fn measure(figures: &mut Figures) -> Result<()> {
    let mut site = Site::new("bench-provision").await?;
    site.add_device(DEVICE, "ephemeral");
    site.apply().await?;
    let guest = Guest::new(site.agent.debug()).await?;
    guest.run("prepare_clones", STEP()).await?;
    let targetcli = guest.run("prepare_targetcli", STEP()).await;
    let mut times = Times::default();
    // Not counted: the first boot finds the clone as it was made and no LUN to take down.
    guest.measure_one(&boot(), STEP()).await?;
    for round in 0..ROUNDS {
        times.clone.push(guest.measure_one(&format!("clone bare-{round}"), STEP()).await?);
        times.agent.push(dirty_boot(&guest).await?);
        if targetcli.is_ok() {
            for (way, took) in [("calls", &mut times.targetcli), ("batch", &mut times.batch)] {
                let words = format!("targetcli_lun {way} {way}-{round}");
                took.push(guest.measure_one(&words, STEP()).await?);
            }
        }
        times.tell(round + 1);
    }
    let agent = median(&times.agent)?;
    figures.report("provision_vs_clone", agent / median(&times.clone)?, "x");
    targetcli.context("targetcli can't run")?;
    figures.report("provision_vs_targetcli", median(&times.targetcli)? / agent, "x");
    figures.report("provision_vs_targetcli_batch", median(&times.batch)? / agent, "x");
    site.lan.passed()
}

fn boot() -> String {
    format!("boot {}", mac_of(DEVICE).replace(':', "-"))
}

async fn dirty_boot(guest: &Guest) -> Result<f64> {
    guest.run(&format!("dirty pc-{DEVICE}"), STEP()).await?;
    let took = guest.measure_one(&boot(), STEP()).await?;
    guest.run(&format!("check_new pc-{DEVICE}"), STEP()).await.context("not made new")?;
    Ok(took)
}
