//! Owns the test LAN: one switch, its recording, the agent and the devices on it (10.77.0.0/24; the agent is .1).

use crate::accel::TINY_GUEST_UP;
use crate::image::{Image, find_image, target_folder};
use crate::machine::{Builder, DiskSpec, HostService, Machine, NicModel, NicSpec, SavedState};
use crate::switch::{Switch, Tap};
use crate::wait::secs;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Enough of a frame for DHCP with all PXE options; the data of a disk is cut.
const SNAP_BYTES: u32 = 640;
/// The agent's card.
pub(crate) const AGENT_MAC: &str = "52:54:00:cd:00:01";
const AGENT_MEMORY_MIB: u32 = 2048;
/// The panel's card.
pub(crate) const PANEL_MAC: &str = "52:54:00:cd:00:02";
/// What [`Lan::dhcp_server`] gives the panel.
pub(crate) const PANEL_ADDRESS: &str = "10.77.0.2";
/// A small Raspberry Pi's.
const PANEL_MEMORY_MIB: u32 = 512;
/// The tunnel's card.
pub(crate) const TUNNEL_MAC: &str = "52:54:00:cd:00:03";
const TUNNEL_MEMORY_MIB: u32 = 512;
const DEVICE_MEMORY_MIB: u32 = 1024;
/// A third of the processor that an appliance gets beside it: see sched_prio_to_weight in Linux's kernel/sched/core.c.
const DEVICE_NICE: u8 = 5;
const GIB: u64 = 1 << 30;

/// A virtual LAN of one test.
#[derive(Debug)]
pub struct Lan {
    switch: Switch,
    next_device: AtomicU32,
    workspace: Arc<Workspace>,
}

impl Lan {
    /// An empty LAN for the test `name`, recorded in `lan.pcap`.
    pub fn new(name: &str) -> Result<Self> {
        let workspace = Arc::new(Workspace::new(name)?);
        let switch = Switch::new();
        switch.record(&workspace.path().join("lan.pcap"), SNAP_BYTES)?;
        Ok(Self { switch, next_device: AtomicU32::new(10), workspace })
    }

    /// Another LAN of the same test, recorded in `<name>.pcap`; nothing leads from the one to the other by itself.
    pub fn beside(&self, name: &str) -> Result<Self> {
        let workspace = Arc::clone(&self.workspace);
        let switch = Switch::new();
        switch.record(&workspace.path().join(format!("{name}.pcap")), SNAP_BYTES)?;
        Ok(Self { switch, next_device: AtomicU32::new(10), workspace })
    }

    /// The test's last word: its logs need not be kept. See [`Workspace::passed`].
    pub fn passed(&self) -> Result<()> {
        self.workspace.passed();
        Ok(())
    }

    /// The switch that all are on.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The test's folder.
    pub fn workspace(&self) -> &Arc<Workspace> {
        &self.workspace
    }

    /// A port for the test itself.
    pub fn tap(&self) -> Tap {
        self.switch.tap()
    }

    /// A machine with neither disks nor cards.
    pub fn machine(&self, name: &str) -> Builder {
        Builder::new(Arc::clone(&self.workspace), name)
    }

    /// The tiny guest at 10.77.0.`number`, started without firmware: a neighbour on the LAN with a shell and busybox.
    pub fn tiny(&self, name: &str, number: u32) -> Result<Builder> {
        let kernel = find_image(Image::TinyKernel)?;
        let initrd = find_image(Image::TinyInitrd)?;
        let nic = NicSpec { mac: mac_of(number), model: NicModel::Virtio, boot: false };
        let command_line = format!("quiet panic=-1 tiny.addr=10.77.0.{number}/24");
        let guest = self.machine(name).memory_mib(256).kernel(&kernel, &initrd, &command_line);
        guest.nic(&self.switch, nic)
    }

