//! `make demo`: from a flashed panel, a flashed tunnel and a flashed agent on three LANs to a diskless device that runs, told step by
//! step; all that is saved is saved at the panel's console. With `ONCE=1` it ends when the device is up; else it ends in a shell of the device, and the console is
//! there to be looked at. Every machine ends with it.

use anyhow::{Context, Result, bail};
use qemu_tests::{
    Campus, DEVICE_UP, Machine, Page, SITE_GATEWAY, TUNNEL_ADDRESS, events, free_port,
    pairing_code, secs, token, wait_until,
};
use serde_json::Value;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The device that boots.
const DEVICE: u32 = 10;
/// Where the console is, unless another program is there.
const PORT: u16 = 8443;
/// Who makes the first account.
const NAME: &str = "demo";
/// A pause between two looks at the agent.
const LOOK: Duration = Duration::from_secs(1);

/// What happens, with the seconds since the start.
struct Story {
    started: Instant,
}

impl Story {
    fn tell(&self, line: &str) {
        println!("{:7.1} s  {line}", self.started.elapsed().as_secs_f64());
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let once = std::env::var("ONCE").is_ok_and(|once| once == "1");
    tokio::select! {
        ended = demo(once) => ended,
        _ = tokio::signal::ctrl_c() => bail!("stopped; every machine was switched off"),
    }
}

async fn demo(once: bool) -> Result<()> {
    let story = Story { started: Instant::now() };
    let port = match TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)) {
        Ok(_free) => PORT,
        Err(_) => free_port()?,
    };
    let (console, password) =
        (format!("https://127.0.0.1:{port}/"), format!("{}-{}", token(), token()));
    story.tell(
        "panel, in an office, and tunnel, on the public LAN: start from their flashed disk images",
    );
    let mut room = Campus::new("demo", port).await?;
    let code = room.first_code().await?;
    story.tell(&format!("panel: its console is at {console}; its one-time code is {code}"));
    room.admin.sign_up(&code, NAME, &password).await?;
    story.tell(&format!("admin: signed up by that code, as {NAME} with the password {password}"));
    let code = pairing_code(&room.tunnel).await?;
    story.tell(&format!("tunnel: shows its pairing code, {code}"));
    room.admin.pair_tunnel("relay", TUNNEL_ADDRESS, &code).await?;
    room.admin.make_network("relay").await?;
    let seed = room.admin.make_seed(Some("relay")).await?;
    story.tell("admin: paired the tunnel, made an organization, a network, a subnet, and a join code for a server");
    story.tell("agent, on a site behind a router: starts from its flashed disk image, with that code on its boot partition");
    let agent = room.flash_agent(&seed).await?;
    room.admin.let_in().await?;
    story.tell("agent: asked to join through the tunnel, was let in by the admin, and is connected to the panel");
    room.wan.end_dhcp_on_site().await?;
    room.admin.set_up(Some(SITE_GATEWAY)).await?;
    room.admin.add_device(DEVICE).await?;
    story.tell("admin: saved a pool, an image to import, a group, one device");
    follow_work(&room, &story).await?;
    story.tell("agent: ready");
    story.tell("device: pc-10 is switched on; it has no disk");
    let device = room.start_device(DEVICE).await?;
    follow_boot(&agent, &device, &story).await?;
    story.tell("device up");
    if !once {
        println!("The console is at {console}, for {NAME} with the password {password}.");
        println!(
            "Its root certificate, which a browser does not know yet: {console}certificates/root.pem"
        );
        shell(&device).await?;
    }
    room.wan.site.passed()
}

/// Tells what the server works at, until it is as the console says.
async fn follow_work(room: &Campus, story: &Story) -> Result<()> {
    let mut told = String::new();
    let look = |page: &Page| {
        let work = describe(page);
        if work != told && !work.is_empty() {
            story.tell(&format!("agent: {work}"));
            told = work;
        }
    };
    room.admin.ready(secs(300), look).await
}

/// What fails, or else what is waited for, as the server's page has it.
fn describe(page: &Page) -> String {
    match page.facts_below("What failed") {
        Some(failures) => format!("failed: {failures}"),
        None => page.facts_below("What waits").unwrap_or_default(),
    }
}

/// Tells each step of the boot until the device is up.
async fn follow_boot(agent: &Machine, device: &Machine, story: &Story) -> Result<()> {
    let mut seen = 0;
    wait_until("the device to be up", secs(180), async || {
        if !device.is_on() {
            bail!("the device went off; its log is in {}", device.folder().display());
        }
        for event in events(agent).await? {
            let number =
                event.get("number").and_then(Value::as_u64).context("an event has a number")?;
            let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
            if number > seen && text("event") == "boot" {
                story.tell(&format!("device: {} {}", text("step"), text("message")));
            }
            seen = seen.max(number);
        }
        let up = device.serial().text()?.contains(DEVICE_UP);
        if !up {
            tokio::time::sleep(LOOK).await;
        }
        Ok(up.then_some(()))
    })
    .await
}

/// Lines from the terminal, run on the device.
async fn shell(device: &Machine) -> Result<()> {
    println!("A shell on the device; ctrl-D ends it and switches every machine off.");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        print!("pc-10# ");
        std::io::stdout().flush()?;
        let Some(line) = lines.next_line().await? else { return Ok(()) };
        match device.debug().exec(&line).await {
            Ok(output) => print!("{}", output.stdout),
            Err(error) => println!("{error:#}"),
        }
    }
}
