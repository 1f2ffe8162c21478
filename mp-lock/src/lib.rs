//! Locks between processes that survive SIGKILL.
//!
//! (The guided tour grows with the crate.)
#![forbid(unsafe_code)]

mod lock;

pub use lock::{Lock, LockError, LockGuard};
pub use mp_core::shared::{Owner, RegionError};
