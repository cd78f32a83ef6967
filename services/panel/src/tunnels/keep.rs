//! One tunnel's task: connects, looks, tells it who may come in, and begins anew, later and later, when that fails.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use model::tunnel::{self, Renewed, Status};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Shared, StoreError, connection, connection::Api, joins};
use crate::{
    ca::Kind,
    fleet::{Never, STEADY, State, Trouble, backoff, chain},
    noun::{Id, Tunnel},
    operations::Whose,
    store::Relay,
};

/// The least time between two certificates for a tunnel: one that it does not take is not made again and again.
const RENEW_AGAIN: Duration = Duration::from_secs(3600);

/// The least time between two statuses: one changes with every server that comes or goes.
const PACE: Duration = Duration::from_millis(500);

/// Why a tunnel is not kept up to date.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It can't be asked.
    #[error(transparent)]
    Connection(#[from] connection::Error),
    /// What it shows, or is to be told, can't be kept.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// It is somewhere else now, or a certificate of it was taken back.
    #[error("its address was changed, or its certificate was revoked")]
    Moved,
}

impl Failure {
    /// What somebody can do about it.
    fn trouble(&self) -> Trouble {
        use connection::Error;
        match self {
            Self::Connection(Error::Unreachable { .. }) => Trouble::Unreachable,
            Self::Connection(Error::Tls(_)) => Trouble::Untrusted,
            Self::Connection(Error::Certificate(_)) | Self::Moved => Trouble::Certificate,
            Self::Connection(Error::Http(_) | Error::TimedOut) => Trouble::Silent,
            Self::Connection(
                Error::Refused(_)
                | Error::Status(_)
                | Error::TooLong
                | Error::Answer(_)
                | Error::Nowhere,
            ) => Trouble::Odd,
            Self::Store(_) => Trouble::Panel,
        }
    }
}

/// Keeps a tunnel for ever.
pub(super) async fn keep(
    shared: Arc<Shared>,
    tunnel: Id<Tunnel>,
    mut relay: watch::Receiver<Relay>,
) {
    let mut failures = 0;
    loop {
        let now = relay.borrow_and_update().clone();
        let began = Instant::now();
        let failure = match run(&shared, &now, relay.clone()).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        let (why, name) = (chain(&failure), &now.name);
        let connected = note_lost(&shared, tunnel, &why, failure.trouble());
        if connected {
            tracing::warn!(%tunnel, %name, error = why, "tunnel lost");
        } else {
            tracing::debug!(%tunnel, %name, error = why, "tunnel not reached");
        }
        failures = if connected && began.elapsed() >= STEADY { 0 } else { failures + 1 };
        tokio::select! {
            () = sleep(backoff(failures, rand::random())) => {}
            () = moved(&now, relay.clone()) => failures = 0,
        }
    }
}

/// Notes that a tunnel is not there; whether it was until now.
fn note_lost(shared: &Shared, tunnel: Id<Tunnel>, why: &str, trouble: Trouble) -> bool {
    let now_ms = shared.panel.now_ms();
    let mut connected = false;
    shared.board.note(tunnel, |presence| {
        connected = presence.state == State::Connected;
        if presence.state != State::Lost {
            (presence.state, presence.since_ms) = (State::Lost, now_ms);
        }
        (presence.error, presence.trouble) = (Some(why.to_owned()), Some(trouble));
    });
    connected
}

/// Waits until what was known of a tunnel holds no more. A certificate that came to those that count takes nothing back.
async fn moved(before: &Relay, mut relay: watch::Receiver<Relay>) {
    let other = |now: &Relay| {
        (&now.host, &now.name) != (&before.host, &before.name)
            || before.serials.iter().any(|serial| !now.serials.contains(serial))
    };
    let changed = relay.wait_for(other).await.map(drop);
    if changed.is_err() {
        std::future::pending().await
    }
}

/// Connects, and keeps the tunnel up to date until something fails.
async fn run(
    shared: &Arc<Shared>,
    relay: &Relay,
    news: watch::Receiver<Relay>,
) -> Result<Never, Failure> {
    let tunnel = relay.tunnel;
    let mut api = match shared.connect(tunnel).await {
        Err(connection::Error::Certificate(shown)) => {
            let der = shown.clone();
            // It may come in the next time.
            shared.at_store(move |panel| panel.recognise(Whose::Tunnel(tunnel), &der)).await?;
            return Err(connection::Error::Certificate(shown).into());
        }
        connected => connected?,
    };
    let first = api.status(None).await?.ok_or(connection::Error::TimedOut)?;
    // Whoever let us in by our certificate has ours: it took us as its own, though its answer may have been lost.
    shared.at_store(move |panel| panel.confirm_pairing(tunnel)).await?;
    let now_ms = shared.panel.now_ms();
    shared.board.note(tunnel, |presence| {
        (presence.state, presence.since_ms) = (State::Connected, now_ms);
        (presence.error, presence.trouble) = (None, None);
    });
    tracing::info!(%tunnel, name = %relay.name, "tunnel connected");
    let (shown, generations) = watch::channel(first.1.generation);
    tokio::select! {
        failed = look(shared, relay, api, first, &shown) => failed,
        failed = tell(shared, relay, news.clone(), generations) => failed,
        never = joins::accept(shared, relay) => Ok(never),
        () = moved(relay, news) => Err(Failure::Moved),
    }
}

