//! The one task that uses join codes: it asks the panel until it is answered, remembers each step before the next is taken, and
//! puts the certificates in place. What comes of it stands in [`Standing`]; a person's new code takes the place of the one in use.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use host::{hardware, netlink::Netlink, seam::chain};
use model::{
    code::{self, JoinCode, JoinSecret, Way},
    join::{Answer, Joined, Request},
    name::ServerName,
};
use rustls::pki_types::UnixTime;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    answer, backoff,
    client::{self, Patience},
    identity::{self, Identity},
    install,
    kept::{self, Kept, Step, Store},
    seed::{self, SeedJoin},
};
use crate::facts::Standing;

/// A panel is asked for a person's confirmation this often at the most, and this often at the least.
const CONFIRMED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// A code that is too old by the box's own clock, which may be wrong, is tried so many times before it is given up: about a quarter
/// of an hour, in which a network comes up and time servers answer.
const LAST_TRIES: u32 = 10;

/// Why a code is not taken.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// It can't be a join code.
    #[error(transparent)]
    Code(#[from] code::Error),
    /// The box has its panel.
    #[error("this box has joined a panel already")]
    Joined,
    /// It can't be remembered.
    #[error("the code can't be kept")]
    Kept(#[from] kept::Error),
    /// The service ends.
    #[error("this service is stopping")]
    Stopping,
}

impl OfferError {
    /// Whether the same code may be taken later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Code(_) | Self::Joined => false,
            Self::Kept(error) => error.retryable(),
            Self::Stopping => true,
        }
    }
}

