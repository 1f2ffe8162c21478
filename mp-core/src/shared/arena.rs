//! Typed things in shared memory: many small ones share a region, so a thousand locks cost no descriptor each.
//!
//! A process carves its things out of a current region, one after another, and begins a new region when that one is
//! full. A slot is never used twice: nobody can know whether a copy of its handle is still on its way to some process.
//! The memory of a region goes when the last handle into it, in any process, is gone; the kernel counts.

use std::{
    fmt,
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::region::{Region, RegionError};
use crate::{
    sys::map::{Pinned, Shared},
    transfer,
};

/// How much memory small things share; a multiple of the page size less the region's header.
const ARENA: usize = 64 * 1024 - 128;
/// Things of different processes on one cache line would slow each other down.
const ALIGN: usize = 64;

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
        let size = size_of::<T>().next_multiple_of(ALIGN);
        let (region, offset) = if size > ARENA / 4 { (Region::create(size)?, 0) } else { carve(size)? };
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

fn carve(size: usize) -> Result<(Region, usize), RegionError> {
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

impl<T: Shared> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), offset: self.offset, pinned: self.pinned.clone() }
    }
}

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
        let index = transfer::attach_region(&self.region).map_err(serde::ser::Error::custom)?;
        (index, self.offset).serialize(serializer)
    }
}

impl<'de, T: Shared> Deserialize<'de> for Slot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (index, offset) = <(u32, usize)>::deserialize(deserializer)?;
        let region = transfer::take_region(index).map_err(serde::de::Error::custom)?;
        Self::at(region, offset).ok_or_else(|| serde::de::Error::custom("a slot lies outside of its region"))
    }
}
