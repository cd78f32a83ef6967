//! Answers to IPv6 router solicitations (RFC 4861) that say "there is no router here".
//!
//! iPXE configures IPv4 and IPv6 at once, and goes on when both are settled: on a LAN without an IPv6 router it solicits one for
//! 16 seconds, at every boot. The answer is sent to the one who asked and to nobody else. Its router lifetime is 0 and it has no
//! option, so that it gives neither route nor prefix, and nobody takes this server for a router.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::OwnedFd,
};

use model::name::Mac;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, netdevice, recvfrom,
        sendto, socket_with, sockopt,
    },
};
use tokio::io::unix::AsyncFd;

/// All routers of a link (RFC 4291, 2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// ICMPv6 types (RFC 4861, 4.1 and 4.2).
const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// The option that holds the sender's own address (RFC 4861, 4.6.1).
const SOURCE_ADDRESS: u8 = 1;
/// Neighbour discovery takes only what no router passed on (RFC 4861, 6.1).
const HOPS: u8 = 255;

/// Why solicitations are not heard or not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket.
    #[error("can't open a socket for ICMPv6")]
    Socket(#[source] io::Error),
    /// The interface is not there, or takes no members.
    #[error("can't listen for routers on {interface}")]
    Join {
        /// The kernel's name of it.
        interface: String,
        /// Why.
        source: Errno,
    },
    /// Nothing can be received.
    #[error("can't hear router solicitations")]
    Receive(#[source] io::Error),
    /// An answer was not sent.
    #[error("can't answer {to}")]
    Send {
        /// To whom.
        to: SocketAddrV6,
        /// Why.
        source: Errno,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Join { .. } | Self::Receive(_) | Self::Send { .. } => true,
        }
    }
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// A machine that asked for a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    /// The card that asks.
    pub mac: Mac,
    /// Its link-local address, with the number of the interface on which it was heard.
    pub from: SocketAddrV6,
}

/// Hears solicitations on the interfaces that it joined.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<OwnedFd>,
}

impl Listener {
    /// Hears nothing yet. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The kernel gives no such socket.
    pub fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::INET6, SocketType::RAW, flags, Some(ipproto::ICMPV6))
                .and_then(|socket| {
                    sockopt::set_ipv6_unicast_hops(&socket, Some(HOPS))?;
                    Ok(socket)
                })
                .map_err(|errno| Error::Socket(errno.into()))?;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; an OwnedFd is the same descriptor until it is dropped"
        )]
        let socket = AsyncFd::new(socket).map_err(Error::Socket)?;
        Ok(Self { socket })
    }

    /// Hears those on this interface too.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn join(&self, interface: &str) -> Result<()> {
        let socket = self.socket.get_ref();
        let joined = netdevice::name_to_index(socket, interface)
            .and_then(|index| sockopt::set_ipv6_add_membership(socket, &ALL_ROUTERS, index));
        match joined {
            // It is a member already.
            Ok(()) | Err(Errno::ADDRINUSE) => Ok(()),
            Err(source) => Err(Error::Join { interface: interface.to_owned(), source }),
        }
    }

    /// The next solicitation of a machine that says who it is.
    ///
    /// # Errors
    /// The socket is broken.
    pub async fn next(&self) -> Result<Solicitation> {
        loop {
            let mut ready = self.socket.readable().await.map_err(Error::Receive)?;
            let mut packet = [0; 256];
            let received = ready.try_io(|socket| {
                let (length, _, from) = recvfrom(socket, &mut packet, RecvFlags::empty())?;
                Ok((length, from))
            });
            match received {
                Err(_would_block) => {}
                Ok(Err(error)) => return Err(Error::Receive(error)),
                Ok(Ok((length, from))) => {
                    let from = from.and_then(|from| SocketAddrV6::try_from(from).ok());
                    let mac = packet.get(..length).and_then(parse_solicitation);
                    if let (Some(from), Some(mac)) = (from, mac)
                        && from.ip().is_unicast_link_local()
                    {
                        return Ok(Solicitation { mac, from });
                    }
                }
            }
        }
    }

    /// Says that there is no router.
    ///
    /// # Errors
    /// The kernel can't send it.
    pub fn answer(&self, asked: &Solicitation) -> Result<()> {
        // RFC 4861, 4.2. The kernel fills in the checksum (RFC 3542, 3.1).
        let mut advertisement = [0; 16];
        advertisement[0] = ADVERTISEMENT;
        let sent = sendto(self.socket.get_ref(), &advertisement, SendFlags::empty(), &asked.from);
        sent.map(drop).map_err(|source| Error::Send { to: asked.from, source })
    }
}

/// The card that a solicitation comes from, by its own word: 8 bytes, then options of a type, a length in units of 8 bytes, and
/// what is in them.
fn parse_solicitation(packet: &[u8]) -> Option<Mac> {
    let (head, mut options) = packet.split_at_checked(8)?;
    if !head.starts_with(&[SOLICITATION, 0]) {
        return None;
    }
    loop {
        let (kind, length) = (*options.first()?, usize::from(*options.get(1)?) * 8);
        let (option, rest) = options.split_at_checked(length).filter(|_| length > 0)?;
        if kind == SOURCE_ADDRESS {
            let digits: String =
                option.get(2..8)?.iter().map(|byte| format!("{byte:02x}")).collect();
            return digits.parse().ok();
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As iPXE 1.0.0+git-20190125 sends it, taken from the wire.
    const IPXE: [u8; 16] =
        [133, 0, 0x7b, 0x4a, 0, 0, 0, 0, 1, 1, 0x52, 0x54, 0x00, 0xcd, 0x01, 0x0a];

    #[test]
    fn a_solicitation_names_its_card_and_anything_else_is_nobody_s() {
        assert_eq!(parse_solicitation(&IPXE), "52:54:00:cd:01:0a".parse().ok());
        let mut behind_another_option = IPXE[..8].to_vec();
        behind_another_option.extend([14, 1, 0, 0, 0, 0, 0, 0]);
        behind_another_option.extend(&IPXE[8..]);
        assert_eq!(parse_solicitation(&behind_another_option), "52:54:00:cd:01:0a".parse().ok());
        for length in 0..IPXE.len() {
            assert_eq!(parse_solicitation(&IPXE[..length]), None, "{length} bytes");
        }
        let mut endless = IPXE;
        (endless[8], endless[9]) = (14, 0);
        assert_eq!(parse_solicitation(&endless), None);
        let advertisement = [&[134], &IPXE[1..]].concat();
        assert_eq!(parse_solicitation(&advertisement), None);
    }
}
