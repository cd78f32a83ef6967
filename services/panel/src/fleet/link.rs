//! The way to a server: a stream of bytes to its agent's API, whatever is between. Who is at the other end is found out by TLS,
//! inside the stream; whoever carries it sees ciphertext.

use std::{io, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{
    noun::{Id, Tunnel},
    store::Peer,
};

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream to a server's agent, and how it came about.
#[derive(Debug)]
pub struct Opened<S> {
    /// The stream.
    pub stream: S,
    /// The address that the server was reached at, where that says something.
    pub address: Option<IpAddr>,
    /// The tunnel that it was reached through.
    pub tunnel: Option<Id<Tunnel>>,
}

impl<S> Opened<S> {
    /// The same with the stream as another type.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Opened<T> {
        let Self { stream, address, tunnel } = self;
        Opened { stream: change(stream), address, tunnel }
    }
}

/// A way to servers.
pub trait Link: Send + Sync + 'static {
    /// What bytes go through.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens a stream to the agent of a server.
    ///
    /// # Errors
    /// It can't be reached.
    fn open(&self, peer: &Peer) -> impl Future<Output = io::Result<Opened<Self::Stream>>> + Send;
}

/// Straight over the LAN.
#[derive(Debug, Clone, Copy)]
pub struct Direct {
    /// The port of the agents' API: [`model::join::API_PORT`] on appliances.
    pub port: u16,
}

impl Link for Direct {
    type Stream = TcpStream;

    async fn open(&self, peer: &Peer) -> io::Result<Opened<TcpStream>> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address");
        for address in &peer.addresses {
            let connect = TcpStream::connect((*address, self.port));
            match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(Opened { stream, address: Some(*address), tunnel: None });
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}
