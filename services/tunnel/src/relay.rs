//! What a box that joins gets from sshd: its bytes go to the service, the service's come back, and both are bounded. It has no shell,
//! no arguments of its own, and reads nothing of what passes.

use std::{
    env,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown},
    os::unix::net::UnixStream,
    path::Path,
    process,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use model::tunnel::JOIN_BYTES;

use crate::refusal::{self, quoted};

/// How long all of it may take.
const TIME: Duration = Duration::from_secs(60);

/// Why a box can't join now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It wants something else of sshd.
    #[error("whoever joins may not ask for {}", quoted(wanted))]
    Wanted {
        /// What it asked for.
        wanted: String,
    },
    /// sshd does not say who it is.
    #[error("it is not known where this box is: SSH_CONNECTION is {}", quoted(said))]
    Address {
        /// What it says instead.
        said: String,
    },
    /// The service is not there.
    #[error("this tunnel takes nobody in at the moment")]
    Service(#[source] io::Error),
    /// Bytes could not be carried.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// It sent too much, or got it.
    #[error("more than {limit_bytes} bytes")]
    TooMuch {
        /// The limit.
        limit_bytes: u64,
    },
    /// It took too long.
    #[error("not done after {} s", limit.as_secs_f32())]
    TooLong {
        /// The limit.
        limit: Duration,
    },
}

/// What may pass.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How much, each way.
    pub bytes: u64,
    /// How long.
    pub time: Duration,
}

/// Relays what sshd connected to standard input and output, and ends the process.
pub fn run(socket: &Path) -> ! {
    let limits = Limits { bytes: JOIN_BYTES, time: TIME };
    let said = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let relayed = asked(said("SSH_ORIGINAL_COMMAND"), said("SSH_CONNECTION"))
        .and_then(|address| relay(socket, address, io::stdin(), io::stdout(), limits));
    let Err(error) = relayed else { process::exit(0) };
    let from = said("SSH_CONNECTION").unwrap_or_default();
    let from = from.split(' ').next().unwrap_or_default().to_owned();
    refusal::tell(&format!("refused to join from {}: {error}", quoted(&from)));
    process::exit(1)
}

/// Where the box is, if it asks for nothing but to join (sshd(8), ENVIRONMENT of ssh(1)).
fn asked(command: Option<String>, connection: Option<String>) -> Result<IpAddr, Error> {
    if let Some(wanted) = command {
        return Err(Error::Wanted { wanted });
    }
    let said = connection.unwrap_or_default();
    let address = said.split(' ').next().and_then(|first| first.parse().ok());
    address.ok_or(Error::Address { said })
}

/// Carries bytes between a box and the service until the service is done.
///
/// # Errors
/// It is not there, the box leaves early, or a limit is reached.
pub fn relay(
    socket: &Path,
    address: IpAddr,
    from_box: impl Read + Send + 'static,
    to_box: impl Write + Send + 'static,
    limits: Limits,
) -> Result<(), Error> {
    let end = Instant::now() + limits.time;
    let mut service = UnixStream::connect(socket).map_err(Error::Service)?;
    writeln!(service, "{address}").map_err(Error::Service)?;
    let (done, ended) = mpsc::channel();
    let up = service.try_clone().map_err(Error::Broken)?;
    let down = service.try_clone().map_err(Error::Broken)?;
    carry(from_box, up, limits.bytes, Way::Up, &done);
    carry(down, to_box, limits.bytes, Way::Down, &done);
    let result = until_answered(&service, &ended, end, limits.time);
    // Lets the two go that still wait for it.
    match service.shutdown(Shutdown::Both) {
        Err(error) if error.kind() != ErrorKind::NotConnected => {
            result.and(Err(Error::Broken(error)))
        }
        _ => result,
    }
}

