//! A lock that its owner may take again.

use std::{
    fmt,
    time::{Duration, Instant},
};

use mp_core::shared::{Holder, ReentrantGate, ReentrantGateGuard, RegionError, Slot};
use serde::{Deserialize, Serialize};

use crate::LockError;

/// A lock that the thread which holds it may take again; free when all its guards are gone. A cheap handle that travels.
///
/// Because one thread may hold it several times, its guards protect code, not data. Python: `RLock`; there, a release by
/// somebody else is an error at run time, here it cannot be written.
///
/// ```
/// use mp_lock::RLock;
///
/// let lock = RLock::new()?;
/// let outer = lock.lock().unwrap();
/// let inner = lock.lock().unwrap();
/// assert_eq!(lock.depth(), 2);
/// # drop((outer, inner));
/// # Ok::<(), mp_lock::RegionError>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct RLock(Slot<ReentrantGate>);

/// The lock is held until this, and every other guard of the same thread, is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct RLockGuard<'a> {
    _held: ReentrantGateGuard<'a>,
}

impl RLock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new() -> Result<Self, RegionError> {
        Slot::new().map(Self)
    }

    /// Waits for the lock; returns at once if the calling thread has it.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] holds the guard.
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        guard(self.0.lock(None)?)
    }

    /// Takes the lock if it is free or the calling thread has it.
    ///
    /// # Errors
    /// [`LockError::Busy`] if somebody else has it; [`LockError::OwnerDied`] holds the guard.
    pub fn try_lock(&self) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        guard(self.0.try_lock()?)
    }

    /// Waits for the lock, at most for `timeout`, never less.
    ///
    /// # Errors
    /// [`LockError::Busy`] after the time-out; else as [`RLock::lock`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
        guard(self.0.lock(Instant::now().checked_add(timeout))?)
    }

    /// How often its owner has it; 0 if nobody has.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.0.depth()
    }

    /// Whether anybody has it at this moment; a dead owner has not. Python: `locked()`.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.holder().is_somebody()
    }

    /// Who has it at this moment. Takes nothing and waits for nobody.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.0.holder()
    }
}

fn guard(held: ReentrantGateGuard<'_>) -> Result<RLockGuard<'_>, LockError<RLockGuard<'_>>> {
    let owner_died = held.owner_died();
    let guard = RLockGuard { _held: held };
    if owner_died { Err(LockError::OwnerDied(guard)) } else { Ok(guard) }
}

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RLock(held {} times by {})", self.depth(), self.holder())
    }
}
