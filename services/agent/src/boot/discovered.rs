//! Machines that asked to boot and are not known: a bounded registry in memory. The owner saves it when it changes.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use model::{name::Mac, wire::Discovered};
use tokio::sync::watch;

use super::{text::clean, view::View};

/// How many machines are remembered; the one that asked longest ago is dropped for a new one.
pub const KEPT: usize = 10_000;
/// A machine that waits asks every few seconds; that it still does is worth saving this often.
const STILL_THERE_MS: u64 = 60_000;
const FACT_CHARACTERS: usize = 64;

/// What a machine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// SMBIOS system UUID.
    pub uuid: &'a str,
    /// SMBIOS serial number.
    pub serial: &'a str,
    /// SMBIOS manufacturer.
    pub manufacturer: &'a str,
    /// SMBIOS product.
    pub product: &'a str,
    /// iPXE's `buildarch`.
    pub arch: &'a str,
    /// iPXE's `platform`.
    pub platform: &'a str,
}

/// The registry.
#[derive(Debug)]
pub struct Discoveries {
    machines: Mutex<HashMap<Mac, Discovered>>,
    revision: watch::Sender<u64>,
}

impl Discoveries {
    /// Starts with what was saved.
    pub fn new(saved: Vec<Discovered>) -> Self {
        let machines = saved.into_iter().take(KEPT).map(|machine| (machine.mac, machine));
        Self { machines: Mutex::new(machines.collect()), revision: watch::Sender::new(0) }
    }

    /// Notes that a machine asked. Returns it, and whether that is news: it is new, or says something else of itself than before.
    pub fn seen(
        &self,
        mac: Mac,
        facts: &Facts<'_>,
        address: Ipv4Addr,
        now_ms: u64,
    ) -> (Discovered, bool) {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let before = machines.get(&mac);
        let mut machine = described(mac, facts, address, now_ms);
        // A machine whose iPXE could not send its facts this time is still the one that sent them before.
        if let Some(before) = before.filter(|_| *facts == Facts::default()) {
            machine = Discovered { address: Some(address), last_seen_ms: now_ms, ..before.clone() };
        }
        machine.first_seen_ms = before.map_or(now_ms, |before| before.first_seen_ms);
        let news = before.is_none_or(|before| !same(before, &machine));
        let worth_saving = before.is_none_or(|before| {
            news || now_ms.saturating_sub(before.last_seen_ms) >= STILL_THERE_MS
        });
        if !worth_saving {
            return (machine, false);
        }
        if before.is_none() && machines.len() >= KEPT {
            let oldest = machines.values().min_by_key(|machine| machine.last_seen_ms);
            if let Some(oldest) = oldest.map(|machine| machine.mac) {
                machines.remove(&oldest);
            }
        }
        machines.insert(mac, machine.clone());
        drop(machines);
        self.revision.send_modify(|revision| *revision += 1);
        (machine, news)
    }

    /// Drops those that are devices now.
    pub fn forget_known(&self, view: &View) {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let before = machines.len();
        machines.retain(|mac, _| view.document().device_by_mac(*mac).is_none());
        if machines.len() != before {
            self.revision.send_modify(|revision| *revision += 1);
        }
    }

    /// All of them, the one that asked first first.
    pub fn list(&self) -> Vec<Discovered> {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Discovered> = machines.values().cloned().collect();
        drop(machines);
        list.sort_by_key(|machine| (machine.first_seen_ms, machine.mac));
        list
    }

    /// Changes whenever [`Self::list`] is worth saving again.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

fn described(mac: Mac, facts: &Facts<'_>, address: Ipv4Addr, now_ms: u64) -> Discovered {
    let fact = |text: &str| clean(text, FACT_CHARACTERS);
    Discovered {
        mac,
        uuid: fact(facts.uuid).to_lowercase(),
        serial: fact(facts.serial),
        manufacturer: fact(facts.manufacturer),
        product: fact(facts.product),
        arch: fact(facts.arch),
        platform: fact(facts.platform),
        address: Some(address),
        first_seen_ms: now_ms,
        last_seen_ms: now_ms,
    }
}

fn same(before: &Discovered, now: &Discovered) -> bool {
    Discovered { last_seen_ms: before.last_seen_ms, ..now.clone() } == *before
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);

    fn mac(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        format!("52:54:{a:02x}:{b:02x}:{c:02x}:{d:02x}").parse().unwrap()
    }

    #[test]
    fn a_machine_is_news_once_and_again_when_it_says_something_else() {
        let known = Discoveries::new(vec![]);
        let facts = Facts { serial: "S1", ..Facts::default() };
        assert!(known.seen(mac(1), &facts, HERE, 5).1);
        assert!(!known.seen(mac(1), &facts, HERE, 6).1);
        let other = Facts { serial: "S2", ..Facts::default() };
        let (news, is_news) = known.seen(mac(1), &other, HERE, 7);
        assert!(is_news);
        assert_eq!((news.serial.as_str(), news.first_seen_ms, news.last_seen_ms), ("S2", 5, 7));
        let (kept, is_news) = known.seen(mac(1), &Facts::default(), HERE, 8);
        assert_eq!((kept.serial.as_str(), is_news), ("S2", false), "facts are kept");
    }

    #[test]
    fn a_machine_that_waits_is_saved_once_a_minute_and_is_no_news() {
        let known = Discoveries::new(vec![]);
        let revision = known.revision();
        known.seen(mac(1), &Facts::default(), HERE, 0);
        known.seen(mac(1), &Facts::default(), HERE, 59_999);
        assert_eq!(*revision.borrow(), 1);
        assert!(!known.seen(mac(1), &Facts::default(), HERE, 60_000).1);
        assert_eq!(*revision.borrow(), 2);
        assert_eq!(known.list()[0].last_seen_ms, 60_000);
    }

    #[test]
    fn the_registry_is_bounded_and_drops_the_one_that_asked_longest_ago() {
        let known = Discoveries::new(vec![]);
        for number in 0..=KEPT as u32 {
            known.seen(mac(number), &Facts::default(), HERE, u64::from(number));
        }
        let list = known.list();
        assert_eq!((list.len(), list[0].mac), (KEPT, mac(1)));
    }

    #[test]
    fn what_a_machine_says_is_bounded_and_cleaned() {
        let known = Discoveries::new(vec![]);
        let long = format!("a\x1b{}", "x".repeat(500));
        let facts = Facts { product: &long, ..Facts::default() };
        let (machine, _) = known.seen(mac(1), &facts, HERE, 0);
        assert_eq!(machine.product, format!("a?{}", "x".repeat(62)));
    }
}
