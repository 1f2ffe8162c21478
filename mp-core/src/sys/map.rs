//! Mapped shared memory: bounds-checked copies and typed references into it.
//!
//! Everything here must stay sound while another process scribbles over the same pages: bytes are only ever copied by
//! raw pointer, and references are only handed out to types for which every bit pattern is valid ([`Shared`]).
#![allow(unsafe_code)]

use std::{
    marker::PhantomData,
    ops::Deref,
    ptr::{self, NonNull},
    sync::{Arc, atomic},
};

use crate::{
    os::{
        self,
        fd::AsFd,
        mm::{MapFlags, ProtFlags, mmap, munmap},
    },
    sync::RobustMutex,
};

/// A shared mapping of part of a file; unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    /// Else a write is refused, or a crash if it is done by any other way than [`write`](Self::write).
    writable: bool,
}

// SAFETY: a mapping is plain memory at a fixed address, owned by this value alone; all access goes through raw copies
// and through types that are Sync themselves (the bound of `Shared`).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` from `offset`, to read and to write. The file must be at least that long and sealed against shrinking: the
    /// caller has checked both, else a later access could raise SIGBUS (which is a crash, not unsoundness).
    pub(crate) fn new(fd: impl AsFd, offset: u64, len: usize) -> os::io::Result<Self> {
        Self::map(fd, offset, len, true)
    }

    /// The same, perhaps to read only.
    pub(crate) fn map(fd: impl AsFd, offset: u64, len: usize, writable: bool) -> os::io::Result<Self> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a null hint asks for fresh address space, so no existing mapping is replaced.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, fd, offset) }?;
        NonNull::new(start.cast()).map(|start| Self { start, len, writable }).ok_or(os::io::Errno::NOMEM)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn range(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        // SAFETY: offset <= end <= self.len, so the pointer stays inside the mapping.
        (end <= self.len).then(|| unsafe { self.start.add(offset) })
    }

    /// Copies out of the mapping; false, and nothing done, if the range is not inside it.
    #[inline]
    #[must_use]
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        let Some(from) = self.range(offset, into.len()) else { return false };
        // SAFETY: the source is inside the mapping (checked), the destination is a live unique slice, and private
        // memory never overlaps a mapping that only this value hands out.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) };
        true
    }

    /// Appends `len` bytes of the mapping to `into` without clearing them first; false, and nothing done, if the
    /// range is not inside the mapping.
    #[inline]
    #[must_use]
    pub(crate) fn append_to(&self, offset: usize, len: usize, into: &mut Vec<u8>) -> bool {
        let Some(from) = self.range(offset, len) else { return false };
        into.reserve(len);
        // SAFETY: the source is inside the mapping (checked); `reserve` made room for `len` bytes behind the vector's
        // length; the two do not overlap; afterwards all bytes up to the new length are initialised.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr().add(into.len()), len);
            into.set_len(into.len() + len);
        }
        true
    }

    /// Copies into the mapping; false, and nothing done, if the range is not inside it, or it is to be read only.
    #[inline]
    #[must_use]
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> bool {
        let Some(into) = self.range(offset, from.len()).filter(|_| self.writable) else { return false };
        // SAFETY: the destination is inside the mapping (checked), the source is a live slice of private memory.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), into.as_ptr(), from.len()) };
        true
    }

    /// The `len` values at `offset`, if they lie inside the mapping and are aligned.
    ///
    /// # Safety
    /// For as long as the slice is used nobody else may use that range, in this process or another; a process that does
    /// so all the same can make values change, but never invalid (any bits are a `T`).
    pub(crate) unsafe fn slice_mut<T: bytemuck::Pod>(
        &self,
        offset: usize,
        len: usize,
    ) -> Option<NonNull<[T]>> {
        let start = self.range(offset, len.checked_mul(size_of::<T>())?)?.cast::<T>();
        start.is_aligned().then(|| NonNull::slice_from_raw_parts(start, len))
    }

    /// The `len` values at `offset`, if they lie inside the mapping and are aligned.
    #[inline]
    pub(crate) fn slice<T: Atomic>(&self, offset: usize, len: usize) -> Option<&[T]> {
        let start = self.range(offset, len.checked_mul(size_of::<T>())?)?.cast::<T>();
        // SAFETY: inside the mapping and aligned (checked), the mapping lives as long as the borrow, any bits are a T,
        // and atomics may change under a shared reference.
        start.is_aligned().then(|| unsafe { NonNull::slice_from_raw_parts(start, len).as_ref() })
    }

    fn typed<T: Shared>(&self, offset: usize) -> Option<NonNull<T>> {
        let start = self.range(offset, size_of::<T>())?.cast::<T>();
        start.is_aligned().then_some(start)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value owns the range; every reference into it borrows from, or keeps alive, this value.
        // Failure would mean that the range is not mapped, which `new` excludes; there is nothing left to undo.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// What may be referred to in memory that other processes change at the same time.
///
/// # Safety
/// Every bit pattern is a valid value, all fields are interior-mutable (atomics, robust mutexes, or arrays and
/// structs of such), and the type owns nothing outside itself.
pub unsafe trait Shared: Send + Sync {
    /// Makes a value out of zeroed memory that nobody else knows yet.
    fn init(&self) -> std::io::Result<()>;

    /// Whether it contains a lock that a thread of this process holds.
    fn is_held_here(&self) -> bool {
        false
    }

    /// A value outside shared memory, for the models.
    #[cfg(mp_loom)]
    fn model() -> Self;
}

/// The atomic integers of std: any bits, zeros among them, are a value.
pub trait Atomic: Shared {}

macro_rules! shared_atomics {
    ($($atomic:ty),*) => {$(
        // SAFETY: an atomic of plain bits.
        unsafe impl Shared for $atomic {
            fn init(&self) -> std::io::Result<()> {
                Ok(())
            }

            #[cfg(mp_loom)]
            fn model() -> Self {
                Self::new(0)
            }
        }
    )*};
}

macro_rules! atomics {
    ($($atomic:ident),*) => {
        shared_atomics!($(atomic::$atomic),*);
        $(impl Atomic for atomic::$atomic {})*
    };
}

atomics!(
    AtomicI8,
    AtomicI16,
    AtomicI32,
    AtomicI64,
    AtomicIsize,
    AtomicU8,
    AtomicU16,
    AtomicU32,
    AtomicU64,
    AtomicUsize
);

// Where loom's stand in for std's.
#[cfg(mp_loom)]
shared_atomics!(crate::sync::AtomicU32, crate::sync::AtomicU64);

// SAFETY: the mutex is opaque bytes that only libc interprets. (Bytes that a hostile peer wrote into it can break libc's
// own list of held locks: the threat model in shared/README.md says so.)
unsafe impl Shared for RobustMutex {
    fn init(&self) -> std::io::Result<()> {
        self.init_zeroed()
    }

    fn is_held_here(&self) -> bool {
        self.is_held_here()
    }

    #[cfg(mp_loom)]
    fn model() -> Self {
        Self::default()
    }
}

// SAFETY: an array adds nothing to its elements.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {
    fn init(&self) -> std::io::Result<()> {
        self.iter().try_for_each(Shared::init)
    }

    fn is_held_here(&self) -> bool {
        self.iter().any(Shared::is_held_here)
    }

    #[cfg(mp_loom)]
    fn model() -> Self {
        std::array::from_fn(|_| T::model())
    }
}

