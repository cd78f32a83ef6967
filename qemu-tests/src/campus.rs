//! Owns the whole picture: a panel in an office, a tunnel on the public LAN, an agent and its devices on a site behind the router, and
//! the admin who leads them from the first start to a booted device.

use crate::admin::Admin;
use crate::image::Image;
use crate::machine::Machine;
use crate::room::{first_code, flash_agent, open_panel, start_device};
use crate::wait::{secs, wait_until};
use crate::wan::Wan;
use anyhow::Result;

/// A panel and a tunnel with the router between them, and a site for an agent.
#[derive(Debug)]
pub struct Campus {
    /// The LANs.
    pub wan: Wan,
    /// The panel.
    pub panel: Machine,
    /// The tunnel.
    pub tunnel: Machine,
    /// Who sits at the panel's console.
    pub admin: Admin,
}

impl Campus {
    /// The campus `name`, whose panel and tunnel were just flashed; the console is at this port of the host's loopback.
    pub async fn new(name: &str, port: u16) -> Result<Self> {
        let wan = Wan::new(name).await?;
        let tunnel = wan.public.tunnel(Image::TunnelDebug)?.start().await?;
        let (panel, admin) = open_panel(&wan.office, port).await?;
        tunnel.debug().ready(secs(120)).await?;
        Ok(Self { wan, panel, tunnel, admin })
    }

    /// The code by which the first account is made, from the panel's log.
    pub async fn first_code(&self) -> Result<String> {
        first_code(&self.panel).await
    }

    /// An agent that was just flashed and has this seed file, on the site; beside its pool's disk it has the guest's image.
    pub async fn flash_agent(&self, seed: &str) -> Result<Machine> {
        flash_agent(&self.wan.site, seed).await
    }

    /// The machine of the device `pc-<number>`, on the site.
    pub async fn start_device(&self, number: u32) -> Result<Machine> {
        start_device(&self.wan.site, number).await
    }
}

/// The pairing code of a tunnel, as it stands on its serial port.
pub async fn pairing_code(tunnel: &Machine) -> Result<String> {
    wait_until("the tunnel to show its code", secs(60), async || {
        Ok(code_in(&tunnel.serial().text()?))
    })
    .await
}

/// The pairing code in what a tunnel shows.
pub fn code_in(shown: &str) -> Option<String> {
    let (_, below) = shown.rsplit_once("for this code:")?;
    below.split_whitespace().next().map(str::to_owned)
}
