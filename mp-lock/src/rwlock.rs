//! A lock for many readers or one writer.
//!
//! There is a gate for writers and a row of slots for readers, each a gate of its own. A reader takes the writers' gate,
//! then a free slot, then lets the gate go: it holds one slot while it reads. A writer takes the gate, which keeps new
//! readers out, and waits until each slot was free once. Whoever dies frees what it held, because the kernel does; so a
//! dead reader does not count, and a dead writer is reported to whoever takes the gate next.

use std::{
    fmt,
    time::{Duration, Instant},
};

use mp_core::shared::{Gate, GateError, GateGuard, OwnedGate, OwnedGateGuard, Owner, RegionError, Slot};
use serde::{Deserialize, Serialize};

use crate::LockError;

/// How many may read at a time; more wait for one of them.
const READERS: usize = 64;

/// A lock for many readers (up to 64 at a time) or one writer; a cheap handle that travels.
///
/// Python has none. A thread that reads must not wait for the lock again: a writer that came in between would make it
/// wait for itself.
///
/// ```
/// use mp_lock::RwLock;
///
/// let lock = RwLock::new()?;
/// {
///     let (one, other) = (lock.read().unwrap(), lock.read().unwrap());
///     assert!(lock.try_write().unwrap_err().is_busy());
/// #   drop((one, other));
/// }
/// let alone = lock.write().unwrap();
/// assert!(lock.try_read().is_err());
/// # drop(alone);
/// # Ok::<(), mp_lock::RegionError>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct RwLock {
    writer: Slot<OwnedGate>,
    readers: Slot<[Gate; READERS]>,
}

/// Reading is allowed until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReadGuard<'a> {
    _slot: GateGuard<'a>,
}

/// Writing is allowed until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct WriteGuard<'a> {
    _gate: OwnedGateGuard<'a>,
}

impl RwLock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new() -> Result<Self, RegionError> {
        Ok(Self { writer: Slot::new()?, readers: Slot::new()? })
    }

    /// Waits until nobody writes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] holds the guard, if the last writer died; only the first to come is told.
    pub fn read(&self) -> Result<ReadGuard<'_>, LockError<ReadGuard<'_>>> {
        self.read_until(None)
    }

    /// Allows reading if nobody writes or waits to write.
    ///
    /// # Errors
    /// [`LockError::Busy`]; else as [`RwLock::read`].
    pub fn try_read(&self) -> Result<ReadGuard<'_>, LockError<ReadGuard<'_>>> {
        self.read_until(Some(Instant::now()))
    }

    /// Waits until nobody writes, at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::Busy`] after the time-out; else as [`RwLock::read`].
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_>, LockError<ReadGuard<'_>>> {
        self.read_until(Instant::now().checked_add(timeout))
    }

    fn read_until(&self, deadline: Option<Instant>) -> Result<ReadGuard<'_>, LockError<ReadGuard<'_>>> {
        let gate = self.writer.lock(deadline)?;
        let slot = self.free_slot(deadline)?;
        let owner_died = gate.owner_died();
        drop(gate);
        let guard = ReadGuard { _slot: slot };
        if owner_died { Err(LockError::OwnerDied(guard)) } else { Ok(guard) }
    }

    fn free_slot(&self, deadline: Option<Instant>) -> Result<GateGuard<'_>, GateError> {
        let first = Owner::current().tid as usize;
        for turn in 0..READERS {
            match self.readers[(first + turn) % READERS].try_lock() {
                Err(GateError::Busy) => {}
                outcome => return outcome,
            }
        }
        self.readers[first % READERS].lock(deadline)
    }

    /// Waits until nobody reads or writes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] holds the guard, if the last writer died; [`LockError::Deadlock`] if the calling thread
    /// writes or reads.
    pub fn write(&self) -> Result<WriteGuard<'_>, LockError<WriteGuard<'_>>> {
        self.write_until(None)
    }

    /// Allows writing if nobody reads or writes.
    ///
    /// # Errors
    /// [`LockError::Busy`]; else as [`RwLock::write`].
    pub fn try_write(&self) -> Result<WriteGuard<'_>, LockError<WriteGuard<'_>>> {
        self.write_until(Some(Instant::now()))
    }

    /// Waits until nobody reads or writes, at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::Busy`] after the time-out; else as [`RwLock::write`].
    pub fn write_timeout(&self, timeout: Duration) -> Result<WriteGuard<'_>, LockError<WriteGuard<'_>>> {
        self.write_until(Instant::now().checked_add(timeout))
    }

    fn write_until(&self, deadline: Option<Instant>) -> Result<WriteGuard<'_>, LockError<WriteGuard<'_>>> {
        let gate = self.writer.lock(deadline)?;
        for slot in self.readers.iter() {
            // Whoever had it has read to the end, or died; nobody new comes past the gate.
            match slot.try_lock() {
                Err(GateError::Busy) if deadline.is_none_or(|deadline| deadline > Instant::now()) => {
                    drop(slot.lock(deadline)?);
                }
                free => drop(free?),
            }
        }
        let owner_died = gate.owner_died();
        let guard = WriteGuard { _gate: gate };
        if owner_died { Err(LockError::OwnerDied(guard)) } else { Ok(guard) }
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.writer.owner() {
            None => f.write_str("RwLock(nobody writes)"),
            Some(owner) => write!(f, "RwLock(write gate held by {})", crate::lock::describe(owner)),
        }
    }
}
