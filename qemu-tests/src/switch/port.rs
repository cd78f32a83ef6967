//! Owns the two kinds of ports: a plug for a QEMU machine (frames behind a 4-byte big-endian length, QEMU's `stream`
//! netdev) and a tap for the test itself. Forwarding is the switch's business.

use super::{Counters, Frame, Switch};
use crate::background;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// QEMU's own limit (NET_BUFSIZE): 4 KiB more than the largest segment.
const LARGEST_FRAME: usize = 4096 + 65536;
/// Frames that wait are joined to writes of about this size.
const WRITE_BYTES: usize = 64 * 1024;

type Queue = mpsc::Receiver<(Instant, Frame)>;

macro_rules! port_controls {
    () => {
        /// Part of the frames to lose from now on, 0.0 to 1.0, in each direction.
        pub fn set_loss(&self, probability: f64) {
            self.switch.set_fault(self.port, |fault| fault.loss = probability);
        }

        /// Time that each frame takes more from now on, in each direction.
        pub fn set_delay(&self, delay: Duration) {
            self.switch.set_fault(self.port, |fault| fault.delay = delay);
        }

        /// Lets nothing pass any more; the machine's link stays up, as behind a broken switch.
        pub fn cut(&self) {
            self.switch.set_fault(self.port, |fault| fault.cut = true);
            self.switch.forget_addresses_of(self.port);
        }

        /// Undoes [`Self::cut`].
        pub fn restore(&self) {
            self.switch.set_fault(self.port, |fault| fault.cut = false);
        }

        /// What has happened on this port.
        pub fn counters(&self) -> Counters {
            self.switch.counters(self.port)
        }
    };
}

/// A port for one network card of a machine. Pulled when dropped.
#[derive(Debug)]
pub struct Plug {
    switch: Switch,
    port: usize,
    path: PathBuf,
    serving: JoinHandle<()>,
}

impl Plug {
    pub(super) fn new(switch: Switch, port: usize, path: PathBuf, serving: JoinHandle<()>) -> Self {
        Self { switch, port, path, serving }
    }

    /// The socket that QEMU connects to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    port_controls!();
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.serving.abort();
        self.switch.forget_addresses_of(self.port);
    }
}

/// A port on which the test itself sends and receives raw frames.
#[derive(Debug)]
pub struct Tap {
    switch: Switch,
    port: usize,
    queue: Queue,
}

impl Tap {
    pub(super) fn new(switch: Switch, port: usize, queue: Queue) -> Self {
        Self { switch, port, queue }
    }

    /// Sends a frame: destination, source, type, payload; no checksum at its end.
    pub fn send(&self, frame: &[u8]) {
        self.switch.enter(self.port, frame);
    }

    /// The next frame that reaches this port.
    pub async fn receive(&mut self, timeout: Duration) -> Result<Frame> {
        match tokio::time::timeout(timeout, self.queue.recv()).await {
            Ok(Some((due, frame))) => {
                wait_for(due).await;
                Ok(frame)
            }
            Ok(None) => bail!("the switch is gone"),
            Err(_) => bail!("no frame came within {timeout:?}"),
        }
    }

    port_controls!();
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.switch.forget_addresses_of(self.port);
    }
}

/// Serves one machine after another on the port's socket.
pub(super) async fn serve_machines(
    switch: Switch,
    port: usize,
    listener: UnixListener,
    mut queue: Queue,
) {
    while let Ok((stream, _)) = listener.accept().await {
        while queue.try_recv().is_ok() {} // what came for a machine that is gone
        serve_machine(&switch, port, stream, &mut queue).await;
        switch.forget_addresses_of(port);
    }
}

async fn serve_machine(switch: &Switch, port: usize, stream: UnixStream, queue: &mut Queue) {
    let (reader, writer) = stream.into_split();
    // A task of its own: with `select!` alone a full socket towards the machine would also stop its sending.
    let mut reading = background::spawn(read_frames(switch.clone(), port, reader));
    tokio::select! {
        _ = &mut reading => {}
        _ = write_frames(writer, queue) => {}
    }
    reading.abort();
}

async fn read_frames(switch: Switch, port: usize, reader: OwnedReadHalf) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(WRITE_BYTES, reader);
    let mut frame = Vec::new();
    loop {
        let length = reader.read_u32().await? as usize;
        if length > LARGEST_FRAME {
            return Err(std::io::Error::other(format!("a frame of {length} bytes")));
        }
        frame.resize(length, 0);
        reader.read_exact(&mut frame).await?;
        switch.enter(port, &frame);
    }
}

async fn write_frames(mut writer: OwnedWriteHalf, queue: &mut Queue) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(2 * WRITE_BYTES);
    let mut next = queue.recv().await;
    while let Some((due, frame)) = next.take() {
        wait_for(due).await;
        bytes.clear();
        append(&mut bytes, &frame);
        while bytes.len() < WRITE_BYTES {
            match queue.try_recv() {
                Ok((due, frame)) if due <= Instant::now() => append(&mut bytes, &frame),
                Ok(later) => {
                    next = Some(later);
                    break;
                }
                Err(_) => break,
            }
        }
        writer.write_all(&bytes).await?;
        if next.is_none() {
            next = queue.recv().await;
        }
    }
    Ok(())
}

/// tokio's timer rounds up to milliseconds, which would be added to each frame that is due already.
async fn wait_for(due: Instant) {
    if due > Instant::now() {
        tokio::time::sleep_until(due.into()).await;
    }
}

fn append(bytes: &mut Vec<u8>, frame: &[u8]) {
    let length =
        u32::try_from(frame.len()).expect("read_frames refuses frames that do not fit 32 bits");
    bytes.extend(length.to_be_bytes());
    bytes.extend(frame);
}
