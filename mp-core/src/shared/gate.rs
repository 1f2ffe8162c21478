//! A lock that the kernel frees when its owner dies.
//!
//! No user code runs while a gate is held (no serde, no `Drop`, no closure of a caller): what a gate guards is changed in
//! steps that this crate has written, so that a death at any of them leaves a sound state. Recovery after a death is
//! therefore nothing but taking the gate.

use std::{marker::PhantomData, time::Instant};

use crate::{
    sync::RobustMutex,
    sys::{
        map::shared_struct,
        mutex::{Acquired, Refused},
    },
};

shared_struct! {
    /// A robust lock in shared memory.
    pub struct Gate {
        mutex: RobustMutex,
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
        self.guard(self.mutex.try_lock())
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
