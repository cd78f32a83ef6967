//! What a connected server showed last, for those who wait for something of it.

use std::collections::BTreeMap;

use model::wire;
use tokio::sync::watch;

/// What a server showed last, of what others wait for.
#[derive(Default)]
pub(super) struct Sight {
    pub(super) generation: watch::Sender<u64>,
    pub(super) certificates: watch::Sender<BTreeMap<String, wire::Certificate>>,
}

impl Sight {
    /// Wakes those whom it is news to.
    pub(super) fn keep(&self, status: &wire::Status) {
        let Self { generation, certificates } = self;
        let number = status.generation;
        generation.send_if_modified(|last| std::mem::replace(last, number) != number);
        certificates.send_if_modified(|last| {
            let news = *last != status.certificates;
            last.clone_from(&status.certificates);
            news
        });
    }
}
