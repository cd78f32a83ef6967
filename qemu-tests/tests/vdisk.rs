//! A device's own data: the upper and the identity on its vDisk.

use anyhow::Result;
use qemu_tests::{Machine, Site, up};
use serde_json::json;

/// What has to stay the same: the files that were written, the machine's number, its SSH host key, its name.
async fn identity(device: &Machine) -> Result<String> {
    device
        .debug()
        .check("cat /root/mine /srv/data/results /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /etc/hostname")
        .await
}

#[tokio::test]
async fn data_and_identity_survive_a_reboot_and_a_power_cut_of_the_device() -> Result<()> {
    let mut site = Site::new("vdisk").await?;
    site.add_vdisk("home-10", 1 << 30);
    site.add_vdisk("data-10", 1 << 28);
    site.add_device(10, "overlay")["vdisks"] = json!([
        { "vdisk": "home-10", "use": "upper" },
        { "vdisk": "data-10", "use": "mount", "path": "/srv/data" },
    ]);
    site.apply().await?;
    let mut device = site.machine(10)?.bios().start().await?;
    up(&device).await?;
    // Its own disk under /srv/data was empty: the first boot made its file system.
    assert_eq!(device.debug().check("findmnt -n -o FSTYPE /srv/data").await?.trim(), "ext4");
    let write = "echo precious > /root/mine && echo results > /srv/data/results && sync";
    device.debug().check(write).await?;
    let first = identity(&device).await?;
    assert!(first.starts_with("precious\nresults\n") && first.contains("ssh-ed25519"), "{first}");

    device.serial().skip_to_end()?;
    device.debug().exec("systemctl reboot").await.ok();
    up(&device).await?;
    assert_eq!(identity(&device).await?, first);

    device.power_cut();
    device.power_on().await?;
    up(&device).await?;
    assert_eq!(identity(&device).await?, first);
    site.lan.passed()
}

#[tokio::test]
async fn a_vdisk_that_can_not_be_reached_is_an_error_and_never_memory() -> Result<()> {
    let mut site = Site::new("vdisk-lost").await?;
    site.add_vdisk("home-10", 1 << 30);
    site.add_device(10, "overlay")["vdisks"] = json!([{ "vdisk": "home-10", "use": "upper" }]);
    site.apply().await?;
    // Foreign data stands on the vDisk: it must be neither used nor formatted.
    site.agent
        .debug()
        .check("mkfs.ext4 -q -L theirs /dev/zvol/tank/clusterducks/vdisks/home-10")
        .await?;
    let device = site.machine(10)?.bios().start().await?;
    let failed = site.wait_step(10, "failed", qemu_tests::secs(90)).await?;
    assert!(
        failed["message"].as_str().is_some_and(|message| message.contains("home-10")),
        "{failed}"
    );
    assert!(!device.serial().text()?.contains(qemu_tests::DEVICE_UP));
    let label = site
        .agent
        .debug()
        .check("blkid -o value -s LABEL /dev/zvol/tank/clusterducks/vdisks/home-10")
        .await?;
    assert_eq!(label.trim(), "theirs");
    site.lan.passed()
}
