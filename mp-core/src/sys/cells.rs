//! Plain memory in the models: words that may be read and written by all, where loom reports every race.
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;

/// Words that start as zeros.
#[derive(Debug)]
pub(crate) struct Cells(Vec<UnsafeCell<u64>>);

// SAFETY: loom runs one thread at a time, and fails the model when two accesses are not ordered.
unsafe impl Send for Cells {}
// SAFETY: as above.
unsafe impl Sync for Cells {}

impl Cells {
    pub(crate) fn new(len: usize) -> Self {
        Self((0..len).map(|_| UnsafeCell::new(0)).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        // SAFETY: the pointer is to a live word, and loom has checked that nobody writes it.
        self.0[at].with(|word| unsafe { *word })
    }

    pub(crate) fn set(&self, at: usize, value: u64) {
        // SAFETY: the pointer is to a live word, and loom has checked that nobody else uses it.
        self.0[at].with_mut(|word| unsafe { *word = value });
    }
}
