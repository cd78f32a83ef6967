//! What an admin does on the box itself, where nobody asks for a password: it goes through the same operations as everything else,
//! and stands in the audit log as the box's.

use std::path::Path;

use anyhow::Context as _;
use model::code::JoinSecret;
use panel::{
    noun::UserName,
    operations::{Actor, Panel},
    password::Passwords,
    secret::ExposeSecret as _,
    store::Store,
};

/// Gives a user a new random password and takes their one-time passwords away; returns the password.
///
/// # Errors
/// There is no such user, or they may not sign in; the store can't be used.
pub fn reset_password(data: &Path, name: &UserName) -> anyhow::Result<String> {
    let actor = Actor::Panel("command line");
    let store = Store::open(&data.join("panel.db"))?;
    let panel = Panel::new(store, crate::run::clock());
    let found = panel.credentials(name)?;
    let (user, credentials) =
        found.with_context(|| format!("there is no user {name}, or they may not sign in"))?;
    let password = JoinSecret::new(rand::random()).text();
    let hash = Passwords::new()?.hash(&password)?;
    if credentials.totp_secret.is_some() {
        panel.set_totp(actor, user.id, None)?;
    }
    panel.set_password(actor, user.id, hash.expose_secret())?;
    Ok(password.expose_secret().to_owned())
}
