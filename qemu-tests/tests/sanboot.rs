//! Devices that boot a disk of their own over iSCSI, with the image's own bootloader.

use anyhow::Result;
use qemu_tests::{Machine, Site, secs, up};

async fn restart(device: &Machine) -> Result<()> {
    device.serial().skip_to_end()?;
    device.debug().exec("sync; systemctl reboot").await.ok();
    device.debug().ready(secs(120)).await?;
    up(device).await
}

#[tokio::test]
async fn an_ephemeral_device_boots_its_disk_and_is_made_anew_at_each_boot() -> Result<()> {
    let mut site = Site::new("sanboot-ephemeral").await?;
    site.add_device(10, "ephemeral");
    site.apply().await?;
    let device = site.machine(10)?.bios().start().await?;
    up(&device).await?;
    let root = device.debug().check("findmnt -n -o SOURCE /").await?;
    assert!(root.starts_with("/dev/sd"), "the root is the iSCSI disk itself: {root}");
    device.debug().check("echo infected > /etc/malware && sync").await?;
    restart(&device).await?;
    assert!(
        !device.debug().exec("test -e /etc/malware").await?.success(),
        "what was written is gone"
    );
    site.lan.passed()
}

#[tokio::test]
async fn a_persistent_device_keeps_what_it_wrote() -> Result<()> {
    let mut site = Site::new("sanboot-persistent").await?;
    site.add_device(10, "persistent");
    site.apply().await?;
    let device = site.machine(10)?.bios().start().await?;
    up(&device).await?;
    device.debug().check("echo kept > /etc/mine && sync").await?;
    restart(&device).await?;
    assert_eq!(device.debug().check("cat /etc/mine").await?.trim(), "kept");
    site.lan.passed()
}
