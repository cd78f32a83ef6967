//! Filling a zvol with a disk image: fetch, verify, check, write. The image is hostile input until its digest was compared, and
//! as good as hostile after it: qemu-img reads it in the sandbox. Nothing here decides that an import is done: the caller takes
//! the snapshot that says so after [`import`] came back. Before that, running it again at any point gives the right content.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use model::{
    desired::{ImageFormat, Source},
    name::Sha256,
};
use serde::Deserialize;

use crate::{
    cmd::{self, Cmd, Program},
    digest::sha256,
    files,
    sandbox::{self, Access, Lent, Limits},
};

mod fetch;
#[cfg(test)]
mod tests;

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A command failed.
    #[error(transparent)]
    Command(#[from] cmd::Error),
    /// A file could not be written or removed.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A file or device could not be used.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The server does not have the image.
    #[error("{url} answers with HTTP status {status}: check the address of the image")]
    NotServed {
        /// Where it should be.
        url: String,
        /// What the server says.
        status: u16,
    },
    /// The image could not be fetched to its end.
    #[error(
        "can't fetch {url}: {reason}; {have_bytes} bytes are here, the next try goes on from there"
    )]
    Fetch {
        /// Where it is.
        url: String,
        /// What curl said last.
        reason: String,
        /// What was fetched.
        have_bytes: u64,
    },
    /// The location is neither a URL that is spoken here nor an absolute path.
    #[error("{location:?} is neither an http:// or https:// URL nor an absolute path")]
    Location {
        /// The location.
        location: String,
    },
    /// The digest differs.
    #[error("{location} has the SHA-256 digest {found}, and not {wanted} as the document says")]
    Digest {
        /// What was read.
        location: String,
        /// Its digest.
        found: Sha256,
        /// The digest in the document.
        wanted: Sha256,
    },
    /// qemu-img's description of the image is not as we know it.
    #[error("can't read the output of qemu-img info")]
    Info(#[source] serde_json::Error),
    /// The image is of a kind that is refused.
    #[error("the image {reason}: convert it with qemu-img convert to a plain {format} first")]
    Refused {
        /// Why.
        reason: &'static str,
        /// The format that it was given as.
        format: &'static str,
    },
    /// The image is larger than the volume.
    #[error(
        "the image has {image_bytes} bytes and the volume {volume_bytes}: make the volume at least as large"
    )]
    TooLarge {
        /// The image's virtual size.
        image_bytes: u64,
        /// The volume's size.
        volume_bytes: u64,
    },
}

impl Error {
    /// Whether the same import can succeed later without any change to the document or to what is served.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Command(error) => error.retryable(),
            Self::File(_) | Self::Io { .. } | Self::Fetch { .. } | Self::NotServed { .. } => true,
            Self::Location { .. }
            | Self::Digest { .. }
            | Self::Info(_)
            | Self::Refused { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}

/// What an import is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Fetches the image.
    Fetch,
    /// Computes its digest.
    Verify,
    /// Writes it into the volume.
    Write,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fetch => "fetch",
            Self::Verify => "verify",
            Self::Write => "write",
        })
    }
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is at.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done_bytes: u64,
    /// Bytes of this phase, when known.
    pub total_bytes: Option<u64>,
}

/// Is told how far an import is; a handful of times a second at the most.
pub type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// One import.
#[derive(Debug, Clone)]
pub struct Import {
    /// What to read.
    pub source: Source,
    /// Folder for what is fetched; it is made when it is not there.
    pub folder: PathBuf,
    /// The device to fill.
    pub device: PathBuf,
    /// Its size.
    pub device_bytes: u64,
}

/// Fills a device with an image. When it comes back, the device holds the image and then zeroes, and that is on the disks.
/// Dropping the future stops it.
///
/// # Errors
/// Any [`Error`]. What was fetched is kept for the next try, unless its digest was wrong.
pub async fn import(import: &Import, report: Report<'_>) -> Result<(), Error> {
    let source = &import.source;
    let (image, fetched) = obtain(import, report).await?;
    let verify = |done_bytes, total_bytes| {
        report(Progress { phase: Phase::Verify, done_bytes, total_bytes });
    };
    let found = sha256(&image, verify).await.map_err(io_error("read", &image))?;
    if found != source.sha256 {
        if fetched {
            files::nonblocking::remove_if_exists(&image).await?;
        }
        let (location, wanted) = (source.location.clone(), source.sha256.clone());
        return Err(Error::Digest { location, found, wanted });
    }
    let image_bytes = check(&image, source.format).await?;
    if image_bytes > import.device_bytes {
        return Err(Error::TooLarge { image_bytes, volume_bytes: import.device_bytes });
    }
    zero_out(&import.device).await?;
    convert(&image, source.format, &import.device, image_bytes, report).await?;
    sync(&import.device).await?;
    if fetched {
        files::nonblocking::remove_if_exists(&image).await?;
    }
    Ok(())
}

