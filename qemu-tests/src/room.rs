//! Owns a room as it stands: the panel, the agent and the devices that an admin at the console leads from the first start to a
//! booted device.

use crate::admin::Admin;
use crate::appliance::with_boot_file;
use crate::browser::Browser;
use crate::console::Console;
use crate::image::Image;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::site::guest_disk;
use crate::wait::{secs, wait_until};
use anyhow::{Context, Result};
use serde_json::Value;
use std::net::{Ipv4Addr, TcpListener};

/// A LAN with a panel, and with an agent once one was flashed.
#[derive(Debug)]
pub struct Room {
    /// The LAN.
    pub lan: Lan,
    /// The panel.
    pub panel: Machine,
    /// Who sits at its console.
    pub admin: Admin,
    /// Gives out addresses until the agent does.
    dhcp: Machine,
}

impl Room {
    /// The room `name` with a panel that was just flashed, whose console is at this port of the host's loopback.
    pub async fn new(name: &str, port: u16) -> Result<Self> {
        let lan = Lan::new(name)?;
        let dhcp = lan.dhcp_server(254).await?;
        let (panel, admin) = open_panel(&lan, port).await?;
        Ok(Self { lan, panel, admin, dhcp })
    }

    /// The code by which the first account is made, from the panel's log.
    pub async fn first_code(&self) -> Result<String> {
        first_code(&self.panel).await
    }

    /// An agent that was just flashed and has this seed file; beside its pool's disk it has the guest's image.
    pub async fn flash_agent(&self, seed: &str) -> Result<Machine> {
        flash_agent(&self.lan, seed).await
    }

    /// The DHCP server that was there before the agent gives out nothing any more.
    pub async fn end_other_dhcp(&self) -> Result<()> {
        self.dhcp.debug().check("killall udhcpd").await.map(drop)
    }

    /// The machine of the device `pc-<number>`.
    pub async fn start_device(&self, number: u32) -> Result<Machine> {
        start_device(&self.lan, number).await
    }
}

/// A panel that was just flashed, on this LAN, whose console is at this port of the host's loopback; and who sits before that.
pub(crate) async fn open_panel(lan: &Lan, port: u16) -> Result<(Machine, Admin)> {
    let panel = lan.panel(Image::PanelDebug)?.forward(port, 443).start().await?;
    panel.debug().ready(secs(120)).await?;
    let root = wait_until("the panel to serve its console", secs(60), async || {
        root_pem(panel.debug()).await
    });
    let browser = Browser::new(lan.workspace().clone(), port, &root.await?)?;
    Ok((panel, Admin::new(browser)))
}

/// See [`Room::flash_agent`].
pub(crate) async fn flash_agent(lan: &Lan, seed: &str) -> Result<Machine> {
    let folder = lan.workspace().folder("flashed")?;
    let system = with_boot_file(Image::AgentDebug, &folder, "clusterducks.toml", seed).await?;
    let agent = lan.agent_on(system)?.disk(guest_disk()?).start().await?;
    agent.debug().ready(secs(120)).await?;
    Ok(agent)
}

/// See [`Room::start_device`].
pub(crate) async fn start_device(lan: &Lan, number: u32) -> Result<Machine> {
    lan.device_numbered(&format!("pc-{number}"), number)?.bios().start().await
}

/// The code of the panel's first start, from its log.
pub async fn first_code(panel: &Machine) -> Result<String> {
    let log = panel.debug().check("journalctl -b -u clusterducks-panel -o cat").await?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut codes = lines.filter_map(|line| line.get("code")?.as_str().map(str::to_owned));
    codes.next_back().with_context(|| format!("no code in {log}"))
}

/// A port of the host's loopback that nobody uses now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The panel's root certificate, as it hands it out; nothing while it does not answer yet.
async fn root_pem(shell: &Console) -> Result<Option<String>> {
    shell.put("/run/request", b"GET /certificates/root.pem HTTP/1.0\r\n\r\n").await?;
    let client = "openssl s_client -quiet -connect 127.0.0.1:443 </run/request 2>/dev/null";
    let answer = shell.exec(client).await?;
    let parts = answer.stdout.split_once("\r\n\r\n");
    Ok(parts.filter(|_| answer.success()).map(|(_, pem)| pem.to_owned()))
}
