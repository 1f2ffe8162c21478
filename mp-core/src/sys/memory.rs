//! How much memory there is to be, and in what pages.
//!
//! Whoever makes a file longer than the limit on its size (RLIMIT_FSIZE, which counts for memory files, too) is killed by
//! SIGXFSZ. So the limit is asked for first, and what exceeds it is an error like any other.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::os::{
    fd::AsFd,
    fs::ftruncate,
    io::{Errno, Result},
    mm::{Advice, madvise},
    process::{Resource, getrlimit},
};

/// From here on an allocator fetches memory for one allocation alone, from the system, page by page as it is written to.
const FRESH: usize = 32 << 20;
/// The most that a page is aligned to.
const PAGE: usize = 64 << 10;

/// Makes a memory file `len` bytes long.
pub(crate) fn set_len(memory: impl AsFd, len: u64) -> Result<()> {
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| len > limit) {
        return Err(Errno::FBIG);
    }
    ftruncate(memory, len)
}

/// Room for `len` bytes, in large pages where that pays and the system has some: to fetch fresh memory in small ones takes several
/// times as long as to fill it. `None` if there is no memory.
pub(crate) fn room(len: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    if len >= FRESH {
        let room: &mut [MaybeUninit<u8>] = bytes.spare_capacity_mut();
        let skip = room.as_mut_ptr().align_offset(PAGE);
        if let Some(pages) = room.get_mut(skip..) {
            // SAFETY: the pages belong to the vector, wholly: they begin at the beginning of one, and the end is rounded down by its length.
            // What is in them, and who may do what with them, is not changed by this advice.
            let _ = unsafe {
                madvise(pages.as_mut_ptr().cast(), pages.len() / PAGE * PAGE, Advice::LinuxHugepage)
            };
        }
    }
    Some(bytes)
}
