//! A lock for many readers or one writer.
//!
//! There is a gate for writers and a row of places for readers, each a gate of its own. A reader takes the writers' gate,
//! then a free place, then lets the gate go: it holds one place while it reads. If there is none, it lets the gate go, too,
//! and comes again. A writer takes the gate, which keeps new
//! readers out, waits until each place was free once, and notes that it writes. Whoever dies frees what it held, because
//! the kernel does; so a dead reader does not count, and a writer that died while it wrote is reported to all that come,
//! until another one writes.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use mp_core::{
    kill_points::{Point, reach},
    shared::{Atomics, Gate, GateError, GateGuard, Holder, RegionError, Slot},
};
use serde::{Deserialize, Serialize};

use crate::LockError;

/// How many may read at a time; more wait until any of them ends.
#[cfg(not(mp_loom))]
const READERS: usize = 64;
#[cfg(mp_loom)]
const READERS: usize = 2;

/// How long one that waits for a place waits for the same one, before it looks at all of them again.
const SLICE: Duration = Duration::from_millis(10);

/// A lock for many readers (up to 64 at a time) or one writer; a cheap handle that travels.
///
/// Python has none. Readers that come while a writer waits, wait behind it. So a thread that reads must not ask to read
/// again: a writer that came in between would make it wait for itself.
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
    gate: Slot<Gate>,
    /// 1 while somebody writes; changed by the gate's holder alone.
    writing: Atomics<AtomicU32>,
    places: Slot<[Gate; READERS]>,
}

/// Reading is allowed until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct ReadGuard<'a> {
    _place: GateGuard<'a>,
}

/// Writing is allowed until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct WriteGuard<'a> {
    lock: &'a RwLock,
    _gate: GateGuard<'a>,
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        // In a fork of the process that writes nothing is held, and nothing was ended.
        if self.lock.gate.is_own() {
            self.lock.note_writing(false);
        }
    }
}

impl RwLock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new() -> Result<Self, RegionError> {
        Ok(Self { gate: Slot::new()?, writing: Atomics::zeroed(1)?, places: Slot::new()? })
    }

    /// Waits until nobody writes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] holds the guard, if the last writer died as it wrote: all readers are told until somebody writes.
    /// [`LockError::Deadlock`] if the calling thread writes.
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
        let (gate, place) = loop {
            let gate = self.gate.lock(deadline)?;
            reach(Point::WritersGateLocked);
            if let Some(place) = self.free_place()? {
                break (gate, place);
            }
            drop(gate);
            self.wait_for_a_place(deadline)?;
        };
        reach(Point::ReaderPlaced);
        // A reader cannot mend anything: the next one is told as well, until a writer comes.
        let writer_died = self.is_writing();
        drop(gate);
        let guard = ReadGuard { _place: place };
        if writer_died { Err(LockError::OwnerDied(guard)) } else { Ok(guard) }
    }

    /// All places, from the one where this thread looks first.
    fn places(&self) -> impl Iterator<Item = &Gate> {
        let (before, from) = self.places.split_at(own_place());
        from.iter().chain(before)
    }

    fn free_place(&self) -> Result<Option<GateGuard<'_>>, GateError> {
        for place in self.places() {
            match place.try_lock() {
                Err(GateError::Busy) => {}
                outcome => return outcome.map(Some),
            }
        }
        Ok(None)
    }

    /// Waits until one of the readers has ended, or for a slice of time: another one may have. Without the writers' gate,
    /// for that reader may be stopped, or read for ever.
    fn wait_for_a_place(&self, deadline: Option<Instant>) -> Result<(), GateError> {
        let slice = Instant::now() + SLICE;
        let until = deadline.map_or(slice, |deadline| deadline.min(slice));
        for place in self.places() {
            match place.lock(Some(until)) {
                // This thread reads there itself.
                Err(GateError::Deadlock) => {}
                Err(GateError::Busy) if until == slice => return Ok(()),
                outcome => return outcome.map(drop),
            }
        }
        Err(GateError::Deadlock)
    }

    /// Waits until nobody reads or writes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] holds the guard, if the last writer died as it wrote; [`LockError::Deadlock`] if the calling
    /// thread writes or reads.
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
        let gate = self.gate.lock(deadline)?;
        reach(Point::WritersGateLocked);
        for place in self.places.iter() {
            // Whoever had it has read to the end, or died; nobody new comes past the gate.
            match place.try_lock() {
                Err(GateError::Busy) if deadline.is_none_or(|deadline| deadline > Instant::now()) => {
                    drop(place.lock(deadline)?);
                }
                free => drop(free?),
            }
            reach(Point::PlaceFree);
        }
        let writer_died = self.is_writing();
        self.note_writing(true);
        let guard = WriteGuard { lock: self, _gate: gate };
        if writer_died { Err(LockError::OwnerDied(guard)) } else { Ok(guard) }
    }

    /// With the gate held: whether one that wrote has died.
    fn is_writing(&self) -> bool {
        self.writing.first().is_some_and(|writing| writing.load(Ordering::Relaxed) != 0)
    }

    /// Says, with the gate held, whether somebody writes from now on. (The gate orders it.)
    fn note_writing(&self, writes: bool) {
        if let Some(writing) = self.writing.first() {
            writing.store(writes.into(), Ordering::Relaxed);
        }
    }

    /// Who writes, or waits for the readers to end so that it can write.
    #[must_use]
    pub fn writer(&self) -> Holder {
        self.gate.holder()
    }

    /// How many read at this moment; the dead do not.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.readings().count()
    }

    fn readings(&self) -> impl Iterator<Item = Holder> {
        self.places.iter().map(Gate::holder).filter(|holder| holder.is_somebody())
    }
}

/// Where a thread looks for a free place first, so that not all look at the same ones.
fn own_place() -> usize {
    // (Processes that were forked from one share the state's seed.)
    thread_local!(static OWN: u64 = RandomState::new().hash_one(std::process::id()));
    OWN.with(|own| (own % READERS as u64) as usize)
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RwLock(written by {}, read by [", self.writer())?;
        for (i, reader) in self.readings().enumerate() {
            write!(f, "{}{reader}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("])")
    }
}
