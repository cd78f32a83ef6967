//! Taking a backup apart into a folder: only files that a panel has, and only where there is room for them.

use std::{
    io::{self, Read},
    path::Path,
};

use panel::{
    backup::{self, Manifest},
    secret::SecretString,
};

use super::{Error, place};
use crate::{authorities::BOX_KEY, folder::Folder, run::DATABASE};

/// No panel begins without these: it would make new ones, which nobody trusts.
const NEEDED: [&str; 5] = [DATABASE, BOX_KEY, "root.sealed", "issuing.sealed", "boot.sealed"];

/// What stays free beside what is unpacked: for bringing the database forward, and for the logs of the box.
const SPARE_BYTES: u64 = 32 << 20;

/// Reads a backup to its end, which proves that it is whole.
pub(super) fn all(
    data: &Folder,
    from: impl Read,
    pass_phrase: SecretString,
) -> Result<(Folder, Manifest), Error> {
    let staged = Folder::open(&data.path(place::STAGED))?;
    let mut refused = None;
    let read = backup::read(from, pass_phrase, |manifest, part, bytes| {
        if let Some(error) = refusal(&staged.path(""), manifest, &part.name)? {
            refused = Some(error);
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut file = staged.create(&part.name)?;
        io::copy(bytes, &mut file)?;
        file.sync_all()
    });
    match (read, refused) {
        (_, Some(refused)) => Err(refused),
        (Err(error), None) => Err(error.into()),
        (Ok(manifest), None) => {
            let lacks = |name: &&str| manifest.parts.iter().all(|part| part.name != **name);
            match NEEDED.into_iter().find(lacks) {
                Some(name) => Err(Error::Incomplete(name)),
                None => Ok((staged, manifest)),
            }
        }
    }
}

/// Why the next part is not taken.
fn refusal(staged: &Path, manifest: &Manifest, name: &str) -> io::Result<Option<Error>> {
    if !is_ours(name) {
        return Ok(Some(Error::Unknown(name.to_owned())));
    }
    // Before the first is written: half of a backup on a full disk would take the room from the panel that is there.
    if manifest.parts.first().is_some_and(|first| first.name == name) {
        let sizes = manifest.parts.iter().map(|part| part.size_bytes);
        let needed = sizes.fold(SPARE_BYTES, u64::saturating_add);
        let free = free_bytes(staged)?;
        return Ok((needed > free).then_some(Error::Full { needed, free }));
    }
    Ok(None)
}

/// Whether a backup has files of this name. The name becomes a path.
fn is_ours(name: &str) -> bool {
    let sealed = name.strip_suffix(".sealed").is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    });
    sealed || name == DATABASE || name == BOX_KEY
}

/// What an unprivileged process may still write there.
fn free_bytes(path: &Path) -> io::Result<u64> {
    let known = rustix::fs::statvfs(path)?;
    Ok(known.f_bavail.saturating_mul(known.f_frsize))
}

#[cfg(test)]
mod tests {
    use panel::backup::Part;

    use super::*;

    #[test]
    fn what_does_not_fit_on_the_disk_is_refused_before_anything_is_written() {
        let place = tempfile::tempdir().unwrap();
        let of = |size_bytes| {
            let part = Part { name: BOX_KEY.to_owned(), size_bytes };
            let manifest = Manifest::new("0.0.9", 1, vec![part]);
            refusal(place.path(), &manifest, BOX_KEY).unwrap()
        };
        assert!(of(32).is_none());
        let full = of(u64::MAX).unwrap();
        assert!(matches!(full, Error::Full { needed: u64::MAX, free } if free > 0), "{full:?}");
    }

    #[test]
    fn what_leads_out_of_the_folder_or_is_no_file_of_a_panel_is_not_taken() {
        for name in ["panel.db", "box.key", "root.sealed", "web.sealed", "user-ca.sealed"] {
            assert!(is_ours(name), "{name}");
        }
        let others = [
            "",
            ".sealed",
            "../a.sealed",
            "/etc/a.sealed",
            "a/b.sealed",
            "keep",
            "panel.db-wal",
            "A.sealed",
        ];
        for name in others {
            assert!(!is_ours(name), "{name}");
        }
    }
}
