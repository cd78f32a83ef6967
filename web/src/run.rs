//! The service's life: it opens what is kept, listens, renews its certificate, and ends in good order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use panel::{
    ca::Host,
    operations::{Clock, Panel},
    secret::{ExposeSecret as _, SecretString},
    store::Store,
};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    app::App,
    authorities::{self, Client, Served},
    fleet,
    folder::{Folder, Lock},
    format, lookout, notices, redirect, restore, routes, seeds,
    serve::{Limits, Server},
};

/// The database's name in the data folder, and in a backup.
pub(crate) const DATABASE: &str = "panel.db";

/// How the service is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder with the panel's state.
    pub data: PathBuf,
    /// Where HTTPS is served.
    pub listen: SocketAddr,
    /// Where HTTP leads to HTTPS.
    pub http_listen: Option<SocketAddr>,
    /// Names and addresses beside those of the box.
    pub hosts: Vec<Host>,
    /// Where agents and tunnels answer.
    pub ports: fleet::Ports,
}

/// The clock of the box.
pub fn clock() -> Clock {
    Arc::new(|| format::ms(SystemTime::now()))
}

/// What was opened at the start.
#[derive(Debug)]
pub struct Opened {
    /// The state of the console.
    pub app: App,
    /// The code of the first start.
    pub code: SecretString,
    /// The data folder.
    pub folder: Folder,
    /// What the link to the fleet begins with.
    pub client: Client,
    served: Served,
}

/// Takes the folder, and opens what is kept there, after a restore that was decided is put in force.
fn begin(data: &Path, hosts: &[Host]) -> anyhow::Result<(Lock, Opened)> {
    let folder = Folder::open(data)?;
    let lock = folder.lock()?;
    let lock = lock.with_context(|| format!("another process has {}", data.display()))?;
    restore::place::finish(&folder, &mut |_| {}).context("a restore can't be put in force")?;
    Ok((lock, open(data, hosts)?))
}

/// Opens what is kept, and makes what is missing.
///
/// # Errors
/// The database, the key file or an authority can't be opened.
pub fn open(data: &Path, hosts: &[Host]) -> anyhow::Result<Opened> {
    let folder = Folder::open(data)?;
    let now = SystemTime::now();
    let box_key = authorities::box_key(&folder)?;
    let names = authorities::hosts(hosts);
    let ca = authorities::open(&folder, &box_key, &names, now)?;
    let panel = Panel::new(Store::open(&folder.path(DATABASE))?, clock());
    let served = authorities::serve(&folder, (&box_key, &ca, &panel), names, now)?;
    let client = authorities::client(&folder, &box_key, &ca, &panel, now)?;
    authorities::revocations(&folder, (&box_key, &ca, &panel), now)?;
    let (app, code) = App::new(panel, box_key, ca, hosts.to_vec())?;
    Ok(Opened { app, code, folder, client, served })
}

impl Opened {
    /// What HTTPS is served with now.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.served.config)
    }
}

/// Serves until SIGTERM or SIGINT, or until a backup lies ready to be begun with: whoever started the service starts it anew.
///
/// # Errors
/// What is kept can't be opened, or an address can't be listened on.
pub async fn serve(options: Options) -> anyhow::Result<()> {
    let Options { data, listen, http_listen, hosts, ports } = options;
    let told = hosts.clone();
    let (_lock, opened) = tokio::task::spawn_blocking(move || begin(&data, &told)).await??;
    announce(&opened).await;
    let listener = bind(listen).await?;
    let port = listener.local_addr()?.port();
    let plain = match http_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let mut ends = opened.app.ends();
    let (offer, offered) = watch::channel(opened.config());
    let Opened { app, folder, served, client, .. } = opened;
    let (stop, stopped) = watch::channel(());
    let (end_link, link_ended) = watch::channel(());
    let link = fleet::Link { client, ports, offer: offered.clone() };
    let link = tokio::spawn(fleet::keep(app.clone(), folder.clone(), link, link_ended));
    let seeds = tokio::spawn(seeds::rounds(app.clone()));
    let rounds = tokio::spawn(lookout::rounds(app.clone()));
    let notices = tokio::spawn(notices::deliver(app.clone()));
    let renewal = tokio::spawn(renew(app.clone(), folder, served, hosts, offer));
    let limits = Limits::default();
    let secure = Server { limits, tls: Some(offered) };
    let mut ended = stopped.clone();
    let secure = tokio::spawn(secure.serve(listener, routes::router(app), async move {
        let _end = ended.changed().await;
    }));
    let plain = plain.map(|listener| {
        let (server, mut ended) = (Server { limits, tls: None }, stopped);
        tokio::spawn(server.serve(listener, redirect::router(port), async move {
            let _end = ended.changed().await;
        }))
    });
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "can't tell systemd that we are ready");
    }
    tracing::info!(%listen, "the console is served");
    tokio::select! {
        asked = end_asked() => asked?,
        _restored = ends.wait_for(|ends| *ends) => {}
    }
    tracing::info!("ending");
    drop(stop);
    renewal.abort();
    rounds.abort();
    notices.abort();
    seeds.abort();
    secure.await?;
    if let Some(plain) = plain {
        plain.await?;
    }
    // Last, so that what the last requests saved is still told, or at least kept.
    drop(end_link);
    link.await?;
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
}

async fn end_asked() -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _signal = term.recv() => {}
        _signal = int.recv() => {}
    }
    Ok(())
}

/// The first admin proves with the code that they can read the box's log.
async fn announce(opened: &Opened) {
    let root = opened.app.ca().root().fingerprint().with_colons();
    tracing::info!(root, "the certificate authority's root has this fingerprint (SHA-256)");
    if opened.app.is_new().await.unwrap_or(false) {
        let code = opened.code.expose_secret();
        tracing::info!(code, "nobody has signed up yet: open the console and type this code");
    }
}

/// How often it is looked whether the box has other addresses. A box that was just flashed gets its own while this service starts,
/// and whoever joins asks at it.
const ADDRESSES_EVERY: Duration = Duration::from_secs(5);

/// Renews the certificate before it ends, when it was taken back, and when the box has other addresses.
async fn renew(
    app: App,
    folder: Folder,
    mut served: Served,
    told: Vec<Host>,
    offer: watch::Sender<Arc<ServerConfig>>,
) {
    let mut pause = ADDRESSES_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let now = SystemTime::now();
        let hosts = authorities::hosts(&told);
        let serial = served.certificate.serial();
        let revoked = app.ask(move |panel| panel.is_revoked(serial)).await.unwrap_or(false);
        if !revoked && !served.due(&hosts, now) {
            continue;
        }
        let (shared, folder) = (app.clone(), folder.clone());
        let made = tokio::task::spawn_blocking(move || {
            let ca = shared.ca();
            authorities::serve(&folder, (shared.box_key(), &ca, shared.panel()), hosts, now)
        });
        pause = authorities::LOOK_EVERY;
        match made.await {
            Ok(Ok(next)) => {
                offer.send_replace(Arc::clone(&next.config));
                served = next;
                pause = ADDRESSES_EVERY;
            }
            Ok(Err(error)) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(error, "the console's certificate can't be renewed");
            }
            Err(error) => tracing::error!(%error, "the renewal died"),
        }
    }
}
