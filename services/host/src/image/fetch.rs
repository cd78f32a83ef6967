//! Fetching an image over HTTP. curl does it, as the sandbox's user: it writes nothing but the opened file it is given. A try
//! that ends early is gone on with; what was fetched survives a restart.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use model::name::Sha256;

use super::{Error, Phase, Progress, Report, io_error};
use crate::{
    cmd::{self, Cmd, Program},
    files,
    sandbox::{self, Limits},
};

/// How often a fetch that makes no headway is tried before the import fails; the pauses between are 1, 2, 4 and 8 s.
const TRIES: u32 = 5;

/// curl(1), EXIT CODES: the server can't give a part of the file.
const EXIT_NO_RANGES: i32 = 33;

/// curl(1), EXIT CODES: with `--fail`, the server answered with a status of 400 or above.
const EXIT_HTTP_STATUS: i32 = 22;

/// An image on a server.
pub(super) struct Url<'a> {
    /// Where it is.
    pub(super) url: &'a str,
    /// Its digest, which names the file that it is fetched into.
    pub(super) name: &'a Sha256,
}

/// Fetches an image into a folder and returns its path. The name without `.part` stands for a fetch that came to its end.
pub(super) async fn fetch(
    url: &Url<'_>,
    folder: &Path,
    report: Report<'_>,
) -> Result<PathBuf, Error> {
    fs::create_dir_all(folder).map_err(io_error("make", folder))?;
    let (whole, part) = (folder.join(url.name.as_str()), folder.join(format!("{}.part", url.name)));
    if whole.exists() {
        return Ok(whole);
    }
    let total_bytes = size(url.url).await?;
    if total_bytes.is_some_and(|total| length(&part) > total) {
        // What is served was exchanged since.
        files::nonblocking::remove_if_exists(&part).await?;
    }
    let mut failed = 0;
    while total_bytes.is_none_or(|total| length(&part) != total || total == 0) {
        let before = length(&part);
        match attempt(url.url, &part, total_bytes, report).await? {
            Ended::Whole => break,
            Ended::NoRanges => {
                files::nonblocking::remove_if_exists(&part).await?;
                failed += 1;
            }
            Ended::Refused(status) if (400..500).contains(&status) => {
                return Err(Error::NotServed { url: url.url.to_owned(), status });
            }
            Ended::Refused(_) | Ended::Broken(_) if length(&part) > before => failed = 0,
            Ended::Refused(_) | Ended::Broken(_) if failed + 1 < TRIES => failed += 1,
            Ended::Refused(status) => {
                return Err(Error::NotServed { url: url.url.to_owned(), status });
            }
            Ended::Broken(reason) => {
                let have_bytes = length(&part);
                return Err(Error::Fetch { url: url.url.to_owned(), reason, have_bytes });
            }
        }
        tokio::time::sleep(pause(failed)).await;
    }
    keep(&part, &whole).map_err(io_error("keep", &part))?;
    Ok(whole)
}

fn pause(failed: u32) -> Duration {
    Duration::from_secs(failed.checked_sub(1).map_or(0, |doublings| 1 << doublings))
}

fn keep(part: &Path, whole: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, whole)?;
    files::sync_folder(whole.parent().unwrap_or(Path::new("/")))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

enum Ended {
    Whole,
    NoRanges,
    Refused(u16),
    Broken(String),
}

fn curl(time: Option<Duration>) -> Cmd {
    let limits = Limits { memory_bytes: 1 << 30, file_bytes: u64::MAX >> 1, time, network: true };
    sandbox::command(Program::Curl, &limits).args([
        "--disable", // reads no ~/.curlrc
        "--silent",
        "--show-error",
        "--fail",
        "--location",
        "--max-redirs",
        "5",
        "--proto",
        "=http,https",
        "--connect-timeout",
        "20",
    ])
}

/// The image's size, where the server tells it; a server that refuses the question may still give the image.
async fn size(url: &str) -> Result<Option<u64>, Error> {
    let written = "%{http_code} %header{content-length}";
    let ask = curl(Some(Duration::from_secs(60))).args(["--head", "--output", "/dev/null"]);
    let output = ask.args(["--write-out", written, "--url", url]).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let size = text.strip_prefix("200 ").and_then(|size| size.trim().parse().ok());
    Ok(size)
}

async fn attempt(
    url: &str,
    part: &Path,
    total_bytes: Option<u64>,
    report: Report<'_>,
) -> Result<Ended, Error> {
    let file =
        File::options().create(true).append(true).open(part).map_err(io_error("write", part))?;
    // The sandbox's qemu-img reads it; it lies in a folder that is root's.
    file.set_permissions(Permissions::from_mode(0o644)).map_err(io_error("write", part))?;
    let from = length(part);
    let run = curl(None)
        .args([
            "--speed-limit",
            "1",
            "--speed-time",
            "30",
            "--write-out",
            "%{stderr}\n%{http_code}",
        ])
        .args(["--continue-at", &from.to_string(), "--url", url])
        .stdout_file(file)
        .output();
    tokio::pin!(run);
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let output = loop {
        tokio::select! {
            output = &mut run => break output?,
            _ = tick.tick() => {
                let done_bytes = length(part);
                report(Progress { phase: Phase::Fetch, done_bytes, total_bytes });
            }
        }
    };
    Ok(judge(&output))
}

fn judge(output: &cmd::Output) -> Ended {
    let (said, status) = output.stderr.rsplit_once('\n').unwrap_or(("", &output.stderr));
    match (output.status.code(), status.trim().parse::<u16>()) {
        (Some(0), _) => Ended::Whole,
        (Some(EXIT_NO_RANGES), _) => Ended::NoRanges,
        // Range Not Satisfiable: what is here is as long as what is served, or longer. Begin again; the digest judges.
        (Some(EXIT_HTTP_STATUS), Ok(416)) => Ended::NoRanges,
        (Some(EXIT_HTTP_STATUS), Ok(status)) => Ended::Refused(status),
        _ => Ended::Broken(said.trim().to_owned()),
    }
}
