//! Codes that stand in seed files of tunnels: each is tried again and again, until the tunnel is there or the code ends.

use std::time::Duration;

use panel::{
    fleet::chain,
    operations::{Actor, Panel},
    tunnels::{PairError, pair},
};
use tokio::task::JoinSet;

use crate::{app::App, lookout::done};

const ACTOR: Actor = Actor::Panel("seed file");

/// How often: a tunnel that shows another code slows down whoever has a wrong one.
const EVERY: Duration = Duration::from_secs(20);

/// Tries for ever.
pub async fn rounds(app: App) {
    let mut changes = app.panel().changes();
    loop {
        try_all(&app).await;
        // What changes the panel is many a thing; that a code was made is worth looking soon, and no more than that.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _soon = tokio::time::timeout(EVERY, changes.changed()).await;
        changes.mark_unchanged();
    }
}

/// Tries each code that waits once.
async fn try_all(app: &App) {
    let opened = app.clone();
    let seeds = done(app, move |panel: &Panel| panel.seeds_to_try(opened.box_key())).await;
    let mut tries = JoinSet::new();
    for (tunnel, code) in seeds.unwrap_or_default() {
        let app = app.clone();
        tries.spawn(async move {
            let port = app.tunnels_port();
            let tried = pair(&app.shared(), ACTOR, app.ca(), (tunnel, port), &code).await;
            app.changed();
            match tried {
                Ok(()) => {}
                Err(PairError::Connection(error)) => {
                    tracing::debug!(%tunnel, error = chain(&error), "the tunnel of a seed file is not there yet");
                }
                Err(error) => {
                    tracing::warn!(%tunnel, error = chain(&error), "the code of a seed file is not taken");
                }
            }
        });
    }
    while let Some(tried) = tries.join_next().await {
        if let Err(error) = tried {
            tracing::error!(%error, "pairing by a seed file died");
        }
    }
}
