//! A buffer per thread for the bytes of a message.

use std::cell::RefCell;

/// A buffer larger than this is not kept.
const KEPT: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with an empty buffer of this thread.
#[inline]
pub(crate) fn with<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // Taken, not borrowed: a value's own `Serialize` or `Deserialize` may put or get something, too.
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = work(&mut scratch);
    if scratch.capacity() <= KEPT {
        SCRATCH.set(scratch);
    }
    result
}
