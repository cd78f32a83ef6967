//! What a service of a box and systemd tell each other: that it is ready (sd_notify(3)), that it lives, and that it shall stop. It
//! starts and stops nothing itself.

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// Says that the service is ready, for those that are ordered behind it.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// Says that the service stops.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

/// Waits until somebody asks the service to stop.
pub async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Tells systemd's watchdog that the service lives, for as long as it does.
pub async fn keep_alive(lives: impl Fn() -> bool) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut tick = tokio::time::interval(period / 3);
    loop {
        tick.tick().await;
        if lives() {
            notify(NotifyState::Watchdog);
        }
    }
}

fn notify(state: NotifyState<'_>) {
    // Without systemd there is nobody to tell.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}
