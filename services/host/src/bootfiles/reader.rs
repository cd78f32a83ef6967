//! Looking into a disk image with `grub-fstest`. What it prints was made up by the guest: it is bounded, and used only as paths
//! to give back to the same program.

use std::{cmp::Ordering, fs::File, io, path::Path, time::Duration};

use super::Error;
use crate::{
    cmd::{self, Cmd, Program},
    sandbox::{self, Access, Lent, Limits},
};

/// How long one look may take. A bloated initrd of 500 MB takes half a minute on slow hardware.
const TIME: Duration = Duration::from_secs(180);

/// How many partitions are looked at.
const PARTITIONS: usize = 64;

/// What is read of a listing or of `os-release`.
const TEXT_BYTES: u64 = 1 << 20;

/// An opened image.
pub(super) struct Reader {
    image: Lent,
}

/// Where things lie in an image; paths are GRUB's: `(loop0,gpt2)/boot/vmlinuz-6.12`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Number of the root's partition; 0 when the image is a bare file system.
    pub(super) root_partition: u32,
    /// The kernel.
    pub(super) kernel: String,
    /// Its initrd.
    pub(super) initrd: String,
}

/// A file system, maybe.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    number: u32,
    device: String,
}

impl Reader {
    /// Opens an image or a device.
    pub(super) fn new(device: &Path) -> io::Result<Self> {
        Ok(Self { image: Lent::new(device, Access::Read)? })
    }

    /// Finds the root file system, and the kernel and initrd that belong to it.
    pub(super) async fn find(&self) -> Result<Found, Error> {
        let parts = parse_parts(&self.run(&["ls"]).await?);
        let mut roots = Vec::new();
        for part in &parts {
            if self.is_root(part).await? {
                roots.push(part);
            }
        }
        let Some(root) = roots.first() else {
            let looked_at = parts.into_iter().map(|part| part.device).collect();
            return Err(Error::NoRoot { looked_at });
        };
        let pair = match self.pair_of_links(root).await? {
            Some(pair) => Some(pair),
            None => self.newest_pair(root, &parts).await?,
        };
        let (kernel, initrd) = pair.ok_or(Error::NoKernel)?;
        Ok(Found { root_partition: root.number, kernel, initrd })
    }

    /// Copies a file of the image into an opened file of at most `limit` bytes.
    pub(super) async fn copy(&self, path: &str, to: File, limit: u64) -> Result<(), Error> {
        self.command(limit)?.args(["cat", path]).stdout_file(to).run_bytes().await?;
        Ok(())
    }

    fn command(&self, file_bytes: u64) -> Result<Cmd, Error> {
        let limits = Limits { memory_bytes: 1 << 30, file_bytes, time: Some(TIME), network: false };
        let cmd = sandbox::command(Program::GrubFstest, &limits).stdout_limit(TEXT_BYTES);
        let path = self.image.path();
        Ok(self.image.attach(cmd).map_err(super::io_error("lend", path))?.arg(path))
    }

