//! Boxes that join: a code is bound to the keys of the first box that asks with it, a person confirms that box where the code says
//! so, and it becomes a server, with its certificates, in one transaction.
//!
//! An answer may get lost on its way. So a box asks again with the same secret and the same keys, and gets the same answer, byte
//! for byte, for it is kept with the code; that is safe, because nobody can use it without the private keys, and a certificate
//! request proves that its sender has them. Anybody who comes with the secret and other keys is refused.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use model::{
    certify::Endpoint,
    join::{Answer, Joined, Link, Problem, Request},
    name::ServerName,
    tunnel::SshKey,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Actor, Error, Panel, Work, renewals::subject};
use crate::{
    access::Verb,
    ca::{self, Ca, PublicKey, Reason},
    codes,
    noun::{Id, Noun, Server, ServerRole, Stored},
    store::{self, Decision, Digest, Join, JoinCode, JoinedBox, Peer, Scope},
    throttle::{Rate, Throttle, Wait, network},
};

const ACTOR: Actor = Actor::Panel("join");

/// Refusals of one address: a room of boxes may sit behind it. A good secret is answered however many there were, for somebody
/// else there may guess; what a secret is worth against guesses is its 64 bits, and this keeps the noise down.
const ADDRESS: Rate = Rate { burst: 20, every: Duration::from_secs(30) };
/// Wrong codes that are logged, whoever sent them: many addresses must not fill the disk.
const LOG: Rate = Rate { burst: 100, every: Duration::from_secs(60) };
/// Refusals of one code that are logged. Whoever causes them has its secret: no noise of others may hide that.
const LOG_OF_CODE: Rate = Rate { burst: 10, every: Duration::from_secs(60) };
const REMEMBERED: usize = 10_000;

/// How long a box whose code is bound to it may go on asking, from its first request on, though the code ends before: so long a
/// person may take to confirm it.
const PATIENCE_MS: u64 = 24 * 3600 * 1000;
/// How long a box waits between its requests, in seconds.
const RETRY_S: u64 = 5;

/// Why a box was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No code has this secret.
    #[error("there is no such join code")]
    Wrong,
    /// The code has ended.
    #[error("the join code has expired")]
    Late,
    /// Another box used the code.
    #[error("the join code was used by another box")]
    Replayed,
    /// A person said no.
    #[error("somebody refused this box")]
    Denied,
}

