//! The appliance's image itself, as it is flashed.

use anyhow::Result;
use qemu_tests::{Builder, Image, Lan, Machine, secs};

async fn starts_clean(name: &str, firmware: impl FnOnce(Builder) -> Builder) -> Result<()> {
    let lan = Lan::new(name)?;
    let agent = firmware(lan.agent(Image::AgentDebug)?).start().await?;
    let shell = agent.debug();
    shell.ready(secs(120)).await?;
    let state = shell.exec_within("systemctl is-system-running --wait", secs(60)).await?;
    let failed = shell.check("systemctl --failed --no-legend --plain").await?;
    assert_eq!((state.stdout.trim(), failed.as_str()), ("running", ""));
    let cycles =
        shell.check("journalctl -b --no-pager | grep -ci 'ordering cycle' || true").await?;
    assert_eq!(cycles.trim(), "0");
    // Of the kernel's taints (Documentation/admin-guide/tainted-kernels.rst) only those of ZFS: proprietary (1), out of
    // tree (4096), unsigned (8192).
    let taint: u32 = shell.check("cat /proc/sys/kernel/tainted").await?.trim().parse()?;
    assert_eq!(taint & !(1 | 4096 | 8192), 0, "tainted: {taint}");
    assert!(!shell.exec("touch /usr/x /etc/x").await?.success(), "the root is read-only");
    shell.check("touch /data/agent/x && rm /data/agent/x").await?;
    let data: u64 = shell.check("findmnt -bno SIZE /data").await?.trim().parse()?;
    assert!(data > 4 << 30, "the data partition grew to the disk's end: {data}");
    let getty = shell.check("systemctl list-units --no-legend '*getty*' | wc -l").await?;
    assert_eq!(getty.trim(), "0");
    shell.check("clusterducks-agent ctl status").await?;
    shows_itself(&agent).await?;
    lan.passed()
}

/// On its screen, on its serial port, and on its first-boot page.
async fn shows_itself(agent: &Machine) -> Result<()> {
    const STATE: &str = "waiting to be joined to a panel";
    agent.expect(STATE, secs(30)).await?;
    // vcs(4): the characters of the first virtual console, without line ends.
    let screen = agent.debug().check("fold -w 80 /dev/vcs1").await?;
    assert!(screen.starts_with("clusterducks agent ") && screen.contains(STATE), "{screen}");
    let page = agent.debug().check("curl -sSfk https://127.0.0.1:8006/").await?;
    assert!(page.contains(STATE), "{page}");
    Ok(())
}

#[tokio::test]
async fn it_starts_by_bios_with_nothing_failed_and_nothing_writable_but_its_data() -> Result<()> {
    starts_clean("image-bios", Builder::bios).await
}

#[tokio::test]
async fn it_starts_by_uefi_with_nothing_failed_and_nothing_writable_but_its_data() -> Result<()> {
    starts_clean("image-uefi", Builder::uefi).await
}
