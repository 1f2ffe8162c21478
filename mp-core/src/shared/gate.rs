//! A lock that the kernel frees when its owner dies.
//!
//! No user code runs while a gate is held (no serde, no `Drop`, no closure of a caller): what a gate guards is changed in
//! steps that this crate has written, so that a death at any of them leaves a sound state. Recovery after a death is
//! therefore nothing but taking the gate.

use std::{marker::PhantomData, time::Instant};

use crate::{
    os,
    sync::{AtomicU64, Ordering, RobustMutex},
    sys::{
        map::shared_struct,
        outcome::{Acquired, Refused},
    },
};

shared_struct! {
    /// A robust lock in shared memory.
    pub struct Gate {
        mutex: RobustMutex,
    }
}

shared_struct! {
    /// A gate that knows who holds it, for people who ask; the kernel knows by itself.
    pub struct OwnedGate {
        gate: Gate,
        /// Process id << 32 | thread id; 0 when nobody holds it. Stale after a death, until the next owner.
        owner: AtomicU64,
    }
}

shared_struct! {
    /// A gate that its holder may take again, as often as it likes.
    pub struct ReentrantGate {
        inner: OwnedGate,
        /// How often the holder has taken it; only the holder touches it.
        depth: AtomicU64,
    }
}

/// A thread of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The process id.
    pub pid: u32,
    /// The thread id; that of a process's first thread is the process id.
    pub tid: u32,
}

impl Owner {
    /// The calling thread.
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        thread_local! {
            static CURRENT: Owner = Owner {
                pid: std::process::id(),
                tid: os::thread::gettid().as_raw_nonzero().get().cast_unsigned(),
            };
        }
        CURRENT.with(|current| *current)
    }
}

impl OwnedGate {
    /// As [`Gate::lock`].
    ///
    /// # Errors
    /// As for [`Gate::lock`].
    #[inline]
    pub fn lock(&self, deadline: Option<Instant>) -> Result<OwnedGateGuard<'_>, GateError> {
        let guard = self.gate.lock(deadline)?;
        Ok(self.owned(guard))
    }

    /// As [`Gate::try_lock`].
    ///
    /// # Errors
    /// As for [`Gate::try_lock`].
    #[inline]
    pub fn try_lock(&self) -> Result<OwnedGateGuard<'_>, GateError> {
        let guard = self.gate.try_lock()?;
        Ok(self.owned(guard))
    }

    #[inline]
    fn owned<'a>(&'a self, guard: GateGuard<'a>) -> OwnedGateGuard<'a> {
        let Owner { pid, tid } = Owner::current();
        self.owner.store(u64::from(pid) << 32 | u64::from(tid), Ordering::Relaxed);
        OwnedGateGuard { owner: &self.owner, guard }
    }

    /// Who took it last and has not released it; an owner that died counts until the next one comes.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        let owner = self.owner.load(Ordering::Relaxed);
        (owner != 0).then_some(Owner { pid: (owner >> 32) as u32, tid: owner as u32 })
    }
}

/// The gate is held by this thread until this is dropped.
#[derive(Debug)]
#[must_use = "the gate is released when the guard is dropped"]
pub struct OwnedGateGuard<'a> {
    owner: &'a AtomicU64,
    guard: GateGuard<'a>,
}

impl OwnedGateGuard<'_> {
    /// Whether the previous owner died while it held the gate.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.guard.owner_died()
    }
}

impl Drop for OwnedGateGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.owner.store(0, Ordering::Relaxed);
    }
}

