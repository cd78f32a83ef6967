//! Owns what an admin does at the console, from the first account to a device, by forms alone. All that they know of the server
//! they read on its page.

use crate::browser::{Browser, Page};
use crate::lan::{AGENT_MAC, PANEL_ADDRESS, mac_of};
use crate::site::guest_sha256;
use crate::wait::{secs, wait_until};
use anyhow::{Context, Result};
use std::time::Duration;

/// The subnet that devices boot from, and what it is called.
const SUBNET: (&str, &str) = ("lab", "10.77.0.0/24");
const SERVER: &str = "agent-1";
const SERVER_ADDRESS: &str = "10.77.0.1";

/// An admin at a console.
#[derive(Debug)]
pub struct Admin {
    /// Their browser.
    pub browser: Browser,
    network: Option<String>,
    server: Option<String>,
}

impl Admin {
    /// Somebody who has a browser, and no account yet.
    pub fn new(browser: Browser) -> Self {
        Self { browser, network: None, server: None }
    }

    /// Makes the first account with the panel's code, and is signed in.
    pub async fn sign_up(&self, code: &str, name: &str, password: &str) -> Result<()> {
        let fields = [
            ("code", code),
            ("full_name", "Ada Lovelace"),
            ("name", name),
            ("password", password),
            ("again", password),
        ];
        self.browser.save("/first-start", &fields).await.map(drop)
    }

    /// Adds a tunnel that is reached at this address, and pairs it by the code on its screen; returns the path of its page.
    pub async fn pair_tunnel(&self, name: &str, address: &str, code: &str) -> Result<String> {
        let fields = [("name", name), ("host", address), ("port", "22")];
        let browser = &self.browser;
        browser.save("/tunnels/new", &fields).await?;
        let tunnels = browser.open("/tunnels").await?;
        let tunnel = tunnels.link_called("/tunnels/", name).context("the tunnel is not listed")?;
        browser.fill(&tunnel, &format!("{tunnel}/pair"), &[("code", code)]).await?;
        Ok(tunnel)
    }

    /// Makes an organization, a network whose servers are reached through `tunnels`, names with commas between them, and a subnet
    /// whose addresses those servers give out.
    pub async fn make_network(&mut self, tunnels: &str) -> Result<()> {
        let browser = &self.browser;
        browser.save("/organizations/new", &[("name", "Example School")]).await?;
        let form = browser.open("/networks/new").await?;
        let owner = form.between("<option value=\"", "\"").context("no organization to choose")?;
        let fields = [("organization", owner.as_str()), ("name", "north"), ("tunnels", tunnels)];
        let networks = browser.save("/networks/new", &fields).await?;
        let network = networks.link("/networks/").context("the new network is not listed")?;
        let (name, subnet) = SUBNET;
        let fields = [
            ("name", name),
            ("subnet", subnet),
            ("dhcp", "authoritative"),
            ("dhcp.first", "10.77.0.200"),
            ("dhcp.last", "10.77.0.250"),
        ];
        browser.save(&format!("{network}/subnets/new"), &fields).await?;
        self.network = Some(network);
        Ok(())
    }

    /// Makes a join code that leads through this tunnel, or straight to the panel; returns the seed file that a server joins by.
    pub async fn make_seed(&self, tunnel: Option<&str>) -> Result<String> {
        let path = format!("{}/servers/join", self.network()?);
        let tunnel = tunnel.unwrap_or_default();
        let fields =
            [("tunnel", tunnel), ("host", PANEL_ADDRESS), ("hours", "1"), ("confirm", "on")];
        let made = self.browser.ask_for(&path, &fields).await?;
        made.between("<pre><code>", "</code></pre>").with_context(|| made.words())
    }

    /// Waits for a box to ask, says yes to it, and waits until it has shown itself. Returns what stands on the server's page.
    pub async fn let_in(&mut self) -> Result<Page> {
        let servers = format!("{}/servers", self.network()?);
        let browser = &self.browser;
        let waiting = wait_until("a box that waits to be let in", secs(120), async || {
            Ok(browser.open("/joins").await?.link("/joins/"))
        });
        let waiting = waiting.await?;
        browser.press(&waiting, &format!("{waiting}/confirm")).await?;
        let server = wait_until("a server that has joined", secs(60), async || {
            let page = browser.open(&servers).await?;
            Ok(page.link("/servers/"))
        });
        let server = server.await?;
        let shown = wait_until("the server to show itself", secs(60), async || {
            let page = browser.open(&server).await?;
            Ok(page.html.contains("<h2>Disks</h2>").then_some(page))
        });
        let shown = shown.await?;
        self.server = Some(server);
        Ok(shown)
    }

