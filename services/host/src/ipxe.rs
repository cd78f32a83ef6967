//! iPXE's binaries for TFTP and HTTP: copies of the distribution's, with our CA's fingerprint stamped into those for EFI as
//! their only root of trust. It owns the folder that it fills; the distribution's files are only read.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use model::name::Sha256;
use rustls_pki_types::{
    CertificateDer,
    pem::{self, PemObject as _},
};
use sha2::Digest as _;

use crate::files::{self, Change};

/// Where Debian's package `ipxe` has them.
pub const DISTRIBUTION: &str = "/usr/lib/ipxe";

/// The SHA-256 fingerprint of iPXE's own root certificate, as its binaries carry it (rootcert.c in its source).
const DEFAULT_ROOT: [u8; 32] = [
    0x9f, 0xaf, 0x71, 0x7b, 0x7f, 0x8c, 0xa2, 0xf9, 0x3c, 0x25, 0x6c, 0x79, 0xf8, 0xac, 0x55, 0x91,
    0x89, 0x5d, 0x66, 0xd1, 0xff, 0x3b, 0xee, 0x63, 0x97, 0xa7, 0x0d, 0x29, 0xc6, 0x5e, 0xed, 0x1a,
];

/// A binary that clients are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binary {
    /// The name that clients ask for.
    pub name: &'static str,
    /// The distribution's name of it.
    pub source: &'static str,
    /// Whether a fingerprint can be stamped in: binaries for BIOS are compressed.
    pub stamped: bool,
}

/// Every binary that clients are given; iPXE 1.21.1 (Debian 13) and 2.0.0 (later) both have all of them.
pub const BINARIES: &[Binary] = &[
    Binary { name: "undionly.kpxe", source: "undionly.kpxe", stamped: false },
    Binary { name: "ipxe.lkrn", source: "ipxe.lkrn", stamped: false },
    Binary { name: "ipxe-x86_64.efi", source: "ipxe-amd64.efi", stamped: true },
    Binary { name: "snponly-x86_64.efi", source: "snponly.efi", stamped: true },
    Binary { name: "ipxe-arm64.efi", source: "ipxe-arm64.efi", stamped: true },
];

/// Why the folder is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The distribution has no such binary, or it can't be read.
    #[error("can't read iPXE's binary {}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The place for the fingerprint is not certain, so that nothing was written.
    #[error("iPXE's default root stands {count} times in {}, where once was expected", path.display())]
    Place {
        /// The file.
        path: PathBuf,
        /// How often it stands there.
        count: usize,
    },
    /// The folder can't be made.
    #[error("can't make {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A copy or the root's own file can't be read or written.
    #[error("no access to a file of iPXE")]
    File(#[from] files::Error),
    /// The file names no root.
    #[error("{} holds no fingerprint of 64 hexadecimal digits", path.display())]
    Fingerprint {
        /// The file.
        path: PathBuf,
        /// Why.
        source: model::name::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificate", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments or of the installed package.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Source { .. } | Self::Folder { .. } | Self::File(_) => true,
            Self::Place { .. } | Self::Fingerprint { .. } | Self::Certificate { .. } => false,
        }
    }
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Whom a copy trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Whom the distribution's binary trusts.
    Default,
    /// The certificate with this fingerprint alone.
    Stamped(Sha256),
}

/// The fingerprint of the boot service's CA, as digits; it goes before [`CA`].
pub const CA_SHA256: &str = "boot-ca.sha256";
/// The certificate of the boot service's CA.
pub const CA: &str = "boot-ca.crt";

/// Whom copies shall trust: the CA that a folder of certificates names, or whom they trust anyway when it names none.
///
/// # Errors
/// A file is there, and it is not what its name says.
pub fn read_root(folder: &Path) -> Result<Root> {
    let path = folder.join(CA_SHA256);
    if let Some(digits) = files::read_if_exists(&path)? {
        let digits = String::from_utf8_lossy(&digits).trim().to_ascii_lowercase();
        let fingerprint = digits.parse().map_err(|source| Error::Fingerprint { path, source })?;
        return Ok(Root::Stamped(fingerprint));
    }
    let path = folder.join(CA);
    let Some(text) = files::read_if_exists(&path)? else { return Ok(Root::Default) };
    let certificate = CertificateDer::from_pem_slice(&text)
        .map_err(|source| Error::Certificate { path, source })?;
    let digest = hex::encode(sha2::Sha256::digest(&certificate));
    Ok(Root::Stamped(digest.parse().expect("a digest is 64 hexadecimal digits")))
}

