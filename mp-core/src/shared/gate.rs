//! A lock that the kernel frees when its owner dies.
//!
//! No user code runs while a gate is held (no serde, no `Drop`, no closure of a caller): what a gate guards is changed in
//! steps that this crate has written, so that a death at any of them leaves a sound state. Recovery after a death is
//! therefore nothing but taking the gate.

use std::{fmt, fs, marker::PhantomData, time::Instant};

use crate::{
    sync::{AtomicU64, Ordering, RobustMutex, fence},
    sys::{
        map::shared_struct,
        outcome::{Acquired, Held, Refused},
    },
};

shared_struct! {
    /// A robust lock in shared memory.
    pub struct Gate {
        mutex: RobustMutex,
    }
}

shared_struct! {
    /// A gate that its holder may take again, as often as it likes.
    pub struct ReentrantGate {
        gate: Gate,
        /// How often the holder has taken it; only the holder changes it.
        depth: AtomicU64,
    }
}

/// A gate was not obtained.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// Somebody holds it, for a try perhaps the calling thread itself.
    #[error("the gate is not free: a thread of this or of another process holds it")]
    Busy,
    /// The calling thread holds it already.
    #[error("the gate is held by the calling thread itself")]
    Deadlock,
    /// Its memory was overwritten.
    #[error("the gate's memory is corrupt")]
    Corrupt,
}

crate::message_as_debug!(GateError);

impl From<Refused> for GateError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Busy => Self::Busy,
            Refused::Deadlock => Self::Deadlock,
            Refused::Corrupt => Self::Corrupt,
        }
    }
}

impl Gate {
    /// Waits for the gate, at most until `deadline` (`None`: for ever).
    ///
    /// # Errors
    /// [`GateError::Busy`] after the deadline; the others at once.
    #[inline]
    pub fn lock(&self, deadline: Option<Instant>) -> Result<GateGuard<'_>, GateError> {
        let acquired = self.acquire(deadline)?;
        Ok(GateGuard { gate: self, acquired, own_thread: PhantomData })
    }

    /// Takes the gate if it is free.
    ///
    /// # Errors
    /// [`GateError::Busy`] if it is not, also if the calling thread itself holds it.
    #[inline]
    pub fn try_lock(&self) -> Result<GateGuard<'_>, GateError> {
        match self.mutex.try_lock() {
            Ok(acquired) => Ok(GateGuard { gate: self, acquired, own_thread: PhantomData }),
            Err(Refused::Deadlock) => Err(GateError::Busy),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Looks a few times before it sleeps, with pauses in which whoever has the gate can take and free it many times: each look takes
    /// the cache line from that one, and a sleep costs both more than all of the pauses.
    #[inline]
    fn acquire(&self, deadline: Option<Instant>) -> Result<Acquired, Refused> {
        match self.mutex.try_lock() {
            Err(Refused::Busy) => self.acquire_later(deadline),
            outcome => outcome,
        }
    }

    #[cold]
    fn acquire_later(&self, deadline: Option<Instant>) -> Result<Acquired, Refused> {
        const LOOKS: u32 = if cfg!(mp_loom) { 0 } else { 4 };
        const PAUSE: u32 = 32;
        for _ in 0..LOOKS {
            (0..PAUSE).for_each(|_| std::hint::spin_loop());
            match self.mutex.try_lock() {
                Err(Refused::Busy) => {}
                outcome => return outcome,
            }
        }
        self.mutex.lock(deadline)
    }

    /// Whether the calling thread holds it. For what a guard does before it frees the gate: a fork copies guards into a process that
    /// holds nothing. It is not taken for that, which would swallow the report of a death.
    #[inline]
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.mutex.is_own()
    }

    /// Whether nobody holds it, nor has died holding it. If so, what its last holder has done is done.
    pub(crate) fn is_free(&self) -> bool {
        let free = matches!(self.mutex.held(), Held::No);
        // Its release is what was read.
        fence(Ordering::Acquire);
        free
    }

    /// Who holds it at this moment, without taking it: what the kernel itself goes by.
    #[must_use]
    pub fn holder(&self) -> Holder {
        match self.mutex.held() {
            Held::No => Holder::Nobody,
            Held::ByDead => Holder::Died,
            Held::By(_) if self.is_own() => Holder::ThisThread,
            Held::By(tid) => Holder::Thread { pid: process_of(tid), tid },
        }
    }
}

