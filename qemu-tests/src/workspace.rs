//! Owns the files of one test: `target/e2e/<test>-<token>` for what is kept on failure, and a short path under the
//! temporary folder for sockets (a Unix socket's path has 108 bytes at most). Kept unless the test says that it passed.
//!
//! A failed test is started once more (.config/nextest.toml), and that second try is refused unless the first ended because QEMU
//! itself died: QEMU 10.0's emulation now and then takes a write to one device's registers for another's, while the guest's other
//! processor makes registers appear (`iotlb_to_section`, accel/tcg and hw/pci/msix.c, each ending by an assertion).
#![expect(
    clippy::disallowed_methods,
    reason = "the harness tests images from outside and may not import host::files"
)]

use crate::image::target_folder;
use anyhow::{Context, Result, bail};
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
        let tests = target_folder()?.join("e2e");
        if is_second_try() && !emulator_died_before(&tests) {
            bail!("its first try failed, and not because QEMU died: see there");
        }
        let folder = tests.join(format!("{name}-{}", token()));
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
            if has_assertion_of_qemu(&self.folder) {
                eprintln!("QEMU itself died; the test may be tried once more");
                note_death(&self.folder);
            }
        } else if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// nextest's count of the tries of one test, from 1.
fn is_second_try() -> bool {
    std::env::var("NEXTEST_ATTEMPT").is_ok_and(|attempt| attempt != "1")
}

/// Where it stands that QEMU died in this test of this run. Tests of a plain `cargo test` are not tried again.
fn death_note(tests: &Path) -> Option<PathBuf> {
    let word = |name| std::env::var(name).ok();
    let (run, test) = (word("NEXTEST_RUN_ID")?, word("NEXTEST_TEST_NAME")?);
    Some(tests.join("deaths").join(run).join(test.replace("::", ".")))
}

fn emulator_died_before(tests: &Path) -> bool {
    death_note(tests).is_some_and(|note| note.is_file())
}

fn note_death(folder: &Path) {
    let Some(note) = folder.parent().and_then(death_note) else { return };
    let written = note.parent().map(fs::create_dir_all).unwrap_or(Ok(()));
    if let Err(error) = written.and_then(|()| fs::write(&note, b"")) {
        eprintln!("cannot write {}: {error}", note.display());
    }
}

/// glibc's words (assert(3)) in what a QEMU wrote: they are the emulator's own, whatever the guest did.
fn has_assertion_of_qemu(folder: &Path) -> bool {
    let is_assertion = |line: &str| line.contains("qemu-system-") && line.contains(": Assertion `");
    let of_qemu = |log: &PathBuf| {
        log.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("qemu"))
    };
    logs_below(folder).iter().filter(|log| of_qemu(log)).any(|log| {
        let text = fs::read(log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().any(is_assertion)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_qemu_that_ended_by_its_own_assertion_is_one_that_died() {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        fs::create_dir(&agent).unwrap();
        let died = b"qemu-system-x86_64: hw/pci/msix.c:228: msix_table_mmio_write: Assertion `addr' failed.\n";
        fs::write(agent.join("serial.log"), died).unwrap();
        fs::write(agent.join("qemu1.log"), b"qemu-system-x86_64: terminating on signal 9\n")
            .unwrap();
        assert!(!has_assertion_of_qemu(folder.path()));
        fs::write(agent.join("qemu2.log"), died).unwrap();
        assert!(has_assertion_of_qemu(folder.path()));
    }
}
