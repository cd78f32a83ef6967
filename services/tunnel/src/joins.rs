//! Boxes that join: what a box sends through `relay` is handed to the panel, which waits for it. It is the box's and the panel's
//! TLS; here it is bytes, few, for a short time, from few at once.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use host::files;
use model::{
    throttle::{Rate, Throttle, network},
    tunnel::JOIN_BYTES,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
};

use crate::{folders::Folders, metrics::Metrics, peer::is_of, session::Session};

/// What boxes may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Boxes that wait for the panel or talk to it.
    pub boxes: usize,
    /// Panels' requests that wait for a box.
    pub panels: usize,
    /// How often boxes of one site may come.
    pub of_address: Rate,
    /// How often boxes may come in all.
    pub of_all: Rate,
    /// How long a relay may take to say whom it brings.
    pub address_timeout: Duration,
    /// How long a box waits for the panel.
    pub panel_timeout: Duration,
    /// How long a box may talk to the panel.
    pub total_timeout: Duration,
    /// What may pass each way, in bytes.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            boxes: 64,
            panels: 16,
            // A site behind one address that was flashed whole asks every few seconds for each box.
            of_address: Rate { burst: 60, every: Duration::from_secs(1) },
            of_all: Rate { burst: 200, every: Duration::from_millis(100) },
            address_timeout: Duration::from_secs(5),
            panel_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(60),
            bytes: JOIN_BYTES,
        }
    }
}

/// Addresses whose rate is remembered.
const ADDRESSES: usize = 4096;
/// The longest address is 45 characters (RFC 4291, 2.2), and its end of line.
const ADDRESS_BYTES: usize = 64;
/// After accept(2) failed for want of descriptors or memory, others get the time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A box that waits for the panel.
#[derive(Debug)]
pub struct Waiting {
    /// Where it comes from.
    pub address: IpAddr,
    stream: UnixStream,
    limits: Limits,
    metrics: Metrics,
    _place: OwnedSemaphorePermit,
}

/// Where boxes and panels meet.
#[derive(Debug)]
pub struct Joins {
    limits: Limits,
    metrics: Metrics,
    places: Arc<Semaphore>,
    rates: Mutex<(Throttle<IpAddr>, Throttle<()>)>,
    panels: Mutex<VecDeque<oneshot::Sender<Waiting>>>,
    came: Notify,
}

/// Too many requests of panels wait for boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} requests wait for boxes already")]
pub struct TooMany(usize);

impl TooMany {
    /// Whether the same may do later: one of them may have its box then.
    pub fn retryable(self) -> bool {
        true
    }
}

/// Why a box was closed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("it did not say whom it brings")]
    Read(#[from] io::Error),
    #[error("it did not say in time whom it brings")]
    Slow,
    #[error("what it brings has no address")]
    Address,
    #[error("too many boxes come from there")]
    Often,
    #[error("too many boxes come")]
    OftenInAll,
    #[error("no panel took it")]
    NoPanel,
}

impl Error {
    fn word(&self) -> &'static str {
        match self {
            Self::Read(_) | Self::Slow | Self::Address => "relay",
            Self::Often | Self::OftenInAll => "throttled",
            Self::NoPanel => "no-panel",
        }
    }
}

/// Makes the socket. Everybody may connect; whoever is not `relay` is closed at once.
///
/// # Errors
/// It can't be made there.
pub fn bind(run: &Path) -> anyhow::Result<UnixListener> {
    let path = Folders::join_socket(run);
    let folder = path.parent().unwrap_or(run);
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))?;
    files::remove_if_exists(&path)?;
    let socket = UnixListener::bind(&path)?;
    // Connecting takes the right to write (unix(7)).
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

impl Joins {
    /// With these limits.
    pub fn new(limits: Limits, metrics: Metrics) -> Arc<Self> {
        let rates = (Throttle::new(limits.of_address, ADDRESSES), Throttle::new(limits.of_all, 1));
        Arc::new(Self {
            limits,
            metrics,
            places: Arc::new(Semaphore::new(limits.boxes)),
            rates: Mutex::new(rates),
            panels: Mutex::default(),
            came: Notify::new(),
        })
    }

