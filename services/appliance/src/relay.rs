//! What a tunnel's own service says for the screen of its box: whose it is, or the code that makes it a panel's.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use model::tunnel::{Pairing, Standing};
use secrecy::ExposeSecret as _;

use crate::{facts::Relay, local};

/// Where the service answers root.
pub const SOCKET: &str = "/run/clusterducks-tunnel/socket";
const PATH: &str = "/v1/standing";
/// It answers from memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the service.
///
/// # Errors
/// It does not answer.
pub async fn ask(socket: &Path) -> anyhow::Result<Relay> {
    let answer = local::ask(socket, "GET", PATH, String::new(), PATIENCE).await;
    let answer = answer.context("the tunnel's service does not answer")?;
    let standing = serde_json::from_slice(&answer);
    Ok(shown(standing.context("the tunnel's service answers what can't be read")?))
}

fn shown(standing: Standing) -> Relay {
    let Standing { pairing, host_key_fingerprint, faults } = standing;
    let (name, code) = match pairing {
        Pairing::Unpaired { code, .. } => (None, Some(code.text().expose_secret().to_owned())),
        Pairing::Paired { name, .. } => (Some(name), None),
    };
    Relay { name, code, host_key: host_key_fingerprint, faults }
}
