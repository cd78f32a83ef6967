//! Boots that are over. The clone of an ephemeral device belongs to its newest boot, so that a device which runs keeps its disk when
//! the group's production moves. Once it was switched off, its boot is over, and planning makes the next clone ahead of the
//! next boot instead of in its way.
//!
//! Nothing here is kept on the disk but that a boot is over: an agent that starts anew counts the time from its start.

use std::{collections::BTreeMap, time::Duration};

use host::seam::{self, Host};
use model::{
    boot::superseded,
    name::{BootId, DeviceName},
};
use tokio::time::Instant;

use super::Owner;

/// How long a boot is without a session until it is over. A device logs in within seconds of its script; one that restarts asks for
/// a new boot, and one that lost its link gives its disk up after some minutes at the most (open-iscsi's replacement_timeout
/// is 120 s, Windows' MaxRequestHoldTime 60 s).
const UNUSED: Duration = Duration::from_secs(600);

/// Boots that the document has left behind, each with the last moment at which it was, or may have been, in use.
pub(super) type Left = BTreeMap<DeviceName, (BootId, Instant)>;

impl<H: Host> Owner<H> {
    /// Ends the boots that nobody uses any more, by the machine as it was just observed.
    pub(super) async fn end_boots(&mut self) {
        let now = Instant::now();
        let mut left = Left::new();
        for (device, boot) in superseded(&self.document, &self.boots) {
            let known = self.left.get(&device.name).filter(|(id, _)| *id == boot.id);
            let used = match known {
                Some((_, used)) if self.session(device, boot).is_none() => *used,
                _ => now,
            };
            left.insert(device.name.clone(), (boot.id.clone(), used));
        }
        self.left = left;
        let over = |(_, used): &(BootId, Instant)| now.duration_since(*used) >= UNUSED;
        let over = self.left.iter().filter(|(_, one)| over(one));
        let over: Vec<DeviceName> = over.map(|(device, _)| device.clone()).collect();
        if over.is_empty() {
            return;
        }
        tracing::info!(devices = over.len(), "boots are over, the next clones are made");
        if let Err(error) = self.forget_boots(over).await {
            tracing::error!(error = seam::chain(&error), "it can't be kept that boots are over");
        }
    }
}