impl ReentrantGate {
    /// As [`Gate::lock`], but the holder gets it again at once.
    ///
    /// # Errors
    /// [`GateError::Busy`] after the deadline, or [`GateError::Corrupt`].
    pub fn lock(&self, deadline: Option<Instant>) -> Result<ReentrantGateGuard<'_>, GateError> {
        self.enter(|gate| gate.lock(deadline))
    }

    /// As [`Gate::try_lock`], but the holder gets it again.
    ///
    /// # Errors
    /// [`GateError::Busy`] or [`GateError::Corrupt`].
    pub fn try_lock(&self) -> Result<ReentrantGateGuard<'_>, GateError> {
        self.enter(OwnedGate::try_lock)
    }

    fn enter<'a>(
        &'a self,
        take: impl FnOnce(&'a OwnedGate) -> Result<OwnedGateGuard<'a>, GateError>,
    ) -> Result<ReentrantGateGuard<'a>, GateError> {
        // Only the calling thread can have written its own name there, and only while it holds the gate.
        let (depth, owner_died) = if self.inner.owner() == Some(Owner::current()) {
            (self.depth.load(Ordering::Relaxed).saturating_add(1), false)
        } else {
            let guard = take(&self.inner)?;
            let owner_died = guard.owner_died();
            // From here on the depth says when it is released.
            std::mem::forget(guard);
            (1, owner_died)
        };
        self.depth.store(depth, Ordering::Relaxed);
        Ok(ReentrantGateGuard { gate: self, owner_died, own_thread: PhantomData })
    }

    /// Who holds it, and how often.
    #[must_use]
    pub fn owner(&self) -> Option<(Owner, u64)> {
        self.inner.owner().map(|owner| (owner, self.depth.load(Ordering::Relaxed)))
    }
}

/// The gate is held by this thread until this guard and all others of the same thread are dropped.
#[derive(Debug)]
#[must_use = "the gate is released when the guard is dropped"]
pub struct ReentrantGateGuard<'a> {
    gate: &'a ReentrantGate,
    owner_died: bool,
    own_thread: PhantomData<*const ()>,
}

impl ReentrantGateGuard<'_> {
    /// Whether the previous owner died while it held the gate.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }
}

impl Drop for ReentrantGateGuard<'_> {
    fn drop(&mut self) {
        let depth = self.gate.depth.load(Ordering::Relaxed).saturating_sub(1);
        self.gate.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            self.gate.inner.owner.store(0, Ordering::Relaxed);
            self.gate.inner.gate.mutex.unlock();
        }
    }
}

impl std::fmt::Debug for ReentrantGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ReentrantGate").field(&self.owner()).finish()
    }
}

/// A gate was not obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// Somebody else holds it.
    #[error("the gate is held by another thread or process")]
    Busy,
    /// The calling thread holds it already.
    #[error("the gate is held by the calling thread itself")]
    Deadlock,
    /// Its memory was overwritten.
    #[error("the gate's memory is corrupt")]
    Corrupt,
}

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
        let acquired = match deadline {
            None => self.mutex.lock(),
            Some(deadline) => match self.mutex.try_lock() {
                Err(Refused::Busy) => self.mutex.lock_until(deadline),
                outcome => outcome,
            },
        };
        self.guard(acquired)
    }

    /// Takes the gate if it is free.
    ///
    /// # Errors
    /// [`GateError::Busy`] if it is not, also if the calling thread itself holds it.
    #[inline]
    pub fn try_lock(&self) -> Result<GateGuard<'_>, GateError> {
        self.guard(self.mutex.try_lock()).map_err(|error| match error {
            GateError::Deadlock => GateError::Busy,
            error => error,
        })
    }

    #[inline]
    fn guard(&self, acquired: Result<Acquired, Refused>) -> Result<GateGuard<'_>, GateError> {
        let acquired = acquired?;
        Ok(GateGuard { gate: self, owner_died: acquired == Acquired::OwnerDied, own_thread: PhantomData })
    }
}

/// The gate is held by this thread until this is dropped.
#[derive(Debug)]
#[must_use = "the gate is released when the guard is dropped"]
pub struct GateGuard<'a> {
    gate: &'a Gate,
    owner_died: bool,
    /// The kernel knows the owner by its thread: a guard must stay there.
    own_thread: PhantomData<*const ()>,
}

impl GateGuard<'_> {
    /// Whether the previous owner died while it held the gate.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }
}

impl Drop for GateGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.gate.mutex.unlock();
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
