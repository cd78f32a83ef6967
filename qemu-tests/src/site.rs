//! Owns the small site of most tests: an agent with a pool and the guest's image imported, a document that a test changes, and
//! the devices that boot from it. It speaks to the agent as an admin does: documents in, status and events out.

#![expect(
    clippy::indexing_slicing,
    reason = "a key that a JSON object lacks reads as null, and the documents are our own"
)]

use crate::image::{Image, find_image};
use crate::lan::{Lan, mac_of};
use crate::machine::{Builder, DiskSpec, Machine};
use crate::wait::{secs, wait_until};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// What a device's serial log shows once it is up; the initrd module's unit writes it.
pub const DEVICE_UP: &str = "clusterducks: device up";

/// A LAN with an agent that serves it.
#[derive(Debug)]
pub struct Site {
    /// The LAN.
    pub lan: Lan,
    /// The agent.
    pub agent: Machine,
    /// The document that was applied last.
    pub document: Value,
}

impl Site {
    /// The site of the test `name`: the group `lab` with one generation. It starts from a saved state.
    pub async fn new(name: &str) -> Result<Self> {
        let lan = Lan::new(name)?;
        let document = document(&guest_sha256().await?);
        let prepared = document.clone();
        let guest = guest_disk()?;
        let agent = lan
            .restore_agent_after("site", vec![guest], async |agent| {
                apply(agent, &prepared).await?;
                converged(agent, 1, secs(120)).await.map(drop)
            })
            .await?;
        Ok(Self { lan, agent, document })
    }

    /// A site whose agent starts from its flashed image, with nothing in force.
    pub async fn flashed(name: &str) -> Result<Self> {
        let lan = Lan::new(name)?;
        let document = document(&guest_sha256().await?);
        let agent = lan.agent(Image::AgentDebug)?.disk(guest_disk()?).start().await?;
        answers(&agent).await?;
        Ok(Self { lan, agent, document })
    }

    /// Takes the agent away as by a power cut, and puts a server in its place that was just flashed and has the same disk
    /// with the pool.
    pub async fn flash_anew(&mut self) -> Result<()> {
        self.agent.power_cut();
        let pool = DiskSpec::Overlay {
            base: self.agent.disk_file(1)?.to_owned(),
            format: "qcow2".into(),
            size_bytes: None,
            serial: "pool0".into(),
        };
        let flashed = self.lan.agent_with(Image::AgentDebug, pool)?.named("flashed-anew");
        self.agent = flashed.disk(guest_disk()?).start().await?;
        answers(&self.agent).await
    }

    /// Adds a device to the document: `pc-<number>` at 10.77.0.`number`, with the card [`mac_of`]`(number)`.
    pub fn add_device(&mut self, number: u32, boot_mode: &str) -> &mut Value {
        let device = json!({
            "name": format!("pc-{number}"), "macs": [mac_of(number)], "network": "lab",
            "address": format!("10.77.0.{number}"), "group": "lab", "boot_mode": boot_mode,
        });
        let devices =
            self.document["devices"].as_array_mut().expect("the document has a list of devices");
        devices.push(device);
        devices.last_mut().expect("it was just pushed")
    }

    /// Adds a vDisk to the document.
    pub fn add_vdisk(&mut self, name: &str, size_bytes: u64) {
        let vdisk = json!({ "name": name, "pool": "tank", "size_bytes": size_bytes });
        self.document["vdisks"]
            .as_array_mut()
            .expect("the document has a list of vDisks")
            .push(vdisk);
    }

    /// Puts the document in force under the next number, and waits until the server is as it says.
    pub async fn apply(&mut self) -> Result<Value> {
        let generation = self.send().await?;
        converged(&self.agent, generation, secs(60)).await
    }

    /// Puts the document in force under the next number.
    pub async fn send(&mut self) -> Result<u64> {
        let generation = self.document["generation"].as_u64().unwrap_or(0) + 1;
        self.document["generation"] = json!(generation);
        apply(&self.agent, &self.document).await?;
        Ok(generation)
    }

    /// The machine of the device `pc-<number>`, whether the agent knows it or not.
    pub fn machine(&self, number: u32) -> Result<Builder> {
        self.lan.device_numbered(&format!("pc-{number}"), number)
    }

    /// What the agent shows of itself.
    pub async fn status(&self) -> Result<Value> {
        status(&self.agent).await
    }

    /// What happened, in order.
    pub async fn events(&self) -> Result<Vec<Value>> {
        events(&self.agent).await
    }

