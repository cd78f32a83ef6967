//! What a box shows of itself, as values: on its terminals, on its first-boot page, to root. Nothing here looks at the machine.

use std::{fmt, net::Ipv4Addr};

use model::observed::Link;
use serde::{Deserialize, Serialize};

/// What the box is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It serves diskless machines.
    Agent,
    /// It is the control plane.
    Panel,
    /// It relays.
    Tunnel,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Panel => "panel",
            Self::Tunnel => "tunnel",
        })
    }
}

/// How far the box has come with its panel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Standing {
    /// It knows no panel.
    Alone,
    /// It has a code, and asks.
    Asking {
        /// Where.
        panel: String,
        /// Why the last try failed; it is tried again.
        trouble: Option<String>,
    },
    /// The panel has its request, and an admin has to confirm it.
    Unconfirmed {
        /// Where.
        panel: String,
        /// Why it could not be asked for the answer; it is tried again.
        trouble: Option<String>,
    },
    /// It has its certificates.
    Joined {
        /// Where.
        panel: String,
        /// The name that the panel knows it by.
        name: String,
    },
    /// It has a code that leads nowhere, and needs another.
    Failed {
        /// Why, in words.
        why: String,
    },
}

impl Standing {
    /// Whether it is a panel's own now.
    pub fn joined(&self) -> bool {
        matches!(self, Self::Joined { .. })
    }

    /// Whether somebody may give it a code.
    pub fn wants_code(&self) -> bool {
        match self {
            Self::Alone | Self::Failed { .. } | Self::Asking { .. } | Self::Unconfirmed { .. } => {
                true
            }
            Self::Joined { .. } => false,
        }
    }
}

/// In one sentence, as people read it on every surface.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = |f: &mut fmt::Formatter<'_>, trouble: &Option<String>| match trouble {
            Some(trouble) => write!(f, "; trying again: {trouble}"),
            None => Ok(()),
        };
        match self {
            Self::Alone => f.write_str("waiting to be joined to a panel"),
            Self::Asking { panel, trouble } => {
                write!(f, "asking the panel {panel}")?;
                again(f, trouble)
            }
            Self::Unconfirmed { panel, trouble } => {
                write!(f, "waiting for confirmation in the panel {panel}")?;
                again(f, trouble)
            }
            Self::Joined { panel, name } => write!(f, "joined to the panel {panel} as {name}"),
            Self::Failed { why } => write!(f, "not joined: {why}"),
        }
    }
}

/// How a tunnel stands with its panel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// The name that its panel knows it by; absent while it is nobody's.
    pub name: Option<String>,
    /// What to type in the panel, while it is nobody's.
    pub code: Option<String>,
    /// The fingerprint of its SSH server's host key; absent until there is one.
    pub host_key: Option<String>,
    /// What is not as it should be.
    pub faults: Vec<String>,
}

/// Where the first-boot page is, and what guards it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// Its port, on every address of the box.
    pub port: u16,
    /// The SHA-256 digest of its certificate, in pairs of hexadecimal digits.
    pub fingerprint: String,
    /// What to type there, beside the join code.
    pub code: String,
}

/// What is not well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The units that have failed.
    pub failed: Vec<String>,
    /// What can't be looked at, and why.
    pub unknown: Vec<String>,
}

/// All that is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What the box is.
    pub kind: Kind,
    /// The version of its software.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Its network interfaces; absent while they can't be looked at.
    pub links: Option<Vec<Link>>,
    /// How far it has come with its panel; absent where there is nothing to join.
    pub standing: Option<Standing>,
    /// How a tunnel stands; absent on other boxes, and while its service does not answer.
    pub relay: Option<Relay>,
    /// The first-boot page, while it is open.
    pub door: Option<Door>,
    /// What is not well.
    pub health: Health,
}

impl Facts {
    /// Whether a person may look for a code.
    pub fn shows_code(&self) -> bool {
        self.door.is_some() || self.relay.as_ref().is_some_and(|relay| relay.code.is_some())
    }

    /// Where a person's browser reaches the box: by a card with a cable, if any has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let links = self.links.iter().flatten();
        let (connected, others): (Vec<_>, Vec<_>) = links.partition(|link| link.carrier);
        let mut links = connected.into_iter().chain(others);
        links.find_map(|link| link.addresses.first()).map(ipnet::Ipv4Net::addr)
    }
}
