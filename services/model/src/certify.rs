//! New certificates for a server that has joined: the panel sees that one is due, asks the agent for a request, and gives back the
//! certificate. The key is made on the server, and never leaves it; names are what the panel knows, never what the request says.
//!
//! At [`path`]: `POST` answers with [`Requested`], for the same key until its certificate comes; `PUT` takes
//! [`crate::tunnel::Renewed`], with `204`. What can't be done is answered with [`crate::join::Problem`].

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A server of the agent's that has a certificate.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// Answers the panel.
    Api,
    /// Answers devices that boot.
    Boot,
}

impl Endpoint {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Api, Self::Boot];

    /// The word for it: in the status, in URLs and in names of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Boot => "boot",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither api nor boot")]
pub struct EndpointError;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::ALL.into_iter().find(|endpoint| endpoint.as_str() == text).ok_or(EndpointError)
    }
}

/// Where an agent renews the certificate of an endpoint.
pub fn path(endpoint: Endpoint) -> String {
    format!("/v1/certificates/{endpoint}")
}

/// The key that a certificate is wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    /// PKCS#10 (RFC 2986) in PEM: for a key on P-256 where it is the API's, for an RSA key where devices boot, which iPXE verifies
    /// in every version.
    pub certificate_request_pem: String,
}
