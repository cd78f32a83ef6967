//! Each kind of firmware and card finds the agent, by DHCP of the agent's own or beside a site's.

#![expect(clippy::indexing_slicing, reason = "a key that a JSON object lacks reads as null")]

use anyhow::Result;
use qemu_tests::{Machine, NicModel, Site, TINY_GUEST_UP, mac_of, secs, up, wait_until};
use serde_json::{Value, json};

/// What the agent knows of the first machine that asked and that nobody knows.
async fn discovered(site: &Site) -> Result<Value> {
    wait_until("a machine to be discovered", secs(120), async || {
        Ok(site.status().await?["discovered"].get(0).cloned())
    })
    .await
}

#[tokio::test]
async fn a_device_with_an_e1000_card_reaches_multi_user() -> Result<()> {
    let mut site = Site::new("e1000").await?;
    site.add_device(10, "overlay");
    site.apply().await?;
    let e1000 = site.machine(10)?.bios().nics(|nic| nic.model = NicModel::E1000);
    up(&e1000.start().await?).await?;
    site.lan.passed()
}

#[tokio::test]
async fn uefi_firmware_that_boots_by_http_asks_for_its_script() -> Result<()> {
    let site = Site::new("uefi-http").await?;
    let _machine = site.machine(10)?.uefi_http().start().await?;
    let machine = discovered(&site).await?;
    assert_eq!((&machine["mac"], &machine["platform"]), (&json!(mac_of(10)), &json!("efi")));
    // UEFI specification, 24.7: this is what firmware calls itself that boots by HTTP on x64.
    let log = site.agent.debug().check("journalctl -b --no-pager").await?;
    assert!(log.contains("HTTPClient:Arch:00016"), "the firmware asked as another client");
    site.lan.passed()
}

#[tokio::test]
async fn uefi_firmware_of_an_arm_machine_asks_for_its_script() -> Result<()> {
    let site = Site::new("uefi-arm64").await?;
    let _machine = site.machine(10)?.arm64().start().await?;
    let machine = discovered(&site).await?;
    assert_eq!(machine["mac"], mac_of(10));
    assert_eq!((&machine["arch"], &machine["platform"]), (&json!("arm64"), &json!("efi")));
    site.lan.passed()
}

/// A site's own DHCP server, which knows nothing of booting.
async fn site_dhcp(site: &Site) -> Result<Machine> {
    let server = site.lan.tiny("dhcp", 2)?.start().await?;
    server.expect(TINY_GUEST_UP, secs(30)).await?;
    let config = "interface eth0\nstart 10.77.0.100\nend 10.77.0.120\n\
        option subnet 255.255.255.0\nlease_file /tmp/leases\npidfile /tmp/pid\n";
    server.debug().put("/tmp/udhcpd.conf", config.as_bytes()).await?;
    server.debug().check(": >/tmp/leases; udhcpd -f /tmp/udhcpd.conf >/tmp/log 2>&1 &").await?;
    Ok(server)
}

#[tokio::test]
async fn beside_a_site_s_own_dhcp_server_devices_find_what_to_boot() -> Result<()> {
    let mut site = Site::new("proxy").await?;
    site.document["networks"][0]["dhcp"] = json!({ "mode": "proxy" });
    site.add_device(10, "overlay");
    site.apply().await?;
    let _dhcp = site_dhcp(&site).await?;
    let known = site.machine(10)?.bios().start().await?;
    let _unknown = site.machine(11)?.uefi().start().await?;
    let machine = discovered(&site).await?;
    assert_eq!((&machine["mac"], &machine["platform"]), (&json!(mac_of(11)), &json!("efi")));
    let lent = machine["address"].as_str().unwrap_or_default();
    assert!(lent.starts_with("10.77.0.1"), "it has an address of the site's server: {lent}");
    up(&known).await?;
    site.lan.passed()
}