fn until_answered(
    service: &UnixStream,
    ended: &Receiver<Done>,
    end: Instant,
    limit: Duration,
) -> Result<(), Error> {
    loop {
        match ended.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((_, Err(error))) => return Err(error),
            Ok((Way::Down, Ok(()))) => return Ok(()),
            // It may be done long before the answer is there.
            Ok((Way::Up, Ok(()))) => match service.shutdown(Shutdown::Write) {
                Err(error) if error.kind() != ErrorKind::NotConnected => {
                    return Err(Error::Broken(error));
                }
                _ => {}
            },
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(Error::TooLong { limit });
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

type Done = (Way, Result<(), Error>);

fn carry(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    limit_bytes: u64,
    way: Way,
    done: &Sender<Done>,
) {
    let done = done.clone();
    thread::spawn(move || {
        // One byte more tells too much from just enough.
        let mut from = from.take(limit_bytes + 1);
        let carried = copy(&mut from, &mut to);
        let result = match carried {
            Ok(()) if from.limit() == 0 => Err(Error::TooMuch { limit_bytes }),
            other => other.map_err(Error::Broken),
        };
        // Nobody waits any more after the first failure.
        let _ = done.send((way, result));
    });
}

/// Each piece goes on at once: what is asked is answered before more is sent.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    loop {
        let length = match from.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        let Some(bytes) = piece.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        to.write_all(bytes)?;
        to.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 1000, time: Duration::from_secs(20) };

    /// A box at one end, a service at the other, and the relay between them. The service says what it read.
    fn joined(
        sent: &[u8],
        limits: Limits,
        serve: impl FnOnce(UnixStream) -> Vec<u8> + Send + 'static,
    ) -> (Result<(), Error>, Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let served = thread::spawn(move || serve(listener.accept().unwrap().0));
        let (ours, mut boxed) = UnixStream::pair().unwrap();
        boxed.write_all(sent).unwrap();
        let out = ours.try_clone().unwrap();
        let relayed =
            relay(&path, "2001:db8::7".parse().unwrap(), ours.try_clone().unwrap(), out, limits);
        ours.shutdown(Shutdown::Both).unwrap();
        let mut got = Vec::new();
        boxed.read_to_end(&mut got).unwrap();
        (relayed, served.join().unwrap(), got)
    }

    fn answer(mut service: UnixStream) -> Vec<u8> {
        let mut got = vec![0; b"2001:db8::7\nhello".len()];
        service.read_exact(&mut got).unwrap();
        service.write_all(b"welcome").unwrap();
        got
    }

    #[test]
    fn the_service_hears_where_the_box_is_and_then_the_box() {
        let (relayed, heard, got) = joined(b"hello", LIMITS, answer);
        relayed.unwrap();
        assert_eq!(heard, b"2001:db8::7\nhello");
        assert_eq!(got, b"welcome");
    }

    #[test]
    fn what_is_too_much_is_cut_off_each_way() {
        let read = |mut service: UnixStream| {
            let mut got = Vec::new();
            service.read_to_end(&mut got).unwrap();
            got
        };
        let (relayed, heard, _) = joined(&[7; 1001], LIMITS, read);
        assert!(matches!(relayed.unwrap_err(), Error::TooMuch { limit_bytes: 1000 }));
        assert!(heard.len() <= 1001 + "2001:db8::7\n".len());
        let flood = |mut service: UnixStream| {
            service.write_all(&[7; 1001]).unwrap();
            Vec::new()
        };
        let (relayed, ..) = joined(b"", LIMITS, flood);
        assert!(matches!(relayed.unwrap_err(), Error::TooMuch { limit_bytes: 1000 }));
    }

    #[test]
    fn who_is_slow_is_let_go() {
        let limits = Limits { time: Duration::from_millis(50), ..LIMITS };
        let (relayed, ..) = joined(b"slow", limits, |mut service| {
            let mut got = Vec::new();
            service.read_to_end(&mut got).unwrap();
            got
        });
        assert!(matches!(relayed.unwrap_err(), Error::TooLong { .. }));
    }

    #[test]
    fn without_a_service_nobody_joins() {
        let folder = tempfile::tempdir().unwrap();
        let address = "192.0.2.1".parse().unwrap();
        let relayed = relay(&folder.path().join("none"), address, io::empty(), io::sink(), LIMITS);
        assert!(matches!(relayed.unwrap_err(), Error::Service(_)));
    }

    #[test]
    fn a_box_may_ask_for_nothing_and_has_an_address() {
        let connection = Some("192.0.2.7 1234 198.51.100.1 22".to_owned());
        let address = asked(None, connection.clone()).unwrap();
        assert_eq!(address, "192.0.2.7".parse::<IpAddr>().unwrap());
        let wanted = asked(Some("sh".to_owned()), connection).unwrap_err();
        assert!(matches!(wanted, Error::Wanted { .. }));
        for said in [None, Some(String::new()), Some("here 1 there 2".to_owned())] {
            assert!(matches!(asked(None, said).unwrap_err(), Error::Address { .. }));
        }
    }
}
