//! A buffer of each thread in which messages are encoded and decoded.
//!
//! Memory that is fresh for each message costs more than the message: the kernel zeroes every page of it. So the buffer stays,
//! one for whatever the thread sends and receives.

use std::cell::RefCell;

/// A larger buffer is not kept.
const KEPT: usize = 8 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with an empty buffer.
#[inline]
pub fn with_buffer<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // Taken, not borrowed: a value's own `Serialize` or `Deserialize` may send or receive something, too.
    // At the end of a thread, in the destructor of another thread-local, it may be gone.
    let mut buffer = BUFFER.try_with(RefCell::take).unwrap_or_default();
    buffer.clear();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEPT {
        let _ = BUFFER.try_with(|kept| kept.replace(buffer));
    }
    result
}