/// The folder of iPXE's binaries.
#[derive(Debug, Clone)]
pub struct Ipxe {
    distribution: PathBuf,
    folder: PathBuf,
}

impl Ipxe {
    /// Takes the distribution's folder and the one to fill, usually [`DISTRIBUTION`] and `/run/clusterducks/tftp`.
    pub fn new(distribution: impl AsRef<Path>, folder: impl AsRef<Path>) -> Self {
        Self { distribution: distribution.as_ref().to_owned(), folder: folder.as_ref().to_owned() }
    }

    /// Whom each copy trusts, by name; copies that are missing, or are not what the distribution's binary becomes by stamping,
    /// are left out.
    pub fn observe(&self) -> Result<BTreeMap<&'static str, Root>> {
        let mut roots = BTreeMap::new();
        for binary in BINARIES {
            let original = self.original(binary)?;
            let Some(copy) = files::read_if_exists(&self.folder.join(binary.name))? else {
                continue;
            };
            if copy == original {
                roots.insert(binary.name, Root::Default);
            } else if let Some(place) = self.place(binary, &original)?
                && let Some(fingerprint) = copy.get(place..place + DEFAULT_ROOT.len())
                && stamp(original, place, fingerprint) == copy
                && let Ok(fingerprint) = hex::encode(fingerprint).parse()
            {
                roots.insert(binary.name, Root::Stamped(fingerprint));
            }
        }
        Ok(roots)
    }

    /// Brings every copy to this root, and writes only those that differ. Everything is read before anything is written.
    /// Binaries for BIOS are copied as they are.
    pub fn fill(&self, root: &Root) -> Result<Change> {
        let mut copies = Vec::new();
        for binary in BINARIES {
            let original = self.original(binary)?;
            let copy = match (root, self.place(binary, &original)?) {
                (Root::Stamped(fingerprint), Some(place)) => {
                    stamp(original, place, &bytes(fingerprint))
                }
                (Root::Stamped(_) | Root::Default, _) => original,
            };
            copies.push((self.folder.join(binary.name), copy));
        }
        let folder_error = |source| Error::Folder { path: self.folder.clone(), source };
        fs::create_dir_all(&self.folder).map_err(folder_error)?;
        // TFTP is served by another user, and the agent's umask lets nobody else in.
        fs::set_permissions(&self.folder, Permissions::from_mode(0o755)).map_err(folder_error)?;
        let mut change = Change::Unchanged;
        for (path, copy) in copies {
            if files::write_atomic(&path, &copy, 0o644)? == Change::Changed {
                change = Change::Changed;
            }
        }
        Ok(change)
    }

    fn original(&self, binary: &Binary) -> Result<Vec<u8>> {
        let path = self.distribution.join(binary.source);
        fs::read(&path).map_err(|source| Error::Source { path, source })
    }

    /// Where the default root stands; `None` in a binary that can't be stamped.
    fn place(&self, binary: &Binary, original: &[u8]) -> Result<Option<usize>> {
        if !binary.stamped {
            return Ok(None);
        }
        let places: Vec<usize> = original
            .windows(DEFAULT_ROOT.len())
            .enumerate()
            .filter(|(_, window)| *window == DEFAULT_ROOT)
            .map(|(place, _)| place)
            .collect();
        match places.as_slice() {
            [place] => Ok(Some(*place)),
            other => {
                let path = self.distribution.join(binary.source);
                Err(Error::Place { path, count: other.len() })
            }
        }
    }
}

fn stamp(mut binary: Vec<u8>, place: usize, fingerprint: &[u8]) -> Vec<u8> {
    for (byte, new) in binary.iter_mut().skip(place).zip(fingerprint) {
        *byte = *new;
    }
    binary
}

