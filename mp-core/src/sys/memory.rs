//! The length of memory files, within what this process may have.
//!
//! Whoever makes a file longer than the limit on its size (RLIMIT_FSIZE, which counts for memory, too) is killed by
//! SIGXFSZ. So the limit is asked for first, and what exceeds it is an error like any other.

use super::os::{
    fd::AsFd,
    fs::ftruncate,
    io::{Errno, Result},
    process::{Resource, getrlimit},
};

/// Makes a memory file `len` bytes long.
pub(crate) fn set_len(memory: impl AsFd, len: u64) -> Result<()> {
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| len > limit) {
        return Err(Errno::FBIG);
    }
    ftruncate(memory, len)
}
