//! The service at work: puts its parts together, in the order that lets nobody in before it is known who may come, and tells
//! systemd when it is ready.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use host::{
    cmd::{self, Program},
    iptables::Chains,
    service,
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    api::{self, Api},
    broker::{self, Broker},
    crowd,
    faults::Faults,
    folders::Folders,
    isolation,
    joins::{self, Joins},
    metrics::Metrics,
    owner::{Beginning, Clock, MakeUsers, Owner},
    pair::Desk,
    ports::Ports,
    seed, serve,
    serve::Server,
    standing::{self, Screen},
    status::Board,
    users::{self, JOIN_UID},
};

/// What the service is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where its files lie.
    pub folders: Folders,
    /// The seed file.
    pub seed: PathBuf,
    /// Where the API listens.
    pub api: SocketAddr,
    /// The user that brings boxes which join, by number.
    pub relay: u32,
    /// Whom it tells how it stands, by the number of the Unix user.
    pub reader: u32,
    /// Whose listeners lead to servers.
    pub ports: Ports,
    /// What streams may use up.
    pub streams: broker::Limits,
    /// What boxes that join may use up.
    pub joins: joins::Limits,
    /// What who connects may use up.
    pub connections: serve::Limits,
}

impl Settings {
    /// As on an appliance, in these folders.
    pub fn new(folders: Folders, seed: PathBuf, api: SocketAddr) -> Self {
        Self {
            folders,
            seed,
            api,
            relay: JOIN_UID,
            reader: 0,
            ports: Ports::default(),
            streams: broker::Limits::default(),
            joins: joins::Limits::default(),
            connections: serve::Limits::default(),
        }
    }
}

/// The service, with its sockets open.
#[derive(Debug)]
pub struct Service {
    /// Where the API listens.
    pub address: SocketAddr,
    owner: Arc<Owner>,
    faults: Faults,
    tasks: JoinSet<()>,
}

/// How often it is looked whether the panel came from where it shall come from.
const LOOK_FOR_PANEL: Duration = Duration::from_secs(5);

/// What the service starts.
const PROGRAMS: &[Program] = &[
    Program::IptablesRestore,
    Program::IptablesSave,
    Program::Ip6tablesRestore,
    Program::Ip6tablesSave,
];

/// Milliseconds since 1970; 0 when the clock is set before that.
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    })
}

impl Service {
    /// Brings the kept table's users, then opens the sockets.
    ///
    /// # Errors
    /// The state is damaged, or a socket can't be made.
    pub async fn start(
        settings: Settings,
        clock: Clock,
        make_users: MakeUsers,
    ) -> anyhow::Result<Self> {
        let folders = settings.folders.clone();
        let faults = Faults::default();
        let beginning = Beginning {
            folders: folders.clone(),
            seed: seed::open(&settings.seed),
            clock: Arc::clone(&clock),
            make_users,
            faults: faults.clone(),
        };
        let owner = tokio::task::spawn_blocking(move || Owner::open(beginning)).await?;
        let owner = Arc::new(owner.context("the tunnel can't start with the state it has")?);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (table, ports, streams) = (owner.table(), settings.ports.clone(), settings.streams);
        let broker = Broker::new(table, ports, streams, metrics.clone(), clock);
        let board = Arc::new(Board::new(Arc::clone(&owner), broker.clone(), faults.clone()));
        board.refresh();
        let joins = Joins::new(settings.joins, metrics.clone());
        let desk = Desk::new(Arc::clone(&owner), folders.host_key(), metrics.clone());
        let screen = Screen {
            owner: Arc::clone(&owner),
            host_key: folders.host_key(),
            faults: faults.clone(),
            reader: settings.reader,
        };
        let server = Server::new(settings.connections, owner.door(), metrics);
        let (parts_joins, parts_board) = (Arc::clone(&joins), Arc::clone(&board));
        let whose = Arc::clone(&owner);
        let router = api::router(Arc::new(Api { owner, desk, broker, joins, board, registry }));

        let listener = TcpListener::bind(settings.api)
            .await
            .with_context(|| format!("can't listen at {}", settings.api))?;
        let address = listener.local_addr()?;
        let join_socket = joins::bind(&folders.run).context("can't listen for boxes that join")?;
        let screen_socket = standing::bind(&folders.run)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(listener, router));
        tasks.spawn(parts_joins.serve(join_socket, settings.relay));
        tasks.spawn(screen.serve(screen_socket));
        tasks.spawn(parts_board.keep());
        Ok(Self { address, owner: whose, faults, tasks })
    }

    /// Runs until a part ends, which none does by itself.
    pub async fn ended(&mut self) {
        let _ended = self.tasks.join_next().await;
    }
}

