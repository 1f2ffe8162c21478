//! What can go wrong with a send and with a receive.

use std::io;

use mp_core::{
    advice,
    shared::{self, RegionError},
    transfer::{DecodeError, EncodeError},
};

/// A channel could not be made.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// It could not be given its sockets.
    #[error("a channel cannot be made: it could not be given its sockets: {0}{advice}", advice = advice(.0))]
    Sockets(io::Error),
    /// ipc-channel could not be handed the sockets.
    #[error("a channel cannot be made: ipc-channel could not be handed its sockets: {0}")]
    Exchange(io::Error),
}

/// A message was not sent.
///
/// ```
/// use mp_pipe::{SendError, simplex};
///
/// let (receiver, sender) = simplex::<u8>()?;
/// drop(receiver);
/// let error = sender.send(&1).unwrap_err();
/// assert!(matches!(error, SendError::Disconnected));
/// assert_eq!(error.to_string(), "the message cannot be sent: the other end of the connection is gone");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody can receive it: the other end was dropped or its process has ended.
    #[error("the message cannot be sent: the other end of the connection is gone")]
    Disconnected,
    /// There was no room: at once for a try, else when the time-out had passed.
    #[error("the message cannot be sent now: the connection is full")]
    Full,
    /// The value could not be encoded.
    #[error("the message cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// There is no memory for the message.
    #[error("the message cannot be sent: there is no memory for it: {0}")]
    Memory(RegionError),
    /// The message's handles could not be sent.
    #[error("the message cannot be sent: its handles could not be sent: {0}")]
    Handles(io::Error),
    /// The shared memory was overwritten.
    #[error("the connection cannot be used: its shared memory is corrupt")]
    Corrupt,
}

impl From<shared::PutError> for SendError {
    fn from(error: shared::PutError) -> Self {
        match error {
            shared::PutError::Full => Self::Full,
            shared::PutError::Closed => Self::Disconnected,
            shared::PutError::Memory(cause) => Self::Memory(cause),
            shared::PutError::Handles(cause) => Self::Handles(cause),
            _ => Self::Corrupt,
        }
    }
}

/// No message was received.
///
/// ```
/// use mp_pipe::{RecvError, simplex};
///
/// let (receiver, sender) = simplex::<(u8, String)>()?;
/// sender.send_bytes(&[1])?;
/// sender.send(&(1, "the next one".to_owned()))?;
/// drop(sender);
/// // Half a message is an error, and gone; what comes behind it arrives.
/// assert!(matches!(receiver.recv(), Err(RecvError::Decode(_))));
/// assert_eq!(receiver.recv()?.1, "the next one");
/// assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// There was no message: at once for a try, else when the time-out had passed.
    #[error("there is no message on the connection")]
    Empty,
    /// Everything that was sent has been received, and there will be nothing more: the other end is gone. Python: `EOFError`.
    #[error("the connection is at its end: the other end is gone and everything that it sent was received")]
    Disconnected,
    /// This message is not what was expected; it is gone, the next one can be received.
    #[error("a message of the connection cannot be used: {0}")]
    Decode(#[from] DecodeError),
    /// The message does not fit the buffer; here it is. Python: `BufferTooShort`.
    #[error("a message of {} bytes does not fit the buffer of {buffer} bytes", message.len())]
    BufferTooShort {
        /// The whole message.
        message: Vec<u8>,
        /// How long the buffer is.
        buffer: usize,
    },
    /// There is no memory for the message; it can still be received.
    #[error("the message cannot be received: there is no memory for it")]
    Memory,
    /// The message's handles could not be received, because this process may open no more; the message is gone, the next
    /// one can be received.
    #[error("a message of the connection cannot be used: its handles could not be received: {0}")]
    Handles(io::Error),
    /// The kernel refused to wait.
    #[error("the connection cannot be waited for: {0}")]
    System(io::Error),
    /// The shared memory was overwritten.
    #[error("the connection cannot be used: its shared memory is corrupt")]
    Corrupt,
}

mp_core::message_as_debug!(ChannelError, SendError, RecvError);

impl From<shared::GetError> for RecvError {
    fn from(error: shared::GetError) -> Self {
        match error {
            shared::GetError::Empty => Self::Empty,
            shared::GetError::Closed => Self::Disconnected,
            shared::GetError::Memory => Self::Memory,
            shared::GetError::Handles(cause) => Self::Handles(cause),
            _ => Self::Corrupt,
        }
    }
}
