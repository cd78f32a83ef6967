//! What the panel gave, as files in the folder that the box's service watches. It is done again at every start, and writes only
//! what differs: cut off after any file, it is whole after the next start.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use host::files::{self, Change};
use model::join::Joined;

use super::identity::{Identity, KEY_MODE};

const PUBLIC_MODE: u32 = 0o644;

/// Why the files are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder can't be made.
    #[error("can't make {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("the certificates can't be put in place")]
    File(#[from] files::Error),
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Folder { .. } | Self::File(_) => true,
        }
    }
}

struct Piece {
    name: &'static str,
    content: String,
    mode: u32,
}

/// Keys first and certificates last: a server begins when it has all of its files. Without a certificate for the boot endpoint its
/// key stays where it is.
fn pieces(identity: &Identity, joined: &Joined) -> Vec<Piece> {
    let key = |name, content| Piece { name, content, mode: KEY_MODE };
    let certificate =
        |name, content: &String| Piece { name, content: content.clone(), mode: PUBLIC_MODE };
    let mut pieces = vec![
        key("api.key", identity.api_key()),
        key("ssh.key", identity.ssh_key()),
        Piece {
            name: "uplinks.json",
            content: serde_json::to_string(&joined.uplinks).unwrap_or_default(),
            mode: PUBLIC_MODE,
        },
        Piece { name: "link", content: format!("{}\n", joined.link.as_str()), mode: PUBLIC_MODE },
        certificate("panel-ca.crt", &joined.root_pem),
        certificate("api.crt", &joined.api_chain_pem),
        certificate("boot-ca.crt", &joined.boot_root_pem),
    ];
    if let Some(chain) = &joined.boot_chain_pem {
        pieces.push(key("boot.key", identity.boot_key()));
        pieces.push(certificate("boot.crt", chain));
    }
    pieces
}

/// Puts the files into the folder, which is made when it is not there.
///
/// # Errors
/// Something can't be written; those before it are in place.
pub fn install(folder: &Path, identity: &Identity, joined: &Joined) -> Result<Change, Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
    let mut change = Change::Unchanged;
    for piece in pieces(identity, joined) {
        let path = folder.join(piece.name);
        if files::write_atomic(&path, piece.content.as_bytes(), piece.mode)? == Change::Changed {
            change = Change::Changed;
        }
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use model::join::Link;

    use super::*;

    fn joined(boot: bool) -> Joined {
        Joined {
            server: 7,
            name: "server-01".parse().unwrap(),
            link: Link::Direct,
            api_chain_pem: "api chain".to_owned(),
            root_pem: "root".to_owned(),
            boot_chain_pem: boot.then(|| "boot chain".to_owned()),
            boot_root_pem: "boot root".to_owned(),
            uplinks: Vec::new(),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn cut_off_after_any_file_the_next_start_makes_it_whole() {
        let state = tempfile::tempdir().unwrap();
        let identity = Identity::open(state.path()).unwrap();
        let joined = joined(true);
        let all = pieces(&identity, &joined);
        for cut in 0..=all.len() {
            let folder = tempfile::tempdir().unwrap();
            let tls = folder.path().join("tls");
            fs::create_dir(&tls).unwrap();
            for piece in all.iter().take(cut) {
                let path = tls.join(piece.name);
                files::write_atomic(&path, piece.content.as_bytes(), piece.mode).unwrap();
            }
            let changed = install(&tls, &identity, &joined).unwrap() == Change::Changed;
            assert_eq!(changed, cut < all.len(), "cut after {cut}");
            assert_eq!(
                names(&tls),
                [
                    "api.crt",
                    "api.key",
                    "boot-ca.crt",
                    "boot.crt",
                    "boot.key",
                    "link",
                    "panel-ca.crt",
                    "ssh.key",
                    "uplinks.json"
                ]
            );
            assert_eq!(install(&tls, &identity, &joined).unwrap(), Change::Unchanged);
        }
    }

    #[test]
    fn keys_are_roots_alone_and_none_lies_without_its_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let tls = folder.path().join("tls");
        let identity = Identity::open(folder.path()).unwrap();
        install(&tls, &identity, &joined(false)).unwrap();
        let without_boot = [
            "api.crt",
            "api.key",
            "boot-ca.crt",
            "link",
            "panel-ca.crt",
            "ssh.key",
            "uplinks.json",
        ];
        assert_eq!(names(&tls), without_boot);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for key in ["api.key", "ssh.key"] {
            assert_eq!((mode(&tls), mode(&tls.join(key))), (0o700, 0o600), "{key}");
        }
        assert_eq!(fs::read_to_string(tls.join("api.key")).unwrap(), identity.api_key());
        assert_eq!(fs::read_to_string(tls.join("link")).unwrap(), "direct\n");
    }
}