    /// The tiny guest at 10.77.0.`number` as the router of a site: it gives out addresses, without which an appliance that was just
    /// flashed has none.
    pub async fn dhcp_server(&self, number: u32) -> Result<Machine> {
        let server = self.tiny("dhcp", number)?.start().await?;
        server.expect(TINY_GUEST_UP, secs(30)).await?;
        let config = format!(
            "interface eth0\nstart 10.77.0.100\nend 10.77.0.120\nstatic_lease {PANEL_MAC} {PANEL_ADDRESS}\n\
            option subnet 255.255.255.0\nlease_file /tmp/leases\npidfile /tmp/pid\n"
        );
        server.debug().put("/tmp/udhcpd.conf", config.as_bytes()).await?;
        let start = ": >/tmp/leases; udhcpd -f /tmp/udhcpd.conf >/tmp/log 2>&1 &";
        server.debug().check(start).await?;
        Ok(server)
    }

    /// A diskless device whose one card boots by PXE. The first is `52:54:00:cd:01:0a`: see [`mac_of`].
    pub fn device(&self, name: &str) -> Result<Builder> {
        self.device_numbered(name, self.next_device.fetch_add(1, Ordering::Relaxed))
    }

    /// A diskless device with the card [`mac_of`]`(number)`.
    pub fn device_numbered(&self, name: &str, number: u32) -> Result<Builder> {
        let mac = mac_of(number);
        let nic = NicSpec { mac, model: NicModel::Virtio, boot: true };
        self.machine(name).memory_mib(DEVICE_MEMORY_MIB).nice(DEVICE_NICE).nic(&self.switch, nic)
    }

    /// The agent appliance as it was flashed, with a blank 16 GiB disk `pool0` for its pool.
    pub fn agent(&self, image: Image) -> Result<Builder> {
        self.agent_with(image, DiskSpec::Blank { size_bytes: 16 * GIB, serial: "pool0".into() })
    }

    /// The agent appliance as it was flashed, with this disk for its pool.
    pub fn agent_with(&self, image: Image, pool: DiskSpec) -> Result<Builder> {
        self.agent_of(flashed(image)?, pool)
    }

    /// The agent appliance whose disk this is, with a blank 16 GiB disk `pool0` for its pool.
    pub fn agent_on(&self, system: DiskSpec) -> Result<Builder> {
        let pool = DiskSpec::Blank { size_bytes: 16 * GIB, serial: "pool0".into() };
        self.agent_of(system, pool)
    }

    fn agent_of(&self, system: DiskSpec, pool: DiskSpec) -> Result<Builder> {
        let nic = NicSpec { mac: AGENT_MAC.into(), model: NicModel::Virtio, boot: false };
        self.machine("agent")
            .cpus(2)
            .memory_mib(AGENT_MEMORY_MIB)
            .disk(system)
            .disk(pool)
            .nic(&self.switch, nic)
    }

    /// The panel appliance as it was flashed.
    pub fn panel(&self, image: Image) -> Result<Builder> {
        self.panel_on(flashed(image)?)
    }

    /// The panel appliance whose disk this is.
    pub fn panel_on(&self, system: DiskSpec) -> Result<Builder> {
        let nic = NicSpec { mac: PANEL_MAC.into(), model: NicModel::Virtio, boot: false };
        let panel = self.machine("panel").cpus(2).memory_mib(PANEL_MEMORY_MIB);
        panel.disk(system).nic(&self.switch, nic)
    }

    /// The tunnel appliance as it was flashed.
    pub fn tunnel(&self, image: Image) -> Result<Builder> {
        self.tunnel_on(flashed(image)?)
    }

    /// The tunnel appliance whose disk this is.
    pub fn tunnel_on(&self, system: DiskSpec) -> Result<Builder> {
        let nic = NicSpec { mac: TUNNEL_MAC.into(), model: NicModel::Virtio, boot: false };
        let tunnel = self.machine("tunnel").memory_mib(TUNNEL_MEMORY_MIB);
        tunnel.disk(system).nic(&self.switch, nic)
    }

    /// A machine that goes on from `state`, with all its cards on this LAN.
    pub fn restore(&self, state: &SavedState, services: Vec<HostService>) -> Result<Builder> {
        state.builder(Arc::clone(&self.workspace), &self.switch, services)
    }

    /// The agent with a debug shell, up and idle, from a saved state that the first caller makes.
    pub async fn restore_agent(&self) -> Result<Machine> {
        self.restore_agent_after("ready", Vec::new(), async |_| Ok(())).await
    }