    /// Makes the server the one that serves the subnet, with a pool, an image in it and a group.
    pub async fn set_up(&self, gateway: Option<&str>) -> Result<()> {
        let address = format!("{SERVER_ADDRESS}/24");
        let server = [
            ("name", SERVER),
            ("role", "both"),
            ("primary", "on"),
            ("interfaces[0].subnet", SUBNET.0),
            ("interfaces[0].interface", AGENT_MAC),
            ("interfaces[0].address", SERVER_ADDRESS),
            ("management.interface", AGENT_MAC),
            ("management.address", &address),
            ("management.gateway", gateway.unwrap_or_default()),
            ("pools[0].name", "tank"),
            ("pools[0].layout", "stripe"),
            ("pools[0].disks", "pool0"),
        ];
        self.save_and_tell(&format!("{}/edit", self.server()?), &server).await?;
        let digest = guest_sha256().await?;
        let volume = [
            ("name", "debian"),
            ("pool", "tank"),
            ("size_bytes", "4 GiB"),
            ("source.location", "/dev/disk/by-id/virtio-guest"),
            ("source.format", "qcow2"),
            ("source.sha256", &digest),
        ];
        let network = self.network()?;
        self.save_and_tell(&format!("{network}/volumes/new"), &volume).await?;
        let group = [
            ("name", "lab"),
            ("volume", "debian"),
            ("generations", "1"),
            ("production", "1"),
            ("kernel_arguments", "console=ttyS0 quiet"),
        ];
        self.save_and_tell(&format!("{network}/groups/new"), &group).await
    }

    /// Adds the device `pc-<number>` at 10.77.0.`number`, with the card [`mac_of`]`(number)`; returns the path of its page.
    pub async fn add_device(&self, number: u32) -> Result<String> {
        let (name, mac) = (format!("pc-{number}"), mac_of(number));
        let address = format!("10.77.0.{number}");
        let device = [
            ("name", name.as_str()),
            ("macs", &mac),
            ("network", SUBNET.0),
            ("address", &address),
            ("group", "lab"),
            ("boot_mode", "overlay"),
            ("on_failure", "retry"),
        ];
        let told = self.told().await?;
        let form = format!("{}/devices/new", self.network()?);
        let page = self.browser.save(&form, &device).await?;
        self.told_more_than(told).await?;
        Ok(page.path)
    }

    /// Waits until the server is as the console says, by its page; `look` sees each.
    pub async fn ready(&self, timeout: Duration, mut look: impl FnMut(&Page)) -> Result<()> {
        let path = self.server()?;
        let mut last = String::new();
        let waited = wait_until("the server to be ready", timeout, async || {
            let page = self.browser.open(path).await?;
            look(&page);
            last = page.words();
            let (made, applied) = numbers(&page).context("the page has no document")?;
            Ok((state(&page).as_deref() == Some("ready") && made == applied).then_some(()))
        });
        waited.await.with_context(|| last.clone())
    }

    fn network(&self) -> Result<&str> {
        self.network.as_deref().context("there is no network yet")
    }

    fn server(&self) -> Result<&str> {
        self.server.as_deref().context("no server has joined yet")
    }

    /// The number of the document that the panel made for the server.
    async fn told(&self) -> Result<u64> {
        let page = self.browser.open(self.server()?).await?;
        Ok(numbers(&page).map_or(0, |(made, _)| made))
    }

    async fn told_more_than(&self, before: u64) -> Result<()> {
        wait_until("a new document", secs(10), async || {
            Ok((self.told().await? > before).then_some(()))
        })
        .await
    }

    async fn save_and_tell(&self, path: &str, fields: &[(&str, &str)]) -> Result<()> {
        let before = self.told().await?;
        self.browser.save(path, fields).await?;
        self.told_more_than(before).await
    }
}

/// The word for the server's state.
fn state(page: &Page) -> Option<String> {
    page.between("<dt>State</dt><dd><span class=\"state\" data-state=\"", "\"")
}

/// The numbers of the document that was made, and of the one that is applied.
fn numbers(page: &Page) -> Option<(u64, u64)> {
    let told = page.between("<dt>Document</dt><dd>number ", "</dd>")?;
    let made = told.split(',').next()?.parse().ok()?;
    Some((made, told.rsplit(' ').next()?.parse().ok()?))
}
