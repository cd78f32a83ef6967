//! Who is at the other end of a Unix socket (SO_PEERCRED, unix(7)): the kernel says it, and nobody can lie.

use std::io;

use tokio::net::UnixStream;

/// Not who may be there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not say who it is.
    #[error("it is not known who is there")]
    Unknown(#[from] io::Error),
    /// Somebody else.
    #[error("user {uid} is there")]
    Other {
        /// The number of the Unix user.
        uid: u32,
    },
}

impl Error {
    /// Whether the same may be let in later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Other { .. } => false,
        }
    }
}

/// Whether a user of this number connected.
///
/// # Errors
/// It was somebody else.
pub fn is_of(stream: &UnixStream, user: u32) -> Result<(), Error> {
    let uid = stream.peer_cred()?.uid();
    if uid == user { Ok(()) } else { Err(Error::Other { uid }) }
}
