//! Owns what holds for every appliance, whatever it serves: what stands on its boot partition, and how it is once it has started.

use crate::image::{Image, find_image};
use crate::lan::flashed_from;
use crate::machine::{DiskSpec, Machine};
use crate::process::run_tool;
use crate::wait::secs;
use crate::workspace::write_file;
use anyhow::{Result, ensure};
use std::path::Path;

/// Where the boot partition begins (images/common/partitions): after the table's MiB and GRUB's.
const BOOT_PARTITION_BYTES: u64 = 2 << 20;

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

/// The disk of an appliance that was flashed, with the file `name` put onto its boot partition as a person would. What is in the
/// way of that lies in `folder`.
pub(crate) async fn with_boot_file(
    image: Image,
    folder: &Path,
    name: &str,
    text: &str,
) -> Result<DiskSpec> {
    let (base, flashed, file) = (find_image(image)?, folder.join("image"), folder.join(name));
    write_file(&file, text.as_bytes())?;
    let target = format!("{}@@{BOOT_PARTITION_BYTES}", flashed.display());
    let put = move || {
        run_tool("cp", &["--sparse=always".as_ref(), base.as_os_str(), flashed.as_os_str()])?;
        let to = format!("::/{}", file.file_name().unwrap_or_default().display());
        run_tool(
            "mcopy",
            &["-o".as_ref(), "-i".as_ref(), target.as_ref(), file.as_os_str(), to.as_ref()],
        )?;
        anyhow::Ok(flashed_from(flashed))
    };
    tokio::task::spawn_blocking(put).await?
}
