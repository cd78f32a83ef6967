//! How devices boot: what agents tell is kept, and shown to those who see the device.

use model::wire::{Event, EventKind};

use super::{Actor, Error, Panel};
use crate::{
    boots::{Boot, LiveBoot},
    noun::{Device, Id, Server},
    store::ToldStep,
};

impl Panel {
    /// Keeps the steps of boots that happened on a server, whatever else did; whether there was any that was not known. For the
    /// link to the fleet.
    ///
    /// # Errors
    /// The store failed.
    pub fn keep_boots(&self, server: Id<Server>, events: &[Event]) -> Result<bool, Error> {
        fn told(event: &Event) -> Option<ToldStep<'_>> {
            match &event.kind {
                EventKind::Boot { device, boot, step, message } => {
                    Some(ToldStep { device, boot, step: *step, message, time_ms: event.time_ms })
                }
                EventKind::Discovered(_)
                | EventKind::Refused { .. }
                | EventKind::Resource { .. }
                | EventKind::Applied { .. }
                | EventKind::Converged { .. } => None,
            }
        }
        let told: Vec<ToldStep<'_>> = events.iter().filter_map(told).collect();
        if told.is_empty() {
            return Ok(false);
        }
        self.store.write(|tx| {
            let mut news = false;
            for step in told {
                news |= tx.keep_step(server, step)?;
            }
            Ok(news)
        })
    }

    /// The last boots of a device, the newest first.
    ///
    /// # Errors
    /// There is no such device that the actor may see.
    pub fn boot_history(&self, actor: Actor, device: Id<Device>) -> Result<Vec<Boot>, Error> {
        self.read(actor, |work| {
            work.seen(device)?;
            Ok(work.tx.boots_of(device)?)
        })
    }

    /// The boots that are under way on devices that the actor may see, those that were heard of last first.
    ///
    /// # Errors
    /// The actor is not known.
    pub fn live_boots(&self, actor: Actor, most: usize) -> Result<Vec<LiveBoot>, Error> {
        self.read(actor, |work| {
            Ok(work.tx.live_boots(&work.scope::<Device>(), work.now_ms, most)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use model::wire::BootStep;

    use super::*;
    use crate::{
        boots::{KEPT, State},
        testing::{ROOT, device, rig},
    };

    fn step(device: &str, boot: u32, step: BootStep, time_ms: u64) -> Event {
        let kind = EventKind::Boot {
            device: device.parse().unwrap(),
            boot: format!("{boot:032x}").parse().unwrap(),
            step,
            message: if step == BootStep::Failed { "no disk".to_owned() } else { String::new() },
        };
        Event { number: 1, time_ms, kind }
    }

    #[test]
    fn what_an_agent_tells_again_changes_nothing() {
        let rig = rig();
        let pc = rig.add(device(10)).id;
        let events = [
            step("pc-10", 1, BootStep::Script, 1000),
            step("pc-10", 1, BootStep::Kernel, 1500),
            step("pc-10", 1, BootStep::Up, 9000),
            step("pc-99", 1, BootStep::Up, 9000),
        ];
        assert!(rig.panel.keep_boots(rig.server.id, &events).unwrap());
        let before = rig.panel.boot_history(ROOT, pc).unwrap();
        assert_eq!(
            (before[0].took_ms(), before[0].server_name.as_deref()),
            (Some(8000), Some("agent-1"))
        );
        let mut again = events.to_vec();
        again.iter_mut().for_each(|event| event.time_ms += 5);
        assert!(!rig.panel.keep_boots(rig.server.id, &again).unwrap());
        assert_eq!(rig.panel.boot_history(ROOT, pc).unwrap(), before);
    }

    #[test]
    fn a_device_has_its_last_boots_and_no_more() {
        let rig = rig();
        let (pc, other) = (rig.add(device(10)).id, rig.add(device(11)).id);
        let most = u32::try_from(KEPT).unwrap();
        rig.panel.keep_boots(rig.server.id, &[step("pc-11", 0, BootStep::Script, 1)]).unwrap();
        for boot in 0..most + 7 {
            let at = u64::from(boot) * 1000;
            let events = [step("pc-10", boot, BootStep::Script, at)];
            rig.panel.keep_boots(rig.server.id, &events).unwrap();
        }
        let kept = rig.panel.boot_history(ROOT, pc).unwrap();
        assert_eq!((kept.len(), kept[0].began_ms), (KEPT, u64::from(most + 6) * 1000));
        assert_eq!(rig.panel.boot_history(ROOT, other).unwrap().len(), 1);
    }

    #[test]
    fn boots_under_way_are_shown_to_those_who_see_the_device() {
        let rig = rig();
        rig.add(device(10));
        rig.add(device(11));
        rig.now.store(2_000_000, Ordering::Relaxed);
        let events = [
            step("pc-10", 1, BootStep::Script, 1_999_000),
            step("pc-11", 2, BootStep::Script, 1_999_500),
            step("pc-11", 2, BootStep::Failed, 1_999_900),
        ];
        rig.panel.keep_boots(rig.server.id, &events).unwrap();
        let viewer = rig.user("vera", "member", Some("viewer"));
        let nemo = rig.user("nemo", "member", None);
        let live = rig.panel.live_boots(viewer, 9).unwrap();
        let live: Vec<_> = live.iter().map(|live| live.name.as_str()).collect();
        assert_eq!(live, ["pc-10"], "one that failed is not under way");
        assert_eq!(rig.panel.live_boots(nemo, 9).unwrap(), []);
        let failed = rig.panel.boot_history(ROOT, Id::new(2)).unwrap().remove(0);
        assert_eq!(
            (failed.state(2_000_000), failed.message.as_deref()),
            (State::Failed, Some("no disk"))
        );
        rig.now.store(3_000_000, Ordering::Relaxed);
        assert_eq!(rig.panel.live_boots(viewer, 9).unwrap(), [], "nothing more was heard");
        let refused = rig.panel.boot_history(nemo, Id::new(1));
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }

    #[test]
    fn an_agent_whose_clock_is_broken_hurts_nobody() {
        let rig = rig();
        let pc = rig.add(device(10)).id;
        let events = [step("pc-10", 1, BootStep::Script, u64::MAX)];
        assert!(rig.panel.keep_boots(rig.server.id, &events).unwrap());
        assert_eq!(rig.panel.boot_history(ROOT, pc).unwrap().len(), 1);
    }
}
