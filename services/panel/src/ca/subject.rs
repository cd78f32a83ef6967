//! Whom certificates are for, and all that follows from it: names, use, how long they hold. Names come from what is registered
//! with the panel, never from a certificate request.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, SystemTime},
};

pub use model::code::Host;
use model::{join::PANEL_HOST, name::ServerName};
use rcgen::{ExtendedKeyUsagePurpose as Extended, SanType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::noun::{Id, Server};

/// The domain of names that only mean something inside a panel's own fleet. `internal` is set aside for private use and will
/// never be delegated (ICANN board resolution 2024.07.29.06).
pub const DOMAIN: &str = "clusterducks.internal";

/// The DNS name that agents let in (their `tls::PANEL`).
pub const FLEET_CLIENT: &str = "panel";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The panel's console and API, under the names that people and servers reach it by.
    Panel(Vec<Host>),
    /// The panel as a client of its servers' APIs.
    Fleet,
    /// A server's API. The panel asks for it as [`agent_host`] by its number; the name is for people.
    Agent(Id<Server>, ServerName),
    /// A server's boot endpoint, under the addresses that its devices boot from.
    Boot(ServerName, Vec<Host>),
    /// A tunnel's broker, under the names and addresses that it is reached by.
    Tunnel(ServerName, Vec<Host>),
    /// A person's browser: the second factor of a sign-in.
    User(String),
}

/// The kinds of subjects: what a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "CertificateKind")]
pub enum Kind {
    /// [`Subject::Panel`]
    Panel,
    /// [`Subject::Fleet`]
    Fleet,
    /// [`Subject::Agent`]
    Agent,
    /// [`Subject::Boot`]
    Boot,
    /// [`Subject::Tunnel`]
    Tunnel,
    /// [`Subject::User`]
    User,
}

/// The name that an agent's API certificate carries: of the server's number, which is never given again, for a server's name is
/// unique in its network alone.
pub fn agent_host(server: Id<Server>) -> String {
    format!("server-{server}.{}", agents_domain())
}

fn agents_domain() -> String {
    format!("agent.{DOMAIN}")
}

/// The name that a tunnel's certificate carries beside those it is reached by.
pub fn tunnel_host(tunnel: &ServerName) -> String {
    format!("{tunnel}.tunnel.{DOMAIN}")
}

impl Kind {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Panel => "panel",
            Self::Fleet => "fleet",
            Self::Agent => "agent",
            Self::Boot => "boot",
            Self::Tunnel => "tunnel",
            Self::User => "user",
        }
    }

    /// How long a certificate holds from its making. A boot endpoint must serve for years when nobody switches the panel on;
    /// the others are renewed by a panel that runs, and 398 days is what browsers take from public authorities.
    pub fn lifetime(self) -> Duration {
        match self {
            Self::Boot => 5 * 365 * DAY,
            Self::Panel | Self::Fleet | Self::Agent | Self::Tunnel | Self::User => 398 * DAY,
        }
    }

    /// From when a certificate holds that is made now. Boxes without a clock battery believe that it is the day on which their
    /// image was built, and a diskless machine with an empty one may believe anything; nobody is protected by refusing them. For
    /// browsers it stays under the 825 days that Apple's take from any authority (support.apple.com/103769).
    pub(super) fn not_before(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Boot => super::beginning(),
            Self::Panel | Self::Fleet | Self::Agent | Self::Tunnel => {
                now.checked_sub(365 * DAY).unwrap_or_else(super::beginning)
            }
            Self::User => now.checked_sub(DAY).unwrap_or_else(super::beginning),
        }
    }

    /// Whether a certificate of this kind that ends at `not_after` is to be renewed now: when less than a third of its lifetime
    /// is left.
    pub fn renewal_due(self, not_after: SystemTime, now: SystemTime) -> bool {
        renewal_due(self.lifetime(), not_after, now)
    }

    pub(super) fn extended_usage(self) -> Vec<Extended> {
        match self {
            Self::Panel | Self::Agent | Self::Boot => vec![Extended::ServerAuth],
            Self::Fleet | Self::User => vec![Extended::ClientAuth],
            Self::Tunnel => vec![Extended::ServerAuth, Extended::ClientAuth],
        }
    }
}

/// Whether what lives for `lifetime` and ends at `not_after` has less than a third of it left.
pub(super) fn renewal_due(lifetime: Duration, not_after: SystemTime, now: SystemTime) -> bool {
    now.checked_add(lifetime / 3).is_none_or(|horizon| horizon > not_after)
}

