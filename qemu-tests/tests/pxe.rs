//! Devices without a disk ask the LAN for what to boot, by each firmware and card.

use anyhow::{Result, bail};
use qemu_tests::switch::Tap;
use qemu_tests::{Builder, Lan, NicModel, mac_of, secs};
use std::time::Instant;

/// Waits for a DHCP request (UDP to port 67 over IPv4) of the first device.
async fn asks_for_an_address(name: &str, describe: impl FnOnce(Builder) -> Builder) -> Result<()> {
    let lan = Lan::new(name)?;
    let mut tap = lan.tap();
    let _device = describe(lan.device("pc-01")?).start().await?;
    let deadline = Instant::now() + secs(30);
    while Instant::now() < deadline {
        if is_dhcp_request(&receive(&mut tap).await?, &mac_of(10)) {
            return lan.passed();
        }
    }
    bail!("the device sent other frames only")
}

async fn receive(tap: &mut Tap) -> Result<Vec<u8>> {
    Ok(tap.receive(secs(30)).await?.to_vec())
}

fn is_dhcp_request(frame: &[u8], mac: &str) -> bool {
    let field = |from: usize, bytes: usize| frame.get(from..from + bytes).unwrap_or_default();
    let source: Vec<String> = field(6, 6).iter().map(|byte| format!("{byte:02x}")).collect();
    let is_udp_over_ipv4 =
        field(12, 2) == [0x08, 0x00] && field(14, 1) == [0x45] && field(23, 1) == [17];
    source.join(":") == mac && is_udp_over_ipv4 && field(36, 2) == [0, 67]
}

#[tokio::test]
async fn a_bios_device_with_a_virtio_card_asks_for_an_address() -> Result<()> {
    asks_for_an_address("pxe-bios-virtio", Builder::bios).await
}

#[tokio::test]
async fn a_bios_device_with_an_e1000_card_asks_for_an_address() -> Result<()> {
    let e1000 = |builder: Builder| builder.bios().nics(|nic| nic.model = NicModel::E1000);
    asks_for_an_address("pxe-bios-e1000", e1000).await
}

#[tokio::test]
async fn a_uefi_device_asks_for_an_address() -> Result<()> {
    asks_for_an_address("pxe-uefi", Builder::uefi).await
}
