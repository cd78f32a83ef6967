//! The listeners on the network: the boot service on each network's address, the API where the panel reaches it, and the one who
//! tells devices that there is no IPv6 router. They open when what they need is there, and close when it is gone. No request is
//! understood here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use host::{seam::chain, solicit};
use model::{join, observed::Link};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    boot::{
        self, BootService, Endpoint, View,
        metrics::Connections,
        serve::{Limits, Server},
    },
    certificates::Offer,
    direct,
    owner::{Handle, Status},
};

/// How long until an address is tried again that could not be had.
const RETRY: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted, at most: as many as the kernel allows (net.core.somaxconn, 4096 since Linux 5.4).
const BACKLOG: u32 = 4096;
/// The panel is one client, and comes with few connections. In all, and of one address.
const API_CONNECTIONS: (usize, usize) = (64, 64);
/// On the LAN others may knock as well: none of them takes the panel's place.
const API_CONNECTIONS_OF_LAN: (usize, usize) = (256, 8);

/// The ports of the boot service.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Always; 80 on an appliance.
    pub http: u16,
    /// Where there is a certificate; 443 on an appliance.
    pub https: u16,
}

/// How the API is served to the panel.
#[derive(Debug)]
pub struct Door {
    /// On loopback; on other addresses the port is the same.
    pub loopback: SocketAddr,
    /// How the panel comes.
    pub link: watch::Receiver<Option<join::Link>>,
    /// The certificates.
    pub offer: Offer,
    /// Where connections are counted.
    pub connections: Connections,
}

/// Answers the panel while there are certificates: on loopback, and where it comes straight over the LAN, on the server's
/// management addresses, as they come and go.
pub async fn keep_api(router: Router, owner: Handle, mut door: Door) {
    let mut status = owner.status();
    let mut running: BTreeMap<SocketAddr, Running> = BTreeMap::new();
    let mut deaf = BTreeMap::new();
    loop {
        let wanted = door.wanted(&owner.view(), &status.borrow_and_update());
        running.retain(|address, running| wanted.contains(address) && !running.task.is_finished());
        deaf.retain(|address, _| wanted.contains(address) && !running.contains_key(address));
        for address in wanted {
            if running.contains_key(&address) {
                continue;
            }
            match listen(address) {
                Ok(listener) => {
                    tracing::info!(%address, "API listens");
                    deaf.remove(&address);
                    running.insert(address, serve(door.server(address), listener, router.clone()));
                }
                Err(error) => {
                    let why = error.to_string();
                    if deaf.insert(address, why.clone()).as_ref() != Some(&why) {
                        tracing::warn!(%address, %error, "the API can't listen");
                    }
                }
            }
        }
        let alive = tokio::select! {
            changed = status.changed() => changed.is_ok(),
            changed = door.offer.changed() => changed.is_ok(),
            changed = door.link.changed() => changed.is_ok(),
            () = tokio::time::sleep(RETRY), if !deaf.is_empty() => true,
        };
        if !alive {
            return;
        }
    }
}

impl Door {
    /// Where to listen now.
    fn wanted(&mut self, view: &View, status: &Status) -> BTreeSet<SocketAddr> {
        let mut wanted = BTreeSet::new();
        if self.offer.borrow_and_update().is_none() {
            return wanted;
        }
        wanted.insert(self.loopback);
        match *self.link.borrow_and_update() {
            Some(join::Link::Direct) => {
                let port = self.loopback.port();
                let addresses = direct::addresses(view.document(), &status.observed.links);
                wanted
                    .extend(addresses.into_iter().map(|address| SocketAddr::from((address, port))));
            }
            Some(join::Link::Tunnel) | None => {}
        }
        wanted
    }

    fn server(&self, address: SocketAddr) -> Server {
        let (connections, connections_per_client) =
            if address == self.loopback { API_CONNECTIONS } else { API_CONNECTIONS_OF_LAN };
        let limits = Limits { connections, connections_per_client, ..Limits::default() };
        Server::new(limits, Some(self.offer.clone()), self.connections.clone())
    }
}

