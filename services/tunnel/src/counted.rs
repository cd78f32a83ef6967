//! A connection to a server's port whose bytes are counted. It changes none of them.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::metrics::Metrics;

/// The connection, and where its bytes are counted: for its server, for all, and for itself.
#[derive(Debug)]
pub struct Counted {
    stream: TcpStream,
    sent: (Arc<AtomicU64>, Counter),
    received: (Arc<AtomicU64>, Counter),
    moved: Arc<AtomicU64>,
    failed: bool,
}

impl Counted {
    /// Counts what is written as sent, and what is read as received.
    pub fn new(
        stream: TcpStream,
        sent: Arc<AtomicU64>,
        received: Arc<AtomicU64>,
        metrics: &Metrics,
    ) -> Self {
        let (sent, received) = ((sent, metrics.sent.clone()), (received, metrics.received.clone()));
        Self { stream, sent, received, moved: Arc::default(), failed: false }
    }

    /// What has passed both ways, as it grows.
    pub fn moved(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    /// Whether it broke, and not what it was joined to.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn noted<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.failed |= matches!(result, Poll::Ready(Err(_)));
        result
    }
}

fn count((of_server, of_all): &(Arc<AtomicU64>, Counter), moved: &AtomicU64, bytes: usize) {
    let bytes = bytes as u64;
    of_server.fetch_add(bytes, Ordering::Relaxed);
    of_all.inc_by(bytes);
    moved.fetch_add(bytes, Ordering::Relaxed);
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        count(&self.received, &self.moved, buffer.filled().len() - before);
        self.noted(result)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(bytes)) = &result {
            count(&self.sent, &self.moved, *bytes);
        }
        self.noted(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
