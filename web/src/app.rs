//! What all requests share: the operations, the keys of the box, the throttles, and the one door through which what blocks is
//! called. It knows no page.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use model::{code::ShortCode, tunnel::API_PORT};
use panel::{
    ca::{Ca, Host},
    codes::short_code,
    noun::{Id, User, UserName},
    operations::{self, Panel},
    password::Passwords,
    secret::{BoxKey, SecretString},
    store::Digest,
    throttle::{Rate, SignIns, Throttle, Wait},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::problem::Problem;

/// Hashing takes 19 MiB each: two at once fit on a Pi, and a flood of sign-ins waits for its turn.
const HASHES_AT_ONCE: usize = 2;

/// The one-time code of the first start has 40 bits: five tries at once and then one in ten seconds, for everybody together.
const FIRST_START: Rate = Rate { burst: 5, every: Duration::from_secs(10) };

/// How long somebody may take between password and one-time password.
const SECOND_FACTOR: Duration = Duration::from_secs(300);
const MOST_PENDING: usize = 1000;

/// The state of the console.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    panel: Arc<Panel>,
    box_key: BoxKey,
    ca: RwLock<Arc<Ca>>,
    passwords: Passwords,
    hashing: Semaphore,
    sign_ins: Mutex<SignIns>,
    settled: AtomicBool,
    first_start: ShortCode,
    first_tries: Mutex<Throttle<()>>,
    pending: Mutex<HashMap<[u8; 32], Pending>>,
    changes: watch::Sender<u64>,
    tunnels_port: AtomicU16,
    told_hosts: Vec<Host>,
    first_turn: Arc<Semaphore>,
    ends: watch::Sender<bool>,
}

/// Somebody whose password was right, and whose one-time password is still to come.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Who.
    pub user: Id<User>,
    /// Their name.
    pub name: UserName,
    until: Instant,
}

impl App {
    /// Puts the state together, of a panel that is told to be reached by these hosts, and gives the code that the first admin proves
    /// themselves with.
    ///
    /// # Errors
    /// The memory for a hash can't be had.
    pub fn new(
        panel: Panel,
        box_key: BoxKey,
        ca: Ca,
        told_hosts: Vec<Host>,
    ) -> Result<(Self, SecretString), panel::password::Error> {
        let code = short_code();
        let text = code.text();
        let inner = Inner {
            panel: Arc::new(panel),
            box_key,
            ca: RwLock::new(Arc::new(ca)),
            passwords: Passwords::new()?,
            hashing: Semaphore::new(HASHES_AT_ONCE),
            sign_ins: Mutex::default(),
            settled: AtomicBool::new(false),
            first_start: code,
            first_tries: Mutex::new(Throttle::new(FIRST_START, 1)),
            pending: Mutex::default(),
            changes: watch::Sender::new(0),
            tunnels_port: AtomicU16::new(API_PORT),
            told_hosts,
            first_turn: Arc::new(Semaphore::new(1)),
            ends: watch::Sender::new(false),
        };
        Ok((Self(Arc::new(inner)), text))
    }

