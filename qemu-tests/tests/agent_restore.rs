//! The agent from its saved state: fast, with the right time, and as often at once as tests need it.

use anyhow::Result;
use qemu_tests::Lan;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[tokio::test]
async fn agents_restored_at_once_from_one_state_answer_and_tell_the_right_time() -> Result<()> {
    let lans = [Lan::new("agent-restore-1")?, Lan::new("agent-restore-2")?];
    let started = Instant::now();
    let first = lans[0].restore_agent().await?;
    eprintln!("agent_first_restore_s {:.1}", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let second = lans[1].restore_agent().await?;
    eprintln!("agent_restore_s {:.1}", started.elapsed().as_secs_f64());
    for agent in [&first, &second] {
        let seconds: u64 = agent.debug().check("date +%s").await?.trim().parse()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        assert!(
            now.abs_diff(seconds) < 30,
            "the guest's clock is at {seconds}, the host's at {now}"
        );
        let failed = agent.debug().check("systemctl --failed --no-legend --plain").await?;
        assert_eq!(failed, "", "units that failed");
    }
    lans.iter().try_for_each(Lan::passed)
}
