//! One function for each step that concerns ZFS. Each may run again after a crash at any point.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use model::{
    desired::{Layout, tree},
    name::{BootId, Dataset, Mark, PoolName, Snapshot},
};

use super::{BOOT, Begun, Error, MARK, Making, mount_point, program};
use crate::{
    cmd::{Cmd, Program},
    disks,
};

/// How many clones are made new in one transaction group. The pool's other writers wait for the whole of it: under emulation
/// one roll-back takes about 35 ms.
pub const MAKE_NEW_BATCH: usize = 64;

/// How long udev may take for a device node. It was seen to take tens of seconds over hundreds of new zvols.
pub const DEVICE_WAIT: Duration = Duration::from_secs(60);

/// Time for commands that read every disk.
const POOL_TIMEOUT: Duration = Duration::from_secs(300);

fn zpool<'a>(args: impl IntoIterator<Item = &'a str>) -> Cmd {
    Cmd::new(Program::Zpool).args(args).timeout(POOL_TIMEOUT)
}

fn zfs<'a>(args: impl IntoIterator<Item = &'a str>) -> Cmd {
    Cmd::new(Program::Zfs).args(args)
}

fn mark_option(mark: &Mark) -> String {
    format!("{MARK}={mark}")
}

/// Imports a pool by its number, and mounts nothing. It is whole, whether its making was seen to end or not.
///
/// A pool that another system used last and did not export (a server that was flashed anew has another host id) is taken only
/// when its tree carries our mark: it is imported read-only to look, which changes nothing on its disks.
///
/// # Errors
/// [`Error::ForeignPool`]; a command fails.
pub async fn import_pool(pool: &PoolName, guid: u64, begun: &Begun) -> Result<(), Error> {
    import(pool, guid).await?;
    Ok(begun.end(pool).await?)
}

async fn import(pool: &PoolName, guid: u64) -> Result<(), Error> {
    let guid = guid.to_string();
    let options = ["-N", "-o", "cachefile=none"];
    let command = |more: &[&'static str]| {
        zpool(["import"]).args(options).args(more).args([guid.as_str(), pool.as_str()])
    };
    let Err(refused) = command(&[]).run().await else { return Ok(()) };
    if command(&["-f", "-o", "readonly=on"]).run().await.is_err() {
        return Err(refused.into());
    }
    let ours = carries(&tree::root(pool), &Mark::Tree("clusterducks".to_owned())).await;
    zpool(["export", pool.as_str()]).run().await?;
    if !ours? {
        return Err(Error::ForeignPool { pool: pool.to_string() });
    }
    command(&["-f"]).run().await?;
    Ok(())
}

/// Makes a pool on whole disks, mounted nowhere.
///
/// Every disk has to be blank, unless it is one of `overwrite`: those are wiped first. After this check zpool is told to ask no
/// more (`-f`), because it would also refuse a mirror of disks whose sizes differ a little.
///
/// zpool writes partition tables first, waits for udev, and writes the pool into the partitions then. What a power cut leaves of
/// that is known by `begun`, and wiped when the pool is made again: whoever plans counts such disks to `overwrite`.
///
/// # Errors
/// [`Error::DiskHoldsData`]; a command fails; the note can't be written.
pub async fn create_pool(
    pool: &PoolName,
    layout: Layout,
    disks: &[String],
    overwrite: &[String],
    begun: &Begun,
) -> Result<(), Error> {
    for path in disks.iter().filter(|path| !overwrite.contains(path)) {
        if let Some(contents) = disks::signature(path).await? {
            return Err(Error::DiskHoldsData { path: path.clone(), contents });
        }
    }
    for path in disks.iter().filter(|path| overwrite.contains(path)) {
        disks::wipe(path).await?;
    }
    begun.begin(pool, disks).await?;
    let layout: &[&str] = match layout {
        Layout::Stripe => &[],
        Layout::Mirror => &["mirror"],
        Layout::Raidz1 => &["raidz1"],
        Layout::Raidz2 => &["raidz2"],
    };
    // 4 KiB sectors whatever the disk says: a later disk may have them, and ashift never changes.
    let pool_options = ["ashift=12", "autotrim=on", "cachefile=none"];
    let options = ["compression=lz4", "atime=off", "mountpoint=none", "canmount=off"];
    zpool(["create", "-f"])
        .args(pool_options.iter().flat_map(|option| ["-o", option]))
        .args(options.iter().flat_map(|option| ["-O", option]))
        .arg(pool.as_str())
        .args(layout)
        .args(disks)
        .run()
        .await?;
    Ok(begun.end(pool).await?)
}

