//! Files as wholes: a reader sees the old content or the new one, never half of it, also after a power cut. Configuration and
//! state files are written here and nowhere else; nothing here knows what stands in them. A [`Journal`] is the one kind of file
//! that is added to instead.

mod journal;

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

pub use journal::Journal;

/// Why a file could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {}", path.display())]
pub struct Error {
    /// What was tried.
    pub action: Action,
    /// On which file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Remove it.
    Remove,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
        })
    }
}

/// Whether a file had to be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was as it should be.
    Unchanged,
    /// It was written, or removed.
    Changed,
}

/// Brings a file to this content and mode (the lower 12 bits). Writes only when either differs, by way of a temporary file in
/// the same folder, which has to exist. When it returns, the content is on the disk.
///
/// # Errors
/// The file or its folder can't be read or written; the old content is still there then.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<Change, Error> {
    let error = |source| Error { action: Action::Write, path: path.to_owned(), source };
    if is_so(path, content, mode).map_err(error)? {
        return Ok(Change::Unchanged);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    replace(path, folder.unwrap_or(Path::new(".")), content, mode).map_err(error)?;
    Ok(Change::Changed)
}

fn is_so(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let same = metadata.is_file()
        && metadata.permissions().mode() & 0o7777 == mode
        && metadata.len() == content.len() as u64
        && fs::read(path)? == content;
    Ok(same)
}

fn replace(path: &Path, folder: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(folder)
}

/// Makes names that were added to, or taken from, a folder survive a power cut.
///
/// # Errors
/// The folder can't be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads a whole file; `None` when there is none.
///
/// # Errors
/// Anything but that it is not there.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error { action: Action::Read, path: path.to_owned(), source }),
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// Anything but that it is not there.
pub fn remove_if_exists(path: &Path) -> Result<Change, Error> {
    let error = |source| Error { action: Action::Remove, path: path.to_owned(), source };
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Change::Unchanged),
        Err(source) => return Err(error(source)),
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        sync_folder(folder).map_err(error)?;
    }
    Ok(Change::Changed)
}

/// The same functions for asynchronous callers: the disk may take its time, the executor's threads may not.
pub mod nonblocking {
    use std::path::Path;

    use super::{Change, Error, on_thread};

    /// See [`super::write_atomic`].
    ///
    /// # Errors
    /// The same.
    pub async fn write_atomic(
        path: &Path,
        content: impl Into<Vec<u8>>,
        mode: u32,
    ) -> Result<Change, Error> {
        let content = content.into();
        on_thread(path, move |path| super::write_atomic(path, &content, mode)).await
    }

    /// See [`super::read_if_exists`].
    ///
    /// # Errors
    /// The same.
    pub async fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>, Error> {
        on_thread(path, super::read_if_exists).await
    }

    /// See [`super::remove_if_exists`].
    ///
    /// # Errors
    /// The same.
    pub async fn remove_if_exists(path: &Path) -> Result<Change, Error> {
        on_thread(path, super::remove_if_exists).await
    }
}

async fn on_thread<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || work(&path))
        .await
        .expect("the work returns its failures, and it is not cancelled once it runs")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn content_and_mode_arrive_and_the_second_time_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        assert_eq!(write_atomic(&path, b"one", 0o640).unwrap(), Change::Changed);
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.mode() & 0o7777, 0o640);
        assert_eq!(write_atomic(&path, b"one", 0o640).unwrap(), Change::Unchanged);
        assert_eq!(fs::metadata(&path).unwrap().ino(), first.ino());
        assert_eq!(write_atomic(&path, b"two", 0o640).unwrap(), Change::Changed);
        assert_eq!(read_if_exists(&path).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(write_atomic(&path, b"two", 0o600).unwrap(), Change::Changed);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn no_temporary_file_is_left_and_a_failure_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        write_atomic(&path, b"one", 0o644).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let taken = folder.path().join("folder");
        fs::create_dir(&taken).unwrap();
        fs::create_dir(taken.join("inside")).unwrap();
        let error = write_atomic(&taken, b"two", 0o644).unwrap_err();
        assert_eq!((error.action, error.path), (Action::Write, taken));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_symbolic_link_is_replaced_and_what_it_points_at_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("link"), folder.path().join("other"));
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        write_atomic(&path, b"one", 0o644).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert!(other.is_dir());
    }

    #[tokio::test]
    async fn what_is_not_there_reads_as_none_and_removes_as_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        assert_eq!(nonblocking::read_if_exists(&path).await.unwrap(), None);
        assert_eq!(nonblocking::remove_if_exists(&path).await.unwrap(), Change::Unchanged);
        nonblocking::write_atomic(&path, "x", 0o644).await.unwrap();
        assert_eq!(nonblocking::remove_if_exists(&path).await.unwrap(), Change::Changed);
        assert_eq!(nonblocking::read_if_exists(&path).await.unwrap(), None);
    }
}
