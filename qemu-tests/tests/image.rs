//! The agent's image itself, as it is flashed.

use anyhow::Result;
use qemu_tests::{Builder, Image, Lan, Machine, ZFS_TAINTS, secs, started_clean};

async fn starts_clean(name: &str, firmware: impl FnOnce(Builder) -> Builder) -> Result<()> {
    let lan = Lan::new(name)?;
    let agent = firmware(lan.agent(Image::AgentDebug)?).start().await?;
    started_clean(&agent, "/data/agent", ZFS_TAINTS).await?;
    agent.debug().check("clusterducks-agent ctl status").await?;
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
