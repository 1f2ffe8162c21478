//! When a consumer that finds nothing looks again.

use std::sync::atomic::{AtomicU32, Ordering};

/// How long a consumer that finds nothing lets the producers work before it looks again.
///
/// Each look takes the cache line of the count away from a producer that is about to write it. In a stream of messages it
/// pays to let some gather; between a question and its answer it costs time. Whether a pause pays is tried now and then,
/// and seen by how many messages have gathered.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pauses: AtomicU32,
    waits: AtomicU32,
}

impl Pace {
    pub(super) const MOST: u32 = 128;
    /// What a first try pauses for.
    pub(super) const FIRST: u32 = 8;
    /// As many as make the cost of the lines that move small.
    pub(super) const ENOUGH: u32 = 64;
    /// One wait in so many is a try.
    pub(super) const TRY: u32 = 64;

    /// Pauses, and notes by `gathered` what came of it.
    pub(super) fn pause(&self, gathered: impl Fn() -> u32) {
        let waits = self.waits.load(Ordering::Relaxed).wrapping_add(1);
        self.waits.store(waits, Ordering::Relaxed);
        let mut pauses = self.pauses.load(Ordering::Relaxed);
        if pauses == 0 && waits.is_multiple_of(Self::TRY) {
            pauses = Self::FIRST;
        }
        if pauses == 0 {
            return;
        }
        for _ in 0..pauses {
            std::hint::spin_loop();
        }
        let next = match gathered() {
            0 | 1 => 0,
            2..Self::ENOUGH => (2 * pauses).min(Self::MOST),
            _ => pauses - pauses / 8,
        };
        self.pauses.store(next, Ordering::Relaxed);
    }
}
