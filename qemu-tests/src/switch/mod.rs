//! Owns a learning Ethernet switch in user space that joins QEMU machines (`-netdev stream`) and in-process taps.
//! Needs no privileges; knows nothing above Ethernet. A port can lose, delay and cut; all that passes can go to a pcap.

mod pcap;
mod port;

pub use port::{Plug, Tap};

use crate::background;
use anyhow::{Context, Result};
use pcap::Pcap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// Frames that wait for a port; more are dropped, as by a real switch.
const QUEUE_FRAMES: usize = 4096;
/// IEEE 802.3: addresses and type, without which a frame has no destination.
const HEADER_BYTES: usize = 14;

type Frame = Arc<[u8]>;
type Address = [u8; 6];

/// What a port does to the frames that enter and leave it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fault {
    /// Part of the frames that is lost, 0.0 to 1.0, in each direction.
    pub loss: f64,
    /// Time that each frame takes more, in each direction.
    pub delay: Duration,
    /// Nothing passes.
    pub cut: bool,
}

/// What has happened on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames that the machine sent.
    pub received: u64,
    /// Frames handed to the machine.
    pub sent: u64,
    /// Frames lost by the port's [`Fault`].
    pub lost: u64,
    /// Frames dropped because the queue to the machine was full.
    pub overflowed: u64,
}

/// A switch; clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Switch {
    fabric: Arc<Mutex<Fabric>>,
}

#[derive(Debug, Default)]
struct Fabric {
    ports: Vec<PortState>,
    learned: HashMap<Address, usize>,
    pcap: Option<Pcap>,
}

#[derive(Debug)]
struct PortState {
    queue: mpsc::Sender<(Instant, Frame)>,
    fault: Fault,
    counters: Counters,
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

impl Switch {
    /// A switch without ports.
    pub fn new() -> Self {
        Self { fabric: Arc::default() }
    }

    /// Writes every frame that enters from now on to `path`, the first `snap_bytes` of each.
    pub fn record(&self, path: &Path, snap_bytes: u32) -> Result<()> {
        self.fabric().pcap = Some(Pcap::create(path, snap_bytes)?);
        Ok(())
    }

    /// Adds a port for a QEMU machine, which connects to the Unix socket `path` and may leave and come again.
    pub fn plug(&self, path: &Path) -> Result<Plug> {
        let listener = {
            let _guard = background::enter();
            UnixListener::bind(path)
                .with_context(|| format!("cannot listen on {}", path.display()))?
        };
        let (port, queue) = self.add_port();
        let serving = background::spawn(port::serve_machines(self.clone(), port, listener, queue));
        Ok(Plug::new(self.clone(), port, path.to_owned(), serving))
    }

    /// Adds a port that the test itself sends and receives on.
    pub fn tap(&self) -> Tap {
        let (port, queue) = self.add_port();
        Tap::new(self.clone(), port, queue)
    }

    fn add_port(&self) -> (usize, mpsc::Receiver<(Instant, Frame)>) {
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES);
        let mut fabric = self.fabric();
        fabric.ports.push(PortState {
            queue,
            fault: Fault::default(),
            counters: Counters::default(),
        });
        (fabric.ports.len() - 1, frames)
    }

    fn fabric(&self) -> MutexGuard<'_, Fabric> {
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_fault(&self, port: usize, change: impl FnOnce(&mut Fault)) {
        let mut fabric = self.fabric();
        if let Some(state) = fabric.ports.get_mut(port) {
            change(&mut state.fault);
        }
    }

    fn counters(&self, port: usize) -> Counters {
        self.fabric().ports.get(port).map(|state| state.counters).unwrap_or_default()
    }

    fn forget_addresses_of(&self, port: usize) {
        self.fabric().learned.retain(|_, learned| *learned != port);
    }

    fn enter(&self, port: usize, frame: &[u8]) {
        self.fabric().forward(port, frame);
    }
}

impl Fabric {
    fn forward(&mut self, from: usize, frame: &[u8]) {
        let Some((destination, source)) = addresses(frame) else { return };
        let Some(origin) = self.ports.get_mut(from) else { return };
        origin.counters.received += 1;
        if origin.fault.loses() {
            origin.counters.lost += 1;
            return;
        }
        let due = Instant::now() + origin.fault.delay;
        if !is_group(source) {
            self.learned.insert(source, from);
        }
        if let Some(pcap) = &mut self.pcap {
            pcap.write(frame);
        }
        let frame: Frame = frame.into();
        match self.learned.get(&destination) {
            Some(&to) if !is_group(destination) => {
                if to != from {
                    self.leave(to, due, frame);
                }
            }
            _ => {
                for to in (0..self.ports.len()).filter(|to| *to != from) {
                    self.leave(to, due, Arc::clone(&frame));
                }
            }
        }
    }

    fn leave(&mut self, to: usize, due: Instant, frame: Frame) {
        let Some(port) = self.ports.get_mut(to) else { return };
        if port.fault.loses() {
            port.counters.lost += 1;
            return;
        }
        match port.queue.try_send((due + port.fault.delay, frame)) {
            Ok(()) => port.counters.sent += 1,
            Err(mpsc::error::TrySendError::Full(_)) => port.counters.overflowed += 1,
            // The tap was dropped or the plug was pulled.
            Err(mpsc::error::TrySendError::Closed(_)) => port.counters.lost += 1,
        }
    }
}

impl Fault {
    fn loses(&self) -> bool {
        self.cut || (self.loss > 0.0 && rand::random::<f64>() < self.loss)
    }
}

fn addresses(frame: &[u8]) -> Option<(Address, Address)> {
    if frame.len() < HEADER_BYTES {
        return None;
    }
    let (destination, rest) = frame.split_first_chunk::<6>()?;
    Some((*destination, *rest.first_chunk::<6>()?))
}

/// Broadcast and multicast addresses have the lowest bit of the first byte set.
fn is_group(address: Address) -> bool {
    let [first, ..] = address;
    first & 1 == 1
}

#[cfg(test)]
mod tests;
