//! The whole picture on three LANs: a panel in an office, a tunnel that both sides reach, an agent on a site behind the router. The tunnel
//! loses its power while the agent imports and while a device boots.

use anyhow::{Result, ensure};
use qemu_tests::{
    Campus, Page, SITE_GATEWAY, TUNNEL_ADDRESS, free_port, pairing_code, secs, token, up,
    wait_until,
};
use std::fs;

/// What a record's page shows while its connection is there.
fn connected(page: &Page) -> bool {
    page.html.contains("data-state=\"connected\"")
}

#[tokio::test]
async fn a_site_is_led_through_a_tunnel_that_loses_its_power() -> Result<()> {
    let mut campus = Campus::new("relay", free_port()?).await?;
    let code = campus.first_code().await?;
    campus.admin.sign_up(&code, "ada", &format!("{}-{}", token(), token())).await?;
    let code = pairing_code(&campus.tunnel).await?;
    let tunnel = campus.admin.pair_tunnel("relay", TUNNEL_ADDRESS, &code).await?;
    shows(&campus, &tunnel, "the tunnel to be connected").await?;
    campus.tunnel.expect("paired with a panel as relay", secs(30)).await?;

    campus.admin.make_network("relay").await?;
    let agent = campus.flash_agent(&campus.admin.make_seed(Some("relay")).await?).await?;
    campus.admin.let_in().await?;
    campus.wan.end_dhcp_on_site().await?;
    campus.admin.set_up(Some(SITE_GATEWAY)).await?;
    wait_until("the image to be imported", secs(90), async || {
        let status = agent.debug().check("clusterducks-agent ctl status").await?;
        Ok(status.contains("\"imports\":{\"").then_some(()))
    })
    .await?;
    campus.tunnel.power_cut();
    campus.tunnel.power_on().await?;
    campus.admin.ready(secs(240), |_| ()).await?;
    let page = campus.admin.add_device(10).await?;
    campus.admin.ready(secs(120), |_| ()).await?;

    let device = campus.start_device(10).await?;
    agent_says(&agent, "\"step\":\"kernel\"").await?;
    campus.tunnel.power_cut();
    up(&device).await?;
    campus.tunnel.power_on().await?;
    shows(&campus, &page, "the console to show the device").await?;

    let passed = fs::read(campus.wan.site.workspace().path().join("public.pcap"))?;
    let has = |text: &str| passed.windows(text.len()).any(|window| window == text.as_bytes());
    ensure!(has("SSH-2.0-OpenSSH"), "the public LAN was not recorded");
    for text in ["pc-10", "/v1/status", "agent-1"] {
        ensure!(!has(text), "{text} passed in the clear");
    }
    campus.wan.site.passed()
}

async fn shows(campus: &Campus, path: &str, what: &str) -> Result<()> {
    wait_until(what, secs(90), async || {
        Ok(connected(&campus.admin.browser.open(path).await?).then_some(()))
    })
    .await
}

async fn agent_says(agent: &qemu_tests::Machine, text: &str) -> Result<()> {
    wait_until("the device to fetch its kernel", secs(120), async || {
        let events = agent.debug().check("clusterducks-agent ctl events").await?;
        Ok(events.contains(text).then_some(()))
    })
    .await
}
