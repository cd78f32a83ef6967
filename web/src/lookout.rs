//! The panel's rounds: it looks what is wrong whenever something is different, and at least every few seconds, for time alone makes
//! a server silent; and once a minute it takes samples.

use std::time::Duration;

use panel::{
    alerts::CertificateFacts,
    ca::Ca,
    operations::{Error, Own, Panel},
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{app::App, format::ms};

/// How often it is looked at the least.
const EVERY: Duration = Duration::from_secs(10);
/// How often at the most, however much happens.
const PAUSE: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Goes the rounds for ever.
pub async fn rounds(app: App) {
    let started_ms = app.panel().now_ms();
    let (mut changes, mut sights) = (app.panel().changes(), app.panel().sights());
    let (mut round, mut minute) = (interval(EVERY), interval(MINUTE));
    minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = minute.tick() => {
                done(&app, Panel::take_samples).await;
                continue;
            }
            _ = round.tick() => {}
            _ = changes.changed() => {}
            _ = sights.changed() => {}
        }
        if let Some(looked) = looked {
            tokio::time::sleep_until(looked + PAUSE).await;
        }
        looked = Some(Instant::now());
        let own = Own { started_ms, authorities: authorities(&app.ca()) };
        if done(&app, move |panel| panel.look_around(&own)).await == Some(true) {
            app.changed();
        }
    }
}

/// What came of it; a failure is logged, and the next round tries again.
pub(crate) async fn done<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Panel) -> Result<T, Error> + Send + 'static,
) -> Option<T> {
    let panel = app.shared();
    let done = tokio::task::spawn_blocking(move || work(&panel)).await;
    let error: anyhow::Error = match done {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    };
    tracing::error!(error = format!("{error:#}"), "the panel could not go its round");
    None
}

fn authorities(ca: &Ca) -> Vec<CertificateFacts> {
    let all = [
        ("root", ca.root()),
        ("issuing", ca.issuing().certificate()),
        ("boot authority", ca.boot().certificate()),
    ];
    let fact = |(name, certificate): (&str, &panel::ca::Certificate)| CertificateFacts {
        name: name.to_owned(),
        ends_ms: ms(certificate.validity().not_after),
    };
    all.map(fact).into()
}
