//! The link to the fleet as the service runs it: under the panel's certificate for its agents, which it renews before it ends
//! and when it was taken back, and until the service stops. Whatever the link sees is told to those who watch the console.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use panel::{
    ca::Kind,
    fleet::{Direct, Fleet},
    tunnels::{Authorities, Routed, Tunnels},
};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

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
pub async fn keep(app: App, folder: Folder, link: Link, stopped: watch::Receiver<()>) {
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
    let (changes, sights) = (app.panel().changes(), app.panel().sights());
    let presences = tunnels.presences();
    let mut wake = Wake::new(authorities::LOOK_EVERY, stopped, changes, sights, presences);
    while let Some(why) = wake.next().await {
        app.changed();
        if why == Why::Look
            && let Some(next) = renewed(&app, &folder, &client).await
        {
            fleet.renew(next.identity.clone());
            tunnels.renew(next.identity.clone());
            client = next;
        }
    }
    fleet.stop().await;
    tunnels.stop().await;
    boxes.abort();
}

/// Why there is something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Something was seen, which those who watch the console are told.
    Seen,
    /// It is time to look what is due, or something was changed, as by taking a certificate back.
    Look,
}

/// What wakes the one who keeps the link.
struct Wake<C, S, P> {
    stopped: watch::Receiver<()>,
    changes: watch::Receiver<C>,
    sights: watch::Receiver<S>,
    presences: watch::Receiver<P>,
    /// Goes on whatever is seen meanwhile: a fleet is seen every second.
    round: Interval,
}

impl<C, S, P> Wake<C, S, P> {
    fn new(
        look_every: Duration,
        stopped: watch::Receiver<()>,
        changes: watch::Receiver<C>,
        sights: watch::Receiver<S>,
        presences: watch::Receiver<P>,
    ) -> Self {
        let mut round = interval(look_every);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { stopped, changes, sights, presences, round }
    }

    /// The next one; nothing when the service stops.
    async fn next(&mut self) -> Option<Why> {
        tokio::select! {
            biased;
            // The channel's only message is its end.
            _end = self.stopped.changed() => None,
            changed = self.changes.changed() => {
                Some(if changed.is_ok() { Why::Look } else { Why::Seen })
            }
            _time = self.round.tick() => Some(Why::Look),
            _seen = self.sights.changed() => Some(Why::Seen),
            _seen = self.presences.changed() => Some(Why::Seen),
        }
    }
}

/// Another certificate, where that is due; and the lists of what was taken back are brought up to date.
async fn renewed(app: &App, folder: &Folder, client: &Client) -> Option<Client> {
    let (app, folder, certificate) = (app.clone(), folder.clone(), client.certificate.clone());
    let made = tokio::task::spawn_blocking(move || -> anyhow::Result<Option<Client>> {
        let now = SystemTime::now();
        let parts = (app.box_key(), &*app.ca(), app.panel());
        // That a list can't be signed is no reason to go without a certificate.
        if let Err(error) = authorities::revocations(&folder, parts, now) {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::error!(error, "what was taken back can't be brought up to date");
        }
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
    tracing::error!(error = format!("{error:#}"), "the certificate for agents can't be renewed");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_due_is_looked_for_however_much_is_seen() {
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        let (stop, stopped) = watch::channel(());
        let (_changes, changes) = watch::channel(());
        let (seen, sights) = watch::channel(0_u64);
        let (_presences, presences) = watch::channel(());
        tokio::spawn(async move {
            while !seen.is_closed() {
                seen.send_modify(|number| *number += 1);
                tokio::task::yield_now().await;
            }
        });
        let mut wake = Wake::new(LOOK_EVERY, stopped, changes, sights, presences);
        let looks = async {
            for _ in 0..3 {
                let mut why = wake.next().await;
                while why == Some(Why::Seen) {
                    why = wake.next().await;
                }
                assert_eq!(why, Some(Why::Look));
            }
        };
        tokio::time::timeout(100 * LOOK_EVERY, looks).await.expect("time goes on meanwhile");
        drop(stop);
        assert_eq!(wake.next().await, None);
    }
}