    /// Runs operations where blocking is allowed; the only way from a page to the store.
    ///
    /// # Errors
    /// The operations' own.
    pub async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Panel) -> Result<T, operations::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let inner = Arc::clone(&self.0);
        let answer = tokio::task::spawn_blocking(move || ask(&inner.panel)).await;
        answer.map_err(Problem::broken)?.map_err(Problem::from)
    }

    /// As [`App::ask`], for operations that change something: who watches is told.
    ///
    /// # Errors
    /// The operations' own.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Panel) -> Result<T, operations::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let done = self.ask(change).await?;
        self.changed();
        Ok(done)
    }

    /// Whether nobody can sign in yet. Once somebody could, it stays so.
    ///
    /// # Errors
    /// The store failed.
    pub async fn is_new(&self) -> Result<bool, Problem> {
        if self.0.settled.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let is_new = self.ask(Panel::is_new).await?;
        self.0.settled.store(!is_new, Ordering::Relaxed);
        Ok(is_new)
    }

    /// Hashes or compares a password, a few at once.
    ///
    /// # Errors
    /// The hashing's own.
    pub async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Passwords) -> Result<T, panel::password::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let _turn = self.0.hashing.acquire().await.map_err(Problem::broken)?;
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner.passwords)).await;
        done.map_err(Problem::broken)?.map_err(|error| match error {
            panel::password::Error::TooLong => {
                Problem::field("password", panel::password::Error::TooLong)
            }
            other => Problem::broken(other),
        })
    }

    /// Tells those who watch that something is different now.
    pub fn changed(&self) {
        self.0.changes.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// Rises whenever something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// The operations, for other doors than pages; they block.
    pub fn panel(&self) -> &Panel {
        &self.0.panel
    }

    /// The operations, for what outlives a request.
    pub fn shared(&self) -> Arc<Panel> {
        Arc::clone(&self.0.panel)
    }

    /// Says at which port the APIs of tunnels answer, where that is another than appliances have.
    pub fn tunnels_answer_at(&self, port: u16) {
        self.0.tunnels_port.store(port, Ordering::Relaxed);
    }

    /// The port at which the APIs of tunnels answer.
    pub fn tunnels_port(&self) -> u16 {
        self.0.tunnels_port.load(Ordering::Relaxed)
    }

    /// The key file of the box.
    pub fn box_key(&self) -> &BoxKey {
        &self.0.box_key
    }

    /// The authorities.
    pub fn ca(&self) -> Arc<Ca> {
        Arc::clone(&self.0.ca.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a sign-in before anything of it is looked at.
    ///
    /// # Errors
    /// The account or the address has to wait.
    pub fn attempt(&self, name: &str, from: IpAddr) -> Result<(), Wait> {
        lock(&self.0.sign_ins).attempt(name, from, Instant::now())
    }

    /// A sign-in succeeded with all its factors.
    pub fn succeeded(&self, name: &str) {
        lock(&self.0.sign_ins).succeeded(name);
    }

    /// Whether this is the code of the first start.
    ///
    /// # Errors
    /// There were too many tries.
    pub fn is_first_start_code(&self, typed: &str) -> Result<bool, Wait> {
        lock(&self.0.first_tries).attempt(&(), Instant::now())?;
        Ok(ShortCode::parse(typed).is_ok_and(|code| code.is(&self.0.first_start)))
    }

    /// The turn of who makes the first account, or restores a backup instead: one at a time, or one's work would be the other's
    /// loss. Nothing while it is somebody else's.
    pub fn first_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.first_turn).try_acquire_owned().ok()
    }

    /// The names and addresses beside those of the box that the panel was told to be reached by.
    pub fn told_hosts(&self) -> &[Host] {
        &self.0.told_hosts
    }

    /// Asks the process to end: the next one begins with what was restored.
    pub fn end_for_restore(&self) {
        self.0.ends.send_replace(true);
    }

    /// Becomes true when the process is to end.
    pub fn ends(&self) -> watch::Receiver<bool> {
        self.0.ends.subscribe()
    }

    /// Keeps somebody whose one-time password is still to come. When too many wait, the eldest begins anew.
    pub fn keep_pending(&self, ticket: Digest, user: Id<User>, name: UserName) {
        let mut pending = lock(&self.0.pending);
        let now = Instant::now();
        pending.retain(|_, waiting| waiting.until > now);
        if pending.len() >= MOST_PENDING
            && let Some(eldest) =
                pending.iter().min_by_key(|(_, waiting)| waiting.until).map(|(key, _)| *key)
        {
            pending.remove(&eldest);
        }
        pending.insert(ticket.0, Pending { user, name, until: now + SECOND_FACTOR });
    }

    /// Who waits with this ticket.
    pub fn pending(&self, ticket: Digest) -> Option<Pending> {
        let found = lock(&self.0.pending).get(&ticket.0).cloned();
        found.filter(|waiting| waiting.until > Instant::now())
    }

    /// They came in, or gave up.
    pub fn forget_pending(&self, ticket: Digest) {
        lock(&self.0.pending).remove(&ticket.0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
