//! Linux devices on a shared generation with an overlay in memory.

#![expect(clippy::indexing_slicing, reason = "a key that a JSON object lacks reads as null")]

use anyhow::Result;
use qemu_tests::{Builder, Site, secs, up, wait_until};

async fn boots_to_multi_user(name: &str, firmware: impl FnOnce(Builder) -> Builder) -> Result<()> {
    let mut site = Site::new(name).await?;
    site.add_device(10, "overlay");
    site.apply().await?;
    let device = firmware(site.machine(10)?).start().await?;
    up(&device).await?;
    let shell = device.debug();
    assert_eq!(shell.check("stat -f -c %T /").await?.trim(), "overlayfs");
    assert_eq!(shell.check("hostname").await?.trim(), "pc-10");
    let addresses = shell.check("ip -4 -o addr show scope global").await?;
    assert_eq!(addresses.lines().count(), 1, "{addresses}");
    assert!(addresses.contains(" 10.77.0.10/24 "), "{addresses}");
    assert!(!addresses.contains("dynamic"), "the address is its own, not leased: {addresses}");
    site.wait_step(10, "up", secs(10)).await?;
    // A converged agent looks at its sessions once a minute.
    wait_until("the status to show the device's session", secs(70), async || {
        let status = site.status().await?;
        let sessions = &status["sessions"]["iqn.2026-01.org.clusterducks:generation.lab.g1"];
        Ok((sessions[0] == "iqn.2026-01.org.clusterducks:initiator.pc-10").then_some(()))
    })
    .await?;
    site.lan.passed()
}

#[tokio::test]
async fn a_bios_device_reaches_multi_user_with_its_static_address() -> Result<()> {
    boots_to_multi_user("overlay-bios", Builder::bios).await
}

#[tokio::test]
async fn a_uefi_device_reaches_multi_user_with_its_static_address() -> Result<()> {
    boots_to_multi_user("overlay-uefi", Builder::uefi).await
}

#[tokio::test]
async fn what_a_device_wrote_is_gone_after_a_reboot() -> Result<()> {
    let mut site = Site::new("overlay-gone").await?;
    site.add_device(10, "overlay");
    site.apply().await?;
    let device = site.machine(10)?.bios().start().await?;
    up(&device).await?;
    device
        .debug()
        .check("echo infected > /usr/bin/malware && echo infected > /etc/malware && sync")
        .await?;
    let first = site.wait_step(10, "up", secs(20)).await?;
    device.serial().skip_to_end()?;
    device.debug().exec("systemctl reboot").await.ok();
    up(&device).await?;
    let second = site.wait_step(10, "root", secs(20)).await?;
    assert_ne!(first["boot"], second["boot"], "each start is a boot of its own");
    let left = device.debug().check("ls /usr/bin/malware /etc/malware 2>/dev/null | wc -l").await?;
    assert_eq!(left.trim(), "0");
    site.lan.passed()
}
