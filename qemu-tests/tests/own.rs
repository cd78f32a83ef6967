//! What a server does for itself: its address, its name, its name servers and its clock.

#![expect(clippy::indexing_slicing, reason = "a key that a JSON object lacks reads as null")]

use anyhow::{Context, Result};
use qemu_tests::{HostService, Image, Lan, Machine, answers, converged, secs, wait_until};
use serde_json::{Value, json};

/// The card on QEMU's own network, whose DHCP server gives 10.0.2.15. Where it lets nothing pass it names no name server.
const CARD: &str = "52:54:00:ff:00:01";

async fn flashed(lan: &Lan) -> Result<Machine> {
    let nobody = HostService {
        address: "10.0.2.100:9".to_owned(),
        socket: lan.workspace().path().join("nobody.sock"),
    };
    let agent = lan.agent(Image::AgentDebug)?.host_service(nobody).start().await?;
    answers(&agent).await?;
    Ok(agent)
}

/// Null until the kernel has found it.
async fn card(agent: &Machine) -> Result<Value> {
    let status = agent.debug().check("clusterducks-agent ctl status").await?;
    let status: Value = serde_json::from_str(&status)?;
    let links = status["links"].as_array().context("no links")?;
    Ok(links.iter().find(|link| link["mac"] == CARD).cloned().unwrap_or_default())
}

#[tokio::test]
async fn an_empty_seed_means_dhcp_and_a_document_gives_address_name_and_name_servers() -> Result<()>
{
    let lan = Lan::new("own")?;
    let mut agent = flashed(&lan).await?;
    wait_until("an address by DHCP", secs(60), async || {
        let card = card(&agent).await?;
        Ok((card["addresses"] == json!(["10.0.2.15/24"]) && !card["lease"].is_null()).then_some(()))
    })
    .await?;

    let document = json!({
        "generation": 1, "server": "server-07",
        "management": { "interface": { "mac": CARD }, "address": "10.0.2.77/24", "gateway": "10.0.2.2",
            "dns": ["10.0.2.3", "10.0.2.4"], "ntp": ["10.0.2.5"] },
        "networks": [{ "name": "lab", "interface": { "mac": "52:54:00:cd:00:01" }, "address": "10.77.0.1/24" }]
    });
    agent.debug().put("/run/document.json", document.to_string().as_bytes()).await?;
    agent.debug().check("clusterducks-agent ctl apply /run/document.json").await?;
    converged(&agent, 1, secs(60)).await?;
    as_the_document_says(&agent).await?;
    let clock = agent.debug().check("stat -c %Y /data/timesync/clock").await?;
    assert!(clock.trim().parse::<u64>()? > 0, "the clock is kept: {clock}");

    agent.power_cut();
    agent.power_on().await?;
    answers(&agent).await?;
    converged(&agent, 1, secs(60)).await?;
    as_the_document_says(&agent).await?;
    assert_eq!(agent.debug().check("cat /etc/hostname").await?.trim(), "server-07");
    let first = agent.debug().check("journalctl -b -o short --no-pager _PID=1 | head -n 5").await?;
    assert!(first.contains(" server-07 "), "the name is there before the agent runs: {first}");
    lan.passed()
}

async fn as_the_document_says(agent: &Machine) -> Result<()> {
    let shell = agent.debug();
    assert_eq!(card(agent).await?["addresses"], json!(["10.0.2.77/24"]));
    assert_eq!(card(agent).await?["lease"], Value::Null);
    assert_eq!(shell.check("cat /proc/sys/kernel/hostname").await?.trim(), "server-07");
    let resolvers = shell.check("cat /etc/resolv.conf").await?;
    assert_eq!(resolvers.trim(), "nameserver 10.0.2.3\nnameserver 10.0.2.4");
    let clock = shell.check("timedatectl show-timesync -p SystemNTPServers").await?;
    assert_eq!(clock.trim(), "SystemNTPServers=10.0.2.5");
    let client = shell.exec("systemctl is-active systemd-networkd").await?;
    assert_eq!(client.stdout.trim(), "inactive", "nothing asks for an address any more");
    Ok(())
}
