//! Who listens on the forwarded ports, as the kernel shows it (proc_pid_net(5), `/proc/net/tcp`). It connects to nobody.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use host::files;
use model::tunnel::ForwardPort;

/// Why it is not known who listens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's list can't be read.
    #[error("no access to the list of listeners")]
    File(#[from] files::Error),
    /// A line of it is not understood.
    #[error("the {field} in the kernel's line {line:?} is not understood")]
    Line {
        /// What of it.
        field: &'static str,
        /// The line.
        line: String,
    },
}

impl Error {
    /// Whether the same may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Line { .. } => false,
        }
    }
}

/// Where to look, and whom to find.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The kernel's list.
    pub list: PathBuf,
    /// The number of the Unix user whose listener leads to a server.
    pub uid_of: fn(ForwardPort) -> u32,
}

impl Default for Ports {
    fn default() -> Self {
        Self { list: "/proc/net/tcp".into(), uid_of: ForwardPort::uid }
    }
}

/// Who listens on a server's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// The server's own user, on the loopback address.
    Own,
    /// Somebody else, or on other addresses: the port may lead anywhere.
    Stranger {
        /// The number of the Unix user.
        uid: u32,
    },
}

/// All who listened at one moment.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    by_port: BTreeMap<u16, Vec<(Ipv4Addr, u32)>>,
}

impl Ports {
    /// Looks who listens.
    ///
    /// # Errors
    /// The kernel's list can't be read.
    pub async fn look(&self) -> Result<Listeners, Error> {
        let list = self.list.clone();
        // With 10,000 servers there are 20,000 lines.
        let looked = tokio::task::spawn_blocking(move || {
            let bytes = files::read_if_exists(&list)?.unwrap_or_default();
            parse_listeners(&String::from_utf8_lossy(&bytes))
        });
        looked.await.expect("the look returns its failures, and it is not cancelled once it runs")
    }

    /// Who listens on this port.
    pub fn holder(&self, listeners: &Listeners, port: ForwardPort) -> Holder {
        let own = (self.uid_of)(port);
        let held = listeners.by_port.get(&port.get()).map_or(&[][..], Vec::as_slice);
        // One port can have several listeners that share it (SO_REUSEPORT, socket(7)).
        match held.iter().find(|held| **held != (Ipv4Addr::LOCALHOST, own)) {
            Some((_, uid)) => Holder::Stranger { uid: *uid },
            None if held.is_empty() => Holder::Nobody,
            None => Holder::Own,
        }
    }
}

/// Reads the list. Only listeners on 127.0.0.1 and on every address are of interest: a connection to 127.0.0.1 finds no others.
fn parse_listeners(list: &str) -> Result<Listeners, Error> {
    let mut listeners = Listeners::default();
    for line in list.lines().skip(1) {
        let bad = |field| Error::Line { field, line: line.to_owned() };
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1).ok_or_else(|| bad("local address"))?;
        let state = fields.nth(1).ok_or_else(|| bad("state"))?;
        // TCP_LISTEN (include/net/tcp_states.h).
        if state != "0A" {
            continue;
        }
        let local = parse_address(local).ok_or_else(|| bad("local address"))?;
        let uid = fields.nth(3).and_then(|uid| uid.parse().ok()).ok_or_else(|| bad("uid"))?;
        if [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED].contains(local.ip()) {
            listeners.by_port.entry(local.port()).or_default().push((*local.ip(), uid));
        }
    }
    Ok(listeners)
}

/// The address is the four bytes in the order of the network, printed as one number in the order of the machine.
fn parse_address(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some(SocketAddrV4::new(address.into(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        Ports { uid_of: |_| 1000, ..Ports::default() }
    }

    fn port(number: u16) -> ForwardPort {
        ForwardPort::new(number).unwrap()
    }

    #[test]
    fn each_port_is_held_by_its_own_user_or_by_a_stranger_or_by_nobody() {
        // In a network namespace with listeners of uid 1000 on 127.0.0.1:10000, 127.0.0.1:10003 and 127.0.0.2:10004, of uid 1001
        // on 127.0.0.1:10001, 0.0.0.0:10002 and 127.0.0.2:10003, and a connection: cat /proc/net/tcp
        let list = include_str!("../testdata/proc-net-tcp.txt");
        let listeners = parse_listeners(list).unwrap();
        let holder = |number| ports().holder(&listeners, port(number));
        assert_eq!(holder(10_000), Holder::Own);
        assert_eq!(holder(10_001), Holder::Stranger { uid: 1001 });
        assert_eq!(holder(10_002), Holder::Stranger { uid: 1001 });
        assert_eq!(holder(10_003), Holder::Own);
        assert_eq!(holder(10_004), Holder::Nobody);
        assert_eq!(holder(10_005), Holder::Nobody);
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error_that_names_the_field() {
        let head = "  sl  local_address rem_address   st\n";
        for (line, told) in [
            ("   0: 0100007F", "state"),
            ("   0: 0100007F:XX 00000000:0000 0A 0 0 0 0", "local address"),
            ("   0: 0100007F:2710 00000000:0000 0A 0:0 00:0 0 -", "uid"),
        ] {
            let error = parse_listeners(&format!("{head}{line}\n")).unwrap_err();
            assert!(matches!(&error, Error::Line { field, .. } if *field == told), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_listener_of_this_process_is_found_in_the_kernels_own_list() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let listeners = ports().look().await.unwrap();
        assert!(listeners.by_port.contains_key(&number));
    }
}