    async fn run(&self, args: &[&str]) -> Result<String, Error> {
        let bytes = self.command(0)?.args(args).run_bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `None` when grub-fstest can't read this: it is not there, is no file system, or breaks the reader.
    async fn look(&self, args: &[&str]) -> Result<Option<String>, Error> {
        match self.run(args).await {
            Ok(text) => Ok(Some(text)),
            Err(Error::Command(cmd::Error::Status { .. } | cmd::Error::TooMuchOutput { .. })) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn is_root(&self, part: &Part) -> Result<bool, Error> {
        for file in ["/etc/os-release", "/usr/lib/os-release"] {
            let text = self.look(&["cat", &format!("{}{file}", part.device)]).await?;
            if text.is_some_and(|text| !text.trim().is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The links that Debian keeps on the kernel that shall boot.
    async fn pair_of_links(&self, root: &Part) -> Result<Option<(String, String)>, Error> {
        for (kernel, initrd) in [("/vmlinuz", "/initrd.img"), ("/boot/vmlinuz", "/boot/initrd.img")]
        {
            let [kernel, initrd] = [kernel, initrd].map(|file| format!("{}{file}", root.device));
            if self.is_file(&kernel).await? && self.is_file(&initrd).await? {
                return Ok(Some((kernel, initrd)));
            }
        }
        Ok(None)
    }

    async fn is_file(&self, path: &str) -> Result<bool, Error> {
        // A checksum of 16 bytes from its beginning: cheap, and it follows links, which `ls` does not.
        Ok(self.look(&["-n", "16", "crc", path]).await?.is_some())
    }

    /// The newest version in `/boot` of the root, or in a partition that is `/boot`.
    async fn newest_pair(
        &self,
        root: &Part,
        parts: &[Part],
    ) -> Result<Option<(String, String)>, Error> {
        let others = parts.iter().filter(|part| *part != root);
        let folders = std::iter::once(format!("{}/boot/", root.device))
            .chain(others.map(|part| format!("{}/", part.device)));
        for folder in folders {
            if let Some(listing) = self.look(&["ls", &folder]).await?
                && let Some((kernel, initrd)) = newest(&listing)
            {
                return Ok(Some((format!("{folder}{kernel}"), format!("{folder}{initrd}"))));
            }
        }
        Ok(None)
    }
}

/// `grub-fstest IMAGE ls` prints devices in brackets: `(proc) (loop0) (loop0,gpt2) (loop0,msdos1) (host)`.
fn parse_parts(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = text
        .split_whitespace()
        .filter_map(|device| {
            let inside = device.strip_prefix("(loop0")?.strip_suffix(')')?;
            let number = match inside.strip_prefix(',') {
                None if inside.is_empty() => 0,
                None => return None,
                Some(part) => {
                    part.strip_prefix("gpt").or_else(|| part.strip_prefix("msdos"))?.parse().ok()?
                }
            };
            Some(Part { number, device: device.to_owned() })
        })
        .collect();
    parts.sort_by_key(|part| part.number);
    parts.truncate(PARTITIONS);
    parts
}

/// The newest kernel of a listing that has an initrd, as Debian, Fedora and SUSE name them.
fn newest(listing: &str) -> Option<(String, String)> {
    let names: Vec<&str> = listing.split_whitespace().collect();
    let mut versions: Vec<&str> =
        names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).collect();
    versions.sort_by(|a, b| compare_versions(b, a));
    versions.into_iter().find_map(|version| {
        let initrds = [
            format!("initrd.img-{version}"),
            format!("initramfs-{version}.img"),
            format!("initrd-{version}"),
        ];
        let initrd = initrds.into_iter().find(|initrd| names.contains(&initrd.as_str()))?;
        Some((format!("vmlinuz-{version}"), initrd))
    })
}

/// Runs of digits compare as numbers, all else as text: 6.12 is newer than 6.9.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (pieces(a), pieces(b));
    a.cmp(&b)
}

/// Digits without their leading zeros, by length first, so that they compare as numbers of any size.
fn pieces(version: &str) -> Vec<(usize, &str)> {
    let mut pieces = Vec::new();
    let mut rest = version;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (piece, more) = rest.split_at(end);
        let piece = if digits { piece.trim_start_matches('0') } else { piece };
        pieces.push((if digits { piece.len() + 1 } else { 0 }, piece));
        rest = more;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_twelve_is_newer_than_six_nine_and_a_rescue_kernel_is_oldest() {
        let listing = "grub/ vmlinuz-6.9.1-2-amd64 vmlinuz-6.12.0-10-amd64 initrd.img-6.9.1-2-amd64 \
                       initrd.img-6.12.0-10-amd64 vmlinuz-0-rescue-f00 initramfs-0-rescue-f00.img ";
        let (kernel, initrd) = newest(listing).unwrap();
        assert_eq!(
            (kernel.as_str(), initrd.as_str()),
            ("vmlinuz-6.12.0-10-amd64", "initrd.img-6.12.0-10-amd64")
        );
        assert_eq!(compare_versions("6.12.0-10-amd64", "6.12.0-9-amd64"), Ordering::Greater);
    }

    #[test]
    fn a_kernel_without_its_initrd_is_passed_over() {
        let listing = "vmlinuz-6.12.0 vmlinuz-6.1.0 initrd-6.1.0";
        assert_eq!(newest(listing), Some(("vmlinuz-6.1.0".into(), "initrd-6.1.0".into())));
        assert_eq!(newest("vmlinuz-6.12.0 initrd.img-6.1.0"), None);
    }

    #[test]
    fn only_partitions_of_the_image_itself_are_looked_at() {
        let text = "(proc) (memdisk) (loop0) (loop0,gpt2) (loop0,gpt1) (loop0,gpt1,msdos1) (lvm/vg-root) (host)";
        let parts = parse_parts(text);
        let seen: Vec<_> = parts.iter().map(|part| (part.number, part.device.as_str())).collect();
        assert_eq!(seen, [(0, "(loop0)"), (1, "(loop0,gpt1)"), (2, "(loop0,gpt2)")]);
    }
}
