//! Owns the files of one test: `target/e2e/<test>-<token>` for what is kept on failure, and a short path under the
//! temporary folder for sockets (a Unix socket's path has 108 bytes at most). Kept unless the test says that it passed.
#![expect(
    clippy::disallowed_methods,
    reason = "the harness tests images from outside and may not import host::files"
)]

use crate::image::target_folder;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tempfile::TempDir;

const SHOWN_LINES: usize = 40;

/// Eight random hex digits: names of two runs never meet.
pub fn token() -> String {
    format!("{:08x}", rand::random::<u32>())
}

/// The folder of one test.
#[derive(Debug)]
pub struct Workspace {
    folder: PathBuf,
    sockets: TempDir,
    next_socket: AtomicU32,
    passed: AtomicBool,
}

impl Workspace {
    /// Makes the folder of the test `name`.
    pub fn new(name: &str) -> Result<Self> {
        let folder = target_folder()?.join("e2e").join(format!("{name}-{}", token()));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let sockets = tempfile::Builder::new().prefix("cd-").tempdir()?;
        Ok(Self { folder, sockets, next_socket: AtomicU32::new(0), passed: AtomicBool::new(false) })
    }

    /// The test's last word: nothing needs to be kept. A test that ends by `?` or panics never says it.
    pub fn passed(&self) {
        self.passed.store(true, Ordering::Relaxed);
    }

    /// Where what is worth keeping goes.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// A new short path for a socket.
    pub fn socket_path(&self) -> PathBuf {
        self.sockets
            .path()
            .join(format!("{}.sock", self.next_socket.fetch_add(1, Ordering::Relaxed)))
    }

    /// A new folder inside.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if !self.passed.load(Ordering::Relaxed) || std::env::var_os("CD_KEEP").is_some() {
            eprintln!("kept: {}{}", self.folder.display(), last_lines(&self.folder));
        } else if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// The end of each log below `folder`, with the log's name.
fn last_lines(folder: &Path) -> String {
    let mut shown = String::new();
    for log in logs_below(folder) {
        let text =
            fs::read(&log).map(|bytes| crate::serial::plain_text(&bytes)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES));
        let _infallible = write!(shown, "\n--- the end of {}", log.display());
        for line in last {
            let _infallible = write!(shown, "\n    {line}");
        }
    }
    shown
}

fn logs_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(logs_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Writes a file of the harness's own.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