/// Why a try did not end in certificates.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Panel(#[from] client::Error),
    #[error("its answer can't be used")]
    Answer(#[from] answer::Error),
    #[error("this box has no keys to ask with")]
    Identity(#[from] identity::Error),
    #[error("the answer can't be kept")]
    Kept(#[from] kept::Error),
}

impl Error {
    fn retryable(&self) -> bool {
        match self {
            Self::Panel(error) => error.retryable(),
            Self::Answer(error) => error.retryable(),
            Self::Identity(error) => error.retryable(),
            Self::Kept(error) => error.retryable(),
        }
    }
}

/// What the joiner works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The box's own state.
    pub state: PathBuf,
    /// Where the service looks for its certificates.
    pub certificates: PathBuf,
    /// The name from the seed file.
    pub name: Option<ServerName>,
    /// How long the panel may take.
    pub patience: Patience,
    /// How long to wait after so many failures in a row.
    pub pause: fn(u32) -> Duration,
}

/// The usual pause, with a chance of its own in each box.
pub fn jittered(failures: u32) -> Duration {
    backoff::pause(failures, rand::random())
}

#[derive(Debug)]
struct Offer {
    code: JoinCode,
    taken: oneshot::Sender<Result<(), OfferError>>,
}

/// The way to the joiner.
#[derive(Debug, Clone)]
pub struct Handle {
    offers: mpsc::Sender<Offer>,
    standing: watch::Receiver<Standing>,
}

impl Handle {
    /// Gives the box a code. Once this returns, the code is used, over restarts too.
    ///
    /// # Errors
    /// It is no code for this box, or the box wants none.
    pub async fn offer(&self, typed: &SecretString) -> Result<(), OfferError> {
        let code = parse(typed)?;
        let (taken, answer) = oneshot::channel();
        let sent = self.offers.send(Offer { code, taken }).await;
        sent.map_err(|_| OfferError::Stopping)?;
        answer.await.unwrap_or(Err(OfferError::Stopping))
    }

    /// How far the box has come.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

fn parse(typed: &SecretString) -> Result<JoinCode, OfferError> {
    Ok(JoinCode::parse(typed.expose_secret())?)
}

/// The task.
#[derive(Debug)]
pub struct Joiner {
    settings: Settings,
    store: Store,
    kept: Kept,
    /// Once they are made or read: the panel binds a code to them.
    identity: Option<Arc<Identity>>,
    offers: mpsc::Receiver<Offer>,
    standing: watch::Sender<Standing>,
    /// Of the code in use, in a row.
    failures: u32,
    /// The code in use leads nowhere until this service starts anew.
    given_up: bool,
}

impl Joiner {
    /// Goes on where the box was, and takes the seed file's code if it is a new one. A seed file that can't be read is told, and
    /// nothing else is done about it: a person has to mend it, or to type a code.
    ///
    /// # Errors
    /// What is remembered can't be read or written.
    pub async fn open(
        settings: Settings,
        seed: Result<Option<SeedJoin>, seed::Error>,
    ) -> Result<(Self, Handle), kept::Error> {
        let store = Store::open(&settings.state)?;
        let kept = match store.read() {
            // Whether the box has joined, its certificates still tell.
            Err(error) if !error.retryable() && !settings.certificates.join("api.crt").exists() => {
                tracing::error!(error = chain(&error), "the box begins anew");
                store.set_aside()?;
                Kept::default()
            }
            read => read?,
        };
        let (sender, offers) = mpsc::channel(1);
        let standing = watch::Sender::new(Standing::Alone);
        let handle = Handle { offers: sender, standing: standing.subscribe() };
        let mut joiner = Self {
            settings,
            store,
            kept,
            identity: None,
            offers,
            standing,
            failures: 0,
            given_up: false,
        };
        joiner.show(joiner.remembered(None));
        // Before anybody looks: a box that has joined does not open its first-boot page. What fails is tried again later.
        let _later = joiner.install().await;
        match seed {
            Ok(None) => {}
            Ok(Some(join)) => match parse(&join.code) {
                Ok(code) => joiner.take_seed(&join.code, &code).await?,
                Err(error) => joiner.tell_seed(&error),
            },
            Err(error) => joiner.tell_seed(&error),
        }
        Ok((joiner, handle))
    }

    async fn take_seed(
        &mut self,
        typed: &SecretString,
        code: &JoinCode,
    ) -> Result<(), kept::Error> {
        let mut kept = self.kept.clone();
        if kept.take_seed(typed, code) { self.keep(kept).await } else { Ok(()) }
    }

    fn tell_seed(&self, error: &dyn std::error::Error) {
        let why = chain(error);
        tracing::warn!(error = why, "no code from the seed file");
        if self.kept.step == Step::Nothing {
            self.show(Standing::Failed { why: format!("the seed file has no good code: {why}") });
        }
    }

    /// Runs until nobody can offer a code any more.
    pub async fn run(mut self) {
        while !matches!(self.kept.step, Step::Joined { .. }) {
            let pause = match self.code() {
                None => None,
                // Not in the select: the work would go on beside that of the next try, and make other keys.
                Some(code) => match self.identity().await {
                    Err(error) => self.failed(&code, &error.into()),
                    Ok(identity) => tokio::select! {
                        tried = ask(&self.settings, &identity, &code) => {
                            self.settle(&code, tried).await
                        }
                        offer = self.offers.recv() => match offer {
                            Some(offer) => {
                                self.take(offer).await;
                                continue;
                            }
                            None => return,
                        },
                    },
                },
            };
            if matches!(self.kept.step, Step::Joined { .. }) {
                break;
            }
            tokio::select! {
                () = sleep(pause) => {}
                offer = self.offers.recv() => match offer {
                    Some(offer) => self.take(offer).await,
                    None => return,
                },
            }
        }
        while let Some(pause) = self.install().await {
            if !self.refuse_until(Some(pause)).await {
                return;
            }
        }
        self.refuse_until(None).await;
    }

    /// Refuses codes for so long, or as long as anybody can offer one. Tells whether anybody still can.
    async fn refuse_until(&mut self, pause: Option<Duration>) -> bool {
        let mut over = pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut over => return true,
                offer = self.offers.recv() => match offer {
                    Some(offer) => {
                        // Who does not wait for the answer does not need it.
                        let _gone = offer.taken.send(Err(OfferError::Joined));
                    }
                    None => return false,
                },
            }
        }
    }

    /// The box's keys. Making one takes a second on a small machine.
    async fn identity(&mut self) -> Result<Arc<Identity>, identity::Error> {
        if let Some(identity) = &self.identity {
            return Ok(Arc::clone(identity));
        }
        let state = self.settings.state.clone();
        let joined = matches!(self.kept.step, Step::Joined { .. });
        let open = move || match Identity::open(&state) {
            // A box that joined has certificates for the keys that it had; another does without them.
            Err(error) if !joined && !error.retryable() => {
                tracing::error!(error = chain(&error), "new keys are made");
                Identity::set_spoilt_aside(&state)?;
                Identity::open(&state)
            }
            opened => opened,
        };
        let opened = tokio::task::spawn_blocking(open).await;
        let opened =
            opened.expect("the work returns its failures, and it is not cancelled once it runs")?;
        Ok(Arc::clone(self.identity.insert(Arc::new(opened))))
    }

    /// The code to use.
    fn code(&self) -> Option<JoinCode> {
        match &self.kept.step {
            Step::Code { code, .. } if !self.given_up => code.parse().ok(),
            _ => None,
        }
    }

    /// Takes a person's code in place of any other.
    async fn take(&mut self, offer: Offer) {
        let mut kept = self.kept.clone();
        let taken = if kept.take(&offer.code) {
            self.keep(kept).await.map_err(OfferError::Kept)
        } else {
            Err(OfferError::Joined)
        };
        // Who does not wait for the answer does not need it.
        let _gone = offer.taken.send(taken);
    }

    /// Goes by an answer. Returns when to ask again, if ever.
    async fn settle(&mut self, code: &JoinCode, tried: Result<Answer, Error>) -> Option<Duration> {
        let panel = panel_of(code);
        let (step, pause) = match tried {
            Ok(Answer::Joined(joined)) => {
                tracing::info!(panel, server = %joined.name, "joined");
                (Step::Joined { panel, joined }, None)
            }
            Ok(Answer::Waiting { retry_s }) => {
                let (often, seldom) = CONFIRMED;
                let pause = Duration::from_secs(retry_s).clamp(often, seldom);
                (self.unconfirmed()?, Some(pause))
            }
            Err(Error::Panel(error @ client::Error::Refused(_))) => {
                tracing::warn!(panel, error = chain(&error), "the code is refused");
                (Step::Refused { why: format!("the panel {panel}: {}", chain(&error)) }, None)
            }
            Err(error) => return self.failed(code, &error),
        };
        match self.keep(Kept { step, ..self.kept.clone() }).await {
            Ok(()) => pause,
            Err(error) => self.failed(code, &Error::Kept(error)),
        }
    }

    fn unconfirmed(&self) -> Option<Step> {
        match &self.kept.step {
            Step::Code { code, .. } => Some(Step::Code { code: code.clone(), unconfirmed: true }),
            _ => None,
        }
    }

    /// Tells what failed. Returns when to try again, if that may help: a panel that has the request is asked for ever, one that
    /// would not take so old a code is not.
    fn failed(&mut self, code: &JoinCode, error: &Error) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let why = chain(error);
        tracing::warn!(panel = %code.address, failures = self.failures, error = why, "not joined");
        let expired = code.expired(SystemTime::now());
        let unconfirmed = matches!(self.kept.step, Step::Code { unconfirmed: true, .. });
        if error.retryable() && (unconfirmed || !expired || self.failures < LAST_TRIES) {
            self.show(self.remembered(Some(why)));
            return Some((self.settings.pause)(self.failures));
        }
        self.given_up = true;
        let end = time::OffsetDateTime::from(code.expires);
        let (day, hour, minute) = (end.date(), end.hour(), end.minute());
        let late = if expired {
            format!(" (and the code was good until {day} {hour:02}:{minute:02} UTC)")
        } else {
            String::new()
        };
        self.show(Standing::Failed { why: format!("the panel {}: {why}{late}", panel_of(code)) });
        None
    }

    /// Puts the certificates in place, once there are some. Returns when to try that again.
    async fn install(&mut self) -> Option<Duration> {
        let Step::Joined { panel, joined } = &self.kept.step else { return None };
        let (panel, name, joined) = (panel.clone(), joined.name.to_string(), Joined::clone(joined));
        let installed = match self.identity().await {
            Ok(identity) => install(self.settings.certificates.clone(), identity, joined).await,
            Err(error) => Err(chain(&error)),
        };
        match installed {
            Ok(()) => {
                self.show(Standing::Joined { panel, name });
                None
            }
            Err(error) => {
                tracing::error!(error, "certificates not in place");
                self.failures = self.failures.saturating_add(1);
                self.show(Standing::Asking { panel, trouble: Some(error) });
                Some((self.settings.pause)(self.failures))
            }
        }
    }

    async fn keep(&mut self, kept: Kept) -> Result<(), kept::Error> {
        self.store.write(&kept).await?;
        self.kept = kept;
        (self.failures, self.given_up) = (0, false);
        if !matches!(self.kept.step, Step::Joined { .. }) {
            self.show(self.remembered(None));
        }
        Ok(())
    }

    fn remembered(&self, trouble: Option<String>) -> Standing {
        match &self.kept.step {
            Step::Nothing => Standing::Alone,
            Step::Code { code, unconfirmed } => match code.parse() {
                Err(error) => Standing::Failed { why: chain(&error) },
                Ok(code) if *unconfirmed => {
                    Standing::Unconfirmed { panel: panel_of(&code), trouble }
                }
                Ok(code) => Standing::Asking { panel: panel_of(&code), trouble },
            },
            Step::Refused { why } => Standing::Failed { why: why.clone() },
            Step::Joined { panel, .. } => Standing::Asking { panel: panel.clone(), trouble },
        }
    }

    fn show(&self, standing: Standing) {
        self.standing.send_if_modified(|shown| {
            let changed = *shown != standing;
            *shown = standing;
            changed
        });
    }
}

