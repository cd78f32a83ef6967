//! A room from its first start: a panel and an agent that were just flashed, an admin at the console, a device that boots.

use anyhow::{Result, ensure};
use qemu_tests::{Room, free_port, secs, token, up, wait_until};

#[tokio::test]
async fn an_admin_leads_a_flashed_panel_and_a_flashed_agent_to_a_booted_device() -> Result<()> {
    let mut room = Room::new("room", free_port()?).await?;
    let code = room.first_code().await?;
    room.admin.sign_up(&code, "ada", &format!("{}-{}", token(), token())).await?;
    room.admin.make_network("").await?;
    let agent = room.flash_agent(&room.admin.make_seed(None).await?).await?;
    let server = room.admin.let_in().await?;
    ensure!(
        server.html.contains("<code>pool0</code>"),
        "its disk is not shown: {}",
        server.words()
    );

    room.end_other_dhcp().await?;
    room.admin.set_up(None).await?;
    let page = room.admin.add_device(10).await?;
    room.admin.ready(secs(120), |_| ()).await?;
    let known = agent.debug().check("cat /proc/sys/kernel/hostname").await?;
    assert_eq!(known.trim(), "agent-1");

    let device = room.start_device(10).await?;
    up(&device).await?;
    wait_until("the console to show the device", secs(30), async || {
        let shown = room.admin.browser.open(&page).await?;
        Ok(shown.html.contains("data-state=\"connected\"").then_some(()))
    })
    .await?;
    room.lan.passed()
}
