//! A LAN that fails in the middle of a boot.

use anyhow::Result;
use qemu_tests::{Site, secs, up};
use std::time::Duration;

#[tokio::test]
async fn a_link_that_is_cut_for_twenty_seconds_in_the_middle_of_a_boot_costs_only_time()
-> Result<()> {
    let mut site = Site::new("link-cut").await?;
    site.add_device(10, "overlay");
    site.apply().await?;
    let device = site.machine(10)?.bios().start().await?;
    // The root is mounted over iSCSI now: the next thing that is read is lost.
    site.wait_step(10, "root", secs(90)).await?;
    device.port(0)?.cut();
    tokio::time::sleep(Duration::from_secs(20)).await;
    device.port(0)?.restore();
    up(&device).await?;
    site.lan.passed()
}