/// Where the panel of a code is, as people read it after "the panel".
fn panel_of(code: &JoinCode) -> String {
    match code.way {
        Way::Panel => code.address.to_string(),
        Way::Tunnel => format!("behind the tunnel {}", code.address),
    }
}

/// Without a pause, for ever.
async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

async fn ask(settings: &Settings, identity: &Identity, code: &JoinCode) -> Result<Answer, Error> {
    let links = match Netlink::default().observe().await {
        Ok(links) => links,
        Err(error) => {
            tracing::warn!(error = chain(&error), "the network cards are not told to the panel");
            Vec::new()
        }
    };
    let request = Request {
        secret: JoinSecret::new(*code.secret.bytes()),
        name: settings.name.clone(),
        certificate_request_pem: identity.api_request()?,
        boot_request_pem: Some(identity.boot_request()?),
        ssh_key: Some(identity.ssh_public()?),
        hardware: hardware::observe(Path::new("/"), &links),
    };
    let answer = client::ask(code, &request, &identity.ssh_path, settings.patience).await?;
    if let Answer::Joined(joined) = &answer {
        answer::verify(joined, code.root, identity, UnixTime::now())?;
    }
    Ok(answer)
}

async fn install(folder: PathBuf, identity: Arc<Identity>, joined: Joined) -> Result<(), String> {
    let put = move || install::install(&folder, &identity, &joined);
    match tokio::task::spawn_blocking(put).await {
        Ok(Ok(_change)) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(died) => Err(died.to_string()),
    }
}
