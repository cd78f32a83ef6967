//! Owns saved states: a running machine frozen into a folder that any number of machines start from, also at once.
//!
//! The memory stays where it was, in a file; QEMU's migration stream (capability `x-ignore-shared`) holds only the
//! devices. Every machine that starts from the folder maps the memory privately and puts overlays over the frozen
//! disks, so nothing in the folder is ever written again.

use super::Machine;
use super::builder::Builder;
use super::spec::{DiskSpec, Firmware, HostService, Memory, Spec};
use crate::switch::Switch;
use crate::wait::{secs, wait_until};
use crate::workspace::{Workspace, write_file};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SPEC: &str = "machine.json";
const DEVICES: &str = "devices";
const MEMORY: &str = "memory";

/// A folder that holds a frozen machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedState {
    folder: PathBuf,
}

impl SavedState {
    /// The state in `folder`, if a whole one is there.
    pub fn open(folder: &Path) -> Option<Self> {
        folder.join(SPEC).is_file().then(|| Self { folder: folder.to_owned() })
    }

    /// What the state takes on the host's disk, in bytes: holes do not count.
    pub fn size_bytes(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let entries = fs::read_dir(&self.folder)?.collect::<std::io::Result<Vec<_>>>()?;
        // stat(2): blocks are of 512 bytes whatever the file system's.
        entries.iter().map(|entry| Ok(entry.metadata()?.blocks() * 512)).sum()
    }

    /// A machine that goes on from here, with all its cards on `switch`. Services of the host
    /// that it had must be given again: their sockets belonged to another test.
    pub(crate) fn builder(
        &self,
        workspace: Arc<Workspace>,
        switch: &Switch,
        services: Vec<HostService>,
    ) -> Result<Builder> {
        let path = self.folder.join(SPEC);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut spec: Spec =
            serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?;
        let addresses = |services: &[HostService]| {
            services.iter().map(|s| s.address.clone()).collect::<Vec<_>>()
        };
        if addresses(&services) != addresses(&spec.host_services) {
            bail!("the saved machine has the services {:?}", addresses(&spec.host_services));
        }
        spec.host_services = services;
        let plugs = spec
            .nics
            .iter()
            .map(|_| switch.plug(&workspace.socket_path()))
            .collect::<Result<_>>()?;
        Ok(Builder { workspace, spec, plugs, state: Some(self.folder.clone()) })
    }
}

impl Machine {
    /// Freezes the machine into `folder`, which must not exist yet, and ends it.
    pub async fn save(self, folder: &Path) -> Result<SavedState> {
        if self.spec.memory != Memory::Saveable {
            bail!("{} was not made saveable", self.name());
        }
        fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        self.qmp().pause().await?;
        self.write_devices(&folder.join(DEVICES)).await?;
        // An orderly end writes what QEMU holds of the disks' tables.
        self.qmp().execute("quit", json!({})).await?;
        self.wait_off(secs(20)).await?;
        let spec = self.move_files(folder)?;
        write_file(&folder.join(SPEC), &serde_json::to_vec_pretty(&spec)?)?;
        SavedState::open(folder).context("the state was just written")
    }

    async fn write_devices(&self, file: &Path) -> Result<()> {
        ignore_shared_memory(self).await?;
        self.qmp()
            .execute("migrate", json!({"uri": format!("exec:cat >'{}'", file.display())}))
            .await?;
        wait_until("the state is written", secs(60), async || {
            let progress = self.qmp().execute("query-migrate", json!({})).await?;
            match progress.get("status").and_then(Value::as_str) {
                Some("completed") => Ok(Some(())),
                Some("failed" | "cancelled") => bail!("QEMU did not write the state: {progress}"),
                _ => Ok(None),
            }
        })
        .await
    }

    fn move_files(&self, folder: &Path) -> Result<Spec> {
        let mut spec = Spec { memory: Memory::Saved(folder.join(MEMORY)), ..self.spec.clone() };
        rename(&self.paths.memory, &folder.join(MEMORY))?;
        if let Firmware::Uefi { variables, .. } = &mut spec.firmware {
            *variables = folder.join("variables.fd");
            rename(&self.paths.variables, variables)?;
        }
        for (index, (disk, drive)) in spec.disks.iter_mut().zip(&self.paths.disks).enumerate() {
            if drive.read_only {
                continue;
            }
            let base = folder.join(format!("disk{index}.qcow2"));
            rename(&drive.file, &base)?;
            let serial = disk.serial().to_owned();
            *disk = DiskSpec::Overlay { base, format: "qcow2".into(), size_bytes: None, serial };
        }
        Ok(spec)
    }
}

/// Lets `machine` go on from the state in `folder`.
pub(super) async fn resume(machine: &mut Machine, folder: &Path) -> Result<()> {
    machine.launch(true).await?;
    ignore_shared_memory(machine).await?;
    let uri = format!("exec:cat '{}'", folder.join(DEVICES).display());
    machine.qmp().execute("migrate-incoming", json!({"uri": uri})).await?;
    wait_until("the state is read", secs(60), async || {
        let status = machine.qmp().execute("query-status", json!({})).await?;
        Ok((status.get("status").and_then(Value::as_str) != Some("inmigrate")).then_some(()))
    })
    .await?;
    machine.qmp().resume().await?;
    // Milliseconds and rounds of gratuitous ARP and RARP, so that the new switch knows the machine.
    let announce = json!({"initial": 50, "max": 500, "rounds": 3, "step": 100});
    machine.qmp().execute("announce-self", announce).await.map(drop)
}

async fn ignore_shared_memory(machine: &Machine) -> Result<()> {
    let capability = json!([{"capability": "x-ignore-shared", "state": true}]);
    machine
        .qmp()
        .execute("migrate-set-capabilities", json!({"capabilities": capability}))
        .await
        .map(drop)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}