impl Subject {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Panel(_) => Kind::Panel,
            Self::Fleet => Kind::Fleet,
            Self::Agent(..) => Kind::Agent,
            Self::Boot(..) => Kind::Boot,
            Self::Tunnel(..) => Kind::Tunnel,
            Self::User(_) => Kind::User,
        }
    }

    /// What people read in lists of certificates; nothing decides by it.
    pub(super) fn common_name(&self) -> String {
        match self {
            Self::Panel(_) => "clusterducks panel".to_owned(),
            Self::Fleet => "clusterducks panel to its servers".to_owned(),
            Self::Agent(_, server) => format!("server {server}"),
            Self::Boot(server, _) => format!("boot {server}"),
            Self::Tunnel(tunnel, _) => format!("tunnel {tunnel}"),
            // The blank keeps it from looking like a DNS name, to which openssl(1) would apply the authority's constraints.
            Self::User(name) => format!("user {name}"),
        }
    }

    /// The DNS names and addresses that its certificates are for, as [`super::Certificate::names`] tells them.
    ///
    /// # Errors
    /// A name can't stand in a certificate.
    pub fn names(&self) -> Result<BTreeSet<String>, Error> {
        let names = self.alternative_names()?.into_iter();
        Ok(names
            .filter_map(|name| match name {
                SanType::DnsName(name) => Some(name.as_str().to_owned()),
                SanType::IpAddress(address) => Some(address.to_string()),
                _ => None,
            })
            .collect())
    }

    pub(super) fn alternative_names(&self) -> Result<Vec<SanType>, Error> {
        let (own, hosts) = match self {
            Self::Panel(hosts) | Self::Boot(_, hosts) => (None, hosts.as_slice()),
            Self::Fleet => (Some(FLEET_CLIENT.to_owned()), &[][..]),
            Self::Agent(server, _) => (Some(agent_host(*server)), &[][..]),
            Self::Tunnel(tunnel, hosts) => {
                if hosts.iter().any(is_the_fleets_own) {
                    return Err(Error::Reserved);
                }
                (Some(tunnel_host(tunnel)), hosts.as_slice())
            }
            Self::User(_) => return Ok(Vec::new()),
        };
        let own = own.map(|name| Ok(SanType::DnsName(name.try_into()?)));
        let names: Vec<_> =
            own.into_iter().chain(hosts.iter().map(name_of)).collect::<Result<_, Error>>()?;
        if names.is_empty() { Err(Error::Nameless) } else { Ok(names) }
    }
}

/// Whether this name lets its bearer in at the agents, or be taken for one: a broker's certificate is a client's too.
fn is_the_fleets_own(host: &Host) -> bool {
    let Host::DnsName(name) = host else { return false };
    let name = name.as_ref().trim_end_matches('.').to_ascii_lowercase();
    let domain = agents_domain();
    name == FLEET_CLIENT
        || name == PANEL_HOST
        || name.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn name_of(host: &Host) -> Result<SanType, Error> {
    match host {
        Host::DnsName(name) => Ok(SanType::DnsName(name.as_ref().to_ascii_lowercase().try_into()?)),
        Host::IpAddress(address) => Ok(SanType::IpAddress(IpAddr::from(*address))),
        _ => Err(Error::Nameless),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_certificate_is_renewed_in_the_last_third_of_its_life_and_ever_after() {
        let made = UNIX_EPOCH + 20_000 * DAY;
        let end = made + Kind::Agent.lifetime();
        let due = |now| Kind::Agent.renewal_due(end, now);
        let last_third = end - Kind::Agent.lifetime() / 3;
        assert!(!due(made) && !due(last_third));
        assert!(due(last_third + Duration::from_secs(1)) && due(end) && due(end + 900 * DAY));
    }

    #[test]
    fn a_tunnel_is_never_named_as_the_panel_or_a_server() {
        let names = |host: &str| {
            let host = Host::try_from(host.to_owned()).unwrap();
            Subject::Tunnel("relay".parse().unwrap(), vec![host]).alternative_names()
        };
        let agent = agent_host(Id::new(7));
        assert_eq!(agent, "server-7.agent.clusterducks.internal");
        for host in [
            "panel",
            "Panel",
            &agent,
            "x.Agent.clusterducks.internal",
            "agent.clusterducks.internal",
            PANEL_HOST,
        ] {
            assert!(matches!(names(host), Err(Error::Reserved)), "{host}");
        }
        for host in ["panel.example.org", "notagent.clusterducks.internal", "192.0.2.7"] {
            assert!(names(host).is_ok(), "{host}");
        }
    }

    #[test]
    fn no_browser_refuses_the_panels_certificate_for_its_length() {
        let now = UNIX_EPOCH + 20_000 * DAY;
        let length =
            Kind::Panel.lifetime() + now.duration_since(Kind::Panel.not_before(now)).unwrap();
        assert!(length <= 825 * DAY);
    }
}
