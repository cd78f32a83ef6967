//! Which pools are being made, on which disks: kept from before zpool(8) writes its first byte until its last one is written. A
//! power cut between the two leaves a partition table without a pool behind it, which nobody could tell from foreign data.
//! Nothing here looks at a disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use model::name::PoolName;

use crate::files::{Error, nonblocking};

const MODE: u32 = 0o600;

/// The note, in one file.
#[derive(Debug, Clone)]
pub struct Begun {
    file: PathBuf,
}

impl Begun {
    /// Takes the file; it need not be there.
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// The disks, by their paths, of the pools that were begun. A note that can't be understood counts as none: its disks hold
    /// foreign data then, which an admin may allow to be overwritten.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn disks(&self) -> Result<BTreeMap<String, PoolName>, Error> {
        let pools = self.read().await?.into_iter();
        let disks =
            pools.flat_map(|(pool, disks)| disks.into_iter().map(move |d| (d, pool.clone())));
        Ok(disks.collect())
    }

    /// Notes that this pool is going to be made on these disks, all of them blank. It is on the disk when this returns.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub(super) async fn begin(&self, pool: &PoolName, disks: &[String]) -> Result<(), Error> {
        let mut pools = self.read().await?;
        // A kernel's name is another disk's at the next start.
        let lasting = disks.iter().filter(|path| path.starts_with("/dev/disk/"));
        pools.insert(pool.clone(), lasting.cloned().collect());
        self.write(pools).await
    }

    /// Notes that this pool is whole.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub(super) async fn end(&self, pool: &PoolName) -> Result<(), Error> {
        let mut pools = self.read().await?;
        match pools.remove(pool) {
            Some(_disks) => self.write(pools).await,
            None => Ok(()),
        }
    }

    async fn read(&self) -> Result<BTreeMap<PoolName, BTreeSet<String>>, Error> {
        let Some(text) = nonblocking::read_if_exists(&self.file).await? else {
            return Ok(BTreeMap::new());
        };
        Ok(serde_json::from_slice(&text).unwrap_or_else(|error| {
            let file = self.file.display();
            tracing::warn!(%file, %error, "the note of pools that were begun can't be understood");
            BTreeMap::new()
        }))
    }

    async fn write(&self, pools: BTreeMap<PoolName, BTreeSet<String>>) -> Result<(), Error> {
        if pools.is_empty() {
            return nonblocking::remove_if_exists(&self.file).await.map(drop);
        }
        let text = serde_json::to_vec(&pools).expect("names and paths are JSON");
        nonblocking::write_atomic(&self.file, text, MODE).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pool_is_noted_from_its_beginning_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Begun::new(folder.path().join("begun.json"));
        let (tank, other) = ("tank".parse().unwrap(), "other".parse().unwrap());
        let paths =
            |paths: &[&str]| -> Vec<String> { paths.iter().map(ToString::to_string).collect() };
        begun
            .begin(&tank, &paths(&["/dev/disk/by-id/a", "/dev/disk/by-id/b", "/dev/vdc"]))
            .await
            .unwrap();
        begun.begin(&other, &paths(&["/dev/disk/by-id/d"])).await.unwrap();
        begun.end(&other).await.unwrap();
        let noted: Vec<_> = Begun::new(folder.path().join("begun.json"))
            .disks()
            .await
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(
            noted,
            [
                ("/dev/disk/by-id/a".to_owned(), tank.clone()),
                ("/dev/disk/by-id/b".to_owned(), tank.clone())
            ]
        );
        begun.end(&tank).await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_note_that_can_not_be_understood_names_no_disk_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("begun.json");
        nonblocking::write_atomic(&file, "{", MODE).await.unwrap();
        let begun = Begun::new(file);
        assert_eq!(begun.disks().await.unwrap(), BTreeMap::new());
        begun.begin(&"tank".parse().unwrap(), &["/dev/disk/by-id/a".to_owned()]).await.unwrap();
        assert_eq!(begun.disks().await.unwrap().len(), 1);
    }
}
