//! Queues between processes: many producers, many consumers, any of which may be killed at any instruction.
//!
//! (The guided tour grows with the crate.)
#![forbid(unsafe_code)]

mod error;
mod get;
mod joinable;
mod lane;
mod ledger;
mod put;
mod queue;
mod scratch;
mod simple;

pub use error::{GetError, JoinError, PutError, PutManyError, TaskDoneError};
pub use get::{Iter, Many};
pub use joinable::JoinableQueue;
pub use mp_core::shared::RegionError;
pub use queue::{Options, Queue};
pub use simple::SimpleQueue;
