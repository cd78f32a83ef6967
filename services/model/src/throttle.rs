//! How often somebody may try: sign-ins, codes. A pure state machine over the clock it is given; its memory is bounded, whoever
//! asks.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// How often one key may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many tries at once.
    pub burst: u32,
    /// How long until one more is allowed.
    pub every: Duration,
}

/// Come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tries; wait {} s", seconds(.0))]
pub struct Wait(pub Duration);

impl Wait {
    /// Whether the same may do later: it is all that this error says.
    pub fn retryable(&self) -> bool {
        true
    }
}

/// Rounded up, as `Retry-After` wants it.
fn seconds(wait: &Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// Whom an address is counted as: what one customer of the internet has, an IPv4 address, or a /64 of IPv6 (RFC 6177, 2).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// One rate for many keys, by the generic cell rate algorithm (ITU-T I.371): one time is kept for each key, the one at which it
/// will have been quiet for long enough to have its whole burst again.
#[derive(Debug)]
pub struct Throttle<K> {
    rate: Rate,
    capacity: usize,
    quiet_at: HashMap<K, Instant>,
}

impl<K: Eq + Hash + Clone> Throttle<K> {
    /// Remembers `capacity` keys at the most.
    pub fn new(rate: Rate, capacity: usize) -> Self {
        Self { rate, capacity: capacity.max(1), quiet_at: HashMap::new() }
    }

    /// Whether `key` may try now; nothing is counted.
    ///
    /// # Errors
    /// It has to wait.
    pub fn look(&self, key: &K, now: Instant) -> Result<(), Wait> {
        let Some(quiet) = self.quiet_at.get(key) else { return Ok(()) };
        let debt = quiet.saturating_duration_since(now);
        let allowed = self.rate.every.saturating_mul(self.rate.burst.saturating_sub(1));
        match debt.saturating_sub(allowed) {
            Duration::ZERO => Ok(()),
            wait => Err(Wait(wait)),
        }
    }

    /// Counts a try of `key`. A refused one costs nothing, so that the wait that was told stays true.
    ///
    /// # Errors
    /// It has to wait.
    pub fn attempt(&mut self, key: &K, now: Instant) -> Result<(), Wait> {
        self.look(key, now)?;
        if !self.quiet_at.contains_key(key) && self.quiet_at.len() >= self.capacity {
            self.make_room(now);
        }
        let quiet = self.quiet_at.entry(key.clone()).or_insert(now);
        *quiet = (*quiet).max(now) + self.rate.every;
        Ok(())
    }

    /// Forgets what `key` tried.
    pub fn forget(&mut self, key: &K) {
        self.quiet_at.remove(key);
    }

    /// Drops those that are quiet, and if none is, the tenth that is nearest to it: who floods the table with new keys drives out
    /// other new keys, not those that are being held back. One sweep serves many calls.
    fn make_room(&mut self, now: Instant) {
        self.quiet_at.retain(|_, quiet| *quiet > now);
        if self.quiet_at.len() < self.capacity {
            return;
        }
        let mut times: Vec<_> = self.quiet_at.values().copied().collect();
        let tenth = self.capacity / 10;
        let (_, limit, _) = times.select_nth_unstable(tenth);
        let limit = *limit;
        let mut room = tenth + 1;
        self.quiet_at.retain(|_, quiet| {
            let keep = *quiet > limit || room == 0;
            room -= usize::from(!keep);
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RATE: Rate = Rate { burst: 3, every: Duration::from_secs(60) };

    #[test]
    fn a_burst_is_allowed_and_then_one_try_at_a_time() {
        let begin = Instant::now();
        let mut throttle = Throttle::new(RATE, 10);
        for _ in 0..3 {
            throttle.attempt(&1, begin).unwrap();
        }
        assert_eq!(throttle.attempt(&1, begin), Err(Wait(60 * SECOND)));
        assert_eq!(throttle.attempt(&1, begin + 59 * SECOND), Err(Wait(SECOND)));
        throttle.attempt(&1, begin + 60 * SECOND).unwrap();
        assert_eq!(throttle.attempt(&1, begin + 60 * SECOND), Err(Wait(60 * SECOND)));
        throttle.attempt(&2, begin).unwrap();
    }

    #[test]
    fn who_is_quiet_has_the_whole_burst_again_and_no_more() {
        let begin = Instant::now();
        let mut throttle = Throttle::new(RATE, 10);
        for start in [begin, begin + 3600 * SECOND] {
            let allowed = (0..10).filter(|_| throttle.attempt(&1, start).is_ok()).count();
            assert_eq!(allowed, 3);
        }
    }

    #[test]
    fn a_flood_of_keys_stays_within_the_memory_and_frees_nobody_who_waits() {
        let begin = Instant::now();
        let mut throttle = Throttle::new(RATE, 100);
        while throttle.attempt(&0, begin).is_ok() {}
        for key in 1..5000 {
            throttle.attempt(&key, begin).unwrap();
            assert!(throttle.quiet_at.len() <= 100);
        }
        assert!(throttle.attempt(&0, begin).is_err());
    }

    #[test]
    fn a_full_table_of_equals_makes_room_without_losing_all() {
        let begin = Instant::now();
        let mut throttle = Throttle::new(RATE, 100);
        for key in 0..101 {
            throttle.attempt(&key, begin).unwrap();
        }
        assert_eq!(throttle.quiet_at.len(), 90);
    }

    proptest! {
        #[test]
        fn no_key_ever_gets_more_than_its_rate(gaps in proptest::collection::vec(0_u64..200, 1..200)) {
            let begin = Instant::now();
            let mut throttle = Throttle::new(RATE, 10);
            let (mut now, mut allowed) = (begin, 0_u64);
            for gap in gaps {
                now += Duration::from_millis(500 * gap);
                allowed += u64::from(throttle.attempt(&1, now).is_ok());
            }
            let passed = now.duration_since(begin).as_secs();
            prop_assert!(allowed <= 3 + passed / 60);
        }
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_as_none() {
        assert_eq!(Wait(Duration::from_millis(1)).to_string(), "too many tries; wait 1 s");
    }
}
