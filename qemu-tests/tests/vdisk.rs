//! A device's own data: the upper and the identity on its vDisk.

use anyhow::Result;
use qemu_tests::{Machine, Site, up};
use serde_json::json;

/// What has to stay the same: the file that was written, the machine's number, its SSH host key, its name.
async fn identity(device: &Machine) -> Result<String> {
    device
        .debug()
        .check("cat /root/mine /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /etc/hostname")
        .await
}

#[tokio::test]
async fn data_and_identity_survive_a_reboot_and_a_power_cut_of_the_device() -> Result<()> {
    let mut site = Site::new("vdisk").await?;
    site.add_vdisk("home-10", 1 << 30);
    site.add_device(10, "overlay")["vdisks"] = json!([{ "vdisk": "home-10", "use": "upper" }]);
    site.apply().await?;
    let mut device = site.machine(10)?.bios().start().await?;
    up(&device).await?;
    device.debug().check("echo precious > /root/mine && sync").await?;
    let first = identity(&device).await?;
    assert!(first.starts_with("precious\n") && first.contains("ssh-ed25519"), "{first}");

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
