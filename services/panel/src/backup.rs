//! The backup: one file, locked by a pass phrase, that a new panel is made from. It is the format of age(1) with a pass phrase,
//! around zstd(1), around tar(1), so that it can be opened without a panel too: `age -d FILE | zstd -d | tar x`. The first
//! member, `manifest.json`, says what follows. Nothing here opens a file.

use std::io::{self, Read, Write};

use age::{DecryptError, scrypt, stream};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// The format of what is inside.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// No manifest is longer: one that says so is not ours.
const MANIFEST_MAX_BYTES: u64 = 1 << 20;

/// What a guess of the pass phrase costs: scrypt with N = 2^16, r = 8, that is 64 MiB, about a fifth of a second on a server. A
/// panel on a Pi must be able to bear it.
const WORK: u8 = 16;
/// What is opened at the most: 1 GiB and some seconds. A file can't ask for more.
const MAX_WORK: u8 = 20;

/// Why a backup can't be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is none, ends within its first lines, or is locked otherwise than by a pass phrase.
    #[error("this is not a backup, or not the whole of it")]
    NotABackup(#[source] DecryptError),
    /// The pass phrase is wrong. Damage to the first lines of the file looks the same.
    #[error("the pass phrase does not open this backup")]
    WrongPassPhrase,
    /// It was changed or cut off; what was read before is not to be used.
    #[error("the backup is damaged or cut off")]
    Damaged(#[source] io::Error),
    /// It was made by a newer version.
    #[error("the backup has format {0}, which only a newer version reads")]
    Newer(u32),
    /// What is inside is not what the manifest says.
    #[error("the backup holds {found:?} where its manifest says {expected:?}")]
    Contents {
        /// As the manifest says; empty where nothing should follow.
        expected: String,
        /// As it is; empty where nothing follows.
        found: String,
    },
    /// The manifest can't be read.
    #[error("the backup's manifest can't be read")]
    Manifest(#[source] serde_json::Error),
    /// What is being written is not what the manifest says.
    #[error("{0:?} is not the next part of this backup, or has not the length that was announced")]
    Unannounced(String),
    /// What is read from, or written to, failed.
    #[error("the backup can't be written")]
    Write(#[source] io::Error),
    /// What was read could not be put to use.
    #[error("what the backup holds can't be taken")]
    Take(#[source] io::Error),
}

impl Error {
    /// Whether the same file may be read later, or the same backup made.
    pub fn retryable(&self) -> bool {
        match self {
            Self::WrongPassPhrase | Self::Write(_) | Self::Take(_) => true,
            Self::NotABackup(_)
            | Self::Damaged(_)
            | Self::Newer(_)
            | Self::Contents { .. }
            | Self::Manifest(_)
            | Self::Unannounced(_) => false,
        }
    }
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The version of the panel that made it.
    pub panel_version: String,
    /// When it was made, in seconds since 1970.
    pub made_at_unix: u64,
    /// What is in it, in this order.
    pub parts: Vec<Part>,
}

/// One thing in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name: a plain one, without folders.
    pub name: String,
    /// Its length in bytes.
    pub size_bytes: u64,
}

impl Manifest {
    /// What is about to be written.
    pub fn new(panel_version: &str, made_at_unix: u64, parts: Vec<Part>) -> Self {
        Self { format: FORMAT, panel_version: panel_version.to_owned(), made_at_unix, parts }
    }
}

type Packed<W> = zstd::Encoder<'static, stream::StreamWriter<W>>;

/// Writes a backup, part by part, as its manifest announced.
pub struct Writer<W: Write> {
    tar: tar::Builder<Packed<W>>,
    left: std::vec::IntoIter<Part>,
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("left", &self.left.as_slice()).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a backup.
    ///
    /// # Errors
    /// `to` can't be written to.
    pub fn begin(to: W, pass_phrase: SecretString, manifest: &Manifest) -> Result<Self, Error> {
        Self::begin_with(to, pass_phrase, manifest, WORK)
    }

    fn begin_with(
        to: W,
        pass_phrase: SecretString,
        manifest: &Manifest,
        work: u8,
    ) -> Result<Self, Error> {
        let text = serde_json::to_vec_pretty(manifest).map_err(Error::Manifest)?;
        let mut recipient = scrypt::Recipient::new(pass_phrase);
        recipient.set_work_factor(work);
        let recipient: &dyn age::Recipient = &recipient;
        let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient))
            .map_err(|error| Error::Write(io::Error::other(error)))?;
        let locked = encryptor.wrap_output(to).map_err(Error::Write)?;
        let packed = zstd::Encoder::new(locked, 0).map_err(Error::Write)?;
        let mut writer =
            Self { tar: tar::Builder::new(packed), left: manifest.parts.clone().into_iter() };
        let size_bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        writer.append(&Part { name: MANIFEST.to_owned(), size_bytes }, &text[..])?;
        Ok(writer)
    }

    /// Writes the next part.
    ///
    /// # Errors
    /// It is not the next, has another length, or can't be read or written.
    pub fn part(&mut self, name: &str, from: impl Read) -> Result<(), Error> {
        let part = self.left.next().filter(|part| part.name == name);
        let part = part.ok_or_else(|| Error::Unannounced(name.to_owned()))?;
        self.append(&part, from)
    }

    fn append(&mut self, part: &Part, from: impl Read) -> Result<(), Error> {
        let mut header = tar::Header::new_ustar();
        header.set_size(part.size_bytes);
        header.set_mode(0o600);
        let mut counted = Counted { inner: from, bytes: 0 };
        self.tar.append_data(&mut header, &part.name, &mut counted).map_err(Error::Write)?;
        if counted.bytes == part.size_bytes {
            Ok(())
        } else {
            Err(Error::Unannounced(part.name.clone()))
        }
    }

    /// Ends the backup; without this it is cut off.
    ///
    /// # Errors
    /// Parts are missing, or the end can't be written.
    pub fn finish(mut self) -> Result<W, Error> {
        if let Some(missing) = self.left.next() {
            return Err(Error::Unannounced(missing.name));
        }
        let packed = self.tar.into_inner().map_err(Error::Write)?;
        packed.finish().and_then(stream::StreamWriter::finish).map_err(Error::Write)
    }
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

/// Reads the manifest of a backup and nothing else: what it is, before anything is replaced.
///
/// # Errors
/// It is no backup, is damaged, or the pass phrase is wrong.
pub fn inspect(from: impl Read, pass_phrase: SecretString) -> Result<Manifest, Error> {
    let mut archive = unlock(from, pass_phrase)?;
    let mut members = archive.entries().map_err(Error::Damaged)?;
    manifest(&mut members)
}

/// Reads a backup: `take` is called with each part and its bytes, in order. What it made of them is to be put to use only
/// after this has returned well: the end of a file proves that it is whole.
///
/// # Errors
/// It is no backup, is damaged, the pass phrase is wrong, or `take` failed.
pub fn read<R: Read>(
    from: R,
    pass_phrase: SecretString,
    mut take: impl FnMut(&Manifest, &Part, &mut dyn Read) -> io::Result<()>,
) -> Result<Manifest, Error> {
    let mut archive = unlock(from, pass_phrase)?;
    let mut members = archive.entries().map_err(Error::Damaged)?;
    let manifest = manifest(&mut members)?;
    for part in &manifest.parts {
        let mut member = Watched { inner: next(&mut members, &part.name)?, failed: false };
        if member.inner.size() != part.size_bytes {
            return Err(Error::Unannounced(part.name.clone()));
        }
        let taken = take(&manifest, part, &mut member);
        taken.map_err(if member.failed { Error::Damaged } else { Error::Take })?;
    }
    if let Some(more) = members.next() {
        let found = name_of(&more.map_err(Error::Damaged)?);
        return Err(Error::Contents { expected: String::new(), found });
    }
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(Error::Damaged)?;
    Ok(manifest)
}

type Unpacked<R> = zstd::Decoder<'static, io::BufReader<stream::StreamReader<R>>>;

fn unlock<R: Read>(from: R, pass_phrase: SecretString) -> Result<tar::Archive<Unpacked<R>>, Error> {
    let mut identity = scrypt::Identity::new(pass_phrase);
    identity.set_max_work_factor(MAX_WORK);
    let identity: &dyn age::Identity = &identity;
    let opened = age::Decryptor::new(from).map_err(Error::NotABackup)?;
    let unlocked = opened.decrypt(std::iter::once(identity)).map_err(|error| match error {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            Error::WrongPassPhrase
        }
        DecryptError::InvalidMac => Error::Damaged(io::Error::other(error)),
        other => Error::NotABackup(other),
    })?;
    Ok(tar::Archive::new(zstd::Decoder::new(unlocked).map_err(Error::Damaged)?))
}

type Members<'a, R> = tar::Entries<'a, Unpacked<R>>;

fn manifest<R: Read>(members: &mut Members<'_, R>) -> Result<Manifest, Error> {
    let mut text = Vec::new();
    let member = next(members, MANIFEST)?;
    member.take(MANIFEST_MAX_BYTES).read_to_end(&mut text).map_err(Error::Damaged)?;
    /// What every format has.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let head: Head = serde_json::from_slice(&text).map_err(Error::Manifest)?;
    if head.format != FORMAT {
        return Err(Error::Newer(head.format));
    }
    serde_json::from_slice(&text).map_err(Error::Manifest)
}

fn next<'a, R: Read>(
    members: &mut Members<'a, R>,
    expected: &str,
) -> Result<tar::Entry<'a, Unpacked<R>>, Error> {
    let contents = |found| Error::Contents { expected: expected.to_owned(), found };
    let member = members.next().ok_or_else(|| contents(String::new()))?.map_err(Error::Damaged)?;
    let found = name_of(&member);
    if found == expected { Ok(member) } else { Err(contents(found)) }
}

fn name_of<R: Read>(member: &tar::Entry<'_, R>) -> String {
    String::from_utf8_lossy(&member.path_bytes()).into_owned()
}

/// Tells a backup that can't be read from a place that can't be written.
struct Watched<R> {
    inner: R,
    failed: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).inspect_err(|_| self.failed = true)
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