    /// Takes in for ever the boxes that a Unix user of this number brings.
    pub async fn serve(self: Arc<Self>, socket: UnixListener, relay: u32) {
        loop {
            match socket.accept().await {
                Ok((stream, _)) => match is_of(&stream, relay) {
                    Ok(()) => self.take_in(stream),
                    Err(error) => {
                        self.metrics.join("not-relay");
                        tracing::warn!(%error, "who is not the relay was refused");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "can't take in a box");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take_in(self: &Arc<Self>, stream: UnixStream) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.join("full");
            return tracing::warn!(
                boxes = self.limits.boxes,
                "a box was closed: too many are there"
            );
        };
        let joins = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = joins.bring(stream, place).await {
                joins.metrics.join(error.word());
                tracing::warn!(error = host::seam::chain(&error), "a box was closed");
            }
        });
    }

    async fn bring(
        &self,
        mut stream: UnixStream,
        place: OwnedSemaphorePermit,
    ) -> Result<(), Error> {
        let said = tokio::time::timeout(self.limits.address_timeout, read_address(&mut stream));
        let address = said.await.map_err(|_elapsed| Error::Slow)??;
        self.admit(address)?;
        let (limits, metrics) = (self.limits, self.metrics.clone());
        let waiting = Waiting { address, stream, limits, metrics, _place: place };
        let handed = tokio::time::timeout(self.limits.panel_timeout, self.hand_over(waiting)).await;
        handed.map_err(|_elapsed| Error::NoPanel)
    }

    fn admit(&self, address: IpAddr) -> Result<(), Error> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let (addresses, all) = &mut *rates;
        let now = Instant::now();
        all.look(&(), now).map_err(|_wait| Error::OftenInAll)?;
        addresses.attempt(&network(address), now).map_err(|_wait| Error::Often)?;
        all.attempt(&(), now).map_err(|_wait| Error::OftenInAll)
    }

    async fn hand_over(&self, mut waiting: Waiting) {
        loop {
            // Before looking, so that no request that comes meanwhile is missed.
            let came = self.came.notified();
            let next = self.panels().pop_front();
            let Some(panel) = next else {
                came.await;
                continue;
            };
            match panel.send(waiting) {
                Ok(()) => return,
                // That request is gone.
                Err(back) => waiting = back,
            }
        }
    }

    /// Waits for a box, up to so long.
    ///
    /// # Errors
    /// Too many others wait.
    pub async fn next(&self, patience: Duration) -> Result<Option<Waiting>, TooMany> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut panels = self.panels();
            panels.retain(|panel| !panel.is_closed());
            if panels.len() >= self.limits.panels {
                return Err(TooMany(panels.len()));
            }
            panels.push_back(sender);
        }
        self.came.notify_waiters();
        let waited = tokio::time::timeout(patience, receiver).await;
        Ok(waited.ok().and_then(Result::ok))
    }

    fn panels(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Waiting>>> {
        self.panels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Lets the box and the panel talk, as much and as long as they may.
    pub async fn talk(self, panel: impl AsyncRead + AsyncWrite, mut session: Session) {
        let Self { address, stream, limits, metrics, _place } = self;
        let (from_box, to_box) = tokio::io::split(stream);
        let (from_panel, to_panel) = tokio::io::split(panel);
        let both = async {
            tokio::try_join!(
                pass(from_box, to_panel, limits.bytes),
                pass(from_panel, to_box, limits.bytes),
            )
        };
        let reason = tokio::select! {
            passed = both => match passed {
                Ok(_bytes) => "done",
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => "too-much",
                Err(_) => "broken",
            },
            () = session.refused() => "refused",
            () = tokio::time::sleep(limits.total_timeout) => "too-long",
        };
        metrics.join(reason);
        tracing::info!(%address, reason, "a box talked to the panel");
    }
}

/// Passes on what comes until its end, and that there is an end.
async fn pass(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    most: u64,
) -> io::Result<u64> {
    let mut bounded = from.take(most.saturating_add(1));
    let passed = tokio::io::copy(&mut bounded, &mut to).await?;
    if passed > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    to.shutdown().await?;
    Ok(passed)
}

/// The first line: the address and nothing else. Byte by byte, because what follows is for the panel.
async fn read_address(stream: &mut UnixStream) -> Result<IpAddr, Error> {
    let mut line = Vec::new();
    while line.len() < ADDRESS_BYTES {
        match stream.read_u8().await? {
            b'\n' => {
                let text = std::str::from_utf8(&line).map_err(|_| Error::Address)?;
                let address: IpAddr = text.parse().map_err(|_| Error::Address)?;
                return Ok(address.to_canonical());
            }
            byte => line.push(byte),
        }
    }
    Err(Error::Address)
}
