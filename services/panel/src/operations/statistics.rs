//! Samples of servers and networks: taken once a minute of those that answer, and shown to those who see them.

use std::collections::BTreeMap;

use super::{Actor, Error, Panel};
use crate::{
    noun::{Id, Network, Server},
    sighting::Sighting,
    statistics::{NetworkSample, Sample as _, ServerSample, Span, percentile},
    store::{self, Tx},
};

/// A server that did not answer for so long is not sampled: a gap is the truth.
const ANSWERED_MS: u64 = 2 * 60_000;
/// So long ago a boot may have been that is only told of now.
const LATE_MS: u64 = 15 * 60_000;

impl Panel {
    /// Takes samples of this minute, folds them into this quarter of an hour, and forgets what is old. Taken twice in a minute,
    /// the later counts.
    ///
    /// # Errors
    /// The store failed.
    pub fn take_samples(&self) -> Result<(), Error> {
        let now_ms = (self.clock)();
        self.store.write(|tx| {
            let mut up: BTreeMap<Id<Network>, f64> = BTreeMap::new();
            for (server, network, sighting) in tx.seen_since(now_ms.saturating_sub(ANSWERED_MS))? {
                let sighting = store::sighting(sighting);
                let sample = sample(&sighting, Span::Day.slot_of(now_ms));
                *up.entry(network).or_default() += sample.devices_up;
                tx.keep_server_sample(server, Span::Day, &sample)?;
                let slot_ms = Span::Month.slot_of(now_ms);
                let minutes = tx.server_samples(server, Span::Day, slot_ms)?;
                let wide = ServerSample::merge(slot_ms, &minutes);
                tx.keep_server_sample(server, Span::Month, &wide)?;
            }
            for (network, devices_up) in up {
                sample_network(tx, network, devices_up, now_ms)?;
            }
            Ok(tx.forget_samples(now_ms)?)
        })
    }

    /// What a server was like, in the order of time.
    ///
    /// # Errors
    /// There is no such server that the actor may see.
    pub fn server_samples(
        &self,
        actor: Actor,
        server: Id<Server>,
        span: Span,
    ) -> Result<Vec<ServerSample>, Error> {
        self.read(actor, |work| {
            work.seen(server)?;
            let from_ms = work.now_ms.saturating_sub(span.kept_ms());
            Ok(work.tx.server_samples(server, span, from_ms)?)
        })
    }

    /// What a network was like, in the order of time.
    ///
    /// # Errors
    /// There is no such network that the actor may see.
    pub fn network_samples(
        &self,
        actor: Actor,
        network: Id<Network>,
        span: Span,
    ) -> Result<Vec<NetworkSample>, Error> {
        self.read(actor, |work| {
            work.seen(network)?;
            let from_ms = work.now_ms.saturating_sub(span.kept_ms());
            Ok(work.tx.network_samples(network, span, from_ms)?)
        })
    }
}

/// Numbers of bytes and machines are far below what `f64` counts exactly (2^53).
#[expect(clippy::cast_precision_loss, reason = "a chart needs no more than 53 bits")]
fn number(number: u64) -> f64 {
    number as f64
}

fn sample(sighting: &Sighting, slot_ms: u64) -> ServerSample {
    let pools = || sighting.pools.values();
    ServerSample {
        slot_ms,
        sessions: number(sighting.sessions),
        devices_up: number(sighting.devices_up),
        pool_bytes: number(pools().map(|pool| pool.size_bytes).sum()),
        used_bytes: number(pools().map(|pool| pool.used_bytes()).sum()),
        volumes_bytes: number(sighting.space.volumes),
        groups_bytes: number(sighting.space.groups),
        devices_bytes: number(sighting.space.devices),
        vdisks_bytes: number(sighting.space.vdisks),
    }
}

/// Boots are counted from their own records, so that one that is told of late is counted where it belongs.
fn sample_network(
    tx: Tx<'_>,
    network: Id<Network>,
    devices_up: f64,
    now_ms: u64,
) -> Result<(), Error> {
    let minute_ms = Span::Day.slot_of(now_ms);
    tx.keep_network_sample(
        network,
        Span::Day,
        &boots(tx, network, Span::Day, minute_ms, devices_up)?,
    )?;
    for at_ms in [now_ms.saturating_sub(LATE_MS), now_ms] {
        let slot_ms = Span::Month.slot_of(at_ms);
        let minutes = tx.network_samples(network, Span::Day, slot_ms)?;
        let inside: Vec<_> = minutes
            .into_iter()
            .filter(|minute| Span::Month.slot_of(minute.slot_ms) == slot_ms)
            .collect();
        if !inside.is_empty() {
            let devices_up = NetworkSample::merge(slot_ms, &inside).devices_up;
            let sample = boots(tx, network, Span::Month, slot_ms, devices_up)?;
            tx.keep_network_sample(network, Span::Month, &sample)?;
        }
    }
    Ok(())
}