/// Makes a folder of the tree, if it is not there; mounts it, if files are kept in it.
///
/// # Errors
/// [`Error::NotOurs`]; a command fails.
pub async fn create_folder(
    dataset: &Dataset,
    mark: &Mark,
    mounted: bool,
    making: &Making,
) -> Result<(), Error> {
    clear_unfinished(dataset, mark, making).await?;
    if !exists(dataset).await? {
        // No partition of a guest's disk becomes a device here: this kernel has no business in a guest's partition table.
        let mut options = vec!["volmode=dev".to_owned(), mark_option(mark)];
        if mounted {
            let at = mount_point(dataset.pool());
            options.push(format!("mountpoint={}", at.display()));
            options.extend(
                ["canmount=noauto", "exec=off", "setuid=off", "devices=off"].map(String::from),
            );
        } else {
            options.extend(["mountpoint=none", "canmount=off"].map(String::from));
        }
        let create = zfs(["create", "-u"]).args(options.iter().flat_map(|option| ["-o", option]));
        noted(create.arg(dataset.as_str()), dataset, making).await?;
    } else if !carries(dataset, mark).await? {
        return Err(Error::NotOurs { dataset: dataset.clone(), mark: mark.to_string() });
    }
    if mounted { mount(dataset).await } else { Ok(()) }
}

/// Mounts the file system of a folder where [`mount_point`] says, if it is not.
///
/// # Errors
/// A command fails.
pub async fn mount(dataset: &Dataset) -> Result<(), Error> {
    if get(dataset.as_str(), "mounted").await?.0 != "yes" {
        zfs(["mount", dataset.as_str()]).run().await?;
    }
    Ok(())
}

/// Makes a thin zvol and waits for its device node.
///
/// Blocks of 16 KiB are ZFS's own default since 2.2, named here so that clones of old and new volumes stay alike: smaller ones
/// compress badly and cost metadata, larger ones turn the 4 KiB writes of guests into reads.
///
/// # Errors
/// [`Error::NoDevice`]; a command fails, also when it is there already.
pub async fn create_zvol(
    dataset: &Dataset,
    mark: &Mark,
    size_bytes: u64,
    making: &Making,
) -> Result<(), Error> {
    clear_unfinished(dataset, mark, making).await?;
    let size = size_bytes.to_string();
    let create = zfs(["create", "-s", "-b", "16K", "-o", &mark_option(mark), "-V", &size]);
    noted(create.arg(dataset.as_str()), dataset, making).await?;
    wait_for_device(&dataset.device_path()).await
}

/// Makes a zvol larger.
///
/// # Errors
/// [`Error::WouldShrink`]; a command fails.
pub async fn grow(dataset: &Dataset, size_bytes: u64) -> Result<(), Error> {
    let now_bytes = zvol_size(dataset).await?;
    if size_bytes < now_bytes {
        let dataset = dataset.clone();
        return Err(Error::WouldShrink { dataset, now_bytes, wanted_bytes: size_bytes });
    }
    zfs(["set", &format!("volsize={size_bytes}"), dataset.as_str()]).run().await?;
    Ok(())
}

/// The size of a zvol in bytes.
///
/// # Errors
/// A command fails.
pub async fn zvol_size(dataset: &Dataset) -> Result<u64, Error> {
    let (value, _) = get(dataset.as_str(), "volsize").await?;
    let bad =
        |_| Error::Value { object: dataset.to_string(), field: "volsize", value: value.clone() };
    value.parse().map_err(bad)
}

/// Takes a snapshot.
///
/// # Errors
/// The command fails, also when it is there already.
pub async fn take_snapshot(snapshot: &Snapshot) -> Result<(), Error> {
    zfs(["snapshot", &snapshot.to_string()]).run().await?;
    Ok(())
}

/// Clones a snapshot of a zvol and waits for the clone's device node.
///
/// # Errors
/// [`Error::NoDevice`]; a command fails, also when it is there already.
pub async fn clone(
    origin: &Snapshot,
    dataset: &Dataset,
    mark: &Mark,
    making: &Making,
) -> Result<(), Error> {
    clear_unfinished(dataset, mark, making).await?;
    let clone = zfs(["clone", "-o", &mark_option(mark), &origin.to_string(), dataset.as_str()]);
    noted(clone, dataset, making).await?;
    wait_for_device(&dataset.device_path()).await
}

/// Makes the device nodes of a zvol's snapshots show, and waits for those that there are.
///
/// # Errors
/// [`Error::NoDevice`]; a command fails.
pub async fn show_snapshots(dataset: &Dataset) -> Result<(), Error> {
    zfs(["set", "snapdev=visible", dataset.as_str()]).run().await?;
    let list = ["list", "-H", "-o", "name", "-t", "snapshot", "-d", "1", dataset.as_str()];
    for snapshot in zfs(list).run().await?.lines() {
        wait_for_device(&format!("/dev/zvol/{snapshot}")).await?;
    }
    Ok(())
}