/// Who holds a lock, for people who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// It is free.
    Nobody,
    /// Its owner has died, and nobody has taken it since: it is free, and the next owner will be told.
    Died,
    /// The calling thread.
    ThisThread,
    /// Another thread, of this process or of another.
    Thread {
        /// Its process, unless the process ended meanwhile or belongs to somebody whose processes cannot be seen.
        pid: Option<u32>,
        /// The thread's id; that of a process's first thread is the process id.
        tid: u32,
    },
}

impl Holder {
    /// Whether somebody has it, so that others must wait.
    #[must_use]
    pub fn is_somebody(self) -> bool {
        matches!(self, Self::ThisThread | Self::Thread { .. })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nobody => f.write_str("nobody"),
            Self::Died => f.write_str("one that died"),
            Self::ThisThread => f.write_str("this thread"),
            Self::Thread { pid: Some(pid), tid } if pid == std::process::id() => {
                write!(f, "thread {tid} of this process")
            }
            Self::Thread { pid: Some(pid), tid } if pid == tid => write!(f, "process {pid}"),
            Self::Thread { pid: Some(pid), tid } => write!(f, "thread {tid} of process {pid}"),
            Self::Thread { pid: None, tid } => write!(f, "thread {tid}"),
        }
    }
}

fn process_of(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The gate is held by this thread until this is dropped.
#[derive(Debug)]
#[must_use = "the gate is released when the guard is dropped"]
pub struct GateGuard<'a> {
    gate: &'a Gate,
    acquired: Acquired,
    /// The kernel knows the owner by its thread: a guard must stay there.
    own_thread: PhantomData<*const ()>,
}

impl<'a> GateGuard<'a> {
    /// Whether the previous owner died while it held the gate.
    #[inline]
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.acquired == Acquired::OwnerDied
    }

    /// The gate that is held.
    #[inline]
    #[must_use]
    pub fn gate(&self) -> &'a Gate {
        self.gate
    }
}

impl Drop for GateGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.gate.mutex.unlock();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate(held by {})", self.holder())
    }
}

impl ReentrantGate {
    /// As [`Gate::lock`], but the holder gets it again at once.
    ///
    /// # Errors
    /// [`GateError::Busy`] after the deadline, or [`GateError::Corrupt`].
    pub fn lock(&self, deadline: Option<Instant>) -> Result<ReentrantGateGuard<'_>, GateError> {
        self.entered(self.gate.acquire(deadline))
    }

    /// As [`Gate::try_lock`], but the holder gets it again.
    ///
    /// # Errors
    /// [`GateError::Busy`] or [`GateError::Corrupt`].
    pub fn try_lock(&self) -> Result<ReentrantGateGuard<'_>, GateError> {
        self.entered(self.gate.mutex.try_lock())
    }

    fn entered(&self, acquired: Result<Acquired, Refused>) -> Result<ReentrantGateGuard<'_>, GateError> {
        let (acquired, depth) = match acquired {
            // What a dead owner left there does not count.
            Ok(acquired) => (acquired, 1),
            // The mutex knows its owner, also after a fork; a copy of the owner's name here would not.
            Err(Refused::Deadlock) => {
                let depth = self.depth.load(Ordering::Relaxed);
                (Acquired::Clean, depth.checked_add(1).ok_or(GateError::Corrupt)?)
            }
            Err(refused) => return Err(refused.into()),
        };
        self.depth.store(depth, Ordering::Relaxed);
        Ok(ReentrantGateGuard { gate: self, acquired, own_thread: PhantomData })
    }

    /// Who holds it, as [`Gate::holder`] says.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.gate.holder()
    }

    /// How often its holder has taken it; 0 if nobody holds it.
    #[must_use]
    pub fn depth(&self) -> u64 {
        if self.holder().is_somebody() { self.depth.load(Ordering::Relaxed) } else { 0 }
    }
}

/// The gate is held by this thread until this guard and all others of the same thread are dropped.
#[derive(Debug)]
#[must_use = "the gate is released when the guard is dropped"]
pub struct ReentrantGateGuard<'a> {
    gate: &'a ReentrantGate,
    acquired: Acquired,
    own_thread: PhantomData<*const ()>,
}

impl ReentrantGateGuard<'_> {
    /// Whether the previous owner died while it held the gate.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.acquired == Acquired::OwnerDied
    }
}

impl Drop for ReentrantGateGuard<'_> {
    fn drop(&mut self) {
        if !self.gate.gate.is_own() {
            return;
        }
        let depth = self.gate.depth.load(Ordering::Relaxed).saturating_sub(1);
        self.gate.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            self.gate.gate.mutex.unlock();
        }
    }
}

impl fmt::Debug for ReentrantGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReentrantGate(held {} times by {})", self.depth(), self.holder())
    }
}
