//! The service at work: puts the joiner, the first-boot page, the terminals and the socket together, and tells systemd when it is
//! ready.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use host::{console, netlink::Netlink, seam::chain, service, unit};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    api::{self, Api},
    facts::{Door, Facts, Health, Kind, Standing},
    join::{
        client::Patience,
        joiner::{self, Joiner, Settings},
        kept::Store,
        seed,
    },
    page, relay, screen,
    terminals::Terminals,
};

/// How long the first-boot page tells that the box has joined.
const FAREWELL: Duration = Duration::from_secs(60);
/// How often the box looks at itself.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a new state may take to be followed by the next, before it is shown.
const SETTLED: Duration = Duration::from_millis(500);

/// How long until what could not be read at the start is tried again.
const REOPEN: Duration = Duration::from_secs(30);

/// What the service is told at its start.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What the box is.
    pub kind: Kind,
    /// The box's own state.
    pub state: PathBuf,
    /// Where the service of the box looks for its certificates.
    pub certificates: PathBuf,
    /// The seed file.
    pub seed: PathBuf,
    /// The local socket.
    pub socket: PathBuf,
    /// The port of the first-boot page, on every address.
    pub port: u16,
}

/// Runs until it is told to stop. A part that can't work is shown, and the others go on.
///
/// # Errors
/// The socket can't be made.
pub async fn run(paths: Paths) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let (standing, joiner) = match paths.kind {
        Kind::Agent => begin_joining(&paths, &mut tasks).await,
        Kind::Panel | Kind::Tunnel => (None, None),
    };
    let (door, trouble) = (watch::Sender::new(None), watch::Sender::new(None));
    let (facts, shown) = watch::channel(blank(paths.kind));
    if let Some(joiner) = &joiner {
        let settings = page::Settings {
            kind: paths.kind,
            identity: paths.state.join("page.pem"),
            address: (Ipv4Addr::UNSPECIFIED, paths.port).into(),
            farewell: FAREWELL,
        };
        tasks.spawn(page::keep(settings, joiner.clone(), door.clone(), trouble.clone()));
    }
    let terminals = console::observe().unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "nothing is shown on the box");
        Vec::new()
    });
    let looker = Looker { standing, door: door.subscribe(), trouble: trouble.subscribe(), facts };
    tasks.spawn(looker.run(Terminals::new(terminals)));
    let router = api::router(Api { facts: shown, joiner });
    let socket = api::bind(&paths.socket)?;
    tasks.spawn(async move {
        if let Err(error) = axum::serve(socket, router).await {
            tracing::error!(%error, "the local socket died");
        }
    });
    service::ready();
    tokio::select! {
        () = service::stopped() => tracing::info!("stopping"),
        _ = tasks.join_next() => anyhow::bail!("a part of the service ended by itself; see the log"),
    }
    service::stopping();
    Ok(())
}

/// Who uses join codes; when it can't begin, the screen says why.
async fn begin_joining(
    paths: &Paths,
    tasks: &mut JoinSet<()>,
) -> (Option<watch::Receiver<Standing>>, Option<joiner::Handle>) {
    let (name, code) = match seed::read(&paths.seed) {
        Ok(seed) => (seed.hostname, Ok(seed.join)),
        Err(error) => (None, Err(error)),
    };
    let settings = Settings {
        state: paths.state.clone(),
        certificates: paths.certificates.clone(),
        name,
        patience: Patience::default(),
        pause: joiner::jittered,
    };
    match Joiner::open(settings, code).await {
        Ok((joiner, handle)) => {
            tasks.spawn(joiner.run());
            (Some(handle.standing()), Some(handle))
        }
        Err(error) => {
            let why = chain(&error);
            tracing::error!(error = why, "this box can't be joined");
            if error.retryable() {
                tasks.spawn(until_readable(paths.state.clone()));
            }
            (Some(watch::channel(Standing::Failed { why }).1), None)
        }
    }
}

/// Ends, and so the service, which systemd starts anew, once what is remembered can be read.
async fn until_readable(state: PathBuf) {
    loop {
        tokio::time::sleep(REOPEN).await;
        if Store::open(&state).and_then(|store| store.read()).is_ok() {
            return tracing::info!("what this box remembers can be read: starting anew");
        }
    }
}

/// Who looks at the box, and shows what it sees.
struct Looker {
    standing: Option<watch::Receiver<Standing>>,
    door: watch::Receiver<Option<Door>>,
    /// Why the first-boot page can't be opened.
    trouble: watch::Receiver<Option<String>>,
    facts: watch::Sender<Facts>,
}

impl Looker {
    async fn run(mut self, mut terminals: Terminals) {
        loop {
            let facts = self.look().await;
            let (lines, open) = (screen::render(&facts), facts.shows_code());
            self.facts.send_replace(facts);
            let shown = tokio::task::spawn_blocking(move || {
                terminals.look(lines, open, Instant::now());
                terminals
            });
            match shown.await {
                Ok(back) => terminals = back,
                Err(error) => return tracing::error!(%error, "who writes to the terminals died"),
            }
            self.wait().await;
        }
    }

    async fn look(&mut self) -> Facts {
        let (mut health, kind) = (Health::default(), self.facts.borrow().kind);
        let links = match Netlink::default().observe().await {
            Ok(links) => Some(links),
            Err(error) => {
                health.unknown.push(chain(&error));
                None
            }
        };
        match unit::list_failed().await {
            Ok(failed) => health.failed = failed,
            Err(error) => health.unknown.push(chain(&error)),
        }
        health.unknown.extend(self.trouble.borrow().clone());
        let relay = match kind {
            Kind::Tunnel => match relay::ask(Path::new(relay::SOCKET)).await {
                Ok(relay) => Some(relay),
                Err(error) => {
                    health.unknown.push(format!("{error:#}"));
                    None
                }
            },
            Kind::Agent | Kind::Panel => None,
        };
        let before = self.facts.borrow().clone();
        if before.health != health {
            tracing::info!(failed = ?health.failed, unknown = ?health.unknown, "health");
        }
        Facts {
            name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            links,
            standing: self.standing.as_mut().map(|standing| standing.borrow_and_update().clone()),
            relay,
            door: self.door.borrow_and_update().clone(),
            health,
            ..before
        }
    }

    /// Until something changed that this service knows by itself, or it is time to look at the rest.
    async fn wait(&mut self) {
        let standing = async {
            let Some(standing) = &mut self.standing else { return std::future::pending().await };
            // What can't change any more is shown with the rest.
            if standing.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = standing => tokio::time::sleep(SETTLED).await,
            _changed = self.door.changed() => {}
        }
    }
}

fn blank(kind: Kind) -> Facts {
    Facts {
        kind,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: String::new(),
        links: None,
        standing: None,
        relay: None,
        door: None,
        health: Health::default(),
    }
}
