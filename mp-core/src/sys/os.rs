//! The system calls of this workspace, under the same names on every system.
//!
//! On Linux they are rustix's. Elsewhere (and on Linux with `--cfg mp_unsupported`, so that this can be tested) they are
//! names without substance: each call that would make or use something fails with
//! [`Unsupported`](std::io::ErrorKind::Unsupported). So the crates compile everywhere from the same source, and a system
//! is added by giving substance to these names, not by changing their callers. For the sister crates; what it holds
//! changes with their needs.

pub use super::system::calls::{cmsg_space, event, fs, io, mm, net, process, system, thread, time};
pub use super::system::process::own_pid;

/// Whether this system has what processes and shared memory need.
pub const SUPPORTED: bool = super::system::SUPPORTED;

/// Open files and what is like them: descriptors on Unix, handles on Windows.
pub mod fd {
    #[cfg(windows)]
    pub use super::super::system::handles::{AsFd, BorrowedFd, OwnedFd};
    #[cfg(unix)]
    pub use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
}
