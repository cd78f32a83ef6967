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
use model::observed::Link;
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
    owner::{Handle, Status},
};

/// How long until an address is tried again that could not be had.
const RETRY: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted, at most: as many as the kernel allows (net.core.somaxconn, 4096 since Linux 5.4).
const BACKLOG: u32 = 4096;
/// The panel is one client, and comes with few connections.
const API_CONNECTIONS: usize = 64;

/// The ports of the boot service.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Always; 80 on an appliance.
    pub http: u16,
    /// Where there is a certificate; 443 on an appliance.
    pub https: u16,
}

/// Answers the panel while there are certificates.
pub async fn keep_api(
    router: Router,
    address: SocketAddr,
    mut offer: Offer,
    connections: Connections,
) {
    let connections_per_client = API_CONNECTIONS;
    let limits =
        Limits { connections: API_CONNECTIONS, connections_per_client, ..Limits::default() };
    while offer.wait_for(Option::is_some).await.is_ok() {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%address, %error, "the API can't listen");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        tracing::info!(%address, "API listens");
        let server = Server { limits, tls: Some(offer.clone()), connections: connections.clone() };
        let mut gone = offer.clone();
        let shutdown = async move {
            // A keeper that ended takes the agent with it.
            let _gone = gone.wait_for(Option::is_none).await;
        };
        server.serve(listener, router.clone(), shutdown).await;
        tracing::info!(%address, "API closed");
    }
}

/// A listener that stands. Dropping `stop` ends it.
struct Running {
    endpoint: Endpoint,
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
    let mut running: BTreeMap<SocketAddrV4, Running> = BTreeMap::new();
    let mut generation = None;
    loop {
        let https = offer.borrow_and_update().is_some().then_some(ports.https);
        let wanted = endpoints(&owner.view(), &status.borrow_and_update(), ports.http, https);
        running.retain(|address, running| {
            wanted.get(address) == Some(&running.endpoint) && !running.task.is_finished()
        });
        for (address, endpoint) in wanted {
            if running.contains_key(&address) {
                continue;
            }
            match listen(address) {
                Ok(listener) => {
                    tracing::info!(%address, network = %endpoint.network, "boot service listens");
                    let tls = (Some(address.port()) == https).then(|| offer.clone());
                    running.insert(address, serve(&service, listener, endpoint, tls));
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
fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // A restarted agent does not wait for the connections of the one before (TIME_WAIT).
    socket.set_reuseaddr(true)?;
    socket.bind(address.into())?;
    socket.listen(BACKLOG)
}

fn serve(
    service: &Arc<BootService<Handle>>,
    listener: TcpListener,
    endpoint: Endpoint,
    tls: Option<Offer>,
) -> Running {
    let (stop, mut stopped) = watch::channel(());
    let connections = service.metrics().connections().clone();
    let server = Server { limits: Limits::default(), tls, connections };
    let router = boot::router(Arc::clone(service), endpoint.clone());
    let shutdown = async move { while stopped.changed().await.is_ok() {} };
    let task = tokio::spawn(server.serve(listener, router, shutdown));
    Running { endpoint, _stop: stop, task }
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
