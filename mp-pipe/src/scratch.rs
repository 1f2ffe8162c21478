//! A buffer of each thread in which messages are encoded and decoded.
//!
//! Memory that is fresh for each message costs more than the message: the kernel zeroes every page of it. So the buffer
//! stays, up to the size that a ring keeps, too.

use std::cell::RefCell;

/// A larger buffer is not kept.
const KEPT: usize = 8 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with an empty buffer.
#[inline]
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // Taken, not borrowed: a value's own code may send or receive something, too.
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = work(&mut scratch);
    if scratch.capacity() <= KEPT {
        SCRATCH.set(scratch);
    }
    result
}