/// Runs until it is told to stop.
///
/// # Errors
/// A program is missing, the service can't start, or a part of it ended.
pub async fn run(settings: Settings, ssh_port: u16) -> anyhow::Result<()> {
    let missing = cmd::missing(PROGRAMS);
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    anyhow::ensure!(missing.is_empty(), "these programs are not installed: {}", names.join(", "));
    let make_users = users_in(settings.folders.clone());
    let mut running = Service::start(settings, wall_clock(), make_users).await?;
    let isolation = Isolation::new(&running, ssh_port);
    // Whoever waits for the service to be ready, as sshd does, finds it shut in. Until then the panel and the screen see why not.
    tokio::select! {
        () = service::stopped() => return Ok(()),
        () = isolation.begin() => {}
    }
    tracing::info!(api = %running.address, "ready");
    service::ready();
    tokio::select! {
        () = service::stopped() => tracing::info!("stopping"),
        () = service::keep_alive(|| true) => {}
        () = crowd::keep_thin() => {}
        () = isolation.keep() => anyhow::bail!("nobody keeps the tunnel's rules any more"),
        () = running.ended() => anyhow::bail!("a part of the tunnel ended by itself; see the log"),
    }
    service::stopping();
    Ok(())
}

/// The users of a table, and the end of the sessions of those who left it.
fn users_in(folders: Folders) -> MakeUsers {
    Box::new(move |before, now| {
        let applied = users::apply(&folders, before, now)?;
        let users::Applied { added, removed, ended, sweep } = applied;
        tracing::info!(added, removed, ended, "servers may come in");
        tokio::spawn(sweep.follow());
        Ok(())
    })
}

/// The rules of who may connect to what, as they follow from whose the tunnel is and from its table.
#[derive(Debug)]
struct Isolation {
    owner: Arc<Owner>,
    faults: Faults,
    api_port: u16,
    ssh_port: u16,
}

impl Isolation {
    fn new(service: &Service, ssh_port: u16) -> Self {
        Self {
            owner: Arc::clone(&service.owner),
            faults: service.faults.clone(),
            api_port: service.address.port(),
            ssh_port,
        }
    }

    fn chains(&self) -> Chains {
        let broker = rustix::process::geteuid().as_raw();
        let paired = self.owner.door().borrow().is_paired();
        let force = self.owner.table().borrow().clone();
        let table = (paired && !self.owner.panel_is_away()).then(|| force.table());
        isolation::chains(broker, self.api_port, self.ssh_port, table)
    }

    /// Ends when they are in place.
    async fn begin(&self) {
        loop {
            let faults = isolation::ensure(&self.chains()).await;
            let done = faults.is_empty();
            self.tell(faults);
            if done {
                return;
            }
            tokio::time::sleep(isolation::PERIOD).await;
        }
    }

    /// Keeps them for ever.
    async fn keep(self) {
        let (mut table, mut door) = (self.owner.table(), self.owner.door());
        let (wanted, chains) = watch::channel(self.chains());
        let (tell, mut told) = watch::channel(Vec::new());
        let mut keeping = std::pin::pin!(isolation::keep(chains, tell));
        loop {
            tokio::select! {
                () = &mut keeping => return,
                _changed = table.changed() => {}
                _changed = door.changed() => {}
                _changed = told.changed() => self.tell(told.borrow_and_update().clone()),
                () = tokio::time::sleep(LOOK_FOR_PANEL) => {}
            }
            self.tell_of_panel();
            let now = self.chains();
            wanted.send_if_modified(|chains| {
                let changed = *chains != now;
                *chains = now;
                changed
            });
        }
    }

    fn tell_of_panel(&self) {
        let away = "the panel has not come from its addresses for long: the API is open to whoever has its certificate";
        let away = self.owner.panel_is_away().then(|| away.to_owned());
        self.faults.set("panel away", Vec::from_iter(away));
    }

    fn tell(&self, seen: Vec<String>) {
        self.faults.set("isolation", seen);
    }
}
