//! Whole disks: what there is, what stands on it, and wiping it. A disk of which any part is mounted is never listed, so the
//! disk that this system runs from can't be chosen for a pool.

use std::{collections::BTreeMap, fs, io, path::Path};

use model::{
    name::PoolName,
    observed::{Disk, DiskContents},
};
use serde::Deserialize;

use crate::cmd::{self, Cmd, Program};

#[cfg(test)]
mod tests;

/// Why disks could not be looked at or wiped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A command failed.
    #[error(transparent)]
    Command(#[from] cmd::Error),
    /// lsblk's output is not as we know it.
    #[error("can't read the output of lsblk")]
    Json(#[source] serde_json::Error),
    /// lsblk shows a partition beside its disk and not below it: nobody could tell which disk is in use.
    #[error("lsblk shows the partition {path} apart from its disk")]
    Orphan {
        /// The partition.
        path: String,
    },
    /// The stable names of disks can't be read.
    #[error("can't read {BY_ID}")]
    Names(#[source] io::Error),
}

const BY_ID: &str = "/dev/disk/by-id";

/// Kernel names of block devices that are not disks of this machine: zvols, memory, network, floppy, loop.
const NOT_DISKS: [&str; 8] = ["zd", "zram", "ram", "nbd", "rbd", "fd", "loop", "mtdblock"];

#[derive(Debug, Deserialize)]
struct Listing {
    blockdevices: Vec<Device>,
}

#[derive(Debug, Deserialize)]
struct Device {
    kname: String,
    path: String,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
    serial: Option<String>,
    ro: bool,
    fstype: Option<String>,
    label: Option<String>,
    pttype: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Device>,
}

impl Device {
    fn with_descendants(&self) -> Vec<&Device> {
        let mut all = vec![self];
        all.extend(self.children.iter().flat_map(Device::with_descendants));
        all
    }
}

/// The disks that a pool could take. `begun` are those, by their paths, on which the making of a pool was begun.
///
/// # Errors
/// lsblk fails, or its output is not as we know it.
pub async fn observe(begun: &BTreeMap<String, PoolName>) -> Result<Vec<Disk>, Error> {
    let names = stable_names(Path::new(BY_ID)).map_err(Error::Names)?;
    let devices = parse(&list(None).await?)?.into_iter();
    Ok(devices.map(|device| disk(device, &names, begun)).collect())
}

async fn list(path: Option<&str>) -> Result<String, cmd::Error> {
    // With NAME among the columns partitions stand below their disks; without it all stand in one list.
    let columns = "NAME,KNAME,PATH,TYPE,SIZE,SERIAL,RO,FSTYPE,LABEL,PTTYPE,MOUNTPOINTS";
    Cmd::new(Program::Lsblk).args(["-J", "-b", "-o", columns]).args(path).run().await
}

fn parse(json: &str) -> Result<Vec<Device>, Error> {
    let listing: Listing = serde_json::from_str(json).map_err(Error::Json)?;
    if let Some(part) = listing.blockdevices.iter().find(|device| device.kind == "part") {
        return Err(Error::Orphan { path: part.path.clone() });
    }
    let takable = |device: &Device| {
        let mounted = |part: &&Device| part.mountpoints.iter().flatten().next().is_some();
        device.kind == "disk"
            && device.size > 0
            && !device.ro
            && !NOT_DISKS.iter().any(|prefix| device.kname.starts_with(prefix))
            && !device.with_descendants().iter().any(mounted)
    };
    Ok(listing.blockdevices.into_iter().filter(takable).collect())
}

fn disk(
    device: Device,
    names: &BTreeMap<String, String>,
    begun: &BTreeMap<String, PoolName>,
) -> Disk {
    let contents = contents(&device);
    let bare = device.with_descendants().iter().all(|part| part.fstype.is_none());
    let path = names.get(&device.kname).cloned().unwrap_or(device.path);
    let contents = match (contents, begun.get(&path)) {
        (DiskContents::Foreign(_), Some(pool)) if bare => DiskContents::Begun(pool.clone()),
        (contents, _) => contents,
    };
    let serial = device.serial.map(|serial| serial.trim().to_owned());
    Disk {
        path,
        serial: serial.filter(|serial| !serial.is_empty()),
        size_bytes: device.size,
        contents,
    }
}

fn contents(device: &Device) -> DiskContents {
    let all = device.with_descendants();
    if let Some(member) = all.iter().find(|part| part.fstype.as_deref() == Some("zfs_member")) {
        return DiskContents::Pool(member.label.clone().unwrap_or_default());
    }
    let mut found: Vec<String> = Vec::new();
    found.extend(device.pttype.iter().map(|table| format!("partition table {table}")));
    for part in all {
        found.extend(part.fstype.iter().map(|kind| format!("{kind} on {}", part.path)));
    }
    if found.is_empty() && !device.children.is_empty() {
        found.push("partitions".to_owned());
    }
    if found.is_empty() { DiskContents::Blank } else { DiskContents::Foreign(found.join(", ")) }
}

/// For each kernel name the name under `/dev/disk/by-id` that tells most: one with model and serial rather than a bare number.
fn stable_names(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut names: BTreeMap<String, (bool, String)> = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        let target = fs::read_link(&path)?;
        let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let (Some(kernel), Some(name)) = (last(&target), last(&path)) else { continue };
        let bare =
            ["wwn-", "nvme-eui.", "nvme-nvme."].iter().any(|prefix| name.starts_with(prefix));
        let candidate = (bare, path.to_string_lossy().into_owned());
        let best = names.entry(kernel).or_insert_with(|| candidate.clone());
        *best = candidate.min(best.clone());
    }
    Ok(names.into_iter().map(|(kernel, (_, path))| (kernel, path)).collect())
}

/// What stands on a disk at this moment, read from the disk and not from udev's memory; `None` when it is blank.
///
/// # Errors
/// blkid fails.
pub async fn signature(path: &str) -> Result<Option<String>, Error> {
    let probe = Cmd::new(Program::Blkid).args(["-p", "-o", "export", path]);
    let (command, argv) = (probe.shell_line(), vec!["-p".into(), path.into()]);
    let output = probe.output().await?;
    match output.status.code() {
        Some(0) => Ok(Some(parse_signature(&String::from_utf8_lossy(&output.stdout)))),
        // blkid(8), exit status: 2 nothing known found, 8 several signatures that exclude each other.
        Some(2) if output.stderr.is_empty() => Ok(None),
        Some(8) => Ok(Some("more than one signature".to_owned())),
        _ => Err(Error::Command(cmd::Error::Status {
            program: Program::Blkid,
            argv,
            command,
            status: output.status,
            stderr: output.stderr,
        })),
    }
}

fn parse_signature(export: &str) -> String {
    let value = |key: &str| {
        let pairs = export.lines().filter_map(|line| line.split_once('='));
        pairs.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).next()
    };
    let found = [
        value("TYPE"),
        value("PTTYPE").map(|table| format!("partition table {table}")),
        value("LABEL").map(|label| format!("label {label}")),
    ];
    let found: Vec<String> = found.into_iter().flatten().collect();
    if found.is_empty() { "an unknown signature".to_owned() } else { found.join(", ") }
}

/// Takes every signature off a disk and its partitions. wipefs refuses a device that is in use.
///
/// # Errors
/// lsblk or wipefs fails.
pub async fn wipe(path: &str) -> Result<(), Error> {
    let listing: Listing = serde_json::from_str(&list(Some(path)).await?).map_err(Error::Json)?;
    let mut parts: Vec<&Device> =
        listing.blockdevices.iter().flat_map(Device::with_descendants).collect();
    // Partitions before the table that holds them.
    parts.reverse();
    for part in parts {
        Cmd::new(Program::Wipefs).args(["--all", &part.path]).run().await?;
    }
    Ok(())
}
