//! What the agent keeps on its own disk: the document in force, the newest boots, the machines it discovered, its own number.
//! Each is one file, replaced as a whole but for the [`boots`]; nothing else of the agent's state outlives it.

pub mod boots;

use std::{
    io,
    path::{Path, PathBuf},
};

use host::files;
use model::{boot::Boots, desired::Desired, wire::Discovered};
use rand::Rng as _;
use serde::{Serialize, de::DeserializeOwned};

use self::boots::BootLog;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder can't be made.
    #[error("can't make the folder {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be read or written.
    #[error("can't keep the agent's state")]
    File(#[from] files::Error),
    /// A file is not what this agent writes.
    #[error("{} is damaged; move it away, and the panel sends it anew", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// The folder with the agent's state; `/data/agent` on an appliance.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// The mode of every file: boots hold secrets, and nobody but root has any business here.
const MODE: u32 = 0o600;

impl Store {
    /// Opens the folder, and makes it if it is not there.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The document in force; an empty one before the first.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    pub fn desired(&self) -> Result<Desired, Error> {
        self.read("desired.json")
    }

    /// Keeps a document. When it returns, the document survives a power cut.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep_desired(&self, desired: &Desired) -> Result<(), Error> {
        self.write("desired.json", desired)
    }

    /// The newest boots, and where the next ones are kept.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn boots(&self) -> Result<(BootLog, Boots), Error> {
        Ok(BootLog::open(&self.folder)?)
    }

    /// The machines that were discovered.
    ///
    /// # Errors
    /// The file can't be read, or is damaged.
    pub fn discovered(&self) -> Result<Vec<Discovered>, Error> {
        self.read("discovered.json")
    }

    /// Keeps the machines that were discovered.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep_discovered(&self, discovered: &[Discovered]) -> Result<(), Error> {
        self.write("discovered.json", &discovered)
    }

    /// This server's own random number, made at its first start: machine ids are made of it.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn server_seed(&self) -> Result<[u8; 32], Error> {
        let path = self.folder.join("server-seed");
        if let Some(kept) = files::read_if_exists(&path)?.and_then(|bytes| bytes.try_into().ok()) {
            return Ok(kept);
        }
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        files::write_atomic(&path, &seed, MODE)?;
        Ok(seed)
    }

    fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, Error> {
        let path = self.folder.join(name);
        match files::read_if_exists(&path)? {
            None => Ok(T::default()),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })
            }
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let path = self.folder.join(name);
        let bytes = serde_json::to_vec(value)
            .map_err(|source| Error::Damaged { path: path.clone(), source })?;
        files::write_atomic(&path, &bytes, MODE)?;
        Ok(())
    }
}
