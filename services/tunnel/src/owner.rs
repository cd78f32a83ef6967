//! The one who says whose the tunnel is and who may come in. Every change goes through here, and is on the disk before it is in
//! force. It speaks to nobody.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use host::seam::chain;
use ipnet::IpNet;
use model::{
    code::{JoinSecret, PairingCode, PairingSecret, Pin},
    tunnel::{Paired, Table},
};
use rcgen::KeyPair;
use tokio::sync::watch;

use crate::{
    faults::Faults,
    folders::Folders,
    isolation,
    state::{self, Code, Pairing, Papers, Store},
    table::{InForce, TableError},
    tls::{self, Door},
    whereabouts::Whereabouts,
};

/// How long a code that was shown is good for, in milliseconds: a day.
const CODE_LIFE_MS: u64 = 24 * 3600 * 1000;

/// Tells milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Makes the Unix users and keys of a table in the place of those of another, if it is known whose are there. It may be asked again
/// for what it did.
pub type MakeUsers = Box<dyn Fn(Option<&Table>, &Table) -> Result<(), BoxError> + Send + Sync>;
/// What went wrong elsewhere.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why something was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be kept.
    #[error("it can't be kept")]
    State(#[from] state::Error),
    /// The certificates or the revocation list are no good.
    #[error("the certificates are refused")]
    Tls(#[from] tls::Error),
    /// The table is no good.
    #[error("the table is refused")]
    Table(#[from] TableError),
    /// It would bring back an older state.
    #[error("table {in_force} is in force already")]
    Late {
        /// The generation that is in force.
        in_force: u64,
    },
    /// The tunnel is a panel's already.
    #[error("the tunnel is paired")]
    Paired,
    /// The tunnel is nobody's.
    #[error("the tunnel is not paired")]
    Unpaired,
    /// The users could not be made.
    #[error("the users of the table can't be made")]
    Users(#[source] BoxError),
}

impl Error {
    /// Whether the same may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::State(error) => error.retryable(),
            Self::Users(_) => true,
            Self::Tls(_) | Self::Table(_) | Self::Late { .. } | Self::Paired | Self::Unpaired => {
                false
            }
        }
    }
}

/// Whose the tunnel is, for its screen.
#[derive(Debug)]
pub enum Shown {
    /// Nobody's: with this code it becomes a panel's, until then (milliseconds since 1970); one of a seed file
    /// is good until it is used, for the box may stand without a clock or a network for long: the panel is the one that gives it up.
    Unpaired(PairingCode, Option<u64>),
    /// A panel's, which knows it by this name.
    Paired(String),
}

/// What an owner begins with.
pub struct Beginning {
    /// Where the state lies.
    pub folders: Folders,
    /// The code of the seed file.
    pub seed: Option<PairingCode>,
    /// What time it is.
    pub clock: Clock,
    /// Who makes the users.
    pub make_users: MakeUsers,
    /// Where it says what fails.
    pub faults: Faults,
}

/// The tunnel's state. Its methods wait for the disk: asynchronous callers go through [`on_thread`].
pub struct Owner {
    store: Store,
    key: KeyPair,
    request_pem: String,
    seed: Option<PairingSecret>,
    clock: Clock,
    make_users: MakeUsers,
    faults: Faults,
    state: Mutex<State>,
    door: watch::Sender<Arc<Door>>,
    table: watch::Sender<Arc<InForce>>,
    generation: AtomicU64,
    seen_ms: AtomicU64,
    whereabouts: Whereabouts,
}

struct State {
    pairing: Pairing,
    /// Whose users are there, if that is known: those of the table in force, unless making them failed.
    users: Option<Arc<InForce>>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Owner {
    /// Takes the state from the disk, and makes what is not there: the key, a code to show. The users of the table in force are
    /// there when it returns, or it is a fault that they are not.
    ///
    /// # Errors
    /// The state is damaged or can't be kept.
    pub fn open(beginning: Beginning) -> Result<Self, Error> {
        let Beginning { folders, seed, clock, make_users, faults } = beginning;
        let store = Store::new(&folders.data);
        let key = store.key()?;
        let pairing = match store.pairing()? {
            Some(pairing) => pairing,
            None => store.keep_code(fresh_code(clock()))?,
        };
        let table = Arc::new(InForce::new(store.table()?)?);
        let door = match &pairing {
            Pairing::Unpaired(_) => Door::unpaired(&key)?,
            Pairing::Paired(papers) => door(&key, papers, &table)?,
        };
        let owner = Self {
            whereabouts: Whereabouts::new(clock()),
            request_pem: tls::request(&key)?,
            store,
            key,
            seed: seed.map(|code| code.secret),
            clock,
            make_users,
            faults,
            state: Mutex::new(State { pairing, users: None }),
            door: watch::Sender::new(Arc::new(door)),
            table: watch::Sender::new(table),
            generation: AtomicU64::new(0),
            seen_ms: AtomicU64::new(0),
        };
        // It is a fault, and told as one; the table that was kept is in force still.
        let _told = owner.bring_users(&mut owner.state());
        Ok(owner)
    }

    /// What the port offers.
    pub fn door(&self) -> watch::Receiver<Arc<Door>> {
        self.door.subscribe()
    }

    /// Who may come in.
    pub fn table(&self) -> watch::Receiver<Arc<InForce>> {
        self.table.subscribe()
    }

    /// The generation of the table whose users are there.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The certificate request, PKCS#10 in PEM.
    pub fn request_pem(&self) -> &str {
        &self.request_pem
    }

    /// Notes that the panel was there, from this address.
    pub fn saw_panel(&self, from: IpAddr) {
        let now = (self.clock)();
        self.seen_ms.store(now, Ordering::Relaxed);
        self.whereabouts.saw(from, &self.table.borrow().table().panel, now);
    }

    /// Whether the panel stayed away for so long from where it shall come from that its address may have changed.
    pub fn panel_is_away(&self) -> bool {
        self.whereabouts.is_away(&self.table.borrow().table().panel, (self.clock)())
    }

    /// When the panel was there last since the service started, in milliseconds since 1970.
    pub fn panel_seen_ms(&self) -> Option<u64> {
        Some(self.seen_ms.load(Ordering::Relaxed)).filter(|seen| *seen > 0)
    }

    /// Whose the tunnel is. A code that is too old is replaced.
    ///
    /// # Errors
    /// The new one can't be kept.
    pub fn shown(&self) -> Result<Shown, Error> {
        let mut state = self.state();
        self.renew_code(&mut state)?;
        let (secret, expires_ms) = match &state.pairing {
            Pairing::Paired(papers) => return Ok(Shown::Paired(papers.name.clone())),
            Pairing::Unpaired(code) => match &self.seed {
                Some(secret) => (secret.clone(), None),
                None => {
                    let secret = JoinSecret::new(*code.secret.bytes());
                    (secret.into(), Some(code.made_ms.saturating_add(CODE_LIFE_MS)))
                }
            },
        };
        let key = Some(Pin::Whole(tls::fingerprint(&self.key)));
        Ok(Shown::Unpaired(PairingCode { secret, key }, expires_ms))
    }

    /// Makes the tunnel a panel's that proved to have the code, and came from this address.
    ///
    /// # Errors
    /// It is a panel's already, or what came with it is no good or can't be kept: nothing changed then.
    pub fn pair(&self, paired: Paired, from: IpAddr) -> Result<(), Error> {
        let Paired { name, chain_pem, root_pem, mut table } = paired;
        let told = let_in(&mut table, from, &[]);
        let papers = Papers { name, chain_pem, root_pem };
        let force = InForce::new(table)?;
        let door = door(&self.key, &papers, &force)?;
        let mut state = self.state();
        if let Pairing::Paired(_) = state.pairing {
            return Err(Error::Paired);
        }
        self.store.pair(&papers, force.table())?;
        tracing::info!(name = papers.name, "paired");
        self.faults.set("panel addresses", told);
        self.whereabouts.forget((self.clock)());
        state.pairing = Pairing::Paired(papers);
        self.table.send_replace(Arc::new(force));
        self.door.send_replace(Arc::new(door));
        // The panel has the tunnel in any case: that users are missing is for it to see.
        let _told = self.bring_users(&mut state);
        Ok(())
    }

    /// Puts a table in force that came from this address. Addresses of the panel that it is not among would shut it out for ever: then
    /// those before are kept, and that is told.
    ///
    /// # Errors
    /// It is no good, older than the one in force, or can't be kept: that one stays in force. Or its users can't be made: then it
    /// is in force, and the same table may be put again.
    pub fn put_table(&self, mut table: Table, from: IpAddr) -> Result<(), Error> {
        let mut state = self.state();
        let Pairing::Paired(papers) = &state.pairing else { return Err(Error::Unpaired) };
        let before = Arc::clone(&self.table.borrow());
        let told = let_in(&mut table, from, &before.table().panel);
        let force = Arc::new(InForce::new(table)?);
        let in_force = before.table().generation;
        if force.table().generation < in_force {
            return Err(Error::Late { in_force });
        }
        let list = |table: &InForce| table.table().revocation_list_pem.clone();
        let new_door = if list(&force) == list(&before) {
            None
        } else {
            Some(door(&self.key, papers, &force)?)
        };
        self.store.keep_table(force.table())?;
        self.faults.set("panel addresses", told);
        let generation = force.table().generation;
        tracing::info!(generation, agents = force.table().agents.len(), "table in force");
        self.table.send_replace(force);
        if let Some(door) = new_door {
            self.door.send_replace(Arc::new(door));
        }
        self.bring_users(&mut state)
    }

    /// Takes a new certificate.
    ///
    /// # Errors
    /// It is not for the tunnel's key, or can't be kept: the old one stays in use.
    pub fn renew(&self, chain_pem: String) -> Result<(), Error> {
        let mut state = self.state();
        let Pairing::Paired(papers) = &mut state.pairing else { return Err(Error::Unpaired) };
        let renewed = Papers { chain_pem, ..papers.clone() };
        let door = door(&self.key, &renewed, &self.table.borrow())?;
        self.store.keep_papers(&renewed)?;
        *papers = renewed;
        tracing::info!(ends_ms = door.ends_ms, "certificate renewed");
        self.door.send_replace(Arc::new(door));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A clock that was put back makes no code older.
    fn renew_code(&self, state: &mut State) -> Result<(), Error> {
        let now = (self.clock)();
        if let Pairing::Unpaired(code) = &state.pairing
            && now.saturating_sub(code.made_ms) >= CODE_LIFE_MS
        {
            state.pairing = self.store.keep_code(fresh_code(now))?;
            tracing::info!("the pairing code was too old; another one is shown");
        }
        Ok(())
    }

    fn bring_users(&self, state: &mut State) -> Result<(), Error> {
        let force = Arc::clone(&self.table.borrow());
        let before = state.users.as_ref().map(|users| users.table());
        match (self.make_users)(before, force.table()) {
            Ok(()) => {
                self.generation.store(force.table().generation, Ordering::Relaxed);
                state.users = Some(force);
                self.faults.set("users", Vec::new());
                Ok(())
            }
            Err(error) => {
                let error = Error::Users(error);
                self.faults.set("users", vec![chain(&error)]);
                Err(error)
            }
        }
    }
}

/// Keeps a table from shutting out the panel that sent it from this address: the networks before stay then. What to tell of that.
fn let_in(table: &mut Table, from: IpAddr, before: &[IpNet]) -> Vec<String> {
    if !isolation::shuts_out(&table.panel, from) {
        return Vec::new();
    }
    before.clone_into(&mut table.panel);
    let told = format!(
        "the panel comes from {from}, which is none of the addresses that the API is to be open to: they are not used"
    );
    vec![told]
}

fn fresh_code(now_ms: u64) -> Code {
    Code { secret: JoinSecret::new(rand::random()), made_ms: now_ms }
}

fn door(key: &KeyPair, papers: &Papers, table: &InForce) -> Result<Door, tls::Error> {
    Door::paired(key, papers, table.table().revocation_list_pem.as_deref())
}

/// Asks an owner where waiting for the disk holds up nobody else.
pub async fn on_thread<T: Send + 'static>(
    owner: &Arc<Owner>,
    ask: impl FnOnce(&Owner) -> T + Send + 'static,
) -> T {
    let owner = Arc::clone(owner);
    tokio::task::spawn_blocking(move || ask(&owner))
        .await
        .expect("the owner returns its failures, and it is not cancelled once it runs")
}
