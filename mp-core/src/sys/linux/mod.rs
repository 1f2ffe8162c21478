//! Linux: rustix where it has a safe function, libc where it has not.

pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod mutex;
pub(crate) mod process;
pub(crate) mod text;

/// The system calls that others use by [`crate::os`].
pub(crate) mod calls {
    pub use rustix::{cmsg_space, event, fs, io, mm, net, process, system, thread, time};
}

pub(crate) const SUPPORTED: bool = true;
