//! How many callers wait to be told, so that nobody is told where nobody waits.
//!
//! Who waits notes that first, looks for what he waits for, and sleeps only then. Who has done something looks for those who wait
//! only afterwards. Each of the two writes one word and then reads the other's, and on most machines a read may be done before an
//! older write is seen elsewhere: both could miss each other. A fence between the two, on both sides, forbids that.

#[cfg(not(mp_loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(mp_loom)]
use mp_core::model::atomic::{AtomicU64, Ordering, fence};

#[derive(Debug, Default)]
pub(crate) struct Waiters(AtomicU64);

impl Waiters {
    /// One more; what he waits for is to be looked for after this.
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        #[cfg(mp_loom)]
        if mp_core::kill_points::mutated() {
            return;
        }
        fence(Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there is anybody. If not, whoever enters finds what the caller has done before.
    pub(crate) fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) > 0
    }
}
