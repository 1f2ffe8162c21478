//! Shared memory in which any participant may be killed at any instruction.
//!
//! The building blocks under locks, queues and pipes; use them to build a primitive of your own. From the ground up: a
//! [`Region`] is anonymous memory that travels as a handle, a [`Slot`] is one typed thing in it, a [`Gate`] is a lock
//! that the kernel frees when its owner dies, a [`Word`] is a counter that can be waited for, and a [`Monitor`] is a
//! small state that changes all at once or not at all.
#![doc = include_str!("README.md")]

mod arena;
mod aside;
mod bell;
#[cfg(all(test, mp_loom))]
mod bell_models;
mod gate;
mod guarded;
#[cfg(all(test, mp_loom))]
mod models;
mod monitor;
mod region;
mod ring;
mod word;

pub use arena::Atomics;
#[cfg(not(mp_loom))]
pub use arena::Slot;
pub use bell::{Slept, Waited};
pub use gate::{Gate, GateError, GateGuard, Holder, ReentrantGate, ReentrantGateGuard};
pub use guarded::{Guarded, GuardedGuard};
pub use monitor::{Change, Monitor, Wakes};
pub(crate) use region::HEADER;
pub use region::{Region, RegionError, Window};
pub use ring::{Batch, Entry, GetError, Got, LastTaken, PutError, Ring, RingOptions, Taking, Wake};
pub use word::{TimedOut, Word};

#[cfg(mp_loom)]
pub use crate::sync::model::Slot;
pub use crate::sys::map::{Atomic, Shared};