    /// The agent with these further disks after `prepare`, from the saved state `name` that the first caller of all tests
    /// makes.
    pub async fn restore_agent_after(
        &self,
        name: &str,
        disks: Vec<DiskSpec>,
        prepare: impl AsyncFnOnce(&Machine) -> Result<()>,
    ) -> Result<Machine> {
        let image = find_image(Image::AgentDebug)?;
        let images: Vec<&Path> = std::iter::once(image.as_path())
            .chain(disks.iter().filter_map(DiskSpec::file))
            .collect();
        let state = saved_state(name, &images, async |folder: &Path| {
            let lan = Self::new(&format!("make-{name}"))?;
            let flashed = lan.agent(Image::AgentDebug)?.saveable();
            let agent = disks.iter().cloned().fold(flashed, Builder::disk).start().await?;
            agent.debug().ready(secs(120)).await?;
            agent.debug().check("systemctl is-system-running --wait || systemctl --failed").await?;
            prepare(&agent).await?;
            agent.debug().check("sync").await?;
            let state = agent.save(folder).await?;
            lan.passed()?;
            Ok(state)
        })
        .await?;
        let agent = self.restore(&state, Vec::new())?.start().await?;
        agent.debug().set_clock().await?;
        Ok(agent)
    }
}

/// An appliance's disk, larger than its image.
fn flashed(image: Image) -> Result<DiskSpec> {
    Ok(flashed_from(find_image(image)?))
}

/// The disk of an appliance that was flashed with the image in this file.
pub(crate) fn flashed_from(base: PathBuf) -> DiskSpec {
    DiskSpec::Overlay {
        base,
        format: "raw".into(),
        size_bytes: Some(8 * GIB),
        serial: "system".into(),
    }
}

/// The card of the device with the last address byte `number`.
pub fn mac_of(number: u32) -> String {
    let [_, _, high, low] = number.to_be_bytes();
    format!("52:54:00:cd:{:02x}:{low:02x}", high.wrapping_add(1))
}

/// The state `name` of these images; made by `make` when it is missing or of others. Tests in other
/// processes wait for the one that makes it.
pub(crate) async fn saved_state(
    name: &str,
    images: &[&Path],
    make: impl AsyncFnOnce(&Path) -> Result<SavedState>,
) -> Result<SavedState> {
    let states = target_folder()?.join("e2e").join("states");
    fs::create_dir_all(&states).with_context(|| format!("cannot create {}", states.display()))?;
    let folder = states.join(format!("{name}-{}", identity(images)?));
    let lock = File::create(states.join(format!("{name}.lock")))?;
    let _lock = tokio::task::spawn_blocking(move || Flock::lock(lock, FlockArg::LockExclusive))
        .await?
        .map_err(|(_, error)| error)?;
    if let Some(state) = SavedState::open(&folder) {
        return Ok(state);
    }
    remove_states_of(name, &states)?;
    let _making = make(&folder).await?;
    SavedState::open(&folder).context("the state was just made")
}

/// States of the same name and another image are of no use to anyone, and large.
fn remove_states_of(name: &str, states: &Path) -> Result<()> {
    for entry in fs::read_dir(states)? {
        let path: PathBuf = entry?.path();
        let is_old = path.file_name().and_then(|file| file.to_str()).is_some_and(|file| {
            file.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|hash| hash.len() == 16)
        });
        if is_old {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// What a state holds of the devices has to be read by a machine of the same.
const DEVICES: &str = include_str!("machine/args.rs");

/// Changes whenever an image, the emulator or the devices of a machine do.
fn identity(images: &[&Path]) -> Result<String> {
    let emulator = crate::process::run_tool("qemu-system-x86_64", &["--version"])?;
    let mut hasher = DefaultHasher::new();
    (emulator, crate::accel::accelerator()?.args(), DEVICES).hash(&mut hasher);
    for image in images {
        let metadata =
            fs::metadata(image).with_context(|| format!("cannot look at {}", image.display()))?;
        (metadata.len(), metadata.modified()?).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
