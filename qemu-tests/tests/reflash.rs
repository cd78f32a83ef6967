//! The root file system is disposable: a server that was flashed anew takes its pool over.

use anyhow::Result;
use qemu_tests::{Site, secs};

#[tokio::test]
async fn a_flashed_anew_agent_takes_its_old_pool_over_with_everything_on_it() -> Result<()> {
    let mut site = Site::new("reflash").await?;
    site.add_vdisk("home-10", 64 << 20);
    site.add_device(10, "overlay");
    site.apply().await?;
    let vdisk = "/dev/zvol/tank/clusterducks/vdisks/home-10";
    let facts = "zpool get -Hp -o value guid tank; zfs get -Hp -o name,value guid -r -t all tank/clusterducks";
    let shell = site.agent.debug();
    shell.check(&format!("echo precious | dd of={vdisk} conv=fsync 2>/dev/null && sync")).await?;
    let before = shell.check(facts).await?;

    site.flash_anew().await?;
    let shell = site.agent.debug();
    let pools = shell.check("zpool list -H").await?;
    assert_eq!(pools, "", "no pool is imported that no document names");
    site.send().await?;
    let generation =
        site.document.get("generation").and_then(serde_json::Value::as_u64).unwrap_or(0);
    qemu_tests::converged(&site.agent, generation, secs(120)).await?;
    let shell = site.agent.debug();
    assert_eq!(shell.check(facts).await?, before);
    assert_eq!(shell.check(&format!("head -c 9 {vdisk}")).await?, "precious\n");
    site.lan.passed()
}
