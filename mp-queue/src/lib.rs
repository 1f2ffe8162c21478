//! Queues between processes: many producers, many consumers, any of which may be killed at any instruction.
//!
//! (The guided tour grows with the crate.)
#![forbid(unsafe_code)]

mod error;
mod lane;
mod queue;

pub use error::{GetError, PutError};
pub use mp_core::shared::RegionError;
pub use queue::{Options, Queue};
