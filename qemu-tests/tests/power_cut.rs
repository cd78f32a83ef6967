//! The agent's power is cut once while it makes its pool, and then at random moments: what it acknowledged is there afterwards, and
//! it finishes what it began.

use anyhow::Result;
use qemu_tests::{Site, answers, converged, secs};
use rand::RngExt as _;
use std::time::Duration;

const CUTS: u32 = 10;
/// A start's first run takes about as long as this under emulation, so that cuts fall into import, snapshots, clones,
/// roll-backs and exports alike.
const LATEST_S: f64 = 16.0;

#[tokio::test]
async fn the_agent_comes_back_from_ten_power_cuts_and_loses_nothing_it_acknowledged() -> Result<()>
{
    let mut site = Site::flashed("power-cut").await?;
    let mut generation = 0;
    for cut in 0..CUTS {
        site.add_vdisk(&format!("vdisk-{cut}"), 64 << 20);
        site.add_device(20 + cut, "ephemeral");
        generation = site.send().await?;
        // Devices ask for their boots all the while; whether they are answered depends on how far the agent has come.
        let ask = format!(
            "systemd-run -q --collect sh -c 'while :; do for n in $(seq 20 {}); do \
             curl -s -m 5 -o /dev/null http://10.77.0.1/boot/52-54-00-cd-01-$(printf %02x $n).ipxe; done; sleep 1; done'",
            20 + cut
        );
        site.agent.debug().check(&ask).await?;
        if cut == 0 {
            // Chance seldom hits the making of the pool: partitions stand on its disk, and nothing in them.
            site.agent.written_to(1, secs(60)).await?;
        } else {
            let moment_s = rand::rng().random_range(0.0..LATEST_S);
            eprintln!("cut {cut} after {moment_s:.1} s");
            tokio::time::sleep(Duration::from_secs_f64(moment_s)).await;
        }
        site.agent.power_cut();
        site.agent.power_on().await?;
        answers(&site.agent).await?;
        assert_eq!(
            site.status().await?["generation"],
            generation,
            "an acknowledged document is in force"
        );
    }
    let status = converged(&site.agent, generation, secs(240)).await?;
    for cut in 0..CUTS {
        let datasets = &status["datasets"];
        assert!(datasets[format!("tank/clusterducks/vdisks/vdisk-{cut}")].is_object());
        assert!(datasets[format!("tank/clusterducks/devices/pc-{}", 20 + cut)].is_object());
    }
    let compare = "qemu-img compare -f qcow2 -F raw /dev/disk/by-id/virtio-guest /dev/zvol/tank/clusterducks/groups/lab@g1";
    let compared = site.agent.debug().exec_within(compare, secs(300)).await?;
    assert!(compared.success(), "the generation is not what was imported: {}", compared.stdout);
    site.lan.passed()
}
