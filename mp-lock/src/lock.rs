//! Mutual exclusion between processes, and between their threads.
//!
//! The lock is a robust mutex: the kernel frees it when its owner dies, however it dies, and the next owner is told, in
//! the shape of std's poisoning. What the lock protects may then be half changed; only the program can know.

use std::{
    fmt,
    time::{Duration, Instant},
};

use mp_core::shared::{Gate, GateError, GateGuard, Holder, RegionError, Slot};
use serde::{Deserialize, Serialize};

/// A lock that processes share; a cheap handle that travels as an argument and in messages.
///
/// Python's `Lock` may be released by any process. This one is released by its guard, which cannot leave its thread, or by
/// its owner's death; for a signal from one process to another use a [`Semaphore`](crate::Semaphore) of 0 permits, which
/// anybody may release. A thread should hold no more than 2000 locks at a time: the kernel frees so many when it dies.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Lock;
///
/// fn say(lock: Lock, i: u32) {
///     let _guard = lock.lock().unwrap();
///     println!("hello world {i}");
/// }
///
/// let lock = Lock::new()?;
/// let children: Vec<_> = (0..3).map(|i| mp_core::spawn(say, (lock.clone(), i))).collect::<Result<_, _>>()?;
/// for child in children {
///     child.join()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Lock(pub(crate) Slot<Gate>);

/// A lock was not obtained, or obtained from an owner that died.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LockError<G> {
    /// The owner died while it held the lock; the guard is here, see [`LockError::recover`].
    ///
    /// That is told once, to whoever gets the lock next, unlike std's poisoning: mend what it protects, or say to the others that it is
    /// broken, while the guard is held. To drop the error is to accept what was left.
    #[error("the lock's previous owner died while it held it: what it protects may be half changed")]
    OwnerDied(G),
    /// Somebody holds it, for a try perhaps the calling thread itself: at once for a try, else when the time-out had passed.
    #[error("the lock is not free: a thread of this or of another process holds it")]
    Busy,
    /// The calling thread holds it already.
    #[error("the lock is held by the calling thread itself: waiting for it would never end")]
    Deadlock,
    /// The guard, given back, is not one of the lock that the condition belongs to.
    #[error("the condition cannot wait: the guard belongs to another lock than the condition's")]
    OtherLock(G),
    /// The lock's memory was overwritten.
    #[error("the lock cannot be used: its memory is corrupt")]
    Corrupt,
}

mp_core::message_as_debug!(LockError<G>);

impl<G> LockError<G> {
    /// The guard, if the lock was obtained from an owner that died: the caller takes what it protects as it is.
    pub fn recover(self) -> Result<G, Self> {
        match self {
            Self::OwnerDied(guard) => Ok(guard),
            other => Err(other),
        }
    }

    /// The same error without a guard in it, for an error that outlives the lock.
    #[must_use]
    pub fn without_guard(self) -> LockError<()> {
        self.map(drop)
    }

    pub(crate) fn map<H>(self, change: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            Self::OwnerDied(guard) => LockError::OwnerDied(change(guard)),
            Self::OtherLock(guard) => LockError::OtherLock(change(guard)),
            Self::Busy => LockError::Busy,
            Self::Deadlock => LockError::Deadlock,
            Self::Corrupt => LockError::Corrupt,
        }
    }

    /// Whether the lock is held by somebody.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

impl<G> From<GateError> for LockError<G> {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Busy => Self::Busy,
            GateError::Deadlock => Self::Deadlock,
            _ => Self::Corrupt,
        }
    }
}

/// The lock is held until this is dropped; it cannot leave its thread.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a>(GateGuard<'a>);

impl LockGuard<'_> {
    pub(crate) fn is_of(&self, lock: &Lock) -> bool {
        // Shared memory lies at one address per process.
        std::ptr::eq(self.0.gate(), &raw const *lock.0)
    }
}

impl Lock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new() -> Result<Self, RegionError> {
        Slot::new().map(Self)
    }

    /// Waits for the lock, for ever if need be. Python: `acquire()`.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] holds the guard; [`LockError::Deadlock`] if the calling thread has the lock.
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        guard(self.0.lock(None)?)
    }

    /// Takes the lock if it is free. Python: `acquire(block=False)`.
    ///
    /// # Errors
    /// [`LockError::Busy`] if it is not, also if the calling thread has it; [`LockError::OwnerDied`] holds the guard.
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        guard(self.0.try_lock()?)
    }

    /// Waits for the lock, at most for `timeout`, never less. Python: `acquire(timeout=…)`.
    ///
    /// # Errors
    /// [`LockError::Busy`] after the time-out; else as [`Lock::lock`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
        guard(self.0.lock(Instant::now().checked_add(timeout))?)
    }

    /// Whether anybody holds the lock at this moment; a dead owner does not. Python: `locked()`.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.holder().is_somebody()
    }

    /// Who holds the lock at this moment. Takes nothing and waits for nobody.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.0.holder()
    }
}

#[inline]
fn guard(held: GateGuard<'_>) -> Result<LockGuard<'_>, LockError<LockGuard<'_>>> {
    let owner_died = held.owner_died();
    let guard = LockGuard(held);
    if owner_died { Err(LockError::OwnerDied(guard)) } else { Ok(guard) }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock(held by {})", self.holder())
    }
}
