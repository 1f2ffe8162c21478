//! The only place that talks to the operating system and the only place with `unsafe`.
//!
//! One file per concern. A module that needs `unsafe` says so by an `allow` at its head, so that the list of these
//! lines is the map of all unsafe code in the workspace. What leaves this module is safe to call.

pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod image;
pub(crate) mod map;
pub(crate) mod mutex;
pub(crate) mod plain;
pub(crate) mod process;
pub(crate) mod sealed;
