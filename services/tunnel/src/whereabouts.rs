//! Whether the panel still comes from where it shall come from. It reads no clock and closes nothing.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use ipnet::IpNet;

use crate::isolation;

/// How long the panel may stay away from the networks that the API is open to, in milliseconds, before it is open to all. Behind the
/// router of an office the panel's address changes, and nobody could tell the tunnel so; whoever comes still needs its certificate.
const AWAY_MS: u64 = 15 * 60 * 1000;

/// When the panel was last seen to come from one of its networks, in milliseconds since 1970.
#[derive(Debug)]
pub struct Whereabouts(AtomicU64);

impl Whereabouts {
    /// Nothing is known: the panel has its time from now on.
    pub fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// The same anew.
    pub fn forget(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::Relaxed);
    }

    /// Notes where the panel came from.
    pub fn saw(&self, from: IpAddr, networks: &[IpNet], now_ms: u64) {
        if !isolation::shuts_out(networks, from) {
            self.0.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Whether it stayed away from its networks, if it has some, for so long that it may be somewhere else. A clock that was put back
    /// keeps nobody away for longer.
    pub fn is_away(&self, networks: &[IpNet], now_ms: u64) -> bool {
        let seen = self.0.fetch_min(now_ms, Ordering::Relaxed);
        !networks.is_empty() && now_ms.saturating_sub(seen) >= AWAY_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_whose_address_changed_is_let_in_after_a_while_and_stays_so_until_its_networks_are_right()
     {
        let old: &[IpNet] = &["192.0.2.0/24".parse().unwrap()];
        let new: &[IpNet] = &["198.51.100.7/32".parse().unwrap()];
        let [home, other] = ["192.0.2.7", "198.51.100.7"].map(|text| text.parse().unwrap());
        let panel = Whereabouts::new(0);
        panel.saw(home, old, 1);
        assert!(!panel.is_away(old, AWAY_MS));
        assert!(panel.is_away(old, AWAY_MS + 1));
        panel.saw(other, old, AWAY_MS + 2);
        assert!(panel.is_away(old, AWAY_MS + 2), "it would be shut out again");
        panel.saw(other, new, AWAY_MS + 3);
        assert!(!panel.is_away(new, AWAY_MS + 3));
    }

    #[test]
    fn without_networks_nobody_is_away_and_a_clock_that_is_put_back_begins_anew() {
        let nets: &[IpNet] = &["192.0.2.0/24".parse().unwrap()];
        let panel = Whereabouts::new(10 * AWAY_MS);
        assert!(!panel.is_away(&[], u64::MAX));
        assert!(!panel.is_away(nets, AWAY_MS));
        assert!(panel.is_away(nets, 2 * AWAY_MS));
    }
}
