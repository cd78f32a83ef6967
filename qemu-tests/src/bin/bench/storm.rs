//! 500 ephemeral devices: in a row, and all within a second, beside 500 `zfs clone` one after another in the same guest.

use crate::figures::{Figures, Section, median, note};
use crate::guest::Guest;
use anyhow::{Context, Result};
use qemu_tests::{Site, converged, secs};
use serde_json::{Value, json};
use std::fmt::Write as _;

pub(crate) const SECTION: Section = Section {
    names: &[
        "provision_ms_at_1",
        "provision_ms_at_100",
        "provision_ms_at_500",
        "storm_500_vs_clone",
    ],
    limit: || secs(900),
    measure: |figures| Box::pin(measure(figures)),
};

const DEVICES: usize = 500;
/// So many boots in a row give one figure, by their median.
const WINDOW: usize = 9;

async fn measure(figures: &mut Figures) -> Result<()> {
    let mut site = Site::new("bench-storm").await?;
    fill(&mut site.document)?;
    let generation = site.send().await?;
    converged(&site.agent, generation, secs(300)).await?;
    let guest = Guest::new(site.agent.debug()).await?;
    note(&format!("{DEVICES} clones were made ahead"));
    if ["provision_ms_at_1", "provision_ms_at_100", "provision_ms_at_500"]
        .iter()
        .any(|name| figures.wants(name))
    {
        in_a_row(figures, &guest).await?;
    }
    if figures.wants("storm_500_vs_clone") {
        storm(figures, &site, &guest).await?;
    }
    site.lan.passed()
}

/// The site's LAN grows, so that 500 devices have room.
fn fill(document: &mut Value) -> Result<()> {
    let address = document.pointer_mut("/networks/0/address").context("a network")?;
    *address = json!("10.77.0.1/16");
    let devices = document.get_mut("devices").and_then(Value::as_array_mut).context("devices")?;
    devices.extend((0..DEVICES).map(|number| {
        json!({
            "name": format!("pc-{number}"), "macs": [mac(number)], "network": "lab",
            "address": address_of(number), "group": "lab", "boot_mode": "ephemeral",
        })
    }));
    Ok(())
}

fn mac(number: usize) -> String {
    format!("52-54-00-cd-{:02x}-{:02x}", 16 + number / 250, 1 + number % 250)
}

fn address_of(number: usize) -> String {
    format!("10.77.{}.{}", 16 + number / 250, 1 + number % 250)
}

/// Every device boots once, one after another; a figure is the median of the boots up to and around its number.
async fn in_a_row(figures: &mut Figures, guest: &Guest) -> Result<()> {
    let macs: Vec<String> = (0..DEVICES).map(mac).collect();
    let words = format!("boots {}", macs.join(" "));
    let times = guest.measure(&words, secs(300)).await?;
    let window = |last: usize| {
        let first = last.saturating_sub(WINDOW);
        median(times.get(first..last).context("not all devices booted")?)
    };
    let (one, hundred, all) = (window(WINDOW)?, window(100)?, window(DEVICES)?);
    figures.report("provision_ms_at_1", one, "ms");
    figures.report("provision_ms_at_100", hundred, "ms");
    figures.report("provision_ms_at_500", all, "ms");
    note(&format!("{DEVICES} devices in a row: {:.1} s", times.iter().sum::<f64>() / 1000.0));
    Ok(())
}

/// Each device had booted before and has written since; a device's clone is rolled back under a LUN that stands.
async fn storm(figures: &mut Figures, site: &Site, guest: &Guest) -> Result<()> {
    let mut list = String::new();
    for number in 0..DEVICES {
        writeln!(list, "{} {}", mac(number), address_of(number))?;
    }
    site.agent.debug().put("/run/storm-list", list.as_bytes()).await?;
    guest.run("prepare_storm", secs(20)).await?;
    let mut storms = Vec::new();
    for _ in 0..2 {
        let names: Vec<String> = (0..DEVICES).map(|number| format!("pc-{number}")).collect();
        guest.run(&format!("dirty {}", names.join(" ")), secs(120)).await?;
        let times = guest.measure("storm /run/storm-list", secs(200)).await?;
        let [took, asked] = times.as_slice() else {
            anyhow::bail!("the storm printed {times:?}");
        };
        note(&format!("storm: {took:.0} ms; the last request was sent after {asked:.0} ms"));
        storms.push(*took);
        for name in names.iter().step_by(50) {
            guest.run(&format!("check_new {name}"), secs(20)).await.context("not made new")?;
        }
    }
    guest.run("prepare_clones", secs(20)).await?;
    let clones = guest.measure_one(&format!("timed clones bare {DEVICES}"), secs(300)).await?;
    note(&format!("{DEVICES} zfs clone one after another: {clones:.0} ms"));
    // The first storm finds devices that never booted when the figures in a row were left out; the second never does.
    let storm = storms.last().context("no storm was measured")?;
    figures.report("storm_500_vs_clone", clones / storm, "x");
    Ok(())
}
