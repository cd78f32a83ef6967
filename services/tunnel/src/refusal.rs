//! Where the programs that sshd starts say why they refuse somebody: to who asked, and to the log. sshd throws away what an
//! AuthorizedKeysCommand writes to standard error, and gives a forced command's to the client.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixDatagram,
    path::Path,
    time::Duration,
};

/// The log's socket (syslog(3)).
const LOG: &str = "/dev/log";
/// `LOG_AUTH | LOG_WARNING`
const PRIORITY: u32 = (4 << 3) | 4;

/// Says it on standard error and in the log.
pub fn tell(text: &str) {
    // Nobody may listen at either end; what is refused stays refused.
    let _ = writeln!(io::stderr(), "{text}");
    let _ = log(Path::new(LOG), text);
}

fn log(socket: &Path, text: &str) -> io::Result<()> {
    let line = format!("<{PRIORITY}>clusterducks-tunnel[{}]: {text}", std::process::id());
    let log = UnixDatagram::unbound()?;
    log.set_write_timeout(Some(Duration::from_millis(100)))?;
    log.send_to(line.as_bytes(), socket)?;
    Ok(())
}

/// What somebody sent, in quotes: without anything that could forge a line of the log, and not longer than it has to be.
pub fn quoted(text: &str) -> String {
    const MOST_CHARS: usize = 64;
    let start: String = text.chars().take(MOST_CHARS).collect();
    let rest = text.chars().count() - start.chars().count();
    if rest == 0 { format!("{start:?}") } else { format!("{start:?} and {rest} characters more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reaches_the_log_with_its_priority() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        log(&path, "no").unwrap();
        let mut bytes = [0; 100];
        let length = socket.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        let pid = std::process::id();
        assert_eq!(text, format!("<36>clusterducks-tunnel[{pid}]: no"));
        assert_eq!(
            log(&folder.path().join("none"), "no").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn what_is_quoted_stays_one_short_line() {
        assert_eq!(quoted("root\nAccepted"), r#""root\nAccepted""#);
        assert_eq!(
            quoted(&"x".repeat(300)),
            format!("\"{}\" and 236 characters more", "x".repeat(64))
        );
    }
}
