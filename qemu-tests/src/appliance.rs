//! Owns what holds for every appliance that has started, whatever it serves.

use crate::machine::Machine;
use crate::wait::secs;
use anyhow::{Result, ensure};

/// The kernel's taints that ZFS's modules bring (Documentation/admin-guide/tainted-kernels.rst): proprietary, out of tree,
/// unsigned.
pub const ZFS_TAINTS: u32 = 1 | 4096 | 8192;

/// Waits until the appliance has started, and fails unless nothing failed, nobody can log in, and nothing is writable but what
/// is its `own`, a folder of the data partition, which has grown to the disk's end.
pub async fn started_clean(machine: &Machine, own: &str, taints: u32) -> Result<()> {
    let shell = machine.debug();
    shell.ready(secs(120)).await?;
    let state = shell.exec_within("systemctl is-system-running --wait", secs(60)).await?;
    let failed = shell.check("systemctl --failed --no-legend --plain").await?;
    ensure!(state.stdout.trim() == "running" && failed.is_empty(), "{}{failed}", state.stdout);
    let cycles = shell.check("journalctl -b --no-pager | grep -i 'ordering cycle' || true").await?;
    ensure!(cycles.is_empty(), "{cycles}");
    let tainted: u32 = shell.check("cat /proc/sys/kernel/tainted").await?.trim().parse()?;
    ensure!(tainted & !taints == 0, "the kernel is tainted: {tainted}");
    ensure!(!shell.exec("touch /usr/x /etc/x").await?.success(), "the root is writable");
    shell.check(&format!("touch {own}/x && rm {own}/x")).await?;
    let data: u64 = shell.check("findmnt -bno SIZE /data").await?.trim().parse()?;
    ensure!(data > 4 << 30, "the data partition has not grown to the disk's end: {data}");
    let getty = shell.check("systemctl list-units --no-legend '*getty*'").await?;
    ensure!(getty.is_empty(), "{getty}");
    Ok(())
}
