//! What happened before the panel is measured: boots of all devices, and a month of samples of the site that is looked at.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use model::wire::{BootStep, Event, EventKind, Status};
use panel::{operations::Panel, statistics::Span, store::Store};

use crate::site::{DEVICES, Site};

const BOOTS: usize = 2;
const STEPS: [BootStep; 6] = [
    BootStep::Script,
    BootStep::Kernel,
    BootStep::Initrd,
    BootStep::Network,
    BootStep::Root,
    BootStep::Up,
];

pub(crate) fn live_through(panel: &Panel, sites: &[Site]) {
    let now_ms = panel.now_ms();
    for (number, site) in sites.iter().enumerate() {
        panel.keep_boots(site.server, &boots(number, now_ms)).unwrap();
    }
    samples(panel, &sites[sites.len() / 2], now_ms);
}

fn boots(number: usize, now_ms: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for device in 0..DEVICES {
        for boot in 0..BOOTS {
            let serial = u64::try_from((number * DEVICES + device) * BOOTS + boot).unwrap();
            let began_ms = now_ms - 20 * 3_600_000 + serial * 1_000;
            for (after_s, step) in (0..).zip(STEPS) {
                let kind = EventKind::Boot {
                    device: format!("pc-{number:02}-{device:03}").parse().unwrap(),
                    boot: format!("{serial:032x}").parse().unwrap(),
                    step,
                    message: String::new(),
                };
                let number = u64::try_from(events.len()).unwrap();
                events.push(Event { number, time_ms: began_ms + after_s * 1_000, kind });
            }
        }
    }
    events
}

/// As the panel's rounds would have taken them, with a clock that runs ahead.
fn samples(panel: &Panel, site: &Site, now_ms: u64) {
    let clock = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&clock);
    let told = Arc::new(move || told.load(Ordering::Relaxed));
    let past = Panel::new(Store::open(panel.store().path()).unwrap(), told);
    let day = now_ms - Span::Day.kept_ms();
    let month = now_ms - Span::Month.kept_ms();
    let step = |span: Span| usize::try_from(span.slot_ms()).unwrap();
    let coarse = (month..day).step_by(step(Span::Month));
    for at_ms in coarse.chain((day..now_ms).step_by(step(Span::Day))) {
        clock.store(at_ms, Ordering::Relaxed);
        past.observe(site.server, &Status::default()).unwrap();
        past.take_samples().unwrap();
    }
}
