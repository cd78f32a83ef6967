//! Putting restored files in the place of what is there: by renames alone, each of which may be done again after a power cut.
//!
//! What is being unpacked lies in one folder, which is worth nothing. Once it is complete and on the disk, it is renamed: from then on
//! the restore is decided. A panel that begins moves the files out of the way which are there, renames the folder once more, and moves
//! the new ones in. The folder's name says how far that came.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{Error, Steps};
use crate::{authorities::BOX_KEY, folder::Folder, format, run::DATABASE};

/// What is being unpacked; never used.
pub(super) const STAGED: &str = "restore-staged";
/// What is complete, while the files before it are moved away.
const READY: &str = "restore-ready";
/// What is being moved in: nothing else is there any more.
const ARRIVING: &str = "restore-arriving";
/// The name of the folder for what was there before; without this file, it goes.
const KEEP: &str = "keep";

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::File { path: path.to_owned(), source }
}

/// Whether a file of the data folder belongs to the state of a panel. Everything else is left alone.
fn is_state(name: &str) -> bool {
    let of_the_database = name.strip_prefix(DATABASE);
    of_the_database.is_some_and(|rest| matches!(rest, "" | "-wal" | "-shm" | "-journal"))
        || name == BOX_KEY
        || [".sealed", ".crl"].iter().any(|suffix| name.ends_with(suffix))
}

/// Throws away what was not completed.
pub(super) fn clear(data: &Folder) -> Result<(), Error> {
    let staged = data.path(STAGED);
    match fs::remove_dir_all(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(&staged)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The folder for what is there before a restore of this moment.
pub(super) fn name_for_kept(now: SystemTime) -> String {
    format!("before-restore-{}", format::iso(&format::ms(now)).replace(':', ""))
}

/// Decides that what is staged is put in force: when this returns, no power cut takes it back.
pub(super) fn complete(data: &Folder, staged: &Folder, keep: Option<&str>) -> Result<(), Error> {
    if let Some(name) = keep {
        staged.write(KEEP, name.as_bytes())?;
    }
    for path in files(staged)? {
        File::open(&path).and_then(|opened| opened.sync_all()).map_err(file(&path))?;
    }
    hand_over(data, staged)?;
    staged.sync()?;
    let (begun, ready) = (data.path(STAGED), data.path(READY));
    rename(&begun, &ready)?;
    if let Err(error) = data.sync() {
        // Whoever is told that it failed must not find it done.
        rename(&ready, &begun)?;
        return Err(error.into());
    }
    Ok(())
}

/// Puts in force what was decided, and throws away what was not; where the data that was there before lies now, if it was kept.
/// Called before a panel begins, by whoever has the folder to themselves.
///
/// # Errors
/// A file can't be moved; called again, it goes on from there.
pub fn finish(data: &Folder, steps: Steps<'_>) -> Result<Option<PathBuf>, Error> {
    clear(data)?;
    arrive(data, steps)?;
    let ready = data.path(READY);
    if !ready.is_dir() {
        return Ok(None);
    }
    let kept = make_way(data, &Folder::open(&ready)?, steps)?;
    steps("turn");
    rename(&ready, &data.path(ARRIVING))?;
    data.sync()?;
    arrive(data, steps)?;
    Ok(kept)
}

fn make_way(data: &Folder, ready: &Folder, steps: Steps<'_>) -> Result<Option<PathBuf>, Error> {
    let mut there = files(data)?;
    there.retain(|path| name_of(path).is_some_and(is_state));
    let name = ready.read(KEEP)?.filter(|_| !there.is_empty());
    let name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
    let kept = name.map(|name| Folder::open(&data.path(&name))).transpose()?;
    for path in there {
        let Some(name) = name_of(&path) else { continue };
        steps("make way");
        match &kept {
            Some(kept) => rename(&path, &kept.path(name))?,
            None => fs::remove_file(&path).map_err(file(&path))?,
        }
    }
    if let Some(kept) = &kept {
        hand_over(data, kept)?;
        kept.sync()?;
    }
    // Before the folder is renamed, or a disk might have that and the files before, too.
    data.sync()?;
    Ok(kept.map(|kept| kept.path("")))
}

fn arrive(data: &Folder, steps: Steps<'_>) -> Result<(), Error> {
    let arriving = data.path(ARRIVING);
    if !arriving.is_dir() {
        return Ok(());
    }
    for path in files(&Folder::open(&arriving)?)? {
        let Some(name) = name_of(&path).filter(|name| is_state(name)) else { continue };
        steps("move in");
        rename(&path, &data.path(name))?;
    }
    data.sync()?;
    steps("end");
    fs::remove_dir_all(&arriving).map_err(file(&arriving))?;
    Ok(data.sync()?)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(file(from))
}

fn files(folder: &Folder) -> Result<Vec<PathBuf>, Error> {
    let path = folder.path("");
    let mut files = Vec::new();
    for entry in fs::read_dir(&path).map_err(file(&path))? {
        let entry = entry.map_err(file(&path))?;
        if entry.file_type().map_err(file(&path))?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Gives what root made at the command line to the user whose data it is.
fn hand_over(data: &Folder, made: &Folder) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let path = data.path("");
    let owner = fs::metadata(&path).map_err(file(&path))?;
    for path in files(made)?.into_iter().chain([made.path("")]) {
        chown(&path, Some(owner.uid()), Some(owner.gid())).map_err(file(&path))?;
    }
    Ok(())
}
