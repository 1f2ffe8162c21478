//! Semaphores: a number of permits.
//!
//! The state is one word of a monitor: `permits`. To acquire is to wait until it is not 0 and take one; to release is to
//! add. Anybody may release; a process that dies with a permit takes it along, as in Python and POSIX.

use std::{
    fmt,
    time::{Duration, Instant},
};

use mp_core::{
    os::own_pid,
    shared::{Change, Monitor, RegionError, Slot, Wakes},
};
use serde::{Deserialize, Serialize};

fn take([permits]: [u64; 1]) -> Option<(Change<1>, ())> {
    // What is left wakes the next one that waits, whoever was woken for this one.
    Some((Some(([permits.checked_sub(1)?], Wakes::One)), ()))
}

fn give([permits]: [u64; 1], count: u64, bound: Option<u64>) -> (Change<1>, bool) {
    match permits.checked_add(count).filter(|next| bound.is_none_or(|bound| *next <= bound)) {
        Some(next) => (Some(([next], Wakes::One)), true),
        None => (None, false),
    }
}

/// A semaphore could not do what was asked.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// There was no permit: at once for a try, else when the time-out had passed.
    #[error("the semaphore has no permit left")]
    Busy,
    /// A bounded semaphore was released more often than acquired.
    #[error("the semaphore cannot be released: it has all its {bound} permits")]
    TooManyReleases {
        /// How many permits it can have: those that it was made with, or 2^64 - 1.
        bound: u64,
    },
    /// The shared memory was overwritten.
    #[error("the semaphore cannot be used: its memory is corrupt")]
    Corrupt,
}

mp_core::message_as_debug!(SemaphoreError);

/// A number of permits that processes share; a cheap handle that travels.
///
/// A process that is killed while it has a permit takes it along, as in Python: the kernel cannot know that a permit was
/// for good (as in a signal) or on loan. Where the death of a holder must free its place, use a [`Lock`](crate::Lock) or
/// an [`RwLock`](crate::RwLock).
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Semaphore;
///
/// let done = Semaphore::new(0)?;
/// let child = mp_core::spawn(|done: Semaphore| done.release().unwrap(), (done.clone(),))?;
/// done.acquire()?;
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Semaphore {
    state: Slot<Monitor<1>>,
    bound: Option<u64>,
}

/// A permit, given back when this is dropped.
#[derive(Debug)]
#[must_use = "the permit is given back when this is dropped"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    /// The process that took it: a fork of it has none to give back.
    pid: u32,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Fails only for a semaphore that somebody else has released too often, or whose memory is corrupt.
        if self.pid == own_pid() {
            let _ = self.semaphore.release();
        }
    }
}

impl Semaphore {
    /// Makes a semaphore with `permits` permits, which may become any number. Python: `Semaphore(value)`.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new(permits: u64) -> Result<Self, RegionError> {
        Self::with(permits, None)
    }

    /// Makes a semaphore that never has more permits than at the beginning. Python: `BoundedSemaphore(value)`.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn bounded(permits: u64) -> Result<Self, RegionError> {
        Self::with(permits, Some(permits))
    }

    fn with(permits: u64, bound: Option<u64>) -> Result<Self, RegionError> {
        let semaphore = Self { state: Slot::new()?, bound };
        semaphore
            .state
            .update(|state| give(state, permits, None))
            .map_err(|_| RegionError::Corrupt("a new semaphore cannot be set"))?;
        Ok(semaphore)
    }

    /// Takes a permit; blocks until there is one. Python: `acquire()`.
    ///
    /// # Errors
    /// [`SemaphoreError::Corrupt`].
    pub fn acquire(&self) -> Result<(), SemaphoreError> {
        self.acquire_until(None)
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    /// [`SemaphoreError::Busy`] if there is none.
    pub fn try_acquire(&self) -> Result<(), SemaphoreError> {
        self.acquire_until(Some(Instant::now()))
    }

    /// Takes a permit, waiting for it at most for `timeout`, never less.
    ///
    /// # Errors
    /// [`SemaphoreError::Busy`] after the time-out.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), SemaphoreError> {
        self.acquire_until(Instant::now().checked_add(timeout))
    }

    /// As [`Semaphore::acquire`]; the permit is given back when the returned value is dropped. Python: `with semaphore:`.
    ///
    /// # Errors
    /// As for [`Semaphore::acquire`].
    pub fn permit(&self) -> Result<Permit<'_>, SemaphoreError> {
        self.acquire().map(|()| Permit { semaphore: self, pid: own_pid() })
    }

    fn acquire_until(&self, deadline: Option<Instant>) -> Result<(), SemaphoreError> {
        match self.state.wait(deadline, take) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_timed_out)) => Err(SemaphoreError::Busy),
            Err(_) => Err(SemaphoreError::Corrupt),
        }
    }

    /// Gives a permit, whether this process has acquired one or not. Python: `release()`.
    ///
    /// Waits only while another process is stopped or descheduled inside a change: microseconds, unless it is SIGSTOPped.
    ///
    /// # Errors
    /// [`SemaphoreError::TooManyReleases`] of a bounded semaphore.
    pub fn release(&self) -> Result<(), SemaphoreError> {
        self.release_many(1)
    }

    /// Gives `count` permits at once.
    ///
    /// # Errors
    /// As for [`Semaphore::release`]; none was given then.
    pub fn release_many(&self, count: u64) -> Result<(), SemaphoreError> {
        match self.state.update(|state| give(state, count, self.bound)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(SemaphoreError::TooManyReleases { bound: self.bound.unwrap_or(u64::MAX) }),
            Err(_) => Err(SemaphoreError::Corrupt),
        }
    }

    /// How many permits there are at this moment. Python: `get_value()`.
    #[must_use]
    pub fn value(&self) -> u64 {
        let [permits] = self.state.peek();
        permits
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bound {
            Some(bound) => write!(f, "Semaphore({} of {bound} permits)", self.value()),
            None => write!(f, "Semaphore({} permits)", self.value()),
        }
    }
}
