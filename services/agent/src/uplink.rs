//! The server's ways to the panel through tunnels: one ssh(1) each, kept up for as long as the document names it, all at the same
//! time. Before the first document those count that the panel gave when the server joined. Nothing passes here: what comes out of a
//! tunnel knocks at the API on loopback, like everybody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use host::{files, seam::chain, ssh::Forwarder};
use model::{tunnel::Uplink, wire};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::{clock, owner::Handle};

/// The tunnels that the panel gave when the server joined, beside the certificates.
const JOINED: &str = "uplinks.json";
/// The key that tunnels know the server by.
const KEY: &str = "ssh.key";

/// How long until files are looked at again: a server that joins has them a moment later.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A connection that stood so long was a good one: the next try is at once, and not after the pause of those before.
const STEADY: Duration = Duration::from_secs(30);
/// The first pause and the longest one. A thousand servers behind one tunnel that comes back must not come all at once, and each has
/// to be there within half a minute.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));

/// Why the files say nothing.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no access to the server's tunnels and its key for them")]
    File(#[from] files::Error),
    #[error("the file {JOINED} can't be read")]
    Json(#[from] serde_json::Error),
}

/// How the uplinks are, by the tunnel's address.
pub type States = BTreeMap<String, wire::UplinkState>;

/// Who keeps the uplinks.
#[derive(Debug)]
pub struct Uplinks {
    /// The folder of the certificates.
    pub folder: PathBuf,
    /// Who runs ssh(1).
    pub forwarder: Forwarder,
    /// The port of the API on loopback.
    pub api_port: u16,
    /// Where the states are shown.
    pub states: watch::Sender<States>,
}

/// Tunnels by their addresses, each with the key that it knows the server by.
type Wanted = BTreeMap<String, (Uplink, Arc<Vec<u8>>)>;

struct Kept {
    uplink: Uplink,
    key: Arc<Vec<u8>>,
    task: AbortHandle,
}

impl Uplinks {
    /// Keeps them up until the owner is gone.
    pub async fn keep(self, owner: Handle) {
        let mut status = owner.status();
        let this = Arc::new(self);
        let (mut tasks, mut kept, mut trouble) = (JoinSet::new(), BTreeMap::new(), None);
        loop {
            status.mark_unchanged();
            let document = owner.view();
            let document = document.document();
            let named = (document.generation > 0).then(|| document.uplinks.clone());
            match wanted(&this.folder, named) {
                Ok(wanted) => {
                    trouble = None;
                    this.follow(wanted, &mut kept, &mut tasks);
                }
                Err(error) => {
                    let error = chain(&error);
                    if trouble.as_ref() != Some(&error) {
                        tracing::error!(error, "the server's tunnels are not known");
                        trouble = Some(error);
                    }
                }
            }
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                Some(ended) = tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "who kept an uplink died");
                },
            }
        }
    }

    fn follow(
        self: &Arc<Self>,
        wanted: Wanted,
        kept: &mut BTreeMap<String, Kept>,
        tasks: &mut JoinSet<()>,
    ) {
        kept.retain(|address, kept| {
            let stays = !kept.task.is_finished()
                && wanted
                    .get(address)
                    .is_some_and(|(uplink, key)| *uplink == kept.uplink && *key == kept.key);
            if !stays {
                kept.task.abort();
            }
            stays
        });
        let there: BTreeSet<&String> = wanted.keys().collect();
        self.states.send_if_modified(|states| {
            let before = states.len();
            states.retain(|address, _| there.contains(address));
            states.len() != before
        });
        for (address, (uplink, key)) in wanted {
            kept.entry(address).or_insert_with_key(|address| {
                tracing::info!(tunnel = address, forward = %uplink.forward, "keeping an uplink");
                let task =
                    Arc::clone(self).keep_one(address.clone(), uplink.clone(), Arc::clone(&key));
                Kept { uplink, key, task: tasks.spawn(task) }
            });
        }
    }

    async fn keep_one(self: Arc<Self>, address: String, uplink: Uplink, key: Arc<Vec<u8>>) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let up = || self.show(&address, |state| *state = up_since(clock::now_ms()));
            let Err(error) = self.forwarder.keep(&uplink, &key, self.api_port, up).await;
            let why = chain(&error);
            tracing::warn!(tunnel = address, failures, error = why, "uplink down");
            self.show(&address, |state| {
                *state = wire::UplinkState { since_ms: None, trouble: Some(why.clone()) };
            });
            failures = if began.elapsed() >= STEADY { 0 } else { failures + 1 };
            tokio::time::sleep(pause(failures, rand::random())).await;
        }
    }

    fn show(&self, address: &str, change: impl FnOnce(&mut wire::UplinkState)) {
        self.states.send_modify(|states| change(states.entry(address.to_owned()).or_default()));
    }
}