/// Follows the tunnel's status, and renews its certificate when that is due.
async fn look(
    shared: &Arc<Shared>,
    relay: &Relay,
    mut api: Api,
    (mut tag, mut status): (String, Status),
    shown: &watch::Sender<u64>,
) -> Result<Never, Failure> {
    let tunnel = relay.tunnel;
    let mut renewed: Option<Instant> = None;
    loop {
        let (now_ms, generation) = (shared.panel.now_ms(), status.generation);
        shared.board.note(tunnel, |presence| {
            presence.seen_ms = Some(now_ms);
            if presence.status.as_ref() != Some(&status) {
                presence.status = Some(status.clone());
            }
        });
        shared.at_store(move |panel| panel.tunnel_has(tunnel, generation)).await?;
        shown.send_if_modified(|last| std::mem::replace(last, generation) != generation);
        if renewed.is_none_or(|at| at.elapsed() > RENEW_AGAIN) && renewal_due(&status, now_ms) {
            renewed = Some(Instant::now());
            if let Err(failure) = renew(shared, relay, status.certificate_request_pem.clone()).await
            {
                let error = chain(&failure);
                tracing::error!(%tunnel, name = %relay.name, error, "the tunnel's certificate can't be renewed");
            }
        }
        if let Some((next_tag, next)) = api.status(Some(&tag)).await? {
            (tag, status) = (next_tag, next);
            sleep(PACE).await;
        }
    }
}

fn renewal_due(status: &Status, now_ms: u64) -> bool {
    let at = |ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    match (at(status.certificate_ends_ms), at(now_ms)) {
        (Some(ends), Some(now)) => Kind::Tunnel.renewal_due(ends, now),
        (None, _) | (_, None) => false,
    }
}

async fn renew(shared: &Arc<Shared>, relay: &Relay, request: String) -> Result<(), Failure> {
    let (tunnel, ca) = (relay.tunnel, (shared.authorities)());
    let made = shared.at_store(move |panel| panel.renew_tunnel(&ca, tunnel, &request)).await?;
    let told = serde_json::to_vec(&Renewed { chain_pem: made });
    let told = told.map_err(connection::Error::Answer)?;
    let mut api = shared.connect(tunnel).await?;
    api.put(tunnel::CERTIFICATE, None, told).await?;
    tracing::info!(%tunnel, name = %relay.name, "the tunnel has a new certificate");
    Ok(())
}

/// Tells the tunnel who may come in: at once, for nobody knows what it has, then each table that is new, and again when it shows
/// another. That it can't be told is shown, and tried again.
async fn tell(
    shared: &Arc<Shared>,
    relay: &Relay,
    mut news: watch::Receiver<Relay>,
    mut shown: watch::Receiver<u64>,
) -> Result<Never, Failure> {
    let tunnel = relay.tunnel;
    let (mut told, mut failures) = (None, 0);
    loop {
        let (wanted, has) = (news.borrow_and_update().generation, *shown.borrow_and_update());
        let mut wait = None;
        if told != Some(wanted) || has != wanted {
            match tell_once(shared, relay).await {
                Ok(generation) => {
                    (told, failures) = (Some(generation), 0);
                    shared.board.note(tunnel, |presence| {
                        (presence.error, presence.trouble) = (None, None);
                    });
                }
                Err(failure) => {
                    let why = chain(&failure);
                    tracing::warn!(%tunnel, name = %relay.name, error = why, "the tunnel can't be told who may come in");
                    shared.board.note(tunnel, |presence| {
                        (presence.error, presence.trouble) = (Some(why), Some(failure.trouble()));
                    });
                    wait = Some(backoff(failures, rand::random()));
                    failures += 1;
                }
            }
        }
        tokio::select! {
            () = async { match wait {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            } } => {}
            changed = news.changed() => if changed.is_err() {
                // A sender that is gone took this task's handle with it.
                return std::future::pending().await;
            },
            changed = shown.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
        }
    }
}

/// Tells the table that is kept; its number.
async fn tell_once(shared: &Arc<Shared>, relay: &Relay) -> Result<u64, Failure> {
    let tunnel = relay.tunnel;
    let kept = shared.at_store(move |panel| panel.table(tunnel)).await?;
    let (generation, body) = kept.ok_or(Failure::Moved)?;
    let mut api = shared.connect(tunnel).await?;
    api.put(tunnel::TABLE, None, body).await?;
    Ok(generation)
}
