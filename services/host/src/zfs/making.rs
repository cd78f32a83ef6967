//! Which dataset is being made: kept from before zfs(8) makes it until it carries our mark. ZFS makes a dataset in one transaction
//! and sets its properties in the next ("It would be nice to do this atomically", zfs_ioc_create in zfs_ioctl.c); what a power cut
//! leaves between the two looks like somebody else's. Nothing here asks ZFS anything.

use std::path::PathBuf;

use model::name::Dataset;

use crate::files::{Error, nonblocking};

const MODE: u32 = 0o600;

/// The note, in one file.
#[derive(Debug, Clone)]
pub struct Making {
    file: PathBuf,
}

impl Making {
    /// Takes the file; it need not be there.
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// The dataset whose making was begun, and not seen to end. A note that can't be understood names none.
    ///
    /// # Errors
    /// The file can't be read.
    pub async fn dataset(&self) -> Result<Option<Dataset>, Error> {
        let text = nonblocking::read_if_exists(&self.file).await?;
        Ok(text.and_then(|text| String::from_utf8_lossy(&text).trim().parse().ok()))
    }

    /// Notes that this dataset is going to be made where none is. It is on the disk when this returns.
    ///
    /// # Errors
    /// The file can't be written.
    pub(super) async fn begin(&self, dataset: &Dataset) -> Result<(), Error> {
        nonblocking::write_atomic(&self.file, dataset.to_string(), MODE).await.map(drop)
    }

    /// Notes that it carries its mark.
    ///
    /// # Errors
    /// The file can't be removed.
    pub(crate) async fn end(&self) -> Result<(), Error> {
        nonblocking::remove_if_exists(&self.file).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dataset_is_noted_from_its_beginning_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dataset-begun");
        let making = Making::new(file.clone());
        assert_eq!(making.dataset().await.unwrap(), None);
        let dataset: Dataset = "tank/clusterducks/groups".parse().unwrap();
        making.begin(&dataset).await.unwrap();
        assert_eq!(Making::new(file.clone()).dataset().await.unwrap(), Some(dataset));
        making.end().await.unwrap();
        assert_eq!(making.dataset().await.unwrap(), None);
        nonblocking::write_atomic(&file, "@", MODE).await.unwrap();
        assert_eq!(making.dataset().await.unwrap(), None);
    }
}