/// Why a request to join got no answer.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Its sender asked too often.
    #[error("the address asked too often")]
    Throttled(#[from] Wait),
    /// Its code is not good.
    #[error("the box is refused")]
    Refused(#[from] Refusal),
    /// Its certificate requests are not good.
    #[error("the request is not good")]
    Request(#[source] ca::Error),
    /// Its boot key is not RSA, which iPXE needs.
    #[error("the boot endpoint needs an RSA key")]
    BootKey,
    /// Every port of the tunnels leads to a server.
    #[error("all ports that lead to servers through tunnels are taken")]
    Ports,
    /// Its certificates can't be made.
    #[error("the certificates can't be made")]
    Ca(#[from] ca::Error),
    /// It can't be kept.
    #[error("the server can't be kept")]
    Operation(#[from] Error),
}

impl From<store::Error> for JoinError {
    fn from(error: store::Error) -> Self {
        Self::Operation(error.into())
    }
}

impl JoinError {
    /// What the box is told. What failed inside the panel is for its log alone.
    pub fn problem(&self) -> Problem {
        let (status, kind, title, detail) = match self {
            Self::Throttled(wait) => (429, "throttled", "Too many tries", wait.to_string()),
            Self::Refused(refusal) => {
                let kind = match refusal {
                    Refusal::Wrong => "join-code-wrong",
                    Refusal::Late => "join-code-late",
                    Refusal::Replayed => "join-code-used",
                    Refusal::Denied => "join-denied",
                };
                let detail = format!("{refusal}: make a new one in the console");
                (403, kind, "The join code is not taken", detail)
            }
            Self::Request(error) => {
                (400, "join-request", "The request can't be used", error.to_string())
            }
            Self::BootKey => (400, "join-request", "The request can't be used", self.to_string()),
            Self::Ports | Self::Ca(_) | Self::Operation(_) => {
                (500, "failed", "The panel failed", "see the panel's log".to_owned())
            }
        };
        Problem { kind: kind.to_owned(), title: title.to_owned(), status, detail }
    }
}

/// Who asked too often.
#[derive(Debug)]
pub(crate) struct Tries {
    addresses: Throttle<IpAddr>,
    log: Throttle<()>,
    log_of_codes: Throttle<i64>,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            addresses: Throttle::new(ADDRESS, REMEMBERED),
            log: Throttle::new(LOG, 1),
            log_of_codes: Throttle::new(LOG_OF_CODE, REMEMBERED),
        }
    }
}

/// The public keys that a box asks with.
struct Keys {
    api: PublicKey,
    boot: Option<PublicKey>,
    ssh: Option<SshKey>,
    digest: Digest,
}

impl Keys {
    fn of(request: &Request) -> Result<Self, JoinError> {
        let read = |pem: &String| PublicKey::from_request(pem).map_err(JoinError::Request);
        let api = read(&request.certificate_request_pem)?;
        let boot = request.boot_request_pem.as_ref().map(read).transpose()?;
        if boot.as_ref().is_some_and(|key| !key.is_rsa()) {
            return Err(JoinError::BootKey);
        }
        let mut digest = Sha256::new().chain_update(b"clusterducks join keys\0");
        for key in std::iter::once(&api).chain(&boot) {
            digest.update(Sha256::digest(key.der()));
        }
        if let Some(key) = &request.ssh_key {
            digest.update(Sha256::digest(key.as_str()));
        }
        let ssh = request.ssh_key.clone();
        Ok(Self { api, boot, ssh, digest: Digest(digest.finalize().into()) })
    }
}

impl Panel {
    /// Answers a box that wants to join. A good request makes its code used, its server, and its certificates, all or nothing;
    /// asked again it has the answer that it had.
    ///
    /// # Errors
    /// Its code is wrong, late, or used by another box; it asked too often; its certificate requests are not good.
    pub fn join(
        &self,
        ca: &Ca,
        request: &Request,
        from: IpAddr,
        now: Instant,
    ) -> Result<Answer, JoinError> {
        let secret = codes::digest(&request.secret);
        let code = self.store.read(|tx| tx.join_code(secret))?.map(|code| code.id);
        let answered = match code {
            Some(_) => self.answer(ca, secret, request, from),
            None => Err(Refusal::Wrong.into()),
        };
        if let Err(JoinError::Refused(refusal)) = answered {
            self.refuse(code, secret, refusal, from, now)?;
        }
        let Answered { answer, news } = answered?;
        if news {
            self.announce();
        }
        Ok(answer)
    }

    fn answer(
        &self,
        ca: &Ca,
        secret: Digest,
        request: &Request,
        from: IpAddr,
    ) -> Result<Answered, JoinError> {
        let keys = Keys::of(request)?;
        self.store.write(|tx| {
            let who = self.who(tx, ACTOR)?;
            let work = Work { tx, who: &who, now_ms: (self.clock)() };
            work.join(ca, secret, request, &keys, from.to_canonical())
        })
    }

    /// Counts a refusal, and logs it where that is not too much; that the log fails changes no answer.
    fn refuse(
        &self,
        code: Option<i64>,
        secret: Digest,
        refusal: Refusal,
        from: IpAddr,
        now: Instant,
    ) -> Result<(), Wait> {
        let logs = tries(&self.joins, |tries| {
            let counted = tries.addresses.attempt(&network(from), now);
            match code {
                Some(code) => Ok(tries.log_of_codes.attempt(&code, now).is_ok()),
                None => counted.map(|()| tries.log.attempt(&(), now).is_ok()),
            }
        })?;
        if logs && let Err(error) = self.log_refusal(secret, refusal, from) {
            tracing::error!(%error, %from, %refusal, "a refused box can't be logged");
        }
        Ok(())
    }

    fn log_refusal(&self, secret: Digest, refusal: Refusal, from: IpAddr) -> Result<(), Error> {
        self.write(ACTOR, |work| {
            let code = work.tx.join_code(secret)?;
            let (network, server) =
                code.as_ref().map_or((None, None), |c| (Some(c.network), c.server));
            let what = json!({ "join_code": code.map(|code| code.id), "changed": "refused",
                "from": from.to_string(), "why": refusal.to_string() });
            work.note_errand(network, server, what)
        })
    }

    /// The boxes that wait for somebody to confirm them, in all networks whose servers the actor may make.
    ///
    /// # Errors
    /// The store failed.
    pub fn waiting_joins(&self, actor: Actor) -> Result<Vec<Join>, Error> {
        self.read(actor, |work| {
            let scope: Scope = work.scope_to::<Server>(Verb::Create);
            Ok(work.tx.waiting_joins(&scope, work.now_ms, PATIENCE_MS)?)
        })
    }

    /// A box that waits for somebody to confirm it.
    ///
    /// # Errors
    /// None waits with this code, or the actor may not make servers there.
    pub fn waiting_join(&self, actor: Actor, code: i64) -> Result<Join, Error> {
        let waiting = self.waiting_joins(actor)?.into_iter().find(|join| join.code == code);
        waiting.ok_or(Error::NotFound { noun: Noun::Server })
    }

    /// Says yes to a box that waits: it is let in when it asks the next time. False when that was decided before.
    ///
    /// # Errors
    /// There is none that the actor may see, or they may not make servers there.
    pub fn confirm_join(&self, actor: Actor, code: i64) -> Result<bool, Error> {
        self.decide_join(actor, code, Decision::Confirmed, "confirmed")
    }

    /// Says no to a box that waits, once and for all. False when that was decided before.
    ///
    /// # Errors
    /// There is none that the actor may see, or they may not make servers there.
    pub fn refuse_join(&self, actor: Actor, code: i64) -> Result<bool, Error> {
        self.decide_join(actor, code, Decision::Refused, "denied")
    }

    fn decide_join(
        &self,
        actor: Actor,
        code: i64,
        decision: Decision,
        word: &str,
    ) -> Result<bool, Error> {
        self.write(actor, |work| {
            let bound = work.tx.join(code)?.ok_or(Error::NotFound { noun: Noun::Server })?;
            let Join { network, server, address, .. } = bound.join;
            work.allow(Verb::Create, Noun::Server, network.place())?;
            let decided = work.tx.decide_join(code, decision)?;
            if decided {
                let what =
                    json!({ "join_code": code, "changed": word, "from": address.to_string() });
                work.note_errand(Some(network), server, what)?;
            }
            Ok(decided)
        })
    }

    /// The box that stands as a server; absent before one joined.
    ///
    /// # Errors
    /// There is no such server that the actor may see.
    pub fn joined_box(&self, actor: Actor, server: Id<Server>) -> Result<Option<JoinedBox>, Error> {
        self.read(actor, |work| {
            work.seen(server)?;
            Ok(work.tx.joined_box(server)?)
        })
    }

    /// The servers that joined, and where they may be reached; for the link to the fleet.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn peers(&self) -> Result<Vec<Peer>, Error> {
        self.store.read(|tx| Ok(tx.peers()?))
    }

    /// Notes where a server was reached; for the link to the fleet, which looks there first from then on.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn reached(&self, server: Id<Server>, address: IpAddr) -> Result<(), Error> {
        if self.store.write(|tx| tx.move_box(server, address))? {
            self.announce();
        }
        Ok(())
    }
}

