//! The transfers that are open in a thread, and what handles do with the innermost one.
//!
//! Serde's traits have no place for a table beside the bytes, so it stands in the thread. A value without handles, the usual
//! kind, must not pay for that: see [`Transfers`].

use std::cell::{Cell, RefCell};

use super::Handle;
use crate::{
    error::advice,
    os::fd::{BorrowedFd, OwnedFd},
    shared::Region,
};

#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) handles: Vec<Handle>,
    /// Why a descriptor was not duplicated, as the kernel's number.
    pub(super) refused: Option<i32>,
}

#[derive(Default)]
pub(super) struct Incoming {
    pub(super) slots: Vec<Slot>,
}

pub(super) enum Slot {
    Fd(OwnedFd),
    Region(Region),
    Taken,
}

/// The transfers of this thread that are open, one inside the other. One without handles, the usual kind, is a depth and
/// nothing else.
pub(super) struct Transfers<T> {
    depth: Cell<u32>,
    /// The depth of the last one in `begun`; 0 if there is none.
    top: Cell<u32>,
    /// Those that hold something, and `top` before each.
    begun: RefCell<Vec<(u32, T)>>,
}

impl<T: Default> Transfers<T> {
    const fn new() -> Self {
        Self { depth: Cell::new(0), top: Cell::new(0), begun: RefCell::new(Vec::new()) }
    }

    #[inline]
    pub(super) fn open(&self) {
        self.depth.set(self.depth.get() + 1);
    }

    /// Closes the innermost one, and returns what it holds, if anything.
    #[inline]
    pub(super) fn close(&self) -> Option<T> {
        let depth = self.depth.replace(self.depth.get().saturating_sub(1));
        if depth == 0 || self.top.get() != depth {
            return None;
        }
        let (below, transfer) = self.begun.borrow_mut().pop()?;
        self.top.set(below);
        Some(transfer)
    }

    /// Works on the innermost one; `None` if none is open.
    pub(super) fn innermost<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let depth = self.depth.get();
        if depth == 0 {
            return None;
        }
        let mut begun = self.begun.borrow_mut();
        if self.top.get() != depth {
            begun.push((self.top.replace(depth), T::default()));
        }
        begun.last_mut().map(|(_, transfer)| work(transfer))
    }

    /// Works on the innermost one if it holds something.
    pub(super) fn if_begun<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.top.get() == self.depth.get() { self.innermost(work) } else { None }
    }
}

impl Transfers<Outgoing> {
    /// Takes the handles of the innermost one, if it has some.
    #[inline]
    pub(super) fn take_handles(&self) -> Option<Vec<Handle>> {
        if self.top.get() == self.depth.get() { self.take_begun_handles() } else { None }
    }

    #[inline(never)]
    fn take_begun_handles(&self) -> Option<Vec<Handle>> {
        let handles = self.innermost(|transfer| std::mem::take(&mut transfer.handles));
        handles.filter(|handles| !handles.is_empty())
    }
}

thread_local! {
    pub(super) static OUTGOING: Transfers<Outgoing> = const { Transfers::new() };
    pub(super) static INCOMING: Transfers<Incoming> = const { Transfers::new() };
}

/// Closes the innermost transfer also when a `Serialize` panics.
pub(super) struct CloseOutgoing;

impl Drop for CloseOutgoing {
    fn drop(&mut self) {
        let _ = OUTGOING.try_with(Transfers::close);
    }
}

pub(super) struct CloseIncoming;

impl Drop for CloseIncoming {
    fn drop(&mut self) {
        // Taken out first: closing a handle may run code that opens a transfer of its own.
        let _ = INCOMING.try_with(Transfers::close);
    }
}

/// For the `Serialize` of a handle: puts a duplicate of `fd` into the open transfer and returns its index.
///
/// # Errors
/// A message for `serde::ser::Error::custom`, if no transfer is open or the descriptor cannot be duplicated.
pub fn attach_fd(fd: BorrowedFd<'_>) -> Result<u32, String> {
    attach(|Outgoing { handles, refused }| {
        let copy = fd.try_clone_to_owned().map_err(|error| {
            *refused = error.raw_os_error();
            format!("a descriptor could not be duplicated: {error}{}", advice(&error))
        })?;
        handles.push(Handle::Fd(copy));
        Ok(handles.len() - 1)
    })
}

/// For the `Serialize` of something in shared memory: puts its region into the open transfer, once, and returns its
/// index.
///
/// # Errors
/// A message for `serde::ser::Error::custom`, if no transfer is open.
pub fn attach_region(region: &Region) -> Result<u32, String> {
    attach(|Outgoing { handles, .. }| {
        let known = handles.iter().rposition(|h| matches!(h, Handle::Region(other) if other.same_as(region)));
        Ok(known.unwrap_or_else(|| {
            handles.push(Handle::Region(region.clone()));
            handles.len() - 1
        }))
    })
}

fn attach(add: impl FnOnce(&mut Outgoing) -> Result<usize, String>) -> Result<u32, String> {
    let attached = OUTGOING.try_with(|open| {
        open.innermost(|transfer| {
            let index = add(transfer)?;
            u32::try_from(index).map_err(|_| "a message holds too many handles".to_owned())
        })
    });
    attached.ok().flatten().ok_or_else(|| {
        "a handle can only be serialised while it is sent to another process: as an argument, a result, or a message \
         of a queue or a pipe"
            .to_owned()
    })?
}

/// For the `Deserialize` of a handle: takes descriptor `index` out of the open transfer.
///
/// # Errors
/// A message for `serde::de::Error::custom`, if no transfer is open or it holds no such descriptor (any more).
pub fn take_fd(index: u32) -> Result<OwnedFd, String> {
    take(index, |slot| match std::mem::replace(slot, Slot::Taken) {
        Slot::Fd(fd) => Ok(fd),
        Slot::Region(_) | Slot::Taken => Err(format!("handle {index} is used twice")),
    })
}

/// For the `Deserialize` of something in shared memory: the region with this index, which many may share.
///
/// # Errors
/// A message for `serde::de::Error::custom`, if no transfer is open, it holds no such descriptor, or that descriptor
/// is not a region.
pub fn take_region(index: u32) -> Result<Region, String> {
    take(index, |slot| {
        if let Slot::Region(region) = slot {
            return Ok(region.clone());
        }
        match std::mem::replace(slot, Slot::Taken) {
            Slot::Fd(fd) => {
                let region = Region::from_fd(fd).map_err(|error| error.to_string())?;
                *slot = Slot::Region(region.clone());
                Ok(region)
            }
            _ => Err(format!("handle {index} is used twice")),
        }
    })
}

fn take<R>(index: u32, from: impl FnOnce(&mut Slot) -> Result<R, String>) -> Result<R, String> {
    let taken = INCOMING.try_with(|open| {
        open.innermost(|transfer| match transfer.slots.get_mut(index as usize) {
            Some(slot) => from(slot),
            None => Err(format!("the message carries no handle with index {index}")),
        })
    });
    taken
        .ok()
        .flatten()
        .ok_or_else(|| "a handle can only be deserialised from a message of another process".to_owned())?
}
