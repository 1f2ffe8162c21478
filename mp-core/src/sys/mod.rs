//! The only place that talks to the operating system and the only place with `unsafe`.
//!
//! One file per concern; what differs between systems stands in a directory per system, and `system` is the one of this
//! build. A module that needs `unsafe` says so by an `allow` at its head, so that the list of these lines is the map of
//! all unsafe code in the workspace. What leaves this module is safe to call.

#[cfg(all(target_os = "linux", not(mp_unsupported)))]
mod linux;
#[cfg(all(target_os = "linux", not(mp_unsupported)))]
use linux as system;

#[cfg(not(all(target_os = "linux", not(mp_unsupported))))]
mod unsupported;
#[cfg(not(all(target_os = "linux", not(mp_unsupported))))]
use unsupported as system;

#[cfg(mp_loom)]
pub(crate) mod cells;
pub(crate) mod image;
pub(crate) mod map;
pub(crate) mod memory;
pub mod os;
pub(crate) mod outcome;
pub(crate) mod plain;
pub(crate) mod process;
pub(crate) mod sealed;

pub(crate) use system::{fork, futex, mutex};
