//! A room of machines that is switched on.

use anyhow::Result;
use qemu_tests::{DEVICE_UP, Site, secs};

const DEVICES: u32 = 10;

#[tokio::test]
#[ignore = "eleven machines on two emulated processors take nine minutes with nothing beside them"]
async fn ten_devices_boot_at_once() -> Result<()> {
    let mut site = Site::new("ten").await?;
    for number in 10..10 + DEVICES {
        site.add_device(number, "overlay");
    }
    site.apply().await?;
    let mut machines = Vec::new();
    for number in 10..10 + DEVICES {
        machines.push(site.machine(number)?.memory_mib(640).bios().start().await?);
    }
    for (number, machine) in (10..).zip(&machines) {
        machine.expect(DEVICE_UP, secs(120)).await?;
        assert_eq!(machine.debug().check("hostname").await?.trim(), format!("pc-{number}"));
    }
    site.lan.passed()
}
