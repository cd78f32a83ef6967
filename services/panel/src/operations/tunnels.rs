//! Tunnels beside their records: made the panel's and forgotten again, and who may come in at each. What is said to a tunnel, and
//! how, is [`crate::tunnels`]'s business.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::{
    code::{OneTime, PairingCode, PairingSecret},
    tunnel::{Paired, SshKey, Table},
};
use serde_json::json;

use super::{Actor, Error, Panel, Work, invalid};
use crate::{
    access::Verb,
    ca::{self, Ca, Issued, PublicKey, Reason, Subject},
    noun::{Id, Network, Noun, Place, Stored, Tunnel},
    secret::{BoxKey, ExposeSecret as _, Purpose},
    store::{self, FieldError, Pairing, PairingSeed, Relay, Tx},
    tunnels::{Board, Presences},
};

const ACTOR: Actor = Actor::Panel("tunnels");

/// The longest that the panel tries the code of a seed file: a week, for a box that is sent to a site by post.
const LONGEST_MS: u64 = 7 * 24 * 3600 * 1000;
/// The highest number that a tunnel may show of a table that we never gave, as for servers' documents.
const MOST_SHOWN: u64 = 1 << 53;

/// Why a tunnel can't be given a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// Its request is not good, or it can't be signed.
    #[error("the tunnel's certificate can't be made")]
    Ca(#[from] ca::Error),
    /// It may not be, or can't be kept.
    #[error("the tunnel's certificate can't be kept")]
    Operation(#[from] Error),
}

impl From<store::Error> for CertifyError {
    fn from(error: store::Error) -> Self {
        Self::Operation(error.into())
    }
}

/// What a secret of a tunnel is sealed for.
fn sealed_for(tunnel: Id<Tunnel>) -> String {
    format!("tunnel {tunnel}")
}

impl Panel {
    /// How a tunnel is paired; absent where it is not.
    ///
    /// # Errors
    /// There is no such tunnel that the actor may see.
    pub fn pairing(&self, actor: Actor, tunnel: Id<Tunnel>) -> Result<Option<Pairing>, Error> {
        self.read(actor, |work| {
            work.seen(tunnel)?;
            Ok(work.tx.pairing(tunnel)?)
        })
    }

    /// How tunnels are paired: those that are, of those that the actor may see.
    ///
    /// # Errors
    /// The actor is not known.
    pub fn pairings(&self, actor: Actor) -> Result<BTreeMap<Id<Tunnel>, Pairing>, Error> {
        self.read(actor, |work| {
            if work.scope::<Tunnel>() == store::Scope::Nothing {
                return Ok(BTreeMap::new());
            }
            let pairings = work.tx.pairings()?.into_iter();
            Ok(pairings.map(|pairing| (pairing.tunnel, pairing)).collect())
        })
    }

    /// The tunnels that a network's servers may join through: those of its own that are known to be the panel's, in its order.
    ///
    /// # Errors
    /// There is no such network that the actor may see.
    pub fn ways_of(
        &self,
        actor: Actor,
        network: Id<Network>,
    ) -> Result<Vec<Stored<Tunnel>>, Error> {
        self.read(actor, |work| {
            let mut ways = Vec::new();
            for name in &work.seen(network)?.value.tunnels {
                let Some(id) = work.tx.find::<Tunnel>(Place::Panel, name.as_str())? else {
                    continue;
                };
                let pairing = work.tx.pairing(id)?;
                if pairing.is_some_and(|pairing| pairing.confirmed_ms.is_some()) {
                    ways.extend(work.tx.get(id)?);
                }
            }
            Ok(ways)
        })
    }

    /// Forgets that a tunnel is the panel's, and takes its certificates back: its servers come through it no more. False when it
    /// was not paired.
    ///
    /// # Errors
    /// There is no such tunnel that the actor may see, or they may not change it.
    pub fn forget_pairing(&self, actor: Actor, tunnel: Id<Tunnel>) -> Result<bool, Error> {
        self.write(actor, |work| {
            work.fetch(tunnel, Verb::Change)?;
            let forgotten = work.tx.forget_pairing(tunnel)?;
            if forgotten {
                work.tx.revoke_tunnel(tunnel, Reason::Removed, work.now_ms)?;
                work.tx.mark_tunnelled_stale()?;
                work.tx.mark_tables_stale()?;
                work.note_of(tunnel, json!({ "pairing": "forgotten" }))?;
            }
            Ok(forgotten)
        })
    }

    /// Makes the code of a seed file, which the panel tries from then on, until the tunnel is there or the code ends. One that was
    /// made before is forgotten.
    ///
    /// # Errors
    /// The actor may not change the tunnel; it is paired; the code would be good for longer than a week.
    pub fn make_pairing_seed(
        &self,
        actor: Actor,
        tunnel: Id<Tunnel>,
        lasts_ms: u64,
        box_key: &BoxKey,
    ) -> Result<(PairingSeed, PairingCode), Error> {
        let code = PairingCode { secret: OneTime::<16>::new(rand::random()).into(), key: None };
        let sealed = box_key.seal(Purpose::PairingSecret, &sealed_for(tunnel), code.secret.bytes());
        self.write(actor, |work| {
            work.pairable(tunnel)?;
            if lasts_ms == 0 || lasts_ms > LONGEST_MS {
                let message = "a code is good for a week at the most";
                invalid(vec![FieldError::new("lasts_ms", message)])?;
            }
            let created_ms = work.now_ms;
            let expires_ms = created_ms.saturating_add(lasts_ms);
            let seed = PairingSeed { tunnel, created_ms, expires_ms };
            work.tx.keep_pairing_seed(&seed, &sealed)?;
            work.note_of(tunnel, json!({ "pairing": "seed made" }))?;
            Ok((seed, code))
        })
    }

    /// The code of a tunnel's seed file, while the panel tries it; what is secret of it was shown once.
    ///
    /// # Errors
    /// There is no such tunnel that the actor may see, or they may not change it.
    pub fn pairing_seed(
        &self,
        actor: Actor,
        tunnel: Id<Tunnel>,
    ) -> Result<Option<PairingSeed>, Error> {
        self.read(actor, |work| {
            work.fetch(tunnel, Verb::Change)?;
            let mut seeds = work.tx.pairing_seeds()?.into_iter().map(|(seed, _)| seed);
            Ok(seeds.find(|seed| seed.tunnel == tunnel && seed.expires_ms > work.now_ms))
        })
    }

    /// The codes of seed files that are to be tried now; those that ended are forgotten. One that can't be opened is told, and left
    /// out.
    ///
    /// # Errors
    /// The store failed.
    pub fn seeds_to_try(&self, box_key: &BoxKey) -> Result<Vec<(Id<Tunnel>, PairingCode)>, Error> {
        let now_ms = self.now_ms();
        let seeds = self.store.read(|tx| tx.pairing_seeds())?;
        let (good, ended): (Vec<_>, Vec<_>) =
            seeds.into_iter().partition(|(seed, _)| seed.expires_ms > now_ms);
        if !ended.is_empty() {
            self.store.write(|tx| {
                ended.iter().try_for_each(|(seed, _)| tx.forget_pairing_seed(seed.tunnel))
            })?;
            self.announce();
        }
        let open = |(seed, sealed): (PairingSeed, Vec<u8>)| {
            let of = sealed_for(seed.tunnel);
            match box_key.open(Purpose::PairingSecret, &of, &sealed) {
                Ok(secret) => {
                    let secret = PairingSecret::of(secret.expose_secret())?;
                    Some((seed.tunnel, PairingCode { secret, key: None }))
                }
                Err(error) => {
                    tracing::error!(tunnel = %seed.tunnel, %error, "the code of a seed file can't be opened");
                    None
                }
            }
        };
        Ok(good.into_iter().filter_map(open).collect())
    }

    /// A tunnel that the actor may pair.
    ///
    /// # Errors
    /// There is no such tunnel that the actor may see, or they may not change it; it is paired.
    pub(crate) fn pairable(
        &self,
        actor: Actor,
        tunnel: Id<Tunnel>,
    ) -> Result<Stored<Tunnel>, Error> {
        self.read(actor, |work| work.pairable(tunnel))
    }

    /// Gives a tunnel that proved itself a certificate for this key, and keeps all that it takes to know it again; what it is to be
    /// told. From now on it may be the panel's, though its answer gets lost.
    ///
    /// # Errors
    /// The actor may not; it is paired; the certificate can't be made.
    pub(crate) fn begin_pairing(
        &self,
        actor: Actor,
        ca: &Ca,
        tunnel: Id<Tunnel>,
        (key, host_key): (&PublicKey, &SshKey),
    ) -> Result<Paired, CertifyError> {
        let list = self.revocations_pem();
        let now_ms = self.now_ms();
        let done = self.store.write(|tx| {
            let who = self.who(tx, actor)?;
            let work = Work { tx, who: &who, now_ms };
            let stored = work.pairable(tunnel)?;
            // Of one that was begun before, nobody knows who has what it was given.
            tx.revoke_tunnel(tunnel, Reason::Superseded, now_ms)?;
            let issued = certify(ca, &stored, key, now_ms)?;
            tx.keep_tunnel_certificate(tunnel, &issued.certificate, now_ms)?;
            let host_key = host_key.clone();
            tx.keep_pairing(&Pairing { tunnel, host_key, made_ms: now_ms, confirmed_ms: None })?;
            let serial = issued.certificate.serial().to_string();
            work.note_of(tunnel, json!({ "pairing": "begun", "certificate": serial }))?;
            let (_, table) = publish_table(tx, tunnel, list.as_deref())?;
            Ok(Paired {
                name: stored.value.name.to_string(),
                chain_pem: issued.chain_pem(),
                root_pem: ca.root().pem(),
                table,
            })
        });
        if done.is_ok() {
            self.announce();
        }
        done
    }

    /// Notes that a tunnel took the panel as its own; false when that is known. A seed file's code is of no more use.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn confirm_pairing(&self, tunnel: Id<Tunnel>) -> Result<bool, Error> {
        let known = self.store.read(|tx| tx.pairing(tunnel))?;
        if known.is_none_or(|pairing| pairing.confirmed_ms.is_some()) {
            return Ok(false);
        }
        self.write(ACTOR, |work| {
            let confirmed = work.tx.confirm_pairing(tunnel, work.now_ms)?;
            if confirmed {
                work.tx.forget_pairing_seed(tunnel)?;
                work.tx.mark_tunnelled_stale()?;
                work.note_of(tunnel, json!({ "pairing": "done" }))?;
            }
            Ok(confirmed)
        })
    }

    /// Takes back what [`Panel::begin_pairing`] kept, for the tunnel said no.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn give_up_pairing(&self, tunnel: Id<Tunnel>) -> Result<(), Error> {
        self.write(ACTOR, |work| {
            let unconfirmed =
                work.tx.pairing(tunnel)?.is_some_and(|pairing| pairing.confirmed_ms.is_none());
            if unconfirmed {
                work.tx.forget_pairing(tunnel)?;
                work.tx.revoke_tunnel(tunnel, Reason::Superseded, work.now_ms)?;
                work.note_of(tunnel, json!({ "pairing": "refused" }))?;
            }
            Ok(())
        })
    }

    /// Gives a paired tunnel another certificate for the key that it asks with; the chain in PEM. What it has stays good.
    ///
    /// # Errors
    /// Its request is not good; it is not paired.
    pub(crate) fn renew_tunnel(
        &self,
        ca: &Ca,
        tunnel: Id<Tunnel>,
        request_pem: &str,
    ) -> Result<String, CertifyError> {
        let key = PublicKey::from_request(request_pem)?;
        let now_ms = self.now_ms();
        let done = self.store.write(|tx| {
            let who = self.who(tx, ACTOR)?;
            let work = Work { tx, who: &who, now_ms };
            let stored = work.seen(tunnel)?;
            if tx.pairing(tunnel)?.is_none() {
                return Err(Error::NotFound { noun: Noun::Tunnel }.into());
            }
            let issued = certify(ca, &stored, &key, now_ms)?;
            tx.keep_tunnel_certificate(tunnel, &issued.certificate, now_ms)?;
            let serial = issued.certificate.serial().to_string();
            work.note_of(tunnel, json!({ "certificate": serial, "changed": "renewed" }))?;
            Ok(issued.chain_pem())
        });
        if done.is_ok() {
            self.announce();
        }
        done
    }

    /// How the tunnels are, for the link to them.
    pub(crate) fn tunnels_board(&self) -> Arc<Board> {
        Arc::clone(&self.tunnels_board)
    }

    /// How the tunnels are that are the panel's, or may be: for those who see tunnels. What they say, which speaks of everybody's
    /// servers, is for those who may change them. Empty while the link does not run.
    ///
    /// # Errors
    /// The actor is not known.
    pub fn presences(&self, actor: Actor) -> Result<Presences, Error> {
        self.read(actor, |work| {
            let all = |verb| work.scope_to::<Tunnel>(verb) != store::Scope::Nothing;
            let mut presences = self.tunnels_board.all();
            presences.retain(|_, _| all(Verb::Read));
            if !all(Verb::Change) {
                for presence in presences.values_mut() {
                    (presence.error, presence.trouble, presence.status) = (None, None, None);
                }
            }
            Ok(presences)
        })
    }

    /// The tunnels that are the panel's, or may be, with their tables brought up to date.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn relays(&self) -> Result<Vec<Relay>, Error> {
        let stale = self.store.read(|tx| tx.stale_tables())?;
        let list = self.revocations_pem();
        for tunnel in stale {
            self.store.write(|tx| publish_table(tx, tunnel, list.as_deref()))?;
        }
        Ok(self.store.read(|tx| tx.relays())?)
    }

    /// A tunnel's table as it is to be sent, and its number; absent where the tunnel is not paired.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn table(&self, tunnel: Id<Tunnel>) -> Result<Option<(u64, String)>, Error> {
        Ok(self.store.read(|tx| tx.kept_table(tunnel))?)
    }

    /// Notes the number of the table that a tunnel has. One above ours, as after a restore from a backup, makes ours rise above it,
    /// for a tunnel takes none below its own.
    ///
    /// # Errors
    /// The store failed; the tunnel shows a number that no panel gives.
    pub(crate) fn tunnel_has(&self, tunnel: Id<Tunnel>, generation: u64) -> Result<(), Error> {
        if generation > MOST_SHOWN {
            return Err(Error::Generation { generation });
        }
        let behind = |kept: &(u64, String)| kept.0 < generation;
        if !self.store.read(|tx| tx.kept_table(tunnel))?.as_ref().is_some_and(behind) {
            return Ok(());
        }
        let list = self.revocations_pem();
        self.store.write(|tx| {
            tx.keep_table(tunnel, generation, "")?;
            publish_table(tx, tunnel, list.as_deref())
        })?;
        self.announce();
        Ok(())
    }
}

