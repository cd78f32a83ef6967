//! The agent at work: puts the owner, the boot service, the API and the listeners together, and tells systemd when it is ready.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use host::{cmd, files, seam::Host, service, ssh::Forwarder};
use prometheus_client::registry::Registry;
use tokio::{net::UnixListener, sync::watch};

use crate::{
    api::{self, Api},
    boot::{
        BootService, ProvisionError, Provisioned, Provisioner, Settings, View,
        discovered::Discoveries, events::Events, ipxe::SCRIPT_PATIENCE_MS, metadata,
        metrics::Connections,
    },
    certificates::Certificates,
    clock, listen,
    owner::{Handle, Owner, Request},
    seed::Seed,
    store::Store,
    uplink::Uplinks,
};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The agent's state.
    pub state: PathBuf,
    /// The Unix socket of its API.
    pub socket: PathBuf,
    /// The seed file.
    pub seed: PathBuf,
    /// The iPXE binaries, for TFTP and HTTP.
    pub ipxe: PathBuf,
    /// The port of the boot service; 80 on an appliance.
    pub boot_port: u16,
    /// Its port where it has a certificate; 443 on an appliance.
    pub boot_tls_port: u16,
    /// Where the API answers the panel on loopback; over the LAN it has the same port.
    pub api: SocketAddr,
    /// The files of the ways through tunnels; made anew at each start of the machine.
    pub uplinks: PathBuf,
    /// Who keeps those ways: [`host::ssh::USER`] on an appliance; absent is who runs the agent.
    pub uplink_user: Option<u32>,
}

impl Paths {
    /// The server's name, where the initramfs finds it at the next start.
    pub fn hostname(&self) -> PathBuf {
        self.state.join("hostname")
    }

    /// The pools that are being made.
    pub fn begun(&self) -> PathBuf {
        self.state.join("pools-begun.json")
    }

    /// The dataset that is being made.
    pub fn making(&self) -> PathBuf {
        self.state.join("dataset-begun")
    }

    /// The certificates.
    pub fn tls(&self) -> PathBuf {
        self.state.join("tls")
    }
}

/// How long a device waits for its script before it is told to ask again: by far less than iPXE would wait, so that it hears why.
const PROVISION_TIMEOUT: Duration = Duration::from_secs(25);
const _: () = assert!(PROVISION_TIMEOUT.as_millis() * 2 < SCRIPT_PATIENCE_MS);
/// How long the owner may be at one step before the watchdog ends the agent: longer than any command may take.
const STUCK: Duration = Duration::from_secs(600);

impl Provisioner for Handle {
    async fn provision(
        &self,
        device: model::name::DeviceName,
        generation: u32,
        from: Ipv4Addr,
    ) -> Result<Provisioned, ProvisionError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let stopped = || ProvisionError::Failed { what: "the server is stopping".to_owned() };
        if !self.send(Request::Provision { device, generation, from, reply }).await {
            return Err(stopped());
        }
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn view(&self) -> Arc<View> {
        Self::view(self)
    }
}

/// Runs until it is told to stop. `make_host` gets the way to wake the owner.
///
/// # Errors
/// The agent can't start: its state is damaged, or its socket can't be made.
pub async fn run<H: Host>(
    paths: Paths,
    make_host: impl FnOnce(Box<dyn Fn(&'static str) + Send + Sync>) -> H,
) -> anyhow::Result<()> {
    let seed = Seed::open(&paths.seed);
    let store = Store::open(&paths.state)?;
    let events = Arc::new(Events::default());
    let discoveries = Discoveries::new(store.discovered()?);
    let settings = Settings {
        seed: metadata::Seed(store.server_seed()?),
        ipxe_folder: paths.ipxe.clone(),
        provision_timeout: PROVISION_TIMEOUT,
        clock: clock::now_ms,
    };
    let mut registry = Registry::default();
    let (owner, handle) =
        Owner::new(make_host, seed, store.clone(), Arc::clone(&events), &mut registry)?;
    let service = Arc::new(BootService::new(
        handle.clone(),
        settings,
        Arc::clone(&events),
        discoveries,
        &mut registry,
    ));
    let in_force = handle.clone();
    let revoked = move || in_force.view().document().revocation_list_pem.clone();
    let certificates = Certificates::open(&paths.tls(), Box::new(revoked));
    let api_connections = Connections::register(&mut registry, "clusterducks_api");
    let uplinks = Uplinks {
        folder: paths.tls(),
        forwarder: Forwarder { folder: paths.uplinks, user: paths.uplink_user },
        api_port: paths.api.port(),
        states: watch::Sender::default(),
    };
    let listed = Arc::clone(&service);
    let api = Arc::new(Api {
        owner: handle.clone(),
        events,
        discovered: service.discoveries().revision(),
        discoveries: Arc::new(move || listed.discoveries().list()),
        certificates: certificates.states(),
        renewals: Arc::new(certificates.renewals()),
        uplinks: uplinks.states.subscribe(),
        stranger: api_connections.stranger(),
        registry,
    });
    let router = api::router(api);
    let door = listen::Door {
        loopback: paths.api,
        link: certificates.link(),
        offer: certificates.api(),
        connections: api_connections,
    };
    let panel = listen::keep_api(router.clone(), handle.clone(), door);
    let ports = listen::Ports { http: paths.boot_port, https: paths.boot_tls_port };
    let devices =
        listen::keep_boot(Arc::clone(&service), handle.clone(), ports, certificates.boot());
    let socket = bind_socket(&paths.socket)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        if let Err(error) = axum::serve(socket, router).await {
            tracing::error!(%error, "the API's socket died");
        }
    });
    tasks.spawn(owner.run());
    tasks.spawn(keep_discovered(Arc::clone(&service), store));
    tasks.spawn(devices);
    tasks.spawn(panel);
    tasks.spawn(certificates.keep());
    tasks.spawn(uplinks.keep(handle.clone()));
    tasks.spawn(listen::keep_solicited(handle.clone()));
    tasks.spawn(service::keep_alive(move || handle.idle_for() < STUCK));
    service::ready();
    tokio::select! {
        () = service::stopped() => tracing::info!("stopping"),
        _ = tasks.join_next() => anyhow::bail!("a part of the agent ended by itself; see the log"),
    }
    service::stopping();
    Ok(())
}

/// Only root may talk to the socket: its folder is the agent's alone.
fn bind_socket(path: &Path) -> anyhow::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    files::remove_if_exists(path)?;
    let socket =
        UnixListener::bind(path).with_context(|| format!("can't listen at {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// Saves the discovered machines when the list changed, at most once a second.
async fn keep_discovered<P: Provisioner>(service: Arc<BootService<P>>, store: Store) {
    let mut revision = service.discoveries().revision();
    while revision.changed().await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        revision.mark_unchanged();
        let (list, store) = (service.discoveries().list(), store.clone());
        match tokio::task::spawn_blocking(move || store.keep_discovered(&list)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "discovered machines can't be kept"),
            Err(error) => tracing::error!(%error, "the keeper of discovered machines died"),
        }
    }
}

/// Stops with the names of the programs that are not there, rather than fail at each in the middle of a night.
///
/// # Errors
/// Some are missing.
pub fn verify_programs(programs: &[cmd::Program]) -> anyhow::Result<()> {
    let missing = cmd::missing(programs);
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    anyhow::ensure!(missing.is_empty(), "these programs are not installed: {}", names.join(", "));
    Ok(())
}
