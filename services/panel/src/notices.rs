//! Notices: that alerts began and ended, for those who are not looking at the console. A channel is a mail server or a hook of an
//! organization; what waits for it is in the store, and here it is put into words and sent. Who may have a channel, and what is sent
//! when, is not decided here.

mod hook;
mod mail;
mod reach;
mod words;

use std::{io, net::IpAddr};

pub use hook::signature;
use lettre::transport::smtp;
pub use reach::Reach;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use words::Words;

use crate::{
    alerts::{Alert, Severity},
    noun::{Id, Organization},
    secret::{SecretSlice, SecretString},
};

/// A channel, as a person set it. Its secret lies apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Channel {
    /// Its name.
    pub name: crate::noun::Title,
    /// The least severity that is told.
    pub least: Severity,
    /// Whether it may reach addresses of private networks: for a superadmin to say.
    #[serde(default)]
    pub private: bool,
    /// The way that notices take.
    #[serde(flatten)]
    pub way: Way,
}

/// The way that notices take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "way", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Way {
    /// By mail. The secret is the password.
    Mail(Mail),
    /// To a hook of the web (HTTP POST). The secret is the key of the signature.
    Hook {
        /// Where.
        url: String,
    },
}

/// A mail server, and who writes to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept secret.
    pub security: Security,
    /// Who signs in; absent where nobody has to.
    #[serde(default)]
    pub user: Option<String>,
    /// Who writes.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
}

/// How a connection to a mail server is kept secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    /// TLS from the first byte (RFC 8314, 3.3).
    Tls,
    /// TLS after `STARTTLS` (RFC 3207); without it nothing is sent.
    Starttls,
    /// None: for a relay in the same room.
    None,
}

/// A channel as it is kept.
#[derive(Debug, Clone)]
pub struct KeptChannel {
    /// Its number.
    pub id: i64,
    /// Its version.
    pub version: u64,
    /// Whose it is.
    pub organization: Id<Organization>,
    /// What a person set.
    pub value: Channel,
    /// Its secret, sealed.
    pub sealed: Option<Vec<u8>>,
    /// How many notices were given up.
    pub dropped: u64,
}

/// What is told at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// Alerts that began.
    pub began: Vec<Alert>,
    /// Alerts that ended.
    pub ended: Vec<Alert>,
    /// Whether it only tries the channel.
    #[serde(default)]
    pub trial: bool,
}

/// A notice in the queue, or one that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Queued {
    /// Its number.
    pub id: i64,
    /// The channel.
    pub channel: i64,
    /// What it tells.
    pub notice: Notice,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// When it is tried next.
    pub due_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What came of it last, when that was not well.
    pub error: Option<String>,
    /// When it was delivered.
    pub sent_ms: Option<u64>,
}

/// Why a notice was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name can't be found.
    #[error("{host} can't be found")]
    Unknown {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The rule forbids it.
    #[error("{address} may not be reached: {}", .why.words())]
    Forbidden {
        /// The address.
        address: IpAddr,
        /// Why.
        why: reach::Why,
    },
    /// It can't be reached.
    #[error("{host} can't be reached")]
    Unreachable {
        /// Whom.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("it did not answer within {0} seconds")]
    TimedOut(u64),
    /// The hook's address is none.
    #[error("this is no address of the web: use https://")]
    Url,
    /// A mail address is none.
    #[error("{address} is no mail address")]
    Address {
        /// The text.
        address: String,
        /// Why.
        source: lettre::address::AddressError,
    },
    /// The mail can't be put together.
    #[error("the mail can't be written")]
    Letter(#[source] lettre::error::Error),
    /// The mail server refused, or failed.
    #[error("the mail server did not take it")]
    Smtp(#[source] smtp::Error),
    /// No secure connection comes about.
    #[error("no secure connection comes about")]
    Tls(#[source] io::Error),
    /// The connection failed.
    #[error("the connection failed")]
    Http(#[source] hyper::Error),
    /// The hook did not say that it took it.
    #[error("it answered with status {0}")]
    Status(hyper::StatusCode),
    /// The secret can't be opened.
    #[error("its secret can't be opened")]
    Secret(#[source] crate::secret::Error),
    /// What is sent can't be written as JSON.
    #[error("the notice can't be written as JSON")]
    Json(#[source] serde_json::Error),
}

impl Error {
    /// Whether the same may succeed later: whoever is in the way may mend it meanwhile, but for what is wrong in the channel
    /// itself, which has a new version then.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unknown { .. }
            | Self::Forbidden { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut(_)
            | Self::Smtp(_)
            | Self::Tls(_)
            | Self::Http(_)
            | Self::Status(_) => true,
            Self::Url
            | Self::Address { .. }
            | Self::Letter(_)
            | Self::Secret(_)
            | Self::Json(_) => false,
        }
    }
}

/// Sends a notice now.
///
/// # Errors
/// It was not delivered, or nobody said that it was.
pub async fn send(
    channel: &Channel,
    secret: Option<SecretSlice<u8>>,
    words: &Words,
    reach: Reach,
) -> Result<(), Error> {
    match &channel.way {
        Way::Mail(mail) => {
            use crate::secret::ExposeSecret as _;
            let text = |bytes: &SecretSlice<u8>| {
                SecretString::from(String::from_utf8_lossy(bytes.expose_secret()).into_owned())
            };
            mail::send(mail, secret.as_ref().map(text), words, reach).await
        }
        Way::Hook { url } => hook::send(url, secret.as_ref(), words, reach).await,
    }
}

#[cfg(test)]
mod tests;
