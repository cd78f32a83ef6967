//! The door to configfs: every read and change of LIO passes here. It knows paths and system calls, nothing of iSCSI.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A configfs group.
    Dir,
    /// A link from one object to another.
    Link,
    /// An attribute.
    File,
}

/// The operations that configfs has. Paths are relative to `target` in its mount.
///
/// It is a trait so that a test can stop after any number of changes and prove that the next run mends what is left.
pub trait Tree {
    /// An attribute's text without the newline at its end.
    fn read(&self, path: &str) -> io::Result<String>;
    /// Stores a value with one write(2): configfs takes each write as one whole value.
    fn write(&self, path: &str, value: &str) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, path: &str) -> io::Result<Vec<(String, Kind)>>;
    /// Where a link leads, relative to the tree's root.
    fn resolve(&self, path: &str) -> io::Result<String>;
    /// Makes an object.
    fn make(&self, path: &str) -> io::Result<()>;
    /// Takes an object away.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Links an object to another one.
    fn link(&self, path: &str, to: &str) -> io::Result<()>;
    /// Takes a link away.
    fn unlink(&self, path: &str) -> io::Result<()>;
    /// Closes a directory to everybody but root: configfs makes attributes, CHAP passwords among them, readable by all.
    fn hide(&self, path: &str) -> io::Result<()>;
}

/// configfs itself, or a copy of it in a folder.
#[derive(Debug, Clone)]
pub struct Configfs {
    root: PathBuf,
}

impl Configfs {
    /// Speaks to the configfs that is mounted at `mount`, usually `/sys/kernel/config`.
    pub fn new(mount: impl AsRef<Path>) -> Self {
        Self { root: mount.as_ref().join("target") }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Tree for Configfs {
    fn read(&self, path: &str) -> io::Result<String> {
        let mut text = fs::read_to_string(self.path(path))?;
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).open(self.path(path))?;
        match file.write(value.as_bytes())? {
            written if written == value.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, Kind)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
            let kind = entry.file_type()?;
            names.push((
                name,
                match kind {
                    kind if kind.is_dir() => Kind::Dir,
                    kind if kind.is_symlink() => Kind::Link,
                    _ => Kind::File,
                },
            ));
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    fn resolve(&self, path: &str) -> io::Result<String> {
        let root = fs::canonicalize(&self.root)?;
        let found = fs::canonicalize(self.path(path))?;
        let inside = found.strip_prefix(root).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(inside.to_str().ok_or(io::ErrorKind::InvalidData)?.to_owned())
    }

    fn make(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.path(path))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.path(path))
    }

    fn link(&self, path: &str, to: &str) -> io::Result<()> {
        symlink(self.path(to), self.path(path))
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn hide(&self, path: &str) -> io::Result<()> {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o700))
    }
}
