//! What can go wrong with a put and with a get.

use std::io;

use mp_core::{
    shared,
    transfer::{DecodeError, EncodeError},
};

/// A message was not put; the queue is as before.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// There was no room: at once for a try, else when the time-out had passed.
    #[error("the queue is full")]
    Full,
    /// The queue was closed.
    #[error("the queue was closed: nothing more can be put")]
    Closed,
    /// The value could not be encoded.
    #[error("the message cannot be put: {0}")]
    Encode(#[from] EncodeError),
    /// There is no memory for the message.
    #[error("the message cannot be put: there is no memory for it: {0}")]
    Memory(shared::RegionError),
    /// The message's handles could not be sent.
    #[error("the message cannot be put: its handles could not be sent: {0}")]
    Handles(io::Error),
    /// The shared memory was overwritten.
    #[error("the queue cannot be used: its shared memory is corrupt")]
    Corrupt,
}

impl From<shared::PutError> for PutError {
    fn from(error: shared::PutError) -> Self {
        match error {
            shared::PutError::Full => Self::Full,
            shared::PutError::Closed => Self::Closed,
            shared::PutError::Memory(cause) => Self::Memory(cause),
            shared::PutError::Handles(cause) => Self::Handles(cause),
            _ => Self::Corrupt,
        }
    }
}

/// No message was got.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There was no message: at once for a try, else when the time-out had passed.
    #[error("the queue is empty")]
    Empty,
    /// The queue was closed and everything that had been put was got.
    #[error("the queue was closed and is empty")]
    Closed,
    /// This message is not what was expected; it is gone, the next one can be got.
    #[error("a message of the queue cannot be used: {0}")]
    Decode(#[from] DecodeError),
    /// There is no memory for the message; it is still in the queue.
    #[error("the message cannot be got: there is no memory for it")]
    Memory,
    /// The message's handles could not be received; it is still in the queue.
    #[error("the message cannot be got: its handles could not be received: {0}")]
    Handles(io::Error),
    /// More processes than the queue can account for get from it ([`JoinableQueue`](crate::JoinableQueue) only).
    #[error("the message cannot be got: more than 1000 living processes get from this queue")]
    TooManyConsumers,
    /// The shared memory was overwritten.
    #[error("the queue cannot be used: its shared memory is corrupt")]
    Corrupt,
}

impl From<shared::GetError> for GetError {
    fn from(error: shared::GetError) -> Self {
        match error {
            shared::GetError::Empty => Self::Empty,
            shared::GetError::Closed => Self::Closed,
            shared::GetError::Memory => Self::Memory,
            shared::GetError::Handles(cause) => Self::Handles(cause),
            _ => Self::Corrupt,
        }
    }
}

/// Not all of many values were put.
#[derive(thiserror::Error)]
#[error("only the first {put} values were put: {cause}")]
#[non_exhaustive]
pub struct PutManyError {
    /// How many were put, all from the front.
    pub put: usize,
    /// Why the next one was not.
    #[source]
    pub cause: PutError,
}

/// A [`JoinableQueue`](crate::JoinableQueue) was not joined.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Processes died between getting messages and saying that they are done.
    #[error(
        "the queue's tasks are not all done: {tasks} of them went with processes that died before they said `task_done`"
    )]
    Lost {
        /// How many messages that were.
        tasks: u64,
    },
    /// Not all messages were done when the time-out had passed.
    #[error("the queue's tasks were not done in time")]
    TimedOut,
    /// The shared memory was overwritten.
    #[error("the queue cannot be joined: its shared memory is corrupt")]
    Corrupt,
}

/// `task_done` was called more often than this process has got messages.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// There is nothing that this process has got and not done.
    #[error("task_done was called more often than this process has got messages")]
    TooMany,
    /// The shared memory was overwritten.
    #[error("a task of the queue cannot be done: its shared memory is corrupt")]
    Corrupt,
}

mp_core::message_as_debug!(PutError, GetError, PutManyError, JoinError, TaskDoneError);
