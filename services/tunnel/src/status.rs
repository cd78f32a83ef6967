//! The status that the panel reads: put together here, and made known when it differs. Bytes alone make no other status at once,
//! or whoever waits for one would never wait.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use host::seam::chain;
use model::tunnel::Status;
use tokio::sync::watch;

use crate::{broker::Broker, faults::Faults, owner::Owner};

/// How often it is looked who is connected.
const PERIOD: Duration = Duration::from_secs(1);
/// How old counts of bytes may become in a status while nothing else changes.
const BYTES_PERIOD: Duration = Duration::from_secs(15);

/// Where the status is put together.
#[derive(Debug)]
pub struct Board {
    owner: Arc<Owner>,
    broker: Broker,
    faults: Faults,
    shown: watch::Sender<Arc<Status>>,
}

impl Board {
    /// Of these parts.
    pub fn new(owner: Arc<Owner>, broker: Broker, faults: Faults) -> Self {
        Self { owner, broker, faults, shown: watch::Sender::default() }
    }

    /// The status as it changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Status>> {
        self.shown.subscribe()
    }

    /// The status now, without waiting for the next look.
    pub fn refresh(&self) {
        self.shown.send_replace(Arc::new(self.compose()));
    }

    /// Looks for ever.
    pub async fn keep(self: Arc<Self>) {
        let (mut table, mut door) = (self.owner.table(), self.owner.door());
        let mut faults = self.faults.subscribe();
        let mut published = Instant::now();
        loop {
            self.look().await;
            let now = self.compose();
            let stale = published.elapsed() >= BYTES_PERIOD;
            let changed = self.shown.send_if_modified(|shown| {
                let differs = is_news(shown, &now, stale);
                if differs {
                    *shown = Arc::new(now);
                }
                differs
            });
            if changed {
                published = Instant::now();
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                _changed = table.changed() => {}
                _changed = door.changed() => {}
                _changed = faults.changed() => {}
            }
        }
    }

    async fn look(&self) {
        let seen = match self.broker.look().await {
            Ok(seen) => seen,
            Err(error) => vec![chain(&error)],
        };
        self.faults.set("ports", seen);
    }

    fn compose(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: self.owner.generation(),
            faults: self.faults.list(),
            agents: self.broker.agents(),
            certificate_ends_ms: self.owner.door().borrow().ends_ms,
            certificate_request_pem: self.owner.request_pem().to_owned(),
            panel_address: None,
        }
    }
}

/// Whether a status is worth telling to who has the one that is shown. `stale`: that one was shown for long.
fn is_news(shown: &Status, now: &Status, stale: bool) -> bool {
    if stale { shown != now } else { without_bytes(shown) != without_bytes(now) }
}

fn without_bytes(status: &Status) -> Status {
    let mut status = status.clone();
    for agent in status.agents.values_mut() {
        (agent.sent_bytes, agent.received_bytes) = (0, 0);
    }
    status
}

/// The status as it is told to who asks from there.
pub fn told_to(status: &Status, address: IpAddr) -> Status {
    Status { panel_address: Some(address), ..status.clone() }
}

#[cfg(test)]
mod tests {
    use model::tunnel::AgentStatus;

    use super::*;

    #[test]
    fn bytes_alone_are_no_news_until_the_last_ones_are_old() {
        let with = |agent: AgentStatus| Status { agents: [(1, agent)].into(), ..Status::default() };
        let shown = with(AgentStatus::default());
        let bytes =
            with(AgentStatus { sent_bytes: 7, received_bytes: 9, ..AgentStatus::default() });
        let stream = with(AgentStatus { streams: 1, ..AgentStatus::default() });
        assert!(!is_news(&shown, &bytes, false) && is_news(&shown, &bytes, true));
        assert!(is_news(&shown, &stream, false));
        assert!(!is_news(&shown, &shown, true));
    }
}
