//! Boxes that join through tunnels: each stream that a tunnel hands over is TLS under the console's certificate, and inside it the
//! one request to join is answered, as from the address that the tunnel saw. Nothing else of the console is served there.

use std::{sync::Arc, time::Duration};

use panel::{throttle::network, tunnels::Arrival};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use crate::{
    app::App,
    routes,
    serve::{Clients, Limits, Offer, Server},
};

/// How many boxes are served at once; further ones wait at their tunnel.
const AT_ONCE: usize = 64;
/// How many of one client: a room of boxes may sit behind one address.
const OF_ONE_CLIENT: usize = 16;
/// So long a tunnel lets a box speak at the most.
const WHOLE: Duration = Duration::from_secs(60);

/// Serves boxes until no tunnel can bring one any more.
pub async fn serve(app: App, offer: Offer, mut arrivals: mpsc::Receiver<Arrival>) {
    let router = routes::for_boxes(app);
    let limits = Limits { head_timeout: Duration::from_secs(10), ..Limits::default() };
    let server = Server { limits, tls: Some(offer) };
    let (places, clients) = (Arc::new(Semaphore::new(AT_ONCE)), Clients::default());
    let mut boxes = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Some(Arrival { tunnel, address, stream }) = arrivals.recv().await else { break };
        while let Some(ended) = boxes.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "the task of a box that joins died");
            }
        }
        let Some(client) = clients.enter(network(address), OF_ONE_CLIENT) else {
            tracing::warn!(from = %address, %tunnel, "too many boxes of one address join at once, one was turned away");
            continue;
        };
        let (server, router) = (server.clone(), router.clone());
        boxes.spawn(async move {
            let _held = (place, client);
            if tokio::time::timeout(WHOLE, server.stream(stream, address, router)).await.is_err() {
                tracing::debug!(from = %address, %tunnel, "a box that joins took too long");
            }
        });
    }
    boxes.shutdown().await;
}
