//! The clients of a box's own servers: how many connections each of them has, and how much is logged of those that are turned
//! away. It opens and closes nothing.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use model::throttle::{Rate, Throttle};

/// Clients that were turned away and are logged.
const LOG: Rate = Rate { burst: 20, every: Duration::from_secs(10) };

/// How much is logged of clients that are turned away: they must not fill the log, however often they come. All are counted.
#[derive(Debug, Clone)]
pub struct Complaints(Arc<Mutex<(Throttle<()>, u64)>>);

impl Default for Complaints {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((Throttle::new(LOG, 1), 0))))
    }
}

impl Complaints {
    /// Whether the next one is logged, and how many before it were not.
    pub fn next(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (throttle, untold) = &mut *told;
        if throttle.attempt(&(), now).is_ok() {
            return Some(std::mem::take(untold));
        }
        *untold += 1;
        None
    }
}

/// How many connections each client has.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Clients {
    /// Counts a connection of a client, unless it has `limit` already.
    pub fn enter(&self, address: IpAddr, limit: usize) -> Option<Client> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Client { clients: self.clone(), address })
    }
}

/// A connection, until it is dropped.
#[derive(Debug)]
pub struct Client {
    clients: Clients,
    address: IpAddr,
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut clients = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_and_again_is_logged_now_and_then_with_how_often_it_came() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let told: Vec<_> = (0..100).filter_map(|_| complaints.next(start)).collect();
        assert_eq!(told, [0; 20]);
        assert_eq!(complaints.next(start + LOG.every), Some(80));
        assert_eq!(complaints.next(start + LOG.every), None);
    }
}
