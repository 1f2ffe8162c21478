//! Memory that is used again: a fresh page costs more than what is done with it.

use parking_lot::Mutex;

/// How much is kept, in all and in one piece.
const KEPT: usize = 64 << 20;
const LARGEST: usize = 32 << 20;

static SPARE: Mutex<Spare> = Mutex::new(Spare { buffers: Vec::new(), bytes: 0 });

struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// An empty buffer, with memory from before if there is some.
pub(crate) fn take() -> Vec<u8> {
    let mut spare = SPARE.lock();
    let buffer = spare.buffers.pop().unwrap_or_default();
    spare.bytes -= buffer.capacity();
    buffer
}

/// Keeps the memory of a buffer that is done with.
pub(crate) fn give(mut buffer: Vec<u8>) {
    let size = buffer.capacity();
    if size == 0 || size > LARGEST {
        return;
    }
    buffer.clear();
    let mut spare = SPARE.lock();
    if spare.bytes + size <= KEPT {
        spare.bytes += size;
        spare.buffers.push(buffer);
    }
}