fn boots(
    tx: Tx<'_>,
    network: Id<Network>,
    span: Span,
    slot_ms: u64,
    devices_up: f64,
) -> Result<NetworkSample, Error> {
    let until_ms = slot_ms.saturating_add(span.slot_ms());
    let (mut took, failed) = tx.boots_in(network, slot_ms, until_ms)?;
    Ok(NetworkSample {
        slot_ms,
        devices_up,
        boots: number(u64::try_from(took.len()).unwrap_or(u64::MAX)),
        failed: number(failed),
        p50_ms: percentile(&mut took, 50).map(number),
        p95_ms: percentile(&mut took, 95).map(number),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use model::wire::{BootStep, Event, EventKind, Status};

    use super::*;
    use crate::testing::{ROOT, Rig, device, rig};

    const MINUTE_MS: u64 = 60_000;
    /// The beginning of a quarter of an hour.
    const NOW: u64 = 2_000_000 * 15 * MINUTE_MS;

    fn show(rig: &Rig, at_ms: u64, sessions: usize) {
        rig.now.store(at_ms, Ordering::Relaxed);
        let mut status = Status::default();
        let name = |number| format!("iqn.2026-01.x:{number}").parse().unwrap();
        status.sessions.insert(name(999), (0..sessions).map(name).collect());
        rig.panel.observe(rig.server.id, &status).unwrap();
    }

    fn sample_at(rig: &Rig, at_ms: u64) {
        rig.now.store(at_ms, Ordering::Relaxed);
        rig.panel.take_samples().unwrap();
    }

    fn sessions(rig: &Rig, span: Span) -> Vec<(u64, f64)> {
        let samples = rig.panel.server_samples(ROOT, rig.server.id, span).unwrap();
        samples.iter().map(|s| (s.slot_ms - NOW, s.sessions)).collect()
    }

    #[test]
    fn a_minute_has_one_sample_and_a_quarter_of_an_hour_their_mean() {
        let rig = rig();
        for (minute, count) in [(0, 2), (1, 4), (2, 9)] {
            show(&rig, NOW + minute * MINUTE_MS, count);
            sample_at(&rig, NOW + minute * MINUTE_MS + 5);
            sample_at(&rig, NOW + minute * MINUTE_MS + 9);
        }
        assert_eq!(sessions(&rig, Span::Day), [(0, 2.0), (MINUTE_MS, 4.0), (2 * MINUTE_MS, 9.0)]);
        assert_eq!(sessions(&rig, Span::Month), [(0, 5.0)]);
    }

    #[test]
    fn a_server_that_does_not_answer_has_a_gap() {
        let rig = rig();
        show(&rig, NOW, 1);
        sample_at(&rig, NOW + 1);
        sample_at(&rig, NOW + ANSWERED_MS + MINUTE_MS);
        assert_eq!(sessions(&rig, Span::Day), [(0, 1.0)]);
    }

    #[test]
    fn samples_are_bounded() {
        let rig = rig();
        let mut at_ms = NOW;
        for _ in 0..1_500 {
            show(&rig, at_ms, 1);
            sample_at(&rig, at_ms);
            at_ms += MINUTE_MS;
        }
        let day = usize::try_from(Span::Day.kept_ms() / MINUTE_MS).unwrap();
        let count = rig.panel.server_samples(ROOT, rig.server.id, Span::Day).unwrap().len();
        assert!((day..=day + 1).contains(&count), "{count}");
        assert_eq!(sessions(&rig, Span::Month).len(), 100, "1,500 minutes");
        show(&rig, at_ms + Span::Month.kept_ms(), 1);
        sample_at(&rig, at_ms + Span::Month.kept_ms());
        for span in Span::ALL {
            let kept = rig.panel.store().read(|tx| tx.server_samples(rig.server.id, span, 0));
            assert_eq!(kept.unwrap().len(), 1, "what is older goes");
        }
    }

    #[test]
    fn boots_are_counted_where_they_belong_though_they_are_told_of_late() {
        let rig = rig();
        let slot_ms = Span::Month.slot_ms();
        let mut events = Vec::new();
        for number in 0..20_u64 {
            rig.add(device(u8::try_from(10 + number).unwrap()));
            let name = format!("pc-{}", 10 + number);
            for (step, after_ms) in [(BootStep::Script, 0), (BootStep::Up, 10_000 + 1_000 * number)]
            {
                let kind = EventKind::Boot {
                    device: name.parse().unwrap(),
                    boot: format!("{number:032x}").parse().unwrap(),
                    step,
                    message: String::new(),
                };
                events.push(Event { number, time_ms: NOW + 1000 + after_ms, kind });
            }
        }
        show(&rig, NOW + slot_ms - 1000, 1);
        sample_at(&rig, NOW + slot_ms - 1000);
        rig.panel.keep_boots(rig.server.id, &events).unwrap();
        sample_at(&rig, NOW + slot_ms);
        let samples = rig.panel.network_samples(ROOT, rig.network, Span::Month).unwrap();
        let told: Vec<_> =
            samples.iter().map(|s| (s.slot_ms - NOW, s.boots, s.p50_ms, s.p95_ms)).collect();
        let expected = [(0, 20.0, Some(19_000.0), Some(28_000.0)), (slot_ms, 0.0, None, None)];
        assert_eq!(told, expected);
    }

    #[test]
    fn statistics_are_for_those_who_see_the_server() {
        let rig = rig();
        let nemo = rig.user("nemo", "member", None);
        let refused = rig.panel.server_samples(nemo, rig.server.id, Span::Day);
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
        let refused = rig.panel.network_samples(nemo, rig.network, Span::Day);
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    }
}
