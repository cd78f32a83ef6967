//! Kernel and initrd, taken out of a generation and kept as files that the boot service gives out. Each generation has a folder
//! `<group>/<number>` that appears whole or not at all. The host's kernel never mounts what a guest wrote: `grub-fstest` reads
//! it in the sandbox, and a hostile image can at worst fail its own extraction.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use model::{
    name::Sha256,
    observed::{BootFiles, GenerationId},
};
use serde::{Deserialize, Serialize};

use crate::{cmd, digest, files};

mod reader;
#[cfg(test)]
mod tests;

use reader::{Found, Reader};

/// How long one extraction may take in all.
pub const TIME: Duration = Duration::from_secs(600);

/// The largest kernel that is taken, in bytes.
const KERNEL_BYTES: u64 = 256 << 20;

/// The largest initrd that is taken, in bytes.
const INITRD_BYTES: u64 = 1 << 30;

/// Why boot files could not be taken out or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A command failed.
    #[error(transparent)]
    Command(#[from] cmd::Error),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A file, a folder or a device could not be used.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No file system of the image is a Linux root.
    #[error("no file system in the image has /etc/os-release: it holds no Linux that can boot this way (looked at {})", looked_at.join(" "))]
    NoRoot {
        /// What was looked at, in GRUB's words.
        looked_at: Vec<String>,
    },
    /// There is a root file system, and no kernel with its initrd.
    #[error(
        "the image has no kernel with an initrd: neither /vmlinuz with /initrd.img nor a pair of one version in /boot"
    )]
    NoKernel,
    /// A file is empty.
    #[error("{file} of the image is empty")]
    Empty {
        /// Which.
        file: String,
    },
    /// The whole took too long.
    #[error("reading the image took longer than {} s", TIME.as_secs())]
    TooSlow,
}

impl Error {
    /// Whether the same extraction can succeed later although the generation stays as it is.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Command(error) => error.retryable(),
            Self::File(_) | Self::Io { .. } | Self::TooSlow => true,
            Self::NoRoot { .. } | Self::NoKernel | Self::Empty { .. } => false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    root_partition: u32,
    kernel: Kept,
    initrd: Kept,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    from: String,
    size_bytes: u64,
    sha256: Sha256,
}

const MANIFEST: &str = "manifest.json";

/// Takes kernel and initrd out of a generation's device (or image file) into `<folder>/<group>/<number>`.
///
/// # Errors
/// Any [`Error`]; nothing is left behind that [`observe`] would list.
pub async fn extract(
    device: &Path,
    folder: &Path,
    generation: &GenerationId,
) -> Result<BootFiles, Error> {
    tokio::time::timeout(TIME, extract_unlimited(device, folder, generation))
        .await
        .map_err(|_| Error::TooSlow)?
}

async fn extract_unlimited(
    device: &Path,
    folder: &Path,
    generation: &GenerationId,
) -> Result<BootFiles, Error> {
    let reader = Reader::new(device).map_err(io_error("open", device))?;
    let found = reader.find().await?;
    let fresh = folder.join(format!(".new-{}-{}", generation.group, generation.number));
    remove_folder(&fresh)?;
    fs::create_dir_all(&fresh).map_err(io_error("make", &fresh))?;
    let manifest = take(&reader, found, &fresh).await?;
    let json = serde_json::to_vec_pretty(&manifest).expect("a manifest has only text keys");
    files::nonblocking::write_atomic(&fresh.join(MANIFEST), json, 0o644).await?;
    let group = folder.join(generation.group.as_str());
    let place = group.join(generation.number.to_string());
    let put = || {
        fs::create_dir_all(&group)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o755))?;
        fs::rename(&fresh, &place)?;
        files::sync_folder(&group)?;
        files::sync_folder(folder)
    };
    remove_folder(&place)?;
    put().map_err(io_error("make", &place))?;
    Ok(boot_files(&place, manifest))
}

async fn take(reader: &Reader, found: Found, into: &Path) -> Result<Manifest, Error> {
    Ok(Manifest {
        root_partition: found.root_partition,
        kernel: keep(reader, found.kernel, &into.join("vmlinuz"), KERNEL_BYTES).await?,
        initrd: keep(reader, found.initrd, &into.join("initrd"), INITRD_BYTES).await?,
    })
}

async fn keep(reader: &Reader, from: String, to: &Path, limit: u64) -> Result<Kept, Error> {
    let file = File::create(to).map_err(io_error("write", to))?;
    reader.copy(&from, file.try_clone().map_err(io_error("write", to))?, limit).await?;
    let synced = tokio::task::spawn_blocking(move || {
        file.sync_all()?;
        io::Result::Ok(file.metadata()?.len())
    });
    let size_bytes = synced
        .await
        .expect("the work returns its failures, and it is not cancelled once it runs")
        .map_err(io_error("write", to))?;
    if size_bytes == 0 {
        return Err(Error::Empty { file: from });
    }
    let sha256 = digest::sha256(to, |_, _| ()).await.map_err(io_error("read", to))?;
    Ok(Kept { from, size_bytes, sha256 })
}

/// The generations whose boot files stand whole in a folder.
///
/// A folder without a sound manifest, or whose files have another size than the manifest says, is left out: it is extracted
/// again.
///
/// # Errors
/// A folder can't be read.
pub fn observe(folder: &Path) -> Result<BTreeMap<GenerationId, BootFiles>, Error> {
    let mut found = BTreeMap::new();
    for group in names(folder)? {
        let Ok(group_name) = group.parse() else { continue };
        for number in names(&folder.join(&group))? {
            let Ok(parsed) = number.parse() else { continue };
            let place = folder.join(&group).join(&number);
            if let Some(manifest) = sound_manifest(&place)? {
                let id = GenerationId {
                    group: model::name::GroupName::clone(&group_name),
                    number: parsed,
                };
                found.insert(id, boot_files(&place, manifest));
            }
        }
    }
    Ok(found)
}

fn sound_manifest(place: &Path) -> Result<Option<Manifest>, Error> {
    let Some(json) = files::read_if_exists(&place.join(MANIFEST))? else { return Ok(None) };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&json) else {
        tracing::warn!(folder = %place.display(), "boot files without a sound manifest");
        return Ok(None);
    };
    let size = |name: &str| fs::metadata(place.join(name)).map(|file| file.len()).ok();
    let whole = size("vmlinuz") == Some(manifest.kernel.size_bytes)
        && size("initrd") == Some(manifest.initrd.size_bytes);
    Ok(whole.then_some(manifest))
}

fn boot_files(place: &Path, manifest: Manifest) -> BootFiles {
    BootFiles {
        folder: place.to_string_lossy().into_owned(),
        kernel_sha256: manifest.kernel.sha256,
        initrd_sha256: manifest.initrd.sha256,
        root_partition: manifest.root_partition,
    }
}

/// Names in a folder; none when it is not there. A name that is not UTF-8 is none of ours.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        other => other.map_err(io_error("read", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("read", folder))?.file_name();
        names.extend(name.into_string());
    }
    Ok(names)
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
