//! Connections between processes: two ends, messages of any kind and size, and notice when the other end is gone.
//!
//! (The guided tour grows with the crate.)
#![forbid(unsafe_code)]

mod channel;
mod connection;
mod error;
mod receiver;
mod scratch;
mod sender;
mod wait;

pub use channel::{ChannelReceiver, ChannelSender, channel};
pub use connection::{Connection, pipe, simplex, unbounded};
pub use error::{ChannelError, RecvError, SendError};
pub use mp_core::shared::RegionError;
pub use receiver::Receiver;
pub use sender::Sender;
pub use wait::{Receive, Source, wait};
