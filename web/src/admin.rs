//! What an admin does on the box itself, where nobody asks for a password: it goes through the same operations as everything else,
//! and stands in the audit log as the box's.

use std::{
    fmt,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use model::code::JoinSecret;
use panel::{
    noun::UserName,
    operations::{Actor, Panel},
    password::Passwords,
    secret::{ExposeSecret as _, SecretString},
    store::Store,
};

use crate::{
    folder::Folder,
    restore::{self, Before, Staged},
    run,
};

/// Gives a user a new random password and takes their second factors away, certificates and one-time passwords; returns the
/// password.
///
/// # Errors
/// There is no such user, or they may not sign in; the store can't be used.
pub fn reset_password(data: &Path, name: &UserName) -> anyhow::Result<String> {
    let actor = Actor::Panel("command line");
    let store = Store::open(&data.join(run::DATABASE))?;
    let panel = Panel::new(store, run::clock());
    let found = panel.credentials(name)?;
    let (user, credentials) =
        found.with_context(|| format!("there is no user {name}, or they may not sign in"))?;
    let password = JoinSecret::new(rand::random()).text();
    let hash = Passwords::new()?.hash(&password)?;
    panel.drop_certificates(actor, user.id)?;
    if credentials.totp_secret.is_some() {
        panel.set_totp(actor, user.id, None)?;
    }
    panel.set_password(actor, user.id, hash.expose_secret())?;
    Ok(password.expose_secret().to_owned())
}

/// What came of a restore.
#[derive(Debug)]
pub struct Restored {
    staged: Staged,
    kept: Option<PathBuf>,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = crate::format::utc(&self.staged.made_ms());
        let version = &self.staged.manifest.panel_version;
        write!(
            f,
            "restored the backup of {made}, made by version {version}; start the panel, and sign in anew\n\
            its root has the fingerprint (SHA-256) {}",
            self.staged.root
        )?;
        match &self.kept {
            Some(kept) => write!(f, "\nwhat was there before lies in {}", kept.display()),
            None => Ok(()),
        }
    }
}

/// Puts a backup in the place of what a panel has that does not run.
///
/// # Errors
/// The panel runs; it has accounts, and they are not to be replaced; the backup is not restored, and nothing is changed.
pub fn restore(
    data: &Path,
    file: &Path,
    pass_phrase: SecretString,
    replace: bool,
) -> anyhow::Result<Restored> {
    let from = File::open(file).with_context(|| format!("can't open {}", file.display()))?;
    let folder = Folder::open(data)?;
    let place = data.display();
    let _lock =
        folder.lock()?.with_context(|| format!("a panel runs on {place}: stop it first"))?;
    restore::place::finish(&folder, &mut |_| {})?;
    let database = folder.path(run::DATABASE);
    if database.exists() && !replace {
        let is_new = Store::open(&database)
            .map_err(anyhow::Error::from)
            .and_then(|store| Ok(Panel::new(store, run::clock()).is_new()?));
        let unseen = || {
            format!("can't see whether the panel on {place} has accounts: --replace does not look")
        };
        anyhow::ensure!(
            is_new.with_context(unseen)?,
            "the panel on {place} has accounts: say --replace to put the backup in their place"
        );
    }
    let from = BufReader::new(from);
    let staged = restore::stage(&folder, from, pass_phrase, &[], Before::Keep, &mut |_| {})?;
    let kept = restore::place::finish(&folder, &mut |_| {})?;
    Ok(Restored { staged, kept })
}
