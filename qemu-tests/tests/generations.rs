//! A group's pointer moves to another generation. Commits do not make generations yet: root makes the second one by hand.

use anyhow::Result;
use qemu_tests::{Machine, Site, up};
use serde_json::json;

/// Writes a file into the group's clone and takes the snapshot that a commit would take.
async fn make_generation_2(agent: &Machine) -> Result<()> {
    // The root is the second partition of the guest's image, 2 MiB from its start.
    let script = "set -e
        mkdir -p /run/clone
        mount -t ext4 -o loop,offset=2097152 /dev/zvol/tank/clusterducks/groups/lab /run/clone
        echo 2 >/run/clone/etc/generation
        umount /run/clone
        sync
        zfs snapshot tank/clusterducks/groups/lab@g2";
    agent.debug().check(script).await.map(drop)
}

#[tokio::test]
async fn a_device_boots_the_new_generation_and_one_that_runs_goes_on_with_the_old() -> Result<()> {
    let mut site = Site::new("generations").await?;
    site.add_device(10, "overlay");
    site.add_device(11, "ephemeral");
    site.apply().await?;
    let running = site.machine(10)?.bios().start().await?;
    up(&running).await?;

    make_generation_2(&site.agent).await?;
    site.document["groups"][0]["generations"] = json!([1, 2]);
    site.document["groups"][0]["production"] = json!(2);
    site.apply().await?;

    let late = site.machine(11)?.bios().start().await?;
    up(&late).await?;
    assert_eq!(late.debug().check("cat /etc/generation").await?.trim(), "2");

    // What it reads now is not in its memory, so its disk is still there; and it is the old one's.
    let shell = running.debug();
    shell.check("echo 3 >/proc/sys/vm/drop_caches; cat /usr/bin/* >/dev/null").await?;
    assert!(!shell.exec("test -e /etc/generation").await?.success());
    running.serial().skip_to_end()?;
    shell.exec("systemctl reboot").await.ok();
    up(&running).await?;
    assert_eq!(running.debug().check("cat /etc/generation").await?.trim(), "2");
    let sessions = site.status().await?["sessions"].clone();
    let left = &sessions["iqn.2026-01.org.clusterducks:generation.lab.g1"];
    assert!(left.as_array().is_none_or(Vec::is_empty), "nobody uses the old generation: {left}");
    site.lan.passed()
}
