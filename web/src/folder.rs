//! The panel's data folder: where its database and its few files lie, and how a file is written so that a power cut leaves the
//! old one or the new one. It knows no content.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};

/// A folder that nobody else may read.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// A data folder that nobody else has.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

/// Why a file of the data folder can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't {} {}", .verb, .path.display())]
pub struct Error {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Folder {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| Error { verb: "make", path: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }

    /// Where a file of this name lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file's content; nothing when there is no such file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error { verb: "read", path, source }),
        }
    }

    /// Writes a file whole, readable by its owner alone.
    ///
    /// # Errors
    /// It can't be written; then the one before is still there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(name);
        self.replace(&path, bytes).map_err(|source| Error { verb: "write", path, source })
    }

    /// Brings to the disk which files are there: renames hold from then on (fsync(2)).
    ///
    /// # Errors
    /// It can't be written.
    pub fn sync(&self) -> Result<(), Error> {
        let synced = File::open(&self.0).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error { verb: "sync", path: self.0.clone(), source })
    }

    /// Takes the folder for oneself, until the lock is dropped or the process ends; nothing when somebody else has it. Whoever
    /// serves a panel has it, and whoever puts other files in their place.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn lock(&self) -> Result<Option<Lock>, Error> {
        let error = |source| Error { verb: "lock", path: self.0.clone(), source };
        let folder = File::open(&self.0).map_err(error)?;
        // flock(2) takes folders too: there is no file of its own, which root might be the first to make.
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _folder: folder })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(other) => Err(error(other.into())),
        }
    }

    /// Removes a file, where there is one.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error { verb: "remove", path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A new file, readable by its owner alone; one of this name must not be there.
    ///
    /// # Errors
    /// It is there, or can't be made.
    pub fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(name))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let next = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        // The rename is on the disk when its folder is (fsync(2)).
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_is_one_process_s_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let held = folder.lock().unwrap().unwrap();
        assert!(folder.lock().unwrap().is_none());
        drop(held);
        assert!(folder.lock().unwrap().is_some());
    }

    #[test]
    fn a_file_is_written_whole_and_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("data")).unwrap();
        assert_eq!(folder.read("box.key").unwrap(), None);
        folder.write("box.key", b"one").unwrap();
        folder.write("box.key", b"two").unwrap();
        assert_eq!(folder.read("box.key").unwrap().as_deref(), Some(&b"two"[..]));
        let mode = fs::metadata(folder.path("box.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(place.path().join("data")).unwrap().count(), 1);
    }
}
