//! A small state in shared memory that changes all at once or not at all, and can be waited for.
//!
//! The state is `N` 64-bit words, kept twice: the valid copy is `slots[count & 1]`. Whoever holds the gate writes the
//! other copy and commits by one change of the count. A death before that change has changed nothing; after it,
//! everything. Semaphores, conditions, events and barriers are state machines on top of this.

use std::time::{Duration, Instant};

use super::{
    gate::{Gate, GateError},
    word::{TimedOut, Word},
};
use crate::{
    kill_points::kill_point,
    sync::{AtomicU64, Ordering},
    sys::map::shared_struct,
};

shared_struct! {
    /// A state of `N` words behind a gate.
    pub struct Monitor<const N: usize> {
        gate: Gate,
        changes: Word,
        slots: [[AtomicU64; N]; 2],
    }
}

/// Who is woken by a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakes {
    /// Nobody: nobody waits for this change.
    Nobody,
    /// The one with the right to sleep ([`Monitor::wait`]); the others follow it.
    One,
    /// All of those that sleep without that right ([`Monitor::wait_shared`]).
    All,
}

/// What becomes of a state: a new one, and who is to know; or `None` to leave it as it is.
pub type Change<const N: usize> = Option<([u64; N], Wakes)>;

/// How long an operation with a deadline waits beyond it for a gate that is held for moments only: longer, and its
/// holder is stopped.
const GRACE: Duration = Duration::from_millis(100);

impl<const N: usize> Monitor<N> {
    /// The state as it is now, without waiting for the gate.
    #[must_use]
    pub fn peek(&self) -> [u64; N] {
        loop {
            let count = self.changes.count();
            let state = self.load(count);
            // A copy is overwritten only after the count has moved on: an unchanged count means an untorn copy.
            crate::sync::fence(Ordering::Acquire);
            if self.changes.count() == count {
                return state;
            }
        }
    }

    fn load(&self, count: u32) -> [u64; N] {
        let slot = &self.slots[(count & 1) as usize];
        std::array::from_fn(|i| slot[i].load(Ordering::Relaxed))
    }

    /// Changes the state at once: `change` gets the state and returns what becomes of it, and a result.
    ///
    /// `change` runs while the gate is held: it must compute, and do nothing else.
    ///
    /// Waits only while another process is stopped or descheduled inside a change: microseconds, unless it is SIGSTOPped.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the memory was overwritten.
    #[inline]
    pub fn update<R>(&self, change: impl FnOnce([u64; N]) -> (Change<N>, R)) -> Result<R, GateError> {
        self.update_by(None, change)
    }

    /// As [`Monitor::update`], but gives up 100 ms after `deadline`, or after now if that is later.
    ///
    /// # Errors
    /// [`GateError::Busy`] then, and nothing was changed: another process is stopped inside a change.
    /// [`GateError::Corrupt`] if the memory was overwritten.
    pub fn update_by<R>(
        &self,
        deadline: Option<Instant>,
        change: impl FnOnce([u64; N]) -> (Change<N>, R),
    ) -> Result<R, GateError> {
        let gate = match deadline {
            None => self.gate.lock(None)?,
            Some(deadline) => match self.gate.try_lock() {
                Err(GateError::Busy) => self.gate.lock(deadline.max(Instant::now()).checked_add(GRACE))?,
                gate => gate?,
            },
        };
        kill_point!(GateLocked);
        let count = self.changes.count();
        let (next, result) = change(self.load(count));
        if let Some((next, wakes)) = next {
            // Orders these stores after the change of the count that made this copy the stale one (see `peek`).
            crate::sync::fence(Ordering::Release);
            let slot = &self.slots[(count.wrapping_add(1) & 1) as usize];
            for (cell, value) in slot.iter().zip(next) {
                cell.store(value, Ordering::Relaxed);
            }
            kill_point!(SlotWritten);
            match wakes {
                Wakes::Nobody => self.changes.advance_quietly(),
                Wakes::One => self.changes.advance(),
                Wakes::All => self.changes.advance_waking_all(),
            }
            kill_point!(Committed);
        }
        drop(gate);
        kill_point!(GateReleased);
        Ok(result)
    }

    /// Waits until `attempt` accepts the state, at most until `deadline` (`None`: for ever; passed: one attempt).
    ///
    /// `attempt` returns what becomes of the state and a result, or `None` to wait for the next change.
    ///
    /// # Errors
    /// [`TimedOut`], inside the outer `Ok`, after the deadline; [`GateError::Corrupt`] if the memory was overwritten.
    pub fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut([u64; N]) -> Option<(Change<N>, R)>,
    ) -> Result<Result<R, TimedOut>, GateError> {
        flatten(self.changes.wait(deadline, || self.attempt(deadline, &mut attempt))?)
    }

    /// Waits until `look` finds in the state what it looks for, at most until `deadline`, together with others that may
    /// look for something else: see [`Word::wait_shared`]. Changes nothing, and takes no gate.
    ///
    /// # Errors
    /// [`TimedOut`] after the deadline.
    pub fn wait_shared<R>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut([u64; N]) -> Option<R>,
    ) -> Result<R, TimedOut> {
        self.changes.wait_shared(deadline, || look(self.peek()))
    }

    fn attempt<R>(
        &self,
        deadline: Option<Instant>,
        attempt: &mut impl FnMut([u64; N]) -> Option<(Change<N>, R)>,
    ) -> Option<Result<R, GateError>> {
        let tried = self.update_by(deadline, |state| match attempt(state) {
            Some((next, result)) => (next, Some(result)),
            None => (None, None),
        });
        tried.transpose()
    }
}

fn flatten<R>(outcome: Result<Result<R, GateError>, TimedOut>) -> Result<Result<R, TimedOut>, GateError> {
    match outcome {
        Ok(Ok(result)) => Ok(Ok(result)),
        // The gate's holder is stopped, and the deadline has passed.
        Ok(Err(GateError::Busy)) | Err(TimedOut) => Ok(Err(TimedOut)),
        Ok(Err(error)) => Err(error),
    }
}

impl<const N: usize> std::fmt::Debug for Monitor<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Monitor").field(&self.peek()).finish()
    }
}
