//! The box's own terminals: the screen of its first virtual console, and the serial port that the kernel logs to. Text goes out
//! and nothing is read; neither is made anybody's controlling terminal. A port that takes nothing fails the write, but its close
//! may still wait for what it took before: by up to 30 s (`closing_wait`, setserial(8)).

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

/// Lists the kernel's consoles, in the order of its command line (Documentation/ABI/testing/sysfs-tty).
const ACTIVE: &str = "/sys/class/tty/console/active";

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terminal {
    /// A screen: a text takes the place of the one before.
    Screen(PathBuf),
    /// A serial port, which others may read and log: plain lines below those before.
    Serial(PathBuf),
}

/// Why a text did not get onto a terminal.
#[derive(Debug, thiserror::Error)]
#[error("can't write to {}", path.display())]
pub struct Error {
    /// Which one.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Error {
    /// Whether the same text may get there later: nothing is known of the other end.
    pub fn retryable(&self) -> bool {
        true
    }
}

/// The terminals of this machine; without a serial console there is none to write to.
///
/// # Errors
/// The kernel's list of consoles can't be read.
pub fn observe() -> Result<Vec<Terminal>, Error> {
    let active = fs::read_to_string(ACTIVE)
        .map_err(|source| Error { path: PathBuf::from(ACTIVE), source })?;
    let screen = Terminal::Screen(PathBuf::from("/dev/tty1"));
    Ok([screen].into_iter().chain(parse_serial(&active)).collect())
}

/// `tty0` is whichever virtual console is in front; serial ports have letters behind `tty` (Documentation/admin-guide/devices.txt).
fn parse_serial(active: &str) -> Option<Terminal> {
    let serial = |name: &&str| {
        let kind = name.strip_prefix("tty").unwrap_or_default();
        kind.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let name = active.split_whitespace().rfind(serial)?;
    Some(Terminal::Serial(Path::new("/dev").join(name)))
}

impl Terminal {
    /// Its device.
    pub fn path(&self) -> &Path {
        match self {
            Self::Screen(path) | Self::Serial(path) => path,
        }
    }

    /// Shows these lines, which hold no control characters.
    ///
    /// # Errors
    /// It can't be opened, or does not take all of them at once.
    pub fn show(&self, lines: &[String]) -> Result<(), Error> {
        let error = |source: io::Error| Error { path: self.path().to_owned(), source };
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(self.path(), flags, Mode::empty());
        let mut terminal = fs::File::from(terminal.map_err(|errno| error(errno.into()))?);
        terminal.write_all(render(self, lines).as_bytes()).map_err(error)
    }
}

/// A screen is written over from its upper left corner, each line and what lies below is erased behind the text so that nothing
/// flickers, and it shows no cursor (console_codes(4)). A port begins on a line of its own.
fn render(terminal: &Terminal, lines: &[String]) -> String {
    match terminal {
        Terminal::Screen(_) => format!("\x1b[?25l\x1b[H{}\x1b[J", lines.join("\x1b[K\n")),
        Terminal::Serial(_) => format!("\n{}\n", lines.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_console_is_the_last_one_and_a_virtual_one_is_none() {
        let serial = |name: &str| Some(Terminal::Serial(PathBuf::from(name)));
        assert_eq!(parse_serial("tty0 ttyS0\n"), serial("/dev/ttyS0"));
        assert_eq!(parse_serial("ttyS0 tty0 ttyAMA10\n"), serial("/dev/ttyAMA10"));
        assert_eq!(parse_serial("tty0\n"), None);
        assert_eq!(parse_serial(""), None);
    }

    #[test]
    fn a_port_gets_lines_without_any_escape_and_a_screen_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tty");
        fs::File::create(&file).unwrap();
        let lines = ["one".to_owned(), String::new(), "two".to_owned()];
        Terminal::Serial(file.clone()).show(&lines).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "\none\n\ntwo\n");
        Terminal::Screen(file.clone()).show(&lines).unwrap();
        let screen = "\x1b[?25l\x1b[Hone\x1b[K\n\x1b[K\ntwo\x1b[J";
        assert_eq!(fs::read_to_string(&file).unwrap().get(..screen.len()), Some(screen));
        let gone = Terminal::Serial(folder.path().join("none")).show(&lines).unwrap_err();
        assert_eq!(gone.source.kind(), io::ErrorKind::NotFound);
    }
}
