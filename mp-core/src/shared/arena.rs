//! Typed things in shared memory: many small ones share a region, so a thousand locks cost no descriptor each.
//!
//! A process carves its things out of a current region, one after another, and begins a new region when that one is
//! full. A slot is never used twice: nobody can know whether a copy of its handle is still on its way to some process.
//! The memory of a region goes when the last handle into it, in any process, is gone; the kernel counts.

use std::{
    fmt,
    marker::PhantomData,
    ops::Deref,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::region::{Region, RegionError};
use crate::sys::map::{Atomic, Pinned, Shared};

/// How much memory small things share; a multiple of the page size less the region's header.
const ARENA: usize = 64 * 1024 - 128;
/// Things of different processes on one cache line would slow each other down.
pub(super) const ALIGN: usize = 64;

struct Arena {
    region: Region,
    used: AtomicUsize,
}

static CURRENT: Mutex<Option<Arena>> = Mutex::new(None);

/// One thing of type `T` in shared memory: a cheap handle that travels inside serde values.
pub struct Slot<T: Shared> {
    region: Region,
    offset: usize,
    pinned: Pinned<T>,
}

impl<T: Shared> Slot<T> {
    /// Makes a new thing from zeroed memory, in a region shared with other small things or in one of its own.
    ///
    /// # Errors
    /// [`RegionError`] if there is no memory.
    pub fn new() -> Result<Self, RegionError> {
        let (region, offset) = carve(size_of::<T>())?;
        Self::set_up(region, offset)
    }

    /// Makes a new thing from zeroed memory, in a region of its own.
    ///
    /// # Errors
    /// [`RegionError`] if there is no memory.
    pub fn alone() -> Result<Self, RegionError> {
        Self::set_up(Region::create(size_of::<T>())?, 0)
    }

    fn set_up(region: Region, offset: usize) -> Result<Self, RegionError> {
        let slot = Self::at(region, offset).ok_or(RegionError::Corrupt("a slot lies outside of it"))?;
        slot.init().map_err(|cause| RegionError::System {
            len: size_of::<T>() as u64,
            action: "initialised",
            cause,
        })?;
        Ok(slot)
    }

    fn at(region: Region, offset: usize) -> Option<Self> {
        let pinned = region.pin(offset)?;
        Some(Self { region, offset, pinned })
    }

    /// The memory that it lies in.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Whether both are handles of the same thing.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.region.same_as(&other.region) && self.offset == other.offset
    }
}

/// Zeroed memory of `size` bytes at a multiple of [`ALIGN`]: part of a shared region if it is small, else a region of its
/// own.
pub(super) fn carve(size: usize) -> Result<(Region, usize), RegionError> {
    let Some(size) = size.checked_next_multiple_of(ALIGN).filter(|size| *size <= ARENA / 4) else {
        return Ok((Region::create(size)?, 0));
    };
    let mut current = CURRENT.lock();
    if let Some(arena) = &*current {
        let offset = arena.used.load(Ordering::Relaxed);
        if offset + size <= ARENA {
            arena.used.store(offset + size, Ordering::Relaxed);
            return Ok((arena.region.clone(), offset));
        }
    }
    let region = Region::create(ARENA)?;
    *current = Some(Arena { region: region.clone(), used: AtomicUsize::new(size) });
    Ok((region, 0))
}

impl<T: Shared> Drop for Slot<T> {
    fn drop(&mut self) {
        // A guard was forgotten: the kernel, and libc's list of the thread's locks, must still find the lock when the thread
        // ends. So this process keeps the memory.
        if self.is_held_here() {
            std::mem::forget(self.region.clone());
        }
    }
}

impl<T: Shared> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), offset: self.offset, pinned: self.pinned.clone() }
    }
}

// A panic in one process leaves what others share no worse than its death would.
impl<T: Shared> UnwindSafe for Slot<T> {}
impl<T: Shared> RefUnwindSafe for Slot<T> {}

impl<T: Shared> Deref for Slot<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.pinned
    }
}

impl<T: Shared> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({:?} + {})", self.region, self.offset)
    }
}

impl<T: Shared> Serialize for Slot<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.region, self.offset).serialize(serializer)
    }
}

impl<'de, T: Shared> Deserialize<'de> for Slot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (region, offset) = <(Region, usize)>::deserialize(deserializer)?;
        Self::at(region, offset).ok_or_else(|| serde::de::Error::custom("a slot lies outside of its region"))
    }
}

/// A fixed number of atomics in shared memory, zeroed at first: a cheap handle that travels inside serde values.
pub struct Atomics<A> {
    region: Region,
    offset: usize,
    len: usize,
    atomics: PhantomData<fn() -> A>,
}

impl<A: Atomic> Atomics<A> {
    /// Makes `len` zeroed atomics.
    ///
    /// # Errors
    /// [`RegionError`] if there is no memory.
    pub fn zeroed(len: usize) -> Result<Self, RegionError> {
        let bytes = len.checked_mul(size_of::<A>()).ok_or(RegionError::Corrupt("its length overflows"))?;
        let (region, offset) = carve(bytes)?;
        Ok(Self { region, offset, len, atomics: PhantomData })
    }
}

impl<A> Clone for Atomics<A> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), ..*self }
    }
}

impl<A: Atomic> Deref for Atomics<A> {
    type Target = [A];

    #[inline]
    fn deref(&self) -> &[A] {
        // Checked where it was made or came in.
        self.region.atomics(self.offset, self.len).unwrap_or_default()
    }
}

impl<A: Atomic + fmt::Debug> fmt::Debug for Atomics<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<A> Serialize for Atomics<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.region, self.offset, self.len).serialize(serializer)
    }
}

impl<'de, A: Atomic> Deserialize<'de> for Atomics<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (region, offset, len) = <(Region, usize, usize)>::deserialize(deserializer)?;
        if region.atomics::<A>(offset, len).is_none() {
            return Err(serde::de::Error::custom("shared atomics lie outside of their region"));
        }
        Ok(Self { region, offset, len, atomics: PhantomData })
    }
}
