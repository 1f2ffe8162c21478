//! Why a message was not put or not got.

use std::io;

use super::{RegionError, layout::Broken};

/// A message was not put.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// There was no room by the deadline.
    #[error("there is no room for the message")]
    Full,
    /// The ring was closed.
    #[error("it was closed")]
    Closed,
    /// There is no memory for the message.
    #[error("there is no memory for the message: {0}")]
    Memory(RegionError),
    /// The message's handles could not be sent.
    #[error("the message's handles could not be sent: {0}")]
    Handles(io::Error),
    /// The shared memory was overwritten.
    #[error("its shared memory is corrupt")]
    Corrupt,
}

/// No message was got.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There was none by the deadline.
    #[error("there is no message")]
    Empty,
    /// It was closed, and everything that had been put before was got.
    #[error("it was closed and is empty")]
    Closed,
    /// There is no memory for the message; it is still there.
    #[error("there is no memory for the message")]
    Memory,
    /// The message's handles could not be received; it is still there.
    #[error("the message's handles could not be received: {0}")]
    Handles(io::Error),
    /// The shared memory was overwritten.
    #[error("its shared memory is corrupt")]
    Corrupt,
}

crate::message_as_debug!(PutError, GetError);

impl From<Broken> for PutError {
    fn from(_: Broken) -> Self {
        Self::Corrupt
    }
}

impl From<Broken> for GetError {
    fn from(_: Broken) -> Self {
        Self::Corrupt
    }
}
