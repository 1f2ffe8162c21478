//! Plain values in shared memory, as a slice for whoever holds the gate that guards them.
#![allow(unsafe_code)]

use std::{
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use bytemuck::Pod;

use crate::shared::{GateGuard, Region};

/// The guarded values, for as long as their gate is held.
#[derive(Debug)]
#[must_use = "the gate is released when the guard is dropped"]
pub struct GuardedGuard<'a, T> {
    values: NonNull<[T]>,
    gate: GateGuard<'a>,
    /// Keeps the mapping.
    _region: &'a Region,
}

impl<'a, T: Pod> GuardedGuard<'a, T> {
    /// The caller passes the gate that every user of these values takes first.
    pub(crate) fn new(gate: GateGuard<'a>, region: &'a Region, offset: usize, len: usize) -> Option<Self> {
        let offset = offset.checked_add(crate::shared::HEADER)?;
        // SAFETY: the range was carved for one `Guarded`, which gives access through this type only, and only with the
        // gate held that was chosen when it was made; the guard keeps the gate until it is dropped.
        let values = unsafe { region.mapping().slice_mut(offset, len) }?;
        Some(Self { values, gate, _region: region })
    }

    /// Whether the previous owner died while it held the gate: the values may be half changed.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.gate.owner_died()
    }
}

impl<T: Pod> Deref for GuardedGuard<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: inside the mapping and aligned (checked in `new`), any bits are a T, and the gate keeps others out.
        unsafe { self.values.as_ref() }
    }
}

impl<T: Pod> DerefMut for GuardedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; `&mut self` keeps this thread's other uses out.
        unsafe { self.values.as_mut() }
    }
}
