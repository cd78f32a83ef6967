//! A process whose standard input and output are one stream of bytes, and what it says beside.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{ChildStdin, ChildStdout},
    task::JoinHandle,
};

use super::Group;

/// A process that carries a connection; it and all that it started are killed when this is dropped.
pub struct Pipe {
    stdin: ChildStdin,
    stdout: ChildStdout,
    _group: Group,
}

impl Pipe {
    pub(super) fn new(stdin: ChildStdin, stdout: ChildStdout, group: Group) -> Self {
        Self { stdin, stdout, _group: group }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}

/// What a process that carries a connection says of it.
#[derive(Debug)]
pub struct Complaints(JoinHandle<String>);

impl Complaints {
    pub(super) fn new(reading: JoinHandle<String>) -> Self {
        Self(reading)
    }

    /// What it wrote to standard error until it ended: trimmed, at most [`super::STDERR_BYTES`]. It ends with its [`Pipe`].
    pub async fn text(self) -> String {
        self.0.await.unwrap_or_default()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(context)
    }
}
