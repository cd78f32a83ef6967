//! A backup of the panel: its database, its authorities and its certificates, with the key that they lie sealed under, locked by a
//! pass phrase. It is put together in the data folder, for the memory of a small box does not hold it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use panel::{
    backup::{self, Manifest, Part, Writer},
    operations::Panel,
    secret::SecretString,
    store,
};

use crate::{
    authorities::BOX_KEY,
    folder::{self, Folder},
    run::DATABASE,
};

/// The copy of the database that is being packed.
const COPY: &str = "backup-copy.db";
/// The backup that is being made, or fetched.
const FILE: &str = "backup.age";

/// Why a backup can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database can't be copied.
    #[error("the database can't be copied")]
    Store(#[from] store::Error),
    /// The data folder can't be used.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// A file of the data folder can't be used.
    #[error("can't use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be packed.
    #[error("the backup can't be packed")]
    Pack(#[from] backup::Error),
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::File { path: path.to_owned(), source }
}

/// Makes a backup; where it lies. It is open already and its name is gone, so nothing is left behind whoever stops fetching it.
///
/// # Errors
/// The disk is full, for example.
pub fn make(panel: &Panel, folder: &Folder, pass_phrase: SecretString) -> Result<File, Error> {
    let (copy, packed) = (folder.path(COPY), folder.path(FILE));
    // What a power cut left of another.
    for name in [COPY, FILE] {
        folder.remove(name)?;
    }
    let made = panel
        .store()
        .back_up(&copy)
        .map_err(Error::from)
        .and_then(|()| pack(folder, &copy, &packed, pass_phrase));
    folder.remove(COPY)?;
    let opened = made.and_then(|()| File::open(&packed).map_err(file(&packed)));
    folder.remove(FILE)?;
    opened
}

fn pack(
    folder: &Folder,
    copy: &Path,
    packed: &Path,
    pass_phrase: SecretString,
) -> Result<(), Error> {
    let mut parts = vec![(DATABASE.to_owned(), copy.to_owned())];
    let all = folder.path("");
    for entry in fs::read_dir(&all).map_err(file(&all))? {
        let path = entry.map_err(file(&all))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name == BOX_KEY || name.ends_with(".sealed") {
            parts.push((name, path));
        }
    }
    parts.sort();
    let size = |path: &Path| fs::metadata(path).map(|known| known.len()).map_err(file(path));
    let listed: Result<Vec<Part>, Error> = parts
        .iter()
        .map(|(name, path)| Ok(Part { name: name.clone(), size_bytes: size(path)? }))
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let manifest = Manifest::new(env!("CARGO_PKG_VERSION"), now, listed?);
    let to = folder.create(FILE).map_err(file(packed))?;
    let mut writer = Writer::begin(io::BufWriter::new(to), pass_phrase, &manifest)?;
    for (name, path) in &parts {
        writer.part(name, File::open(path).map_err(file(path))?)?;
    }
    let to = writer.finish()?.into_inner().map_err(|error| file(packed)(error.into_error()))?;
    to.sync_all().map_err(file(packed))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use panel::store::Store;

    use super::*;

    #[test]
    fn a_backup_has_all_that_a_panel_is_made_of_and_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let panel = Panel::new(Store::open(&folder.path(DATABASE)).unwrap(), Arc::new(|| 1));
        for name in ["box.key", "root.sealed", "web.sealed", "other.txt"] {
            folder.write(name, name.as_bytes()).unwrap();
        }
        folder.write(COPY, b"left by a power cut").unwrap();
        let before = fs::read_dir(place.path()).unwrap().count() - 1;
        let made = make(&panel, &folder, "a pass phrase".into()).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), before);
        let mut taken = Vec::new();
        backup::read(made, "a pass phrase".into(), |_, part, from| {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes)?;
            taken.push((part.name.clone(), bytes));
            Ok(())
        })
        .unwrap();
        let names: Vec<_> = taken.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["box.key", "panel.db", "root.sealed", "web.sealed"]);
        folder.write("restored.db", &taken[1].1).unwrap();
        Store::open(&folder.path("restored.db")).unwrap();
    }
}
