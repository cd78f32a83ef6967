//! Machines that nobody knows yet.

use anyhow::{Context, Result};
use qemu_tests::{Site, mac_of, secs, up, wait_until};
use std::time::Instant;

#[tokio::test]
async fn an_unknown_machine_is_discovered_and_boots_within_seconds_of_being_approved() -> Result<()>
{
    let mut site = Site::new("discovered").await?;
    let device = site.machine(10)?.bios().start().await?;
    let machine = wait_until("the machine to be discovered", secs(60), async || {
        let status = site.status().await?;
        let discovered = status.get("discovered").and_then(|list| list.get(0)).cloned();
        Ok(discovered)
    })
    .await?;
    let fact = |key: &str| {
        machine.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
    };
    assert_eq!(fact("mac"), mac_of(10));
    assert_eq!(fact("platform"), "pcbios");
    assert!(fact("manufacturer").contains("QEMU"), "{machine}");
    assert_eq!(fact("uuid").len(), 36, "{machine}");

    site.add_device(10, "overlay");
    site.send().await?;
    let approved = Instant::now();
    site.wait_step(10, "kernel", secs(30)).await?;
    eprintln!("approved_to_kernel_s {:.1}", approved.elapsed().as_secs_f64());
    up(&device).await?;
    let left =
        site.status().await?.get("discovered").cloned().context("the status has the list")?;
    assert_eq!(left, serde_json::json!([]));
    site.lan.passed()
}
