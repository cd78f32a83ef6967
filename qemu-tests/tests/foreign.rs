//! What is not ours on a server stays as it is.

use anyhow::Result;
use qemu_tests::{Site, answers, secs, wait_until};
use serde_json::json;

#[tokio::test]
async fn unmarked_datasets_targets_and_foreign_pools_stay_untouched() -> Result<()> {
    let mut site = Site::new("foreign").await?;
    let shell = site.agent.debug();
    let root = "tank/clusterducks";
    let theirs = [
        format!("zfs create -s -V 16M {root}/devices/pc-10"),
        format!("zfs snapshot {root}/devices/pc-10@clean"),
        format!("zfs create -s -V 16M {root}/vdisks/theirs"),
        "zfs create -o mountpoint=none tank/theirs".to_owned(),
        // A mark that is only inherited is no mark.
        "zfs create -o mountpoint=none -o org.clusterducks:id=vdisk:outer tank/outer".to_owned(),
        "zfs create -s -V 16M tank/outer/vdisk".to_owned(),
        "truncate -s 128M /tmp/disk".to_owned(),
        "mkdir -p /sys/kernel/config/target/iscsi/iqn.2000-01.com.example:theirs/tpgt_1".to_owned(),
    ];
    for command in &theirs {
        shell.check(command).await?;
    }
    let listing = "zfs list -Hp -t all -o name,guid,volsize,createtxg -r tank/theirs tank/outer \
        tank/clusterducks/devices tank/clusterducks/vdisks; ls -d /sys/kernel/config/target/iscsi/iqn.2000*/tpgt_1";
    let before = shell.check(listing).await?;

    site.add_device(10, "ephemeral");
    site.document["destroy"] = json!(["vdisk:theirs", "vdisk:outer"]);
    site.send().await?;
    let waiting = wait_until("the agent to say what stands in its way", secs(60), async || {
        let waiting = site.status().await?["waiting"].clone();
        Ok(waiting.to_string().contains("devices/pc-10").then_some(waiting))
    })
    .await?;
    assert!(waiting.to_string().contains("does not carry our mark"), "{waiting}");
    assert_eq!(site.agent.debug().check(listing).await?, before);
    site.lan.passed()
}

/// ZFS makes a dataset in one transaction and marks it in the next; a power cut between the two is rarer than any loop of cuts
/// hits. What it leaves on the pool and on the server's own disk is put there by hand.
#[tokio::test]
async fn what_a_power_cut_left_between_a_dataset_and_its_mark_is_made_anew() -> Result<()> {
    let mut site = Site::new("unfinished").await?;
    let shell = site.agent.debug();
    let vdisks = "tank/clusterducks/vdisks";
    for command in [
        "systemctl stop clusterducks-agent".to_owned(),
        format!("zfs create -s -V 16M {vdisks}/unfinished && zfs create -s -V 16M {vdisks}/theirs"),
        format!("printf %s {vdisks}/unfinished >/data/agent/dataset-begun"),
        "systemctl start clusterducks-agent".to_owned(),
    ] {
        shell.check(&command).await?;
    }
    answers(&site.agent).await?;

    site.add_vdisk("unfinished", 64 << 20);
    site.apply().await?;
    let shell = site.agent.debug();
    let seen = format!("zfs get -Hp -o value volsize,org.clusterducks:id {vdisks}/unfinished");
    assert_eq!(shell.check(&seen).await?, "67108864\nvdisk:unfinished\n");
    shell.check("test ! -e /data/agent/dataset-begun").await?;

    // Nothing was noted of this one: it is somebody's.
    let theirs = format!("zfs get -Hp -o value guid,volsize {vdisks}/theirs");
    let before = shell.check(&theirs).await?;
    site.add_vdisk("theirs", 64 << 20);
    site.send().await?;
    wait_until("the agent to refuse what it did not begin", secs(60), async || {
        let waiting = site.status().await?["waiting"].to_string();
        Ok(waiting.contains("vdisks/theirs").then_some(()))
    })
    .await?;
    assert_eq!(site.agent.debug().check(&theirs).await?, before);
    site.lan.passed()
}

#[tokio::test]
async fn a_disk_with_foreign_data_is_not_taken_for_a_pool() -> Result<()> {
    let mut site = Site::new("foreign-disk").await?;
    let shell = site.agent.debug();
    // What stands on the disk of the running pool is a pool's already; a second pool may not have it.
    site.document["pools"] = json!([
        { "name": "tank", "disks": [{ "serial": "pool0" }] },
        { "name": "other", "disks": [{ "serial": "guest" }] },
    ]);
    let before = shell.check("sha256sum < /dev/disk/by-id/virtio-guest").await?;
    site.send().await?;
    let waiting = wait_until("the agent to refuse the disk", secs(60), async || {
        let waiting = site.status().await?["waiting"]["pool other"].clone();
        Ok(waiting.as_str().map(str::to_owned))
    })
    .await?;
    assert!(waiting.contains("guest"), "{waiting}");
    assert_eq!(site.agent.debug().check("sha256sum < /dev/disk/by-id/virtio-guest").await?, before);
    site.lan.passed()
}
