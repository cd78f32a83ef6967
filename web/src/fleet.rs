//! The link to the fleet as the service runs it: under the panel's certificate for its agents, which it renews before it ends
//! and when it was taken back, and until the service stops. Whatever the link sees is told to those who watch the console.

use std::{sync::Arc, time::SystemTime};

use panel::{
    ca::Kind,
    fleet::{Direct, Fleet},
    tunnels::{Authorities, Routed, Tunnels},
};
use tokio::sync::watch;

use crate::{
    app::App,
    arrivals,
    authorities::{self, Client},
    folder::Folder,
    serve::Offer,
};

/// Where the others answer.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Agents.
    pub agents: u16,
    /// The APIs of tunnels.
    pub tunnels: u16,
}

/// What the link begins with.
#[derive(Debug)]
pub struct Link {
    /// The panel's certificate for agents and tunnels.
    pub client: Client,
    /// Where these answer.
    pub ports: Ports,
    /// What boxes that join through tunnels are served with.
    pub offer: Offer,
}

/// Keeps the servers and the tunnels until the service stops, and serves boxes that join through these.
pub async fn keep(app: App, folder: Folder, link: Link, mut stopped: watch::Receiver<()>) {
    let Link { mut client, ports, offer } = link;
    app.tunnels_answer_at(ports.tunnels);
    let of = app.clone();
    let authorities: Authorities = Arc::new(move || of.ca());
    let identity = client.identity.clone();
    let (tunnels, arrivals) =
        Tunnels::start(app.shared(), Arc::clone(&authorities), identity, ports.tunnels);
    let boxes = tokio::spawn(arrivals::serve(app.clone(), offer, arrivals));
    let routed = Routed { through: tunnels.link(), direct: Direct { port: ports.agents } };
    let fleet = Fleet::start(app.shared(), authorities, routed, client.identity.clone());
    let (mut changes, mut sights) = (app.panel().changes(), app.panel().sights());
    let mut presences = tunnels.presences();
    loop {
        let look = tokio::select! {
            // The channel's only message is its end.
            _end = stopped.changed() => break,
            changed = changes.changed() => changed.is_ok(),
            _seen = sights.changed() => false,
            _seen = presences.changed() => false,
            () = tokio::time::sleep(authorities::LOOK_EVERY) => true,
        };
        app.changed();
        if look && let Some(next) = renewed(&app, &folder, &client).await {
            fleet.renew(next.identity.clone());
            tunnels.renew(next.identity.clone());
            client = next;
        }
    }
    fleet.stop().await;
    tunnels.stop().await;
    boxes.abort();
}

/// Another certificate, where that is due; and the list of what was taken back is brought up to date.
async fn renewed(app: &App, folder: &Folder, client: &Client) -> Option<Client> {
    let (app, folder, certificate) = (app.clone(), folder.clone(), client.certificate.clone());
    let made = tokio::task::spawn_blocking(move || -> anyhow::Result<Option<Client>> {
        let now = SystemTime::now();
        authorities::revocations(&folder, (app.box_key(), &app.ca(), app.panel()), now)?;
        let due = Kind::Fleet.renewal_due(certificate.validity().not_after, now);
        if !due && !app.panel().is_revoked(certificate.serial())? {
            return Ok(None);
        }
        let next = authorities::client(&folder, app.box_key(), &app.ca(), app.panel(), now)?;
        Ok(Some(next))
    });
    let error = match made.await {
        Ok(Ok(made)) => return made,
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    };
    tracing::error!(
        error = format!("{error:#}"),
        "the certificate for agents, or what was taken back, can't be brought up to date"
    );
    None
}
