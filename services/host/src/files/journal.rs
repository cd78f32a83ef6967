//! A file of lines that grows. An append is on the disk when it returns; after a power cut at any byte all that was
//! acknowledged is there. What a line means is its writer's business.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Action, Error, on_thread, read_if_exists, write_atomic};

/// The file, open for appending. Its copies are the same file; each call blocks nobody but its caller.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    mode: u32,
    end: Arc<Mutex<End>>,
}

/// Where the file ends.
#[derive(Debug)]
struct End {
    file: File,
    /// Bytes that are acknowledged; what stands behind them was left by an append that failed.
    length: u64,
}

impl Journal {
    /// Opens the file, and makes it with this mode if it is not there. `read` is given each line without its end, and answers
    /// whether it understands it. The first one that is cut off or not understood ends the journal: a power cut left it, with all
    /// behind it, before any of that was acknowledged. It is cut away.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn open(
        path: &Path,
        mode: u32,
        mut read: impl FnMut(&[u8]) -> bool,
    ) -> Result<Self, Error> {
        let content = match read_if_exists(path)? {
            Some(content) => content,
            None => {
                write_atomic(path, b"", mode)?;
                Vec::new()
            }
        };
        let whole = content.split_inclusive(|byte| *byte == b'\n');
        let whole = whole.map_while(|line| line.strip_suffix(b"\n").filter(|line| read(line)));
        let length: usize = whole.map(|line| line.len() + 1).sum();
        let end = End::open(path, length as u64).map_err(|source| error(path, source))?;
        if length < content.len() {
            let dropped_bytes = content.len() - length;
            tracing::warn!(path = %path.display(), dropped_bytes, "what a power cut left of an append was cut away");
            end.cut().map_err(|source| error(path, source))?;
        }
        Ok(Self { path: path.to_owned(), mode, end: Arc::new(Mutex::new(end)) })
    }

    /// Adds whole lines, each with its end. All of them are acknowledged, or none.
    ///
    /// # Errors
    /// The file can't be written; it counts as if nothing had been added.
    pub async fn append(&self, lines: Vec<u8>) -> Result<(), Error> {
        let end = Arc::clone(&self.end);
        on_thread(&self.path, move |path| {
            let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
            end.append(&lines).map_err(|source| error(path, source))
        })
        .await
    }

    /// Puts these lines in the place of all.
    ///
    /// # Errors
    /// The file can't be written; it holds the old lines then, or the new ones where only its last step failed.
    pub async fn replace(&self, lines: Vec<u8>) -> Result<(), Error> {
        let (end, mode) = (Arc::clone(&self.end), self.mode);
        on_thread(&self.path, move |path| {
            let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
            write_atomic(path, &lines, mode)?;
            *end = End::open(path, lines.len() as u64).map_err(|source| error(path, source))?;
            Ok(())
        })
        .await
    }
}

impl End {
    fn open(path: &Path, length: u64) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().append(true).open(path)?, length })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.metadata()?.len() != self.length {
            self.cut()?;
        }
        self.file.write_all(lines)?;
        // It brings the file's new length to the disk too (fdatasync(2)).
        self.file.sync_data()?;
        self.length += lines.len() as u64;
        Ok(())
    }

    fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.sync_data()
    }
}

fn error(path: &Path, source: io::Error) -> Error {
    Error { action: Action::Write, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(path: &Path) -> (Journal, Vec<String>) {
        let mut lines = Vec::new();
        let journal = Journal::open(path, 0o600, |line| {
            let fine = line.starts_with(b"<") && line.ends_with(b">");
            lines.extend(fine.then(|| String::from_utf8(line.to_vec()).unwrap()));
            fine
        });
        (journal.unwrap(), lines)
    }

    #[tokio::test]
    async fn what_was_appended_is_read_again_and_a_replaced_journal_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lines");
        let (journal, lines) = open(&path);
        assert_eq!(lines, Vec::<String>::new());
        journal.append(b"<1>\n<2>\n".to_vec()).await.unwrap();
        journal.append(b"<3>\n".to_vec()).await.unwrap();
        assert_eq!(open(&path).1, ["<1>", "<2>", "<3>"]);
        journal.replace(b"<3>\n".to_vec()).await.unwrap();
        journal.append(b"<4>\n".to_vec()).await.unwrap();
        assert_eq!(open(&path).1, ["<3>", "<4>"]);
    }

    #[tokio::test]
    async fn a_power_cut_at_any_byte_costs_nothing_but_the_append_it_hit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lines");
        let (kept, cut) = (&b"<1>\n<2>\n"[..], &b"<3>\n<4>\n"[..]);
        for length in 0..=cut.len() {
            // The disk may have the last bytes and lack those before.
            for hole in [false, true] {
                let mut content = [kept, &cut[..length]].concat();
                if let (true, Some(byte)) = (hole && length > 0, content.get_mut(kept.len())) {
                    *byte = 0;
                }
                write_atomic(&path, &content, 0o600).unwrap();
                let (journal, lines) = open(&path);
                let whole = if hole { 0 } else { length / 4 };
                assert_eq!(lines, ["<1>", "<2>", "<3>", "<4>"][..2 + whole], "{length} {hole}");
                journal.append(b"<5>\n".to_vec()).await.unwrap();
                assert_eq!(open(&path).1.last().unwrap(), "<5>", "{length} {hole}");
                assert_eq!(open(&path).1.len(), 3 + whole);
            }
        }
    }

    #[tokio::test]
    async fn what_a_failed_append_left_is_cut_away_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lines");
        let (journal, _) = open(&path);
        journal.append(b"<1>\n".to_vec()).await.unwrap();
        let mut other = OpenOptions::new().append(true).open(&path).unwrap();
        other.write_all(b"<half").unwrap();
        journal.append(b"<2>\n".to_vec()).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"<1>\n<2>\n");
    }
}
