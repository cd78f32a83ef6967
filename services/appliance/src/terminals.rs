//! What stands on the box's terminals: written when it changes, and only then. A serial port, which others log, gets a text that
//! stood for two looks, so that a box that starts does not fill it with everything that it is for a moment.

use host::{
    console::{Error, Terminal},
    seam::chain,
};

/// A terminal and what it shows.
#[derive(Debug)]
struct Shown {
    terminal: Terminal,
    lines: Vec<String>,
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
        let shown = |terminal| Shown { terminal, lines: Vec::new(), fails: false };
        Self { all: terminals.into_iter().map(shown).collect(), last: Vec::new() }
    }

    /// Takes the lines of one look.
    pub fn look(&mut self, lines: Vec<String>) {
        let stands = self.last == lines;
        for shown in &mut self.all {
            let waits = matches!(shown.terminal, Terminal::Serial(_)) && !stands;
            if shown.lines != lines && !waits {
                let written = shown.terminal.show(&lines);
                shown.written(&lines, written);
            }
        }
        self.last = lines;
    }
}

impl Shown {
    /// A failure is told once, and what failed is written at the next look.
    fn written(&mut self, lines: &[String], written: Result<(), Error>) {
        match written {
            Ok(()) => {
                lines.clone_into(&mut self.lines);
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
    fn a_text_is_written_once_and_to_a_port_when_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| -> PathBuf {
            let path = folder.path().join(name);
            fs::File::create(&path).unwrap();
            path
        };
        let (screen, port) = (file("screen"), file("port"));
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
        let mut terminals =
            Terminals::new(vec![Terminal::Screen(screen.clone()), Terminal::Serial(port.clone())]);
        terminals.look(text("starting"));
        assert!(read(&screen).ends_with("starting"));
        assert_eq!(read(&port), "");
        terminals.look(text("up"));
        assert_eq!(read(&port), "");
        terminals.look(text("up"));
        assert_eq!(read(&port), "\nup\n");
        fs::File::create(&port).unwrap();
        terminals.look(text("up"));
        assert_eq!(read(&port), "");
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("screen");
        let mut terminals = Terminals::new(vec![Terminal::Screen(late.clone())]);
        terminals.look(text("up"));
        fs::File::create(&late).unwrap();
        terminals.look(text("up"));
        assert!(fs::read_to_string(&late).unwrap().ends_with("up"));
    }
}
