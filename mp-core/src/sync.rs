//! The ground that the algorithms on shared words stand on: the machine's, or a model checker's.
//!
//! With `--cfg mp_loom` the same code in [`crate::shared`] runs on loom's atomics, and the robust mutex and the futex
//! are models of what the kernel does: `sync/model.rs`.

#[cfg(not(mp_loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(mp_loom))]
pub(crate) use crate::sys::{futex, mutex::RobustMutex};

#[cfg(mp_loom)]
#[doc(hidden)]
pub mod model;

#[cfg(mp_loom)]
pub(crate) use self::model::{RobustMutex, futex};
#[cfg(mp_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
