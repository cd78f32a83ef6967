//! What the tunnel keeps over a power cut: the key of its API, whose it is, and who may come in. Each file is whole, and they are
//! written in an order of which every beginning makes sense. Nothing is decided here.

use std::path::{Path, PathBuf};

use host::files;
use model::{code::JoinSecret, tunnel::Table};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

const KEY: &str = "tls.key";
const PAIRING: &str = "pairing.json";
const TABLE: &str = "table.json";
/// The service alone reads them.
const MODE: u32 = 0o600;

/// Why the state can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("no access to the tunnel's state")]
    File(#[from] files::Error),
    /// A file is not what was written.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The key is none, or none can be made.
    #[error("the key of the tunnel's API can't be used")]
    Key(#[from] rcgen::Error),
}

impl Error {
    /// Whether the same may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Damaged { .. } | Self::Key(_) => false,
        }
    }
}

/// Whose the tunnel is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Pairing {
    /// Nobody's yet.
    Unpaired(Code),
    /// A panel's.
    Paired(Papers),
}

/// What a panel proves itself with, until it is too old.
#[derive(Debug, Serialize, Deserialize)]
pub struct Code {
    /// What both sides know.
    pub secret: JoinSecret,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
}

/// What the panel gave the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Papers {
    /// The name that the panel knows it by.
    pub name: String,
    /// The chain for its API, leaf first.
    pub chain_pem: String,
    /// The root that the panel's own certificate chains to.
    pub root_pem: String,
}

/// The folder that all of it lies in.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// A file and what shall stand in it.
type Written = (&'static str, Vec<u8>);

impl Store {
    /// The folder has to exist.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The key of the API, on P-256; made when there is none.
    ///
    /// # Errors
    /// It can't be read, made or kept.
    pub fn key(&self) -> Result<KeyPair, Error> {
        let path = self.folder.join(KEY);
        if let Some(kept) = files::read_if_exists(&path)? {
            return Ok(KeyPair::from_pem(&String::from_utf8_lossy(&kept))?);
        }
        let made = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        files::write_atomic(&path, made.serialize_pem().as_bytes(), MODE)?;
        Ok(made)
    }

    /// Whose the tunnel is, if that was ever written.
    ///
    /// # Errors
    /// It can't be read.
    pub fn pairing(&self) -> Result<Option<Pairing>, Error> {
        self.read(PAIRING)
    }

    /// Who may come in. While the tunnel is nobody's, nobody: a table that is there then is what a power cut left of a pairing.
    ///
    /// # Errors
    /// It can't be read.
    pub fn table(&self) -> Result<Table, Error> {
        match self.pairing()? {
            Some(Pairing::Paired(_)) => Ok(self.read(TABLE)?.unwrap_or_default()),
            Some(Pairing::Unpaired(_)) | None => Ok(Table::default()),
        }
    }

    /// Keeps a code to show.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep_code(&self, code: Code) -> Result<Pairing, Error> {
        let pairing = Pairing::Unpaired(code);
        self.write(&[(PAIRING, json(&pairing))])?;
        Ok(pairing)
    }

    /// Makes the tunnel a panel's, or keeps its new certificate.
    ///
    /// # Errors
    /// It can't be written: the tunnel is whose it was.
    pub fn keep_papers(&self, papers: &Papers) -> Result<(), Error> {
        self.write(&[(PAIRING, json(&Pairing::Paired(papers.clone())))])
    }

    /// Makes the tunnel a panel's, who lets these in.
    ///
    /// # Errors
    /// It can't be written: the tunnel is nobody's as before.
    pub fn pair(&self, papers: &Papers, table: &Table) -> Result<(), Error> {
        self.write(&pairing_files(papers, table))
    }

    /// Keeps a table.
    ///
    /// # Errors
    /// It can't be written: the one before is there still.
    pub fn keep_table(&self, table: &Table) -> Result<(), Error> {
        self.write(&[(TABLE, json(table))])
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.folder.join(name);
        let Some(bytes) = files::read_if_exists(&path)? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|source| Error::Damaged { path, source })
    }

    fn write(&self, written: &[Written]) -> Result<(), Error> {
        for (name, content) in written {
            files::write_atomic(&self.folder.join(name), content, MODE)?;
        }
        Ok(())
    }
}

/// The table comes first: a tunnel that is a panel's and lets nobody in would cut off its servers.
fn pairing_files(papers: &Papers, table: &Table) -> [Written; 2] {
    [(TABLE, json(table)), (PAIRING, json(&Pairing::Paired(papers.clone())))]
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these types have no maps with odd keys, nor fail otherwise")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn papers() -> Papers {
        Papers {
            name: "north".to_owned(),
            chain_pem: "chain".to_owned(),
            root_pem: "root".to_owned(),
        }
    }

    fn table(generation: u64) -> Table {
        Table { generation, ..Table::default() }
    }

    fn shown(store: &Store) -> Result<Papers, JoinSecret> {
        match store.pairing().unwrap().unwrap() {
            Pairing::Unpaired(code) => Err(code.secret),
            Pairing::Paired(papers) => Ok(papers),
        }
    }

    #[test]
    fn after_every_beginning_of_a_pairing_the_tunnel_is_nobodys_with_its_code_or_the_panels_with_its_table()
     {
        let files = pairing_files(&papers(), &table(7));
        for written in 0..=files.len() {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::new(folder.path());
            store.keep_code(Code { secret: JoinSecret::new([3; 8]), made_ms: 5 }).unwrap();
            store.write(&files[..written]).unwrap();
            match shown(&store) {
                Err(secret) => {
                    assert!(secret.is(&JoinSecret::new([3; 8])));
                    assert_eq!(store.table().unwrap(), Table::default());
                }
                Ok(kept) => {
                    assert_eq!((kept, store.table().unwrap()), (papers(), table(7)));
                    assert_eq!(written, files.len());
                }
            }
            store.pair(&papers(), &table(8)).unwrap();
            assert_eq!((shown(&store).unwrap(), store.table().unwrap()), (papers(), table(8)));
        }
    }

    #[test]
    fn a_key_is_made_once_and_read_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let made = store.key().unwrap().serialize_pem();
        assert_eq!(store.key().unwrap().serialize_pem(), made);
        let mode = std::fs::metadata(folder.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn a_file_that_is_damaged_is_named_and_never_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.pair(&papers(), &table(1)).unwrap();
        files::write_atomic(&folder.path().join(TABLE), b"{\"generation\":", MODE).unwrap();
        let error = store.table().unwrap_err();
        assert!(
            matches!(&error, Error::Damaged { path, .. } if path.ends_with(TABLE)),
            "{error:?}"
        );
    }
}
