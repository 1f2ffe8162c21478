//! Values and arrays without a lock: atomics.
//!
//! What many processes change at once, with nothing around it that keeps them apart, must be atomic. So these are made of
//! std's atomics, and every operation of those is there, across processes. Nobody holds anything, so no death matters.

use std::{fmt, ops::Deref};

use mp_core::shared::{Atomic, Atomics, RegionError, Slot};
use serde::{Deserialize, Serialize};

/// A fixed number of atomics that processes share; a cheap handle that travels, and derefs to a slice of them.
///
/// Python: `RawArray`, or `Array(…, lock=False)`.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::RawArray;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// let counts = RawArray::<AtomicU64>::zeroed(3)?;
/// let count = |counts: RawArray<AtomicU64>| drop(counts[1].fetch_add(5, Relaxed));
/// mp_core::spawn(count, (counts.clone(),))?.join()?;
/// assert_eq!(counts.iter().map(|count| count.load(Relaxed)).collect::<Vec<_>>(), [0, 5, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "A: Atomic", deserialize = "A: Atomic"))]
pub struct RawArray<A>(Atomics<A>)
where
    A: Atomic;

impl<A: Atomic> Clone for RawArray<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Atomic> RawArray<A> {
    /// Makes `len` zeroed atomics.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn zeroed(len: usize) -> Result<Self, RegionError> {
        Atomics::zeroed(len).map(Self)
    }
}

impl<A: Atomic> Deref for RawArray<A> {
    type Target = [A];

    #[inline]
    fn deref(&self) -> &[A] {
        &self.0
    }
}

/// One atomic that processes share; a cheap handle that travels, and derefs to it. It is 0 at first.
///
/// Python: `RawValue`, or `Value(…, lock=False)`.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::RawValue;
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// let count = RawValue::<AtomicU32>::zeroed()?;
/// mp_core::spawn(|count: RawValue<AtomicU32>| count.store(7, Relaxed), (count.clone(),))?.join()?;
/// assert_eq!(count.load(Relaxed), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "A: Atomic", deserialize = "A: Atomic"))]
pub struct RawValue<A>(Slot<A>)
where
    A: Atomic;

impl<A: Atomic> Clone for RawValue<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Atomic> RawValue<A> {
    /// Makes an atomic with the value 0.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn zeroed() -> Result<Self, RegionError> {
        Slot::new().map(Self)
    }
}

impl<A: Atomic> Deref for RawValue<A> {
    type Target = A;

    #[inline]
    fn deref(&self) -> &A {
        &self.0
    }
}

impl<A: Atomic + fmt::Debug> fmt::Debug for RawValue<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawValue").field(&**self).finish()
    }
}