/// Declares structs whose fields are all [`Shared`] to be so themselves.
macro_rules! shared_struct {
    ($(#[$meta:meta])* $vis:vis struct $name:ident $(<const $n:ident: usize>)? {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[repr(C)]
        $vis struct $name $(<const $n: usize>)? {
            $($(#[$field_meta])* $field_vis $field: $type,)*
        }

        #[allow(unsafe_code)]
        // SAFETY: the field types are Shared, which the body of `init` makes the compiler check; repr(C) fixes the
        // layout, and padding is never read.
        unsafe impl $(<const $n: usize>)? $crate::sys::map::Shared for $name $(<$n>)? {
            fn init(&self) -> std::io::Result<()> {
                $($crate::sys::map::Shared::init(&self.$field)?;)*
                Ok(())
            }

            fn is_held_here(&self) -> bool {
                $($crate::sys::map::Shared::is_held_here(&self.$field))||*
            }

            #[cfg(mp_loom)]
            fn model() -> Self {
                Self { $($field: $crate::sys::map::Shared::model(),)* }
            }
        }
    };
}
pub(crate) use shared_struct;

/// A reference into a mapping that keeps the mapping alive.
pub(crate) struct Pinned<T: Shared> {
    mapping: Arc<Mapping>,
    target: NonNull<T>,
    shared: PhantomData<Arc<T>>,
}

// SAFETY: it is an Arc of a Send + Sync mapping and a reference to a Send + Sync value in it.
unsafe impl<T: Shared> Send for Pinned<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Pinned<T> {}

impl<T: Shared> Pinned<T> {
    /// The value at `offset`, if it lies inside the mapping and is aligned.
    pub(crate) fn new(mapping: Arc<Mapping>, offset: usize) -> Option<Self> {
        let target = mapping.typed(offset)?;
        Some(Self { mapping, target, shared: PhantomData })
    }
}

impl<T: Shared> Clone for Pinned<T> {
    fn clone(&self) -> Self {
        Self { mapping: Arc::clone(&self.mapping), ..*self }
    }
}

impl<T: Shared> Deref for Pinned<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `typed` checked bounds and alignment, the mapping lives as long as `self`, and `Shared` promises
        // that any bits are a valid T whose fields may change under a shared reference.
        unsafe { self.target.as_ref() }
    }
}
