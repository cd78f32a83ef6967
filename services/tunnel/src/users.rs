//! Servers as Unix users of the tunnel: what may come in lies below `<run>/keys`, who that is below `<userdb>`, and both are made
//! from the table in force. Whoever may no longer come in is put out: the key goes first, then the session.
//!
//! The user `join` is a record here as well, so that one place knows the numbers that [`crate::isolation`] shuts in.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use host::{
    files::{self, Change},
    userdb::{self, User},
};
use model::tunnel::{Agent, ForwardPort, JOIN_USER, Table};

use crate::{folders::Folders, sweep::Sweep};

/// The number of the user [`JOIN_USER`]: the one before those of servers.
pub const JOIN_UID: u32 = 209_999;

/// Why a table is not in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder can't be made or read.
    #[error("no access to {}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key or a user's record can't be read, written or removed.
    #[error("the servers' keys and users can't be brought up to date")]
    File(#[from] files::Error),
    /// The machine's processes can't be listed: somebody may still be there who may not.
    #[error("live sessions can't be looked for")]
    Processes(#[source] io::Error),
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Folder { .. } | Self::File(_) | Self::Processes(_) => true,
        }
    }
}

/// What a table changed.
#[derive(Debug)]
#[must_use = "who came in with an old key just before it went is found by following the sweep"]
pub struct Applied {
    /// Servers that may come in and could not before, or by another key.
    pub added: usize,
    /// Those that could, and may no longer, or by another key.
    pub removed: usize,
    /// Processes of their sessions that were ended.
    pub ended: usize,
    /// Ends those that were on their way in at that moment.
    pub sweep: Sweep,
}

/// Puts a table in force in the place of the one that was, if it is known. What is there is looked at, so that a run that was killed
/// halfway is finished by the next one.
///
/// # Errors
/// Something can't be removed or written; what can be removed is gone all the same.
pub fn apply(folders: &Folders, old: Option<&Table>, new: &Table) -> Result<Applied, Error> {
    apply_among(Path::new("/proc"), folders, old, new)
}

/// The same among the processes that a folder tells of.
fn apply_among(
    processes: &Path,
    folders: &Folders,
    old: Option<&Table>,
    new: &Table,
) -> Result<Applied, Error> {
    let keys = folders.run.join("keys");
    for folder in [&keys, &folders.userdb] {
        open_folder(folder).map_err(|source| Error::Folder { path: folder.clone(), source })?;
    }
    let wanted: BTreeMap<ForwardPort, &Agent> =
        new.agents.iter().map(|agent| (agent.forward, agent)).collect();
    let there = keys_in(&keys)?;
    let other_before = moved(old, &wanted);
    let stays = |port: &ForwardPort| {
        let key = wanted.get(port).map(|agent| agent.key.as_str());
        key.is_some() && key == there.get(port).map(String::as_str) && !other_before.contains(port)
    };

    let removed: Vec<ForwardPort> = there.keys().copied().filter(|port| !stays(port)).collect();
    let mut failed = Vec::new();
    for port in &removed {
        failed.extend(files::remove_if_exists(&Folders::key_of(&folders.run, *port)).err());
    }
    for name in userdb::list(&folders.userdb)? {
        let port = ForwardPort::of_user(&name).filter(|port| !wanted.contains_key(port));
        let gone = port.map(|port| userdb::remove(&folders.userdb, &name, port.uid()));
        failed.extend(gone.and_then(Result::err));
    }
    let spared = wanted.keys().filter(|port| stays(port)).map(|port| port.uid()).collect();
    let sweep = Sweep::now(processes, spared).map_err(Error::Processes)?;
    let ended = sweep.run().map_err(Error::Processes)?;
    for error in &failed {
        tracing::error!(%error, reason = %error.source, "a server that may no longer come in is not gone");
    }
    if let Some(first) = failed.into_iter().next() {
        return Err(first.into());
    }

    userdb::ensure(&folders.userdb, &join())?;
    let mut added = 0;
    for (port, agent) in &wanted {
        let new = !stays(port);
        if new || old.is_none() {
            userdb::ensure(&folders.userdb, &user(agent))?;
        }
        if new {
            let path = Folders::key_of(&folders.run, *port);
            let written = files::write_atomic(&path, agent.key.as_str().as_bytes(), 0o644)?;
            added += usize::from(written == Change::Changed);
        }
    }
    Ok(Applied { added, removed: removed.len(), ended, sweep })
}

/// The ports that led to another server before. Its key may be the same: a server that was removed and joined again.
fn moved(old: Option<&Table>, wanted: &BTreeMap<ForwardPort, &Agent>) -> HashSet<ForwardPort> {
    let before = old.map(|table| table.agents.as_slice()).unwrap_or_default();
    let moved = before.iter().filter(|before| {
        wanted.get(&before.forward).is_some_and(|agent| agent.server != before.server)
    });
    moved.map(|before| before.forward).collect()
}

/// A folder that everybody may look into: sshd asks as root and as an unprivileged user, and a public key is no secret.
fn open_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let now = fs::metadata(folder)?.permissions();
    if now.mode() & 0o7777 == 0o755 {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// The keys that are there. What has no server's name was left by a power cut in the middle of a write, and goes.
fn keys_in(folder: &Path) -> Result<BTreeMap<ForwardPort, String>, Error> {
    let error = |source| Error::Folder { path: folder.to_owned(), source };
    let mut keys = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(port) = name.and_then(ForwardPort::of_user) else {
            files::remove_if_exists(&path)?;
            continue;
        };
        match fs::read_to_string(&path) {
            Ok(key) => keys.insert(port, key),
            // It is none that anybody could have; it is replaced.
            Err(source) if source.kind() == ErrorKind::InvalidData => {
                keys.insert(port, String::new())
            }
            Err(source) => return Err(error(source)),
        };
    }
    Ok(keys)
}

fn user(agent: &Agent) -> User {
    let uid = agent.forward.uid();
    User {
        name: agent.forward.user(),
        uid,
        gid: uid,
        real_name: format!("server {}", agent.server),
        shell: "/usr/sbin/nologin",
    }
}

/// Its shell runs the one command that sshd forces upon it.
fn join() -> User {
    User {
        name: JOIN_USER.to_owned(),
        uid: JOIN_UID,
        gid: JOIN_UID,
        real_name: "boxes that join".to_owned(),
        shell: "/bin/sh",
    }
}