fn bytes(fingerprint: &Sha256) -> Vec<u8> {
    hex::decode(fingerprint.as_str()).expect("a Sha256 is 64 hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A distribution of small files; those for EFI carry the default root `times` times.
    fn setting(times: usize) -> (tempfile::TempDir, Ipxe) {
        let folder = tempfile::tempdir().unwrap();
        for binary in BINARIES {
            let mut content = format!("head of {}", binary.source).into_bytes();
            for _ in 0..if binary.stamped { times } else { 0 } {
                content.extend(DEFAULT_ROOT);
                content.extend(b"tail");
            }
            files::write_atomic(&folder.path().join(binary.source), &content, 0o644).unwrap();
        }
        let ipxe = Ipxe::new(folder.path(), folder.path().join("run/tftp"));
        (folder, ipxe)
    }

    fn ours(digit: &str) -> Sha256 {
        format!("0a{}", digit.repeat(62)).parse().unwrap()
    }

    #[test]
    fn the_fingerprint_is_stamped_into_efi_binaries_and_nothing_else_changes() {
        let (folder, ipxe) = setting(1);
        assert_eq!(ipxe.observe().unwrap(), BTreeMap::new());
        let root = Root::Stamped(ours("b"));
        assert_eq!(ipxe.fill(&root).unwrap(), Change::Changed);
        assert_eq!(ipxe.fill(&root).unwrap(), Change::Unchanged);
        let mode = fs::metadata(folder.path().join("run/tftp")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "TFTP's own user can read the folder");
        let roots = ipxe.observe().unwrap();
        for binary in BINARIES {
            let expected = if binary.stamped { root.clone() } else { Root::Default };
            assert_eq!(roots[binary.name], expected, "{}", binary.name);
        }
        let copy = fs::read(folder.path().join("run/tftp/ipxe-arm64.efi")).unwrap();
        let expected =
            [b"head of ipxe-arm64.efi".as_slice(), &[0x0a], &[0xbb; 31], b"tail"].concat();
        assert_eq!(copy, expected);
    }

    #[test]
    fn another_root_replaces_the_one_that_is_stamped() {
        let (_folder, ipxe) = setting(1);
        for root in [Root::Stamped(ours("b")), Root::Stamped(ours("c")), Root::Default] {
            assert_eq!(ipxe.fill(&root).unwrap(), Change::Changed);
            assert_eq!(ipxe.observe().unwrap()["ipxe-x86_64.efi"], root);
        }
    }

    #[test]
    fn a_copy_with_any_other_byte_changed_is_not_shown_and_is_mended() {
        let (folder, ipxe) = setting(1);
        ipxe.fill(&Root::Stamped(ours("b"))).unwrap();
        let path = folder.path().join("run/tftp/ipxe-x86_64.efi");
        let mut copy = fs::read(&path).unwrap();
        copy[0] ^= 1;
        files::write_atomic(&path, &copy, 0o644).unwrap();
        assert_eq!(ipxe.observe().unwrap().get("ipxe-x86_64.efi"), None);
        assert_eq!(ipxe.fill(&Root::Stamped(ours("b"))).unwrap(), Change::Changed);
        assert_eq!(ipxe.observe().unwrap()["ipxe-x86_64.efi"], Root::Stamped(ours("b")));
    }

    #[test]
    fn a_root_that_stands_there_never_or_twice_stops_everything() {
        for times in [0, 2] {
            let (folder, ipxe) = setting(times);
            let error = ipxe.fill(&Root::Stamped(ours("b"))).unwrap_err();
            assert!(matches!(error, Error::Place { count, .. } if count == times));
            assert!(!folder.path().join("run").exists());
        }
    }

    #[test]
    fn a_missing_binary_is_named() {
        let (folder, ipxe) = setting(1);
        files::remove_if_exists(&folder.path().join("snponly.efi")).unwrap();
        let error = ipxe.fill(&Root::Default).unwrap_err();
        assert!(matches!(error, Error::Source { path, .. } if path.ends_with("snponly.efi")));
    }

    /// Made by `openssl req -x509 -newkey ed25519 -nodes -keyout /dev/null -subj /CN=test -days 1`, and its fingerprint by
    /// `openssl x509 -noout -fingerprint -sha256`.
    const CERTIFICATE: &str = include_str!("../testdata/ipxe/boot-ca.crt");
    const FINGERPRINT: &str = include_str!("../testdata/ipxe/boot-ca.sha256");

    #[test]
    fn the_root_is_the_ca_beside_the_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            files::write_atomic(&folder.path().join(name), text.as_bytes(), 0o600).unwrap()
        };
        assert_eq!(read_root(folder.path()).unwrap(), Root::Default);
        assert_eq!(read_root(&folder.path().join("missing")).unwrap(), Root::Default);
        put(CA, CERTIFICATE);
        let root = Root::Stamped(FINGERPRINT.trim().parse().unwrap());
        assert_eq!(read_root(folder.path()).unwrap(), root);
        put(CA_SHA256, &format!("{}\n", ours("b").as_str().to_uppercase()));
        assert_eq!(read_root(folder.path()).unwrap(), Root::Stamped(ours("b")));
    }

    #[test]
    fn a_root_that_can_not_be_read_is_never_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            files::write_atomic(&folder.path().join(name), text.as_bytes(), 0o600).unwrap()
        };
        put(CA, "nonsense");
        let error = read_root(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Certificate { .. }), "{error}");
        put(CA_SHA256, "0a0b");
        let error = read_root(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Fingerprint { .. }), "{error}");
    }
}
