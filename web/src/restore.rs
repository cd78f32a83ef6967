//! Restoring: a backup is read whole into a folder beside the data, opened there as a panel opens its own, and only then marked to
//! be put in force, which [`place`] does before a panel begins. Until the mark nothing of what is there is touched.

pub mod place;
mod unpack;

use std::{
    io::{self, Read},
    path::PathBuf,
    time::SystemTime,
};

use panel::{
    backup::{self, Manifest},
    ca::Host,
    operations,
    secret::SecretString,
    store::{self, Store},
};

use crate::{
    authorities,
    folder::{self, Folder},
    format, run,
};

/// What the moves of files tell a test before each of them: there it may cut the power.
pub type Steps<'a> = &'a mut dyn FnMut(&'static str);

/// Why a backup is not restored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// It holds what this panel would not know what to do with.
    #[error("the backup holds {0:?}, which is nothing that this panel has")]
    Unknown(String),
    /// It is no whole panel.
    #[error("the backup lacks {0:?}: no panel can begin with it")]
    Incomplete(&'static str),
    /// There is no room for what it holds.
    #[error("the panel's disk is too full: {} are needed, and {} are free", format::size(.needed), format::size(.free))]
    Full {
        /// How many bytes what it holds takes.
        needed: u64,
        /// How many there are.
        free: u64,
    },
    /// The database is damaged, or a newer panel's.
    #[error("the database in the backup can't be used")]
    Store(#[from] store::Error),
    /// A panel does not begin with it.
    #[error("no panel can begin with what is in the backup")]
    Begin(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It can't be made the present.
    #[error("the restored database can't be brought up to now")]
    Present(#[from] operations::Error),
    /// The data folder can't be used.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// A file or folder of the data folder can't be used.
    #[error("can't use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same file may be restored later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Backup(error) => error.retryable(),
            Self::Full { .. } | Self::Folder(_) | Self::File { .. } => true,
            Self::Unknown(_)
            | Self::Incomplete(_)
            | Self::Store(_)
            | Self::Begin(_)
            | Self::Present(_) => false,
        }
    }
}

/// What becomes of the data that a restored panel takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is put into a folder beside, where there is any.
    Keep,
    /// It goes: nobody ever signed in there.
    Discard,
}

/// A backup that lies ready, and was seen to be a panel.
#[derive(Debug)]
pub struct Staged {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The fingerprint of its root, with colons.
    pub root: String,
    /// The folder that will have the data it takes the place of.
    pub kept: Option<String>,
}

impl Staged {
    /// When the backup was made, in milliseconds since 1970.
    pub fn made_ms(&self) -> u64 {
        self.manifest.made_at_unix.saturating_mul(1000)
    }
}

/// Reads a backup whole, and opens what is in it as a panel opens its data, which is reached by these hosts.
///
/// # Errors
/// It can't be read or used; nothing is left of it then.
pub fn stage(
    data: &Folder,
    from: impl Read,
    pass_phrase: SecretString,
    hosts: &[Host],
    before: Before,
    steps: Steps<'_>,
) -> Result<Staged, Error> {
    place::clear(data)?;
    steps("unpack");
    let staged = unpack::all(data, from, pass_phrase).and_then(|(staged, manifest)| {
        steps("open");
        let root = opened(&staged, hosts, &manifest)?;
        let kept = (before == Before::Keep).then(|| place::name_for_kept(SystemTime::now()));
        steps("seal");
        place::complete(data, &staged, kept.as_deref())?;
        Ok(Staged { manifest, root, kept })
    });
    if staged.is_err() {
        place::clear(data)?;
    }
    staged
}

/// Does with a folder all that a panel does at its start, and more; the fingerprint of its root.
fn opened(staged: &Folder, hosts: &[Host], manifest: &Manifest) -> Result<String, Error> {
    Store::open(&staged.path(run::DATABASE))?.check()?;
    authorities::forget_client(staged).map_err(|error| Error::Begin(error.into()))?;
    let opened = run::open(&staged.path(""), hosts)
        .map_err(|error| Error::Begin(error.into_boxed_dyn_error()))?;
    opened.app.panel().note_restore(manifest)?;
    Ok(opened.app.ca().root().fingerprint().with_colons())
}

#[cfg(test)]
mod tests;
