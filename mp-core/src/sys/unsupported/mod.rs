//! What stands in for the operating system where it is not supported yet.
//!
//! The same names and signatures as on Linux, with which nothing can be made: whoever asks for a region or a process gets
//! an error, so that nothing here that would need one is ever reached.

pub(crate) mod calls;
#[cfg(windows)]
pub(crate) mod handles;
mod machine;

pub(crate) use machine::{fork, futex, mutex, process, text};

pub(crate) const SUPPORTED: bool = false;