    /// Waits until the agent heard that the device reached a step of its boot, and returns that event.
    pub async fn wait_step(&self, device: u32, step: &str, timeout: Duration) -> Result<Value> {
        let name = format!("pc-{device}");
        wait_until(&format!("{name} at step {step}"), timeout, async || {
            let events = self.events().await?;
            let reached = |event: &&Value| {
                event["event"] == "boot" && event["device"] == name && event["step"] == step
            };
            Ok(events.iter().rfind(reached).cloned())
        })
        .await
    }
}

/// Waits until a device is up: by its own word, on its serial log.
pub async fn up(device: &Machine) -> Result<()> {
    device.expect(DEVICE_UP, secs(60)).await
}

/// Waits until an agent that was switched on takes documents: it is ready some seconds after its shell.
pub async fn answers(agent: &Machine) -> Result<()> {
    agent.debug().ready(secs(120)).await?;
    wait_until("the agent to answer", secs(60), async || {
        let status = agent.debug().exec("clusterducks-agent ctl status >/dev/null 2>&1").await?;
        Ok(status.success().then_some(()))
    })
    .await
}

/// What happened at an agent, in order.
pub async fn events(agent: &Machine) -> Result<Vec<Value>> {
    let lines = agent.debug().check("clusterducks-agent ctl events").await?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

async fn apply(agent: &Machine, document: &Value) -> Result<()> {
    let file = "/run/document.json";
    agent.debug().put(file, document.to_string().as_bytes()).await?;
    agent.debug().check(&format!("clusterducks-agent ctl apply {file}")).await.map(drop)
}

async fn status(agent: &Machine) -> Result<Value> {
    let text = agent.debug().check("clusterducks-agent ctl status").await?;
    serde_json::from_str(&text).with_context(|| format!("the agent's status is no JSON: {text}"))
}

/// Waits until the server is as the document says; fails at once when a resource failed for good.
pub async fn converged(agent: &Machine, generation: u64, timeout: Duration) -> Result<Value> {
    let mut last = Value::Null;
    let waited = wait_until("the server to converge", timeout, async || {
        last = status(agent).await?;
        let there = last["generation"] == generation && last["converged"] == true;
        Ok(there.then(|| last.clone()))
    })
    .await;
    waited.with_context(|| format!("failures: {}; waiting: {}", last["failures"], last["waiting"]))
}

fn document(guest_sha256: &str) -> Value {
    json!({
        "generation": 1,
        "pools": [{ "name": "tank", "disks": [{ "serial": "pool0" }] }],
        "networks": [{
            "name": "lab", "interface": { "mac": "52:54:00:cd:00:01" }, "address": "10.77.0.1/24",
            "dhcp": { "mode": "authoritative", "first": "10.77.0.200", "last": "10.77.0.250" }
        }],
        "volumes": [{
            "name": "debian", "pool": "tank", "size_bytes": 4u64 << 30,
            "source": { "location": "/dev/disk/by-id/virtio-guest", "format": "qcow2", "sha256": guest_sha256 }
        }],
        "groups": [{
            "name": "lab", "volume": "debian", "generations": [1], "production": 1,
            // A kernel that gets no processor for a while takes its timer for broken, and panics (check_timer in Linux's
            // arch/x86/kernel/apic/io_apic.c); on hypervisors that it knows it does not look.
            "kernel_arguments": "console=ttyS0 quiet no_timer_check"
        }],
        "vdisks": [], "menus": [],
        // Nobody's machine: with one overlay device, the kernel is read out of the generation before a state is saved.
        "devices": [{
            "name": "pc-9", "macs": [mac_of(9)], "network": "lab", "address": "10.77.0.9", "group": "lab",
            "boot_mode": "overlay"
        }]
    })
}

pub(crate) fn guest_disk() -> Result<DiskSpec> {
    Ok(DiskSpec::ReadOnly { file: find_image(Image::GuestDebian)?, serial: "guest".into() })
}

/// The digest of the guest's image as a disk shows it: padded with zeroes to whole sectors.
pub(crate) async fn guest_sha256() -> Result<String> {
    let file = find_image(Image::GuestDebian)?;
    tokio::task::spawn_blocking(move || sha256_of_disk(&file)).await?
}

fn sha256_of_disk(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            break;
        }
        length += read;
        hasher.update(block.get(..read).context("read(2) fills no more than the buffer")?);
    }
    hasher.update(vec![0; (512 - length % 512) % 512]);
    if length == 0 {
        bail!("{} is empty", path.display());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
