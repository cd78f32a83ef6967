//! Whom notices may reach. A channel is set by an organization's admin, and sent from the panel's box: it must not be a way to
//! what only the box can reach. The rule is held to the address that is connected to, so a name can't change between the look and
//! the connection.
//!
//! Never: the box itself (loopback), link-local, multicast, unspecified and reserved addresses. Private networks (RFC 1918, RFC 4193,
//! RFC 6598, RFC 2544): only where a superadmin allowed it for the channel.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};

use super::Error;

/// How long finding and connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Whom a channel may reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Private networks too.
    pub private: bool,
    /// The box itself: for tests alone.
    loopback: bool,
}

/// Why an address may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is the box itself.
    Loopback,
    /// It is only good on one wire, or for everybody on it, or for nobody.
    Special,
    /// It is in a private network.
    Private,
}

impl Why {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Loopback => "it is the panel itself",
            Self::Special => "it is link-local, multicast or reserved",
            Self::Private => "it is in a private network, which a superadmin has to allow",
        }
    }
}

impl Reach {
    /// The public internet, and private networks where that is allowed.
    pub fn new(private: bool) -> Self {
        Self { private, loopback: false }
    }

    /// Everything: a test's own server.
    #[cfg(test)]
    pub(crate) fn anywhere() -> Self {
        Self { private: true, loopback: true }
    }

    /// Why an address may not be reached; absent when it may.
    pub fn refuses(self, address: IpAddr) -> Option<Why> {
        let why = match canonical(address) {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        };
        why.filter(|why| match why {
            Why::Loopback => !self.loopback,
            Why::Special => true,
            Why::Private => !self.private,
        })
    }

    /// Connects to the first address of a host that may be reached and answers.
    pub(super) async fn connect(self, host: &str, port: u16) -> Result<TcpStream, Error> {
        let mut last = None;
        for address in self.find(host, port).await? {
            match timeout(CONNECT, TcpStream::connect((address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        let source = last.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        Err(Error::Unreachable { host: host.to_owned(), source })
    }

    /// The addresses of a host that may be reached.
    pub(super) async fn find(self, host: &str, port: u16) -> Result<Vec<IpAddr>, Error> {
        let unknown = |source| Error::Unknown { host: host.to_owned(), source };
        let found = timeout(CONNECT, tokio::net::lookup_host((host, port))).await;
        let found = found.map_err(|_| unknown(io::ErrorKind::TimedOut.into()))?.map_err(unknown)?;
        let all: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        let allowed: Vec<IpAddr> =
            all.iter().copied().filter(|address| self.refuses(*address).is_none()).collect();
        let refused = all.iter().find_map(|address| Some((*address, self.refuses(*address)?)));
        match refused {
            Some((address, why)) if allowed.is_empty() => Err(Error::Forbidden { address, why }),
            _ if allowed.is_empty() => Err(unknown(io::ErrorKind::NotFound.into())),
            _ => Ok(allowed),
        }
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped (RFC 4291, 2.5.5.2) or translated (RFC 6052, 2.1).
fn canonical(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    let IpAddr::V6(v6) = address else { return address };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        _ => address,
    }
}

fn of_v4(v4: Ipv4Addr) -> Option<Why> {
    let [a, b, ..] = v4.octets();
    if v4.is_loopback() {
        Some(Why::Loopback)
    } else if v4.is_link_local() || v4.is_multicast() || a == 0 || a >= 240 {
        Some(Why::Special)
    } else if v4.is_private() || (a == 100 && b & 0xc0 == 64) || (a == 198 && b & 0xfe == 18) {
        Some(Why::Private)
    } else {
        None
    }
}

fn of_v6(v6: Ipv6Addr) -> Option<Why> {
    if v6.is_loopback() {
        Some(Why::Loopback)
    } else if v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() {
        Some(Why::Special)
    } else if v6.is_unique_local() {
        Some(Why::Private)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_and_its_wire_are_never_reached_and_private_networks_where_that_is_allowed() {
        use Why::{Loopback, Private, Special};
        for (address, why) in [
            ("127.0.0.1", Some(Loopback)),
            ("127.255.0.9", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("64:ff9b::7f00:1", Some(Loopback)),
            ("0.0.0.0", Some(Special)),
            ("::", Some(Special)),
            ("169.254.169.254", Some(Special)),
            ("::ffff:169.254.169.254", Some(Special)),
            ("fe80::1", Some(Special)),
            ("224.0.0.1", Some(Special)),
            ("ff02::1", Some(Special)),
            ("255.255.255.255", Some(Special)),
            ("10.0.0.1", Some(Private)),
            ("172.31.0.1", Some(Private)),
            ("192.168.7.1", Some(Private)),
            ("100.64.0.1", Some(Private)),
            ("198.19.0.1", Some(Private)),
            ("fd00::1", Some(Private)),
            ("172.32.0.1", None),
            ("100.128.0.1", None),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Reach::new(false).refuses(address), why, "{address}");
            let allowed = why.filter(|why| *why != Private);
            assert_eq!(Reach::new(true).refuses(address), allowed, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_is_held_to_the_rule_by_where_it_leads() {
        for host in ["localhost", "127.0.0.1", "::1"] {
            let refused = Reach::new(true).connect(host, 9).await;
            let loopback = matches!(refused, Err(Error::Forbidden { why: Why::Loopback, .. }));
            assert!(loopback, "{host}: {refused:?}");
        }
    }
}