/// Where the image lies, and whether it lies there only because we fetched it.
async fn obtain(import: &Import, report: Report<'_>) -> Result<(PathBuf, bool), Error> {
    let location = &import.source.location;
    if location.starts_with("http://") || location.starts_with("https://") {
        let url = fetch::Url { url: location, name: &import.source.sha256 };
        return Ok((fetch::fetch(&url, &import.folder, report).await?, true));
    }
    if location.starts_with('/') {
        return Ok((PathBuf::from(location), false));
    }
    Err(Error::Location { location: location.clone() })
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    }
}

/// Time is not limited here: it depends on the image's size. The caller sees the progress and may drop the future.
fn qemu_img(image: &Lent, time: Option<Duration>) -> Result<Cmd, Error> {
    let limits = Limits { memory_bytes: 4 << 30, file_bytes: u64::MAX >> 1, time, network: false };
    let cmd = sandbox::command(Program::QemuImg, &limits);
    image.attach(cmd).map_err(io_error("lend", image.path()))
}

/// Refuses what would make qemu-img read anything but this one file; returns the image's virtual size.
async fn check(image: &Path, format: ImageFormat) -> Result<u64, Error> {
    let lent = Lent::new(image, Access::Read).map_err(io_error("open", image))?;
    let json = qemu_img(&lent, Some(cmd::TIMEOUT))?
        .args(["info", "--output=json", "-f", name(format)])
        .arg(lent.path())
        .stdout_limit(1 << 20)
        .run()
        .await?;
    parse_info(&json, format)
}

fn parse_info(json: &str, format: ImageFormat) -> Result<u64, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Info {
        virtual_size: u64,
        backing_filename: Option<String>,
        #[serde(default)]
        encrypted: bool,
        format_specific: Option<Specific>,
    }
    #[derive(Deserialize)]
    struct Specific {
        data: Data,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Data {
        data_file: Option<String>,
        encrypt: Option<serde_json::Value>,
        #[serde(default)]
        corrupt: bool,
    }
    let info: Info = serde_json::from_str(json).map_err(Error::Info)?;
    let data = info.format_specific.as_ref().map(|specific| &specific.data);
    let reason = if info.backing_filename.is_some() {
        Some("stands on a backing file")
    } else if data.is_some_and(|data| data.data_file.is_some()) {
        Some("keeps its data in another file")
    } else if info.encrypted || data.is_some_and(|data| data.encrypt.is_some()) {
        Some("is encrypted")
    } else if data.is_some_and(|data| data.corrupt) {
        Some("is marked as corrupt")
    } else {
        None
    };
    match reason {
        Some(reason) => Err(Error::Refused { reason, format: name(format) }),
        None => Ok(info.virtual_size),
    }
}

/// Makes the whole device read as zeroes: what an earlier try wrote, and what lies behind the image's end. For a zvol that only
/// gives blocks back.
async fn zero_out(device: &Path) -> Result<(), Error> {
    Cmd::new(Program::Blkdiscard).arg("--zeroout").arg(device).unlimited().run().await?;
    Ok(())
}

async fn convert(
    image: &Path,
    format: ImageFormat,
    device: &Path,
    image_bytes: u64,
    report: Report<'_>,
) -> Result<(), Error> {
    let input = Lent::new(image, Access::Read).map_err(io_error("open", image))?;
    let output = Lent::new(device, Access::Write).map_err(io_error("open", device))?;
    qemu_img(&input, None)?
        .args(["convert", "-p", "-n", "--target-is-zero", "-f", name(format), "-O", "raw"])
        .args([input.path(), output.path()])
        .run_lines(|line| {
            if let Some(share) = parse_share(line) {
                let done_bytes = (image_bytes as f64 * share) as u64;
                report(Progress {
                    phase: Phase::Write,
                    done_bytes,
                    total_bytes: Some(image_bytes),
                });
            }
        })
        .await?;
    Ok(())
}

/// `qemu-img -p` writes `    (12.34/100%)`; returns a share of 1.
fn parse_share(line: &str) -> Option<f64> {
    let percent = line.trim().strip_prefix('(')?.strip_suffix("/100%)")?;
    percent.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent)).map(|p| p / 100.0)
}

async fn sync(device: &Path) -> Result<(), Error> {
    let path = device.to_owned();
    let synced =
        tokio::task::spawn_blocking(move || File::options().write(true).open(&path)?.sync_all());
    synced
        .await
        .expect("the work returns its failures, and it is not cancelled once it runs")
        .map_err(io_error("write out", device))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