fn up_since(now_ms: u64) -> wire::UplinkState {
    wire::UplinkState { since_ms: Some(now_ms), trouble: None }
}

/// Which tunnels to keep up. Nobody lets a server in that has no key.
fn wanted(folder: &Path, named: Option<Vec<Uplink>>) -> Result<Wanted, Error> {
    let uplinks = match named {
        Some(named) => named,
        None => match files::read_if_exists(&folder.join(JOINED))? {
            Some(text) => serde_json::from_slice(&text)?,
            None => Vec::new(),
        },
    };
    if uplinks.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Some(key) = files::read_if_exists(&folder.join(KEY))? else { return Ok(BTreeMap::new()) };
    let key = Arc::new(key);
    let with_key = |uplink: Uplink| (uplink.address.to_string(), (uplink, Arc::clone(&key)));
    Ok(uplinks.into_iter().map(with_key).collect())
}

/// The pause after so many failures in a row: twice as long each time, and of that between a half and the whole (`chance` is 0 to
/// `u32::MAX`), so that servers which failed together don't come back together.
fn pause(failures: u32, chance: u32) -> Duration {
    let (first, longest) = PAUSES;
    let whole = first.saturating_mul(1 << failures.min(16)).min(longest);
    let part = f64::from(chance) / f64::from(u32::MAX);
    whole.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use model::tunnel::ForwardPort;

    use super::*;

    fn uplink(address: &str) -> Uplink {
        Uplink {
            address: address.parse().unwrap(),
            host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0".parse().unwrap(),
            forward: ForwardPort::new(10_007).unwrap(),
        }
    }

    #[test]
    fn the_tunnels_of_the_document_count_and_before_it_those_of_the_joining() {
        let folder = tempfile::tempdir().unwrap();
        let names = |named: Option<Vec<Uplink>>| -> Vec<String> {
            wanted(folder.path(), named).unwrap().into_keys().collect()
        };
        assert_eq!(names(None), [""; 0]);
        let joined = serde_json::to_vec(&[uplink("a.example:22")]).unwrap();
        files::write_atomic(&folder.path().join(JOINED), joined.as_ref(), 0o600).unwrap();
        assert_eq!(names(None), [""; 0]);
        files::write_atomic(&folder.path().join(KEY), "key".as_ref(), 0o600).unwrap();
        assert_eq!(names(None), ["a.example:22"]);
        assert_eq!(names(Some(vec![uplink("b.example:22")])), ["b.example:22"]);
        assert_eq!(names(Some(Vec::new())), [""; 0]);
        files::write_atomic(&folder.path().join(JOINED), "[".as_ref(), 0o600).unwrap();
        assert!(matches!(wanted(folder.path(), None), Err(Error::Json(_))));
    }

    #[test]
    fn pauses_grow_differ_and_end() {
        assert_eq!(pause(0, u32::MAX), PAUSES.0);
        assert_eq!(pause(0, 0), PAUSES.0 / 2);
        assert_eq!(pause(3, u32::MAX), PAUSES.0 * 8);
        assert_eq!(pause(u32::MAX, u32::MAX), PAUSES.1);
    }
}