/// A listener that stands. Dropping `stop` ends it.
struct Running {
    _stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

/// Listens on the address of each network as soon as an interface has it, and no longer than the document names it; with HTTPS
/// too while there is a certificate.
pub async fn keep_boot(
    service: Arc<BootService<Handle>>,
    owner: Handle,
    ports: Ports,
    mut offer: Offer,
) {
    let mut status = owner.status();
    let mut running: BTreeMap<SocketAddrV4, (Endpoint, Running)> = BTreeMap::new();
    let mut generation = None;
    loop {
        let https = offer.borrow_and_update().is_some().then_some(ports.https);
        let wanted = endpoints(&owner.view(), &status.borrow_and_update(), ports.http, https);
        running.retain(|address, (endpoint, running)| {
            wanted.get(address) == Some(endpoint) && !running.task.is_finished()
        });
        for (address, endpoint) in wanted {
            if running.contains_key(&address) {
                continue;
            }
            match listen(address.into()) {
                Ok(listener) => {
                    tracing::info!(%address, network = %endpoint.network, "boot service listens");
                    let tls = (Some(address.port()) == https).then(|| offer.clone());
                    let connections = service.metrics().connections().clone();
                    let server = Server::new(Limits::default(), tls, connections);
                    let router = boot::router(Arc::clone(&service), endpoint.clone());
                    running.insert(address, (endpoint, serve(server, listener, router)));
                }
                Err(error) => tracing::warn!(%address, %error, "the boot service can't listen"),
            }
        }
        let now = status.borrow().generation;
        if generation.replace(now) != Some(now) {
            service.document_changed();
        }
        let alive = tokio::select! {
            changed = status.changed() => changed.is_ok(),
            changed = offer.changed() => changed.is_ok(),
        };
        if !alive {
            return;
        }
    }
}

/// Tells the devices of the document, when they ask, that there is no IPv6 router to wait for: iPXE would wait. A system that runs
/// and asks is answered as well.
pub async fn keep_solicited(owner: Handle) {
    let mut status = owner.status();
    let mut told = false;
    while let Err(error) = answer_solicitations(&owner, &mut status).await {
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(error = chain(&error), "devices wait for an IPv6 router in vain");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Ends well when the owner is gone.
async fn answer_solicitations(
    owner: &Handle,
    status: &mut watch::Receiver<Status>,
) -> Result<(), solicit::Error> {
    let listener = solicit::Listener::open()?;
    let mut deaf = BTreeSet::new();
    loop {
        let observed = Arc::clone(&status.borrow_and_update().observed);
        for network in &owner.view().document().networks {
            let here = |link: &&Link| link.addresses.contains(&network.address);
            if let Some(link) = observed.links.iter().find(here) {
                match listener.join(&link.name) {
                    Ok(()) => drop(deaf.remove(&link.name)),
                    Err(error) => {
                        if deaf.insert(link.name.clone()) {
                            tracing::warn!(
                                error = chain(&error),
                                "devices wait for an IPv6 router in vain"
                            );
                        }
                    }
                }
            }
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return Ok(()) },
            asked = listener.next() => {
                let asked = asked?;
                let known = owner.view().document().device_by_mac(asked.mac).is_some();
                if known && let Err(error) = listener.answer(&asked) {
                    tracing::warn!(error = chain(&error), mac = %asked.mac, "a device waits for an IPv6 router");
                }
            }
        }
    }
}

/// A listener on whose connections nobody is turned away before the service has seen them: a room that is switched on comes within
/// one second, and a device whose SYN finds the queue full waits for a second before it tries again.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted agent does not wait for the connections of the one before (TIME_WAIT).
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn serve(server: Server, listener: TcpListener, router: Router) -> Running {
    let (stop, mut stopped) = watch::channel(());
    let shutdown = async move { while stopped.changed().await.is_ok() {} };
    Running { _stop: stop, task: tokio::spawn(server.serve(listener, router, shutdown)) }
}

fn endpoints(
    view: &View,
    status: &Status,
    http: u16,
    https: Option<u16>,
) -> BTreeMap<SocketAddrV4, Endpoint> {
    let here: Vec<Ipv4Addr> = status
        .observed
        .links
        .iter()
        .flat_map(|link| &link.addresses)
        .map(|address| address.addr())
        .collect();
    let networks = view.document().networks.iter();
    let served = networks.filter(|network| here.contains(&network.address.addr()));
    let mut endpoints = BTreeMap::new();
    for network in served {
        let address = network.address.addr();
        let of = |scheme: &str, port: u16, usual: u16| {
            let suffix = if port == usual { String::new() } else { format!(":{port}") };
            let base_url = format!("{scheme}://{address}{suffix}");
            (SocketAddrV4::new(address, port), Endpoint { network: network.name.clone(), base_url })
        };
        endpoints.extend([of("http", http, 80)]);
        endpoints.extend(https.map(|port| of("https", port, 443)));
    }
    endpoints
}