/// An answer, and whether it is another than before.
struct Answered {
    answer: Answer,
    news: bool,
}

fn tries<T>(tries: &Mutex<Tries>, look: impl FnOnce(&mut Tries) -> T) -> T {
    // A count that was half made is a count.
    look(&mut tries.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Work<'_> {
    fn join(
        self,
        ca: &Ca,
        secret: Digest,
        request: &Request,
        keys: &Keys,
        from: IpAddr,
    ) -> Result<Answered, JoinError> {
        let code = self.tx.join_code(secret)?.ok_or(Refusal::Wrong)?;
        let bound = self.tx.join(code.id)?;
        let first = bound.is_none();
        let (mut join, answer) = match bound {
            Some(bound) if bound.keys != keys.digest => return Err(Refusal::Replayed.into()),
            Some(bound) => {
                let patience = bound.join.asked_ms.saturating_add(PATIENCE_MS);
                if self.now_ms >= code.expires_ms.max(patience) {
                    return Err(Refusal::Late.into());
                }
                (bound.join, bound.answer)
            }
            // Used before the panel kept by whom.
            None if code.used_ms.is_some() => return Err(Refusal::Replayed.into()),
            None if self.now_ms >= code.expires_ms => return Err(Refusal::Late.into()),
            None => (self.bind(&code, request, keys, from)?, None),
        };
        if let Some(answer) = answer {
            return Ok(Answered { answer, news: false });
        }
        match join.decision {
            Decision::Waiting => {
                Ok(Answered { answer: Answer::Waiting { retry_s: RETRY_S }, news: first })
            }
            Decision::Refused => Err(Refusal::Denied.into()),
            Decision::Confirmed | Decision::Joined => {
                // It may have moved while it waited.
                join.address = from;
                let answer = self.let_in(ca, &code, &join, keys)?;
                Ok(Answered { answer, news: true })
            }
        }
    }

    fn bind(
        self,
        code: &JoinCode,
        request: &Request,
        keys: &Keys,
        from: IpAddr,
    ) -> Result<Join, Error> {
        let join = Join {
            code: code.id,
            network: code.network,
            server: code.server,
            address: from,
            name: request.name.clone(),
            hardware: request.hardware.clone(),
            keys: hex::encode(keys.digest.0),
            asked_ms: self.now_ms,
            decision: if code.confirm { Decision::Waiting } else { Decision::Confirmed },
        };
        self.tx.bind_join(&join, keys.digest)?;
        let what = json!({ "join_code": code.id, "changed": "used", "from": from.to_string() });
        self.note_errand(Some(code.network), code.server, what)?;
        Ok(join)
    }

    fn let_in(
        self,
        ca: &Ca,
        code: &JoinCode,
        join: &Join,
        keys: &Keys,
    ) -> Result<Answer, JoinError> {
        let server = match code.server {
            Some(server) => self.seen(server)?,
            None => self.create(join.network.place(), &self.newcomer(join)?)?,
        };
        // Whoever stood there before stands there no more.
        self.tx.revoke_server(server.id, Reason::Superseded, self.now_ms)?;
        let port = self.tx.give_way(server.id, keys.ssh.as_ref())?;
        if keys.ssh.is_some() && port.is_none() {
            return Err(JoinError::Ports);
        }
        let answer = Answer::Joined(Box::new(self.certify(ca, &server, keys)?));
        self.tx.finish_join(join, server.id, &answer, self.now_ms)?;
        self.tx.mark_server_stale(server.id)?;
        self.tx.mark_tables_stale()?;
        let what = json!({ "join_code": code.id, "changed": "joined", "from": join.address.to_string(),
            "hardware": join.hardware });
        self.note_of(server.id, what)?;
        Ok(answer)
    }

    fn certify(self, ca: &Ca, server: &Stored<Server>, keys: &Keys) -> Result<Joined, JoinError> {
        let now: SystemTime = UNIX_EPOCH
            .checked_add(Duration::from_millis(self.now_ms))
            .ok_or(JoinError::Ca(ca::Error::Clock))?;
        let name = server.value.name.clone();
        let give = |endpoint, key: &PublicKey| -> Result<Option<String>, JoinError> {
            let Some(subject) = subject(endpoint, server) else { return Ok(None) };
            let issued = ca.issue(&subject, key, now)?;
            self.tx.keep_certificate(
                subject.kind(),
                Some(server.id),
                &issued.certificate,
                self.now_ms,
            )?;
            Ok(Some(issued.chain_pem()))
        };
        let api = give(Endpoint::Api, &keys.api)?.ok_or(JoinError::Ca(ca::Error::Nameless))?;
        let boot = match &keys.boot {
            Some(key) => give(Endpoint::Boot, key)?,
            None => None,
        };
        let uplinks = self.tx.uplinks(server.id)?;
        Ok(Joined {
            server: u64::try_from(server.id.number()).unwrap_or_default(),
            name,
            // Where no tunnel would let it in, the panel has to come straight.
            link: if uplinks.is_empty() { Link::Direct } else { Link::Tunnel },
            api_chain_pem: api,
            root_pem: ca.root().pem(),
            boot_chain_pem: boot,
            boot_root_pem: ca.boot().certificate().pem(),
            uplinks,
        })
    }

    /// The record of a box that takes nobody's place: under the name that it brought along, or one like it. The first server of
    /// a network is the one that gives out addresses, once somebody says where.
    fn newcomer(self, join: &Join) -> Result<Server, Error> {
        let others = self.tx.all::<Server>(join.network.place())?;
        let free = |name: &ServerName| others.iter().all(|other| other.value.name != *name);
        let wanted = join.name.as_ref().map_or("server", ServerName::as_str);
        let numbered = (1..).map_while(|number| format!("{wanted}-{number}").parse().ok());
        let plain = (1..).map_while(|number| format!("server-{number}").parse().ok());
        let mut names =
            join.name.iter().cloned().chain(numbered.take(others.len() + 1)).chain(plain);
        Ok(Server {
            name: names.find(free).ok_or(Error::NotFound { noun: Noun::Server })?,
            role: ServerRole::Both,
            primary: others.iter().all(|other| !other.value.primary),
            management: None,
            interfaces: Vec::new(),
            pools: Vec::new(),
        })
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
