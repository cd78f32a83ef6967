//! Owns reading a machine's serial log: QEMU appends to a file, tests wait for text in it. Never writes to the line.

use crate::process::Process;
use crate::wait::wait_until;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Text after which no wait can succeed any more.
const FAIL_MARKERS: [&str; 4] = [
    "Kernel panic - not syncing",
    "You are in emergency mode",
    "dracut: FATAL",
    "Entering emergency mode",
];

/// The serial line ttyS0 of a machine, from its first power-on.
#[derive(Debug, Clone)]
pub struct Serial {
    log: PathBuf,
    /// Characters of the plain text that earlier `expect`s have passed.
    cursor: Arc<Mutex<usize>>,
}

impl Serial {
    pub(crate) fn new(log: PathBuf) -> Self {
        Self { log, cursor: Arc::default() }
    }

    /// The log file.
    pub fn path(&self) -> &Path {
        &self.log
    }

    /// The whole log without escape sequences.
    pub fn text(&self) -> Result<String> {
        match fs::read(&self.log) {
            Ok(bytes) => Ok(plain_text(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.log.display())),
        }
    }

    /// Forgets what has been written so far: the next `expect` looks only at what comes after.
    pub fn skip_to_end(&self) -> Result<()> {
        self.set_cursor(self.text()?.len());
        Ok(())
    }

    /// Waits for `needle` after the last match. Fails at once on a kernel panic or an emergency shell, and when
    /// `process` has ended.
    pub(crate) async fn expect_while(
        &self,
        process: &Process,
        needle: &str,
        timeout: Duration,
    ) -> Result<()> {
        let what = format!("{} shows {needle:?}", self.log.display());
        wait_until(&what, timeout, async || {
            let ended = process.exit_status();
            if self.advance_past(needle)? {
                return Ok(Some(()));
            }
            if let Some(status) = ended {
                bail!("the machine ended ({status}) before {what}");
            }
            Ok(None)
        })
        .await
    }

    fn advance_past(&self, needle: &str) -> Result<bool> {
        let text = self.text()?;
        let from = self.cursor();
        let news = text.get(from..).unwrap_or_default();
        if let Some(at) = news.find(needle) {
            self.set_cursor(from + at + needle.len());
            return Ok(true);
        }
        if let Some(marker) = FAIL_MARKERS.iter().find(|marker| news.contains(**marker)) {
            bail!("{} shows {marker:?} where {needle:?} was expected", self.log.display());
        }
        Ok(false)
    }

    fn cursor(&self) -> usize {
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_cursor(&self, position: usize) {
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }
}

/// Drops what a terminal would act on (escape sequences, carriage returns) so that text can be searched.
pub(crate) fn plain_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                // ECMA-48: parameters, then one final byte from @ to ~.
                Some('[') => drop(characters.by_ref().find(|c| ('@'..='~').contains(c))),
                // xterm: a command of the terminal's own, such as systemd's reset of colours, up to BEL.
                Some(']') => drop(characters.by_ref().find(|c| *c == '\u{7}')),
                _ => {}
            },
            '\r' | '\0' => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::plain_text;

    #[test]
    fn escape_sequences_and_carriage_returns_are_dropped() {
        assert_eq!(plain_text(b"\x1b[2J\x1b[1;37mSea\x1b[0mBIOS\r\nline"), "SeaBIOS\nline");
    }

    #[test]
    fn a_reset_of_the_terminal_by_systemd_is_dropped() {
        assert_eq!(plain_text(b"\x1b[!p\x1b]104\x07\x1b[?7hup"), "up");
    }

    #[test]
    fn a_sequence_cut_off_at_the_end_is_dropped() {
        assert_eq!(plain_text(b"up\x1b[1;3"), "up");
    }
}
