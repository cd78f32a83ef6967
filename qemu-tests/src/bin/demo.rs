//! `make demo`: from a flashed agent to a diskless device that runs, told step by step. With `ONCE=1` it ends when the device is
//! up; else it ends in a shell of the device. Every machine ends with it.

use anyhow::{Context, Result, bail};
use qemu_tests::{DEVICE_UP, Machine, Site, secs, wait_until};
use serde_json::Value;
use std::io::Write as _;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The device that boots.
const DEVICE: u32 = 10;
/// A pause between two looks at the server.
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
    story.tell("agent: starts from its flashed disk image");
    let mut site = Site::flashed("demo").await?;
    story.tell("agent: up");
    site.add_device(DEVICE, "overlay");
    let generation = site.send().await?;
    story.tell("agent: document in force: a pool, a network, an image to import, one device");
    converge(&site, generation, &story).await?;
    story.tell("agent: ready");
    story.tell("device: pc-10 is switched on; it has no disk");
    let device = site.machine(DEVICE)?.bios().start().await?;
    follow_boot(&site, &device, &story).await?;
    story.tell("device up");
    if !once {
        shell(&device).await?;
    }
    site.lan.passed()
}

/// Tells what the server works at until it is as the document says.
async fn converge(site: &Site, generation: u64, story: &Story) -> Result<()> {
    let mut told = String::new();
    wait_until("the server to be ready", secs(300), async || {
        let status = site.status().await?;
        let work = describe(&status);
        if work != told && !work.is_empty() {
            story.tell(&format!("agent: {work}"));
            told = work;
        }
        let in_force = status.get("generation") == Some(&Value::from(generation));
        let ready = in_force && status.get("converged") == Some(&Value::Bool(true));
        if !ready {
            tokio::time::sleep(LOOK).await;
        }
        Ok(ready.then_some(()))
    })
    .await
}

/// What fails, or else what is waited for.
fn describe(status: &Value) -> String {
    let words = |key: &str| -> Vec<String> {
        let map = status.get(key).and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .map(|(what, why)| format!("{what}: {}", why.as_str().unwrap_or_default()))
            .collect()
    };
    let failures = words("failures");
    if failures.is_empty() {
        words("waiting").join("; ")
    } else {
        format!("failed: {}", failures.join("; "))
    }
}

/// Tells each step of the boot until the device is up.
async fn follow_boot(site: &Site, device: &Machine, story: &Story) -> Result<()> {
    let mut seen = 0;
    wait_until("the device to be up", secs(180), async || {
        if !device.is_on() {
            bail!("the device went off; its log is in {}", device.folder().display());
        }
        for event in site.events().await? {
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