impl Work<'_> {
    /// A tunnel that may be paired: it is not, or nobody knows whether it took the panel as its own.
    fn pairable(self, tunnel: Id<Tunnel>) -> Result<Stored<Tunnel>, Error> {
        let stored = self.fetch(tunnel, Verb::Change)?;
        if self.tx.pairing(tunnel)?.is_some_and(|pairing| pairing.confirmed_ms.is_some()) {
            let message = "the tunnel is paired: forget that first";
            invalid(vec![FieldError::new("code", message)])?;
        }
        Ok(stored)
    }
}

/// A certificate of a tunnel: under the one name that the panel asks for. Where it is reached stands in none, for nobody asks it by
/// that, and the authority may not vouch for names of the internet.
fn certify(
    ca: &Ca,
    tunnel: &Stored<Tunnel>,
    key: &PublicKey,
    now_ms: u64,
) -> Result<Issued, CertifyError> {
    let now: SystemTime =
        UNIX_EPOCH.checked_add(Duration::from_millis(now_ms)).ok_or(ca::Error::Clock)?;
    Ok(ca.issue(&Subject::Tunnel(tunnel.value.name.server_name(), Vec::new()), key, now)?)
}

/// Renders a tunnel's table, with this revocation list in PEM, and keeps it; whether it says something new.
fn publish_table(
    tx: Tx<'_>,
    tunnel: Id<Tunnel>,
    revocations: Option<&str>,
) -> Result<(bool, Table), store::Error> {
    let (told, body) = tx.kept_table(tunnel)?.unwrap_or_default();
    let mut table = tx.table(tunnel)?;
    table.generation = told;
    table.revocation_list_pem = revocations.map(str::to_owned);
    let same = serde_json::to_string(&table).map_err(store::Error::Json)? == body;
    if !same {
        table.generation = told + 1;
    }
    let body = serde_json::to_string(&table).map_err(store::Error::Json)?;
    tx.keep_table(tunnel, table.generation, &body)?;
    Ok((!same, table))
}

#[cfg(test)]
#[path = "tunnels_tests.rs"]
mod tests;
