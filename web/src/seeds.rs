//! Codes that stand in seed files of tunnels: each is tried again and again, until the tunnel is there or the code ends.

use std::{collections::BTreeMap, time::Duration};

use panel::{
    fleet::chain,
    noun::{Id, Tunnel},
    operations::{Actor, Panel},
    tunnels::pair,
};
use tokio::task::JoinSet;

use crate::{app::App, lookout::done};

const ACTOR: Actor = Actor::Panel("seed file");

/// How often: a tunnel that shows another code slows down whoever has a wrong one.
const EVERY: Duration = Duration::from_secs(20);

/// Why each tunnel is not paired yet.
type Failures = BTreeMap<Id<Tunnel>, String>;

/// Tries for ever.
pub async fn rounds(app: App) {
    let mut changes = app.panel().changes();
    let mut before = Failures::new();
    loop {
        let failures = try_all(&app).await;
        // A tunnel that is not there yet would fill the log until it is.
        for (tunnel, error) in &failures {
            if before.get(tunnel) != Some(error) {
                tracing::warn!(%tunnel, error, "the tunnel of a seed file is not paired yet");
            }
        }
        before = failures;
        // What changes the panel is many a thing; that a code was made is worth looking soon, and no more than that.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _soon = tokio::time::timeout(EVERY, changes.changed()).await;
        changes.mark_unchanged();
    }
}

/// Tries each code that waits once.
async fn try_all(app: &App) -> Failures {
    let opened = app.clone();
    let seeds = done(app, move |panel: &Panel| panel.seeds_to_try(opened.box_key())).await;
    let mut tries = JoinSet::new();
    for (tunnel, code) in seeds.unwrap_or_default() {
        let app = app.clone();
        tries.spawn(async move {
            let place = (tunnel, app.tunnels_port());
            let tried = pair(&app.shared(), ACTOR, app.ca(), place, &code).await;
            tried.map_err(|error| (tunnel, chain(&error)))
        });
    }
    let mut failures = Failures::new();
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(())) => app.changed(),
            Ok(Err((tunnel, error))) => {
                failures.insert(tunnel, error);
            }
            Err(error) => tracing::error!(%error, "pairing by a seed file died"),
        }
    }
    failures
}
