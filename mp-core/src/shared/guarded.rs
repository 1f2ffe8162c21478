//! Plain values in shared memory behind a gate.
//!
//! The memory is reached through the gate only, so whoever holds it may have a plain mutable slice. The values are
//! zeroed when they are made, and are plain data: any bits are a value, so that a process that died half-way, or that
//! scribbles, can leave wrong values but no invalid ones.

use std::{marker::PhantomData, time::Instant};

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Slot,
    arena::{ALIGN, carve},
    gate::{Gate, GateError},
    region::{Region, RegionError},
};
pub use crate::sys::plain::GuardedGuard;

/// `len` values of plain data that processes share, and the gate that guards them; a cheap handle that travels.
#[derive(Debug)]
pub struct Guarded<T> {
    gate: Slot<Gate>,
    region: Region,
    offset: usize,
    len: usize,
    values: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Guarded<T> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone(), region: self.region.clone(), ..*self }
    }
}

impl<T: Pod> Guarded<T> {
    /// Makes `len` zeroed values behind `gate`, which may guard other things as well.
    ///
    /// # Errors
    /// [`RegionError`] if there is no memory.
    pub fn zeroed(gate: Slot<Gate>, len: usize) -> Result<Self, RegionError> {
        const {
            assert!(align_of::<T>() <= ALIGN, "the alignment of shared values is limited");
            assert!(size_of::<T>() > 0, "a shared value has a size");
        };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(RegionError::Corrupt("its length overflows"))?;
        let (region, offset) = carve(bytes)?;
        Ok(Self { gate, region, offset, len, values: PhantomData })
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The gate that guards the values.
    #[must_use]
    pub fn gate(&self) -> &Slot<Gate> {
        &self.gate
    }

    /// Waits for the gate, at most until `deadline` (`None`: for ever), and gives access to the values.
    ///
    /// # Errors
    /// As for [`Gate::lock`](super::Gate::lock).
    pub fn lock(&self, deadline: Option<Instant>) -> Result<GuardedGuard<'_, T>, GateError> {
        GuardedGuard::new(self.gate.lock(deadline)?, &self.region, self.offset, self.len)
            .ok_or(GateError::Corrupt)
    }

    /// As [`Guarded::lock`], if the gate is free.
    ///
    /// # Errors
    /// As for [`Gate::try_lock`](super::Gate::try_lock).
    pub fn try_lock(&self) -> Result<GuardedGuard<'_, T>, GateError> {
        GuardedGuard::new(self.gate.try_lock()?, &self.region, self.offset, self.len)
            .ok_or(GateError::Corrupt)
    }
}

impl<T> Serialize for Guarded<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.gate, &self.region, self.offset, self.len).serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Guarded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (gate, region, offset, len) = <(Slot<Gate>, Region, usize, usize)>::deserialize(deserializer)?;
        let end = len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        match end {
            Some(end) if end <= region.len() && offset % ALIGN == 0 => {
                Ok(Self { gate, region, offset, len, values: PhantomData })
            }
            _ => Err(serde::de::Error::custom("shared values lie outside of their region")),
        }
    }
}