/// Rolls devices' clones back to `@clean` and notes the boot for which it was done. The clones' devices must be closed (no LUN).
///
/// # Errors
/// [`Error::Refused`] names those that were left as they were, after all others were made new; a command fails.
pub async fn make_new(clones: &BTreeMap<Dataset, BootId>) -> Result<(), Error> {
    let mut by_pool: BTreeMap<&str, Vec<(&Dataset, &BootId)>> = BTreeMap::new();
    for (dataset, boot) in clones {
        by_pool.entry(dataset.pool()).or_default().push((dataset, boot));
    }
    let mut refused = BTreeMap::new();
    for (pool, clones) in by_pool {
        for batch in clones.chunks(MAKE_NEW_BATCH) {
            let args = batch.iter().flat_map(|(name, boot)| [name.to_string(), boot.to_string()]);
            refused.extend(program::run(pool, program::MAKE_NEW, args).await?);
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(Error::Refused(refused)) }
}

/// Notes the boot for which a clone was made new, without a roll-back: for a clone that was never used.
///
/// # Errors
/// The command fails.
pub async fn note_boot(dataset: &Dataset, boot: &BootId) -> Result<(), Error> {
    zfs(["set", &format!("{BOOT}={boot}"), dataset.as_str()]).run().await?;
    Ok(())
}

/// Destroys a dataset with its own snapshots, if it carries this mark; its mark is looked at in the same transaction. One that
/// is not there is fine.
///
/// # Errors
/// [`Error::Refused`]; a command fails.
pub async fn destroy(dataset: &Dataset, mark: &Mark) -> Result<(), Error> {
    let args = [dataset.to_string(), mark.to_string()];
    let refused = program::run(dataset.pool(), program::DESTROY, args).await?;
    if refused.is_empty() { Ok(()) } else { Err(Error::Refused(refused)) }
}

/// Waits until udev has made a device node; comes back at once when it is there.
///
/// # Errors
/// [`Error::NoDevice`] after [`DEVICE_WAIT`].
pub async fn wait_for_device(path: &str) -> Result<(), Error> {
    let begun = Instant::now();
    while !Path::new(path).exists() {
        if begun.elapsed() > DEVICE_WAIT {
            return Err(Error::NoDevice { path: path.to_owned(), waited: DEVICE_WAIT });
        }
        // It ends when the node is there or udev's queue is empty; the event may not be in the queue yet.
        let exists = format!("--exit-if-exists={path}");
        Cmd::new(Program::Udevadm).args(["settle", "--timeout=10", &exists]).output().await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Runs the command that makes a dataset with its mark. The note does not outlast a command that came back, whatever it said:
/// what is there under the name of one that failed is somebody else's, or will be.
async fn noted(command: Cmd, dataset: &Dataset, making: &Making) -> Result<(), Error> {
    making.begin(dataset).await?;
    let made = command.run().await;
    making.end().await?;
    made?;
    Ok(())
}

/// Destroys what a power cut left of this very dataset's making: it is noted, has no mark, and neither snapshots nor children,
/// for zfs(8) refuses those. Nobody could use it meanwhile, for what has no mark is not exported.
async fn clear_unfinished(dataset: &Dataset, mark: &Mark, making: &Making) -> Result<(), Error> {
    let noted = making.dataset().await?;
    if noted.as_ref() == Some(dataset) && exists(dataset).await? && !carries(dataset, mark).await? {
        zfs(["destroy", dataset.as_str()]).run().await?;
    }
    Ok(())
}

async fn exists(dataset: &Dataset) -> Result<bool, Error> {
    let Some(parent) = dataset.parent() else { return Ok(true) };
    let list = ["list", "-H", "-o", "name", "-t", "filesystem,volume", "-d", "1", parent.as_str()];
    Ok(zfs(list).run().await?.lines().any(|line| line == dataset.as_str()))
}

async fn carries(dataset: &Dataset, mark: &Mark) -> Result<bool, Error> {
    if !exists(dataset).await? {
        return Ok(false);
    }
    let (value, source) = get(dataset.as_str(), MARK).await?;
    Ok(source == "local" && value == mark.to_string())
}

/// The value and the source of a property.
async fn get(dataset: &str, property: &'static str) -> Result<(String, String), Error> {
    let line = zfs(["get", "-H", "-p", "-o", "value,source", property, dataset]).run().await?;
    let bad = || Error::Value { object: dataset.into(), field: property, value: line.clone() };
    let (value, source) = line.trim_end_matches('\n').split_once('\t').ok_or_else(bad)?;
    Ok((value.to_owned(), source.to_owned()))
}
