//! What stands on the box's terminals. A screen gets it at each look, because the kernel and others write there too. A serial port,
//! which others log, gets a text that stood for two looks, so that a box that starts does not fill it with everything that it is
//! for a moment, and gets it again only while a person may look for it there.

use std::time::{Duration, Instant};

use host::{
    console::{Error, Terminal},
    seam::chain,
};

/// How often a serial port gets the same text, while the first-boot page is open.
const AGAIN: Duration = Duration::from_secs(180);

/// A terminal and what it shows.
#[derive(Debug)]
struct Shown {
    terminal: Terminal,
    lines: Vec<String>,
    since: Option<Instant>,
    fails: bool,
}

/// The box's terminals.
#[derive(Debug)]
pub struct Terminals {
    all: Vec<Shown>,
    last: Vec<String>,
}

impl Terminals {
    /// Nothing is written yet.
    pub fn new(terminals: Vec<Terminal>) -> Self {
        let shown = |terminal| Shown { terminal, lines: Vec::new(), since: None, fails: false };
        Self { all: terminals.into_iter().map(shown).collect(), last: Vec::new() }
    }

    /// Takes the lines of one look. `open` says whether a person may look for the first-boot page's address and code.
    pub fn look(&mut self, lines: Vec<String>, open: bool, now: Instant) {
        let stands = self.last == lines;
        for shown in &mut self.all {
            let due = match shown.terminal {
                Terminal::Screen(_) => true,
                Terminal::Serial(_) => stands && (shown.lines != lines || open && shown.old(now)),
            };
            if due {
                let written = shown.terminal.show(&lines);
                shown.written(&lines, written, now);
            }
        }
        self.last = lines;
    }
}

impl Shown {
    fn old(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.duration_since(since) >= AGAIN)
    }

    /// A failure is told once, and what failed is written at the next look.
    fn written(&mut self, lines: &[String], written: Result<(), Error>, now: Instant) {
        match written {
            Ok(()) => {
                lines.clone_into(&mut self.lines);
                self.since = Some(now);
                self.fails = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.fails, true) {
                    tracing::warn!(error = chain(&error), "a terminal shows nothing");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn text(line: &str) -> Vec<String> {
        vec![line.to_owned()]
    }

    #[test]
    fn a_screen_gets_each_look_and_a_port_what_stands() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| -> PathBuf {
            let path = folder.path().join(name);
            fs::File::create(&path).unwrap();
            path
        };
        let (screen, port) = (file("screen"), file("port"));
        let written = |path: &PathBuf| {
            let text = fs::read_to_string(path).unwrap();
            fs::File::create(path).unwrap();
            text
        };
        let mut terminals =
            Terminals::new(vec![Terminal::Screen(screen.clone()), Terminal::Serial(port.clone())]);
        let now = Instant::now();
        let mut look = |line: &str, open: bool, seconds: u64| {
            terminals.look(text(line), open, now + Duration::from_secs(seconds));
            (written(&screen).contains(line), written(&port))
        };
        let (some, none) = ("\nup\n".to_owned(), String::new());
        assert_eq!(look("starting", true, 0), (true, none.clone()));
        assert_eq!(look("up", true, 5), (true, none.clone()));
        assert_eq!(look("up", true, 10), (true, some.clone()));
        assert_eq!(look("up", true, 15), (true, none.clone()));
        assert_eq!(look("up", true, 190), (true, some));
        assert_eq!(look("up", false, 1000), (true, none));
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("port");
        let mut terminals = Terminals::new(vec![Terminal::Serial(late.clone())]);
        let mut look = || terminals.look(text("up"), false, Instant::now());
        look();
        look();
        fs::File::create(&late).unwrap();
        look();
        assert_eq!(fs::read_to_string(&late).unwrap(), "\nup\n");
    }
}
