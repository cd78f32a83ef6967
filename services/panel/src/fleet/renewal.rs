//! Certificates of a server that is connected, renewed: asked for when the panel finds that one is due, and given back to the agent,
//! which puts it in force beside the connections that stand. Whether it did, it shows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{certify::Endpoint, wire};
use tokio::sync::watch;

use super::{
    Link, Shared,
    server::{Failure, Never, chain, connect},
};
use crate::store::Peer;

/// How often it is looked for what time alone makes due. Whatever fails is tried again then, too.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// What tells that something may be due.
pub(super) struct Renewed {
    /// The certificates that the agent shows.
    pub(super) certificates: watch::Receiver<BTreeMap<String, wire::Certificate>>,
    /// The number of the document that the server is to have: with it come and go the addresses that devices boot from.
    pub(super) wanted: watch::Receiver<u64>,
}

/// Renews the server's certificates for ever. That one can't be renewed ends nothing else.
pub(super) async fn keep_certified<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &watch::Receiver<Peer>,
    mut news: Renewed,
) -> Never {
    loop {
        let shown = news.certificates.borrow_and_update().clone();
        news.wanted.mark_unchanged();
        if let Err(failure) = renew_due(shared, peer, shown).await {
            let now = peer.borrow().clone();
            let error = chain(&failure);
            tracing::error!(server = %now.server, name = %now.name, error, "a certificate of the server can't be renewed");
        }
        let alive = tokio::select! {
            changed = news.certificates.changed() => changed.is_ok(),
            changed = news.wanted.changed() => changed.is_ok(),
            () = tokio::time::sleep(LOOK_EVERY) => true,
        };
        if !alive {
            // A sender that is gone took this task's handle with it.
            return std::future::pending().await;
        }
    }
}

async fn renew_due<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &watch::Receiver<Peer>,
    shown: BTreeMap<String, wire::Certificate>,
) -> Result<(), Failure> {
    let server = peer.borrow().server;
    let due = shared.at_store(move |panel| panel.renewals_due(server, &shown)).await?;
    let mut failed = None;
    for endpoint in due {
        if let Err(failure) = renew(shared, peer, endpoint).await {
            // The other one may be mended meanwhile.
            failed.get_or_insert(failure);
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn renew<L: Link>(
    shared: &Arc<Shared<L>>,
    peer: &watch::Receiver<Peer>,
    endpoint: Endpoint,
) -> Result<(), Failure> {
    let now = peer.borrow().clone();
    let mut session = connect(shared, &now).await?;
    let request = session.certificate_request(endpoint).await?;
    let (server, ca) = (now.server, (shared.authorities)());
    let given =
        shared.at_store(move |panel| panel.renew_server(&ca, server, endpoint, &request)).await?;
    if endpoint == Endpoint::Api {
        // The next connection would find a certificate that is not known to be the server's.
        let known = |now: &Peer| now.serials.contains(&given.serial);
        if peer.clone().wait_for(known).await.is_err() {
            return std::future::pending().await;
        }
    }
    session.certify(endpoint, given.chain_pem).await?;
    tracing::info!(%server, name = %now.name, %endpoint, serial = %given.serial, "the server has a new certificate");
    Ok(())
}
