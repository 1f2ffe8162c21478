#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![allow(clippy::needless_doctest_main, reason = "the place of `init` in `main` is the point")]

mod barrier;
mod condition;
mod event;
mod frozen;
mod lock;
mod memory;
#[cfg(all(test, mp_loom))]
mod models;
mod raw;
mod rlock;
mod rwlock;
mod semaphore;
mod value;

pub use barrier::{Barrier, BarrierError, NewBarrierError};
pub use condition::Condition;
pub use event::Event;
pub use frozen::Frozen;
pub use lock::{Lock, LockError, LockGuard};
pub use memory::{MemoryError, SharedMemory};
pub use mp_core::shared::{Atomic, GateError, Holder, RegionError};
pub use raw::{RawArray, RawValue};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::{Permit, Semaphore, SemaphoreError};
pub use value::{Array, ArrayGuard, Value, ValueGuard};
