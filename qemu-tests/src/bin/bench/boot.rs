//! Whole machines: a device over the network beside the same image on a local disk, the agent from power-on, the image's size.

use crate::figures::{Figures, Section, list, median, note};
use anyhow::{Context, Result};
use qemu_tests::{DEVICE_UP, DiskSpec, Image, Lan, Machine, Site, find_image, run_tool, secs};
use std::time::{Duration, Instant};

pub(crate) const VERSUS_LOCAL: Section = Section {
    names: &["device_boot_vs_local"],
    limit: || secs(600),
    measure: |figures| Box::pin(versus_local(figures)),
};

pub(crate) const AGENT: Section = Section {
    names: &["agent_ready_s", "agent_rss_mib"],
    limit: || secs(400),
    measure: |figures| Box::pin(agent(figures)),
};

pub(crate) const IMAGE: Section = Section {
    names: &["image_agent_mib", "image_panel_mib", "image_tunnel_mib"],
    limit: || Duration::from_secs(300),
    measure: |figures| Box::pin(images(figures)),
};

const ROUNDS: u32 = 3;
const DEVICE: u32 = 10;
const MIB: f64 = 1024.0 * 1024.0;

/// The agent runs beside both, and each device has the machine of the other but for its disk.
async fn versus_local(figures: &mut Figures) -> Result<()> {
    let mut site = Site::new("bench-boot").await?;
    // A device a round: none finds what another one left on the way, and each has a serial log of its own.
    let devices = DEVICE..DEVICE + ROUNDS;
    for number in devices.clone() {
        site.add_device(number, "overlay");
    }
    site.apply().await?;
    let (mut network, mut local) = (Vec::new(), Vec::new());
    for number in devices {
        let disk = DiskSpec::Overlay {
            base: find_image(Image::GuestDebian)?,
            format: "qcow2".into(),
            size_bytes: None,
            serial: "root".into(),
        };
        let from_disk = site.lan.device(&format!("local-{number}"))?.disk(disk);
        let from_disk = from_disk.nics(|nic| nic.boot = false);
        let started = Instant::now();
        local.push(seconds_to_up(started, from_disk.bios().start().await?).await?);
        let started = Instant::now();
        let device = site.machine(number)?.bios().start().await?;
        network.push(seconds_to_up(started, device).await?);
    }
    note(&format!("s to multi-user: network {}; local disk {}", list(&network), list(&local)));
    figures.report("device_boot_vs_local", median(&network)? / median(&local)?, "x");
    site.lan.passed()
}

/// Seconds from power-on, until the device's own word.
async fn seconds_to_up(started: Instant, device: Machine) -> Result<f64> {
    device.expect(DEVICE_UP, secs(120)).await?;
    Ok(started.elapsed().as_secs_f64())
}

async fn agent(figures: &mut Figures) -> Result<()> {
    if figures.wants("agent_ready_s") {
        ready(figures).await?;
    }
    if figures.wants("agent_rss_mib") {
        resident(figures).await?;
    }
    Ok(())
}

/// Power-on of the flashed image, grown to its disk on this first boot, until `ctl status` answers. When that was is told by
/// systemd, to which the agent reports itself ready when its API answers; the way to the debug shell takes longer than that.
async fn ready(figures: &mut Figures) -> Result<()> {
    let lan = Lan::new("bench-ready")?;
    let started = Instant::now();
    let agent = lan.agent(Image::AgentDebug)?.start().await?;
    agent.debug().ready(secs(120)).await?;
    agent
        .debug()
        .check(
            "systemctl is-active --wait clusterducks-agent || systemctl start clusterducks-agent",
        )
        .await?;
    agent.debug().check("clusterducks-agent ctl status").await?;
    let before = started.elapsed().as_secs_f64();
    let answer = agent
        .debug()
        .check("cut -d' ' -f1 /proc/uptime; systemctl show -P ActiveEnterTimestampMonotonic clusterducks-agent")
        .await?;
    let number = |line: Option<&str>| line.and_then(|text| text.trim().parse::<f64>().ok());
    let mut lines = answer.lines();
    let uptime_s = number(lines.next()).with_context(|| answer.clone())?;
    let ready_us = number(lines.next()).with_context(|| answer.clone())?;
    // The guest's kernel began to count so long after power-on: firmware and bootloader.
    let firmware_s = before - uptime_s;
    note(&format!("agent: {firmware_s:.1} s until the kernel, {:.1} s from there", ready_us / 1e6));
    figures.report("agent_ready_s", firmware_s + ready_us / 1e6, "s");
    lan.passed()
}

/// What the agent holds in memory with a site's document in force.
async fn resident(figures: &mut Figures) -> Result<()> {
    let mut site = Site::new("bench-memory").await?;
    site.add_device(DEVICE, "overlay");
    site.apply().await?;
    let text = site
        .agent
        .debug()
        .check("grep VmRSS: /proc/$(systemctl show -P MainPID clusterducks-agent)/status")
        .await?;
    let kib: Option<f64> = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    figures.report("agent_rss_mib", kib.with_context(|| text.clone())? / 1024.0, "MiB");
    site.lan.passed()
}

async fn images(figures: &mut Figures) -> Result<()> {
    for (name, image) in [
        ("image_agent_mib", Image::Agent),
        ("image_panel_mib", Image::Panel),
        ("image_tunnel_mib", Image::Tunnel),
    ] {
        if figures.wants(name) {
            figures.report(name, compressed_mib(image).await?, "MiB");
        }
    }
    Ok(())
}

/// A release image as it would be downloaded, compressed as `make image` tells.
async fn compressed_mib(image: Image) -> Result<f64> {
    let image = find_image(image)?.display().to_string();
    let pipe = "zstd -q -3 -T0 -c \"$1\" | wc -c";
    let counted =
        tokio::task::spawn_blocking(move || run_tool("sh", &["-c", pipe, "sh", &image])).await??;
    let bytes: f64 = counted.trim().parse().with_context(|| counted.clone())?;
    Ok(bytes / MIB)
}
