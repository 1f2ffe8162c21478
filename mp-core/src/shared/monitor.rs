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
    /// The one with the right to sleep ([`Monitor::wait`]); the others follow it.
    One,
    /// Nobody: nobody waits for this change.
    Nobody,
    /// So many of those that sleep without that right ([`Monitor::wait_shared`]).
    Some(u32),
    /// All of them.
    All,
}

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

    /// Changes the state at once: `change` gets the state and returns the new one (`None`: leave it) and a result.
    ///
    /// `change` runs while the gate is held: it must compute, and do nothing else.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the memory was overwritten.
    #[inline]
    pub fn update<R>(&self, change: impl FnOnce([u64; N]) -> (Option<[u64; N]>, R)) -> Result<R, GateError> {
        self.update_waking(Wakes::One, change)
    }

    /// As [`Monitor::update`], and says who is woken.
    ///
    /// # Errors
    /// As for [`Monitor::update`].
    pub fn update_waking<R>(
        &self,
        wakes: Wakes,
        change: impl FnOnce([u64; N]) -> (Option<[u64; N]>, R),
    ) -> Result<R, GateError> {
        let gate = self.gate.lock(None)?;
        kill_point!(GateLocked);
        let count = self.changes.count();
        let (next, result) = change(self.load(count));
        if let Some(next) = next {
            // Orders these stores after the change of the count that made this copy the stale one (see `peek`).
            crate::sync::fence(Ordering::Release);
            let slot = &self.slots[(count.wrapping_add(1) & 1) as usize];
            for (cell, value) in slot.iter().zip(next) {
                cell.store(value, Ordering::Relaxed);
            }
            kill_point!(SlotWritten);
            match wakes {
                Wakes::One => self.changes.advance(),
                Wakes::Nobody => self.changes.advance_quietly(),
                Wakes::Some(count) => self.changes.advance_waking(count),
                Wakes::All => self.changes.advance_waking(u32::MAX),
            }
            kill_point!(Committed);
        }
        drop(gate);
        kill_point!(GateReleased);
        Ok(result)
    }

    /// Waits until `attempt` accepts the state, at most until `deadline` (`None`: for ever; passed: one attempt).
    ///
    /// `attempt` returns the new state (`None`: leave it) and a result, or `None` to wait for the next change.
    ///
    /// # Errors
    /// [`TimedOut`], inside the outer `Ok`, after the deadline; [`GateError::Corrupt`] if the memory was overwritten.
    pub fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut([u64; N]) -> Option<(Option<[u64; N]>, R)>,
    ) -> Result<Result<R, TimedOut>, GateError> {
        flatten(self.changes.wait(deadline, || self.attempt(Wakes::One, &mut attempt))?)
    }

    /// As [`Monitor::wait`], for states on which many wait for different things: see [`Word::wait_shared`]. The change
    /// that an attempt makes wakes nobody.
    ///
    /// # Errors
    /// As for [`Monitor::wait`].
    pub fn wait_shared<R>(
        &self,
        deadline: Option<Instant>,
        cap: Option<Duration>,
        mut attempt: impl FnMut([u64; N]) -> Option<(Option<[u64; N]>, R)>,
    ) -> Result<Result<R, TimedOut>, GateError> {
        flatten(self.changes.wait_shared(deadline, cap, || self.attempt(Wakes::Nobody, &mut attempt)))
    }

    fn attempt<R>(
        &self,
        wakes: Wakes,
        attempt: &mut impl FnMut([u64; N]) -> Option<(Option<[u64; N]>, R)>,
    ) -> Option<Result<R, GateError>> {
        let tried = self.update_waking(wakes, |state| match attempt(state) {
            Some((next, result)) => (next, Some(result)),
            None => (None, None),
        });
        tried.transpose()
    }
}

fn flatten<R>(outcome: Result<Result<R, GateError>, TimedOut>) -> Result<Result<R, TimedOut>, GateError> {
    match outcome {
        Ok(Ok(result)) => Ok(Ok(result)),
        Ok(Err(error)) => Err(error),
        Err(timed_out) => Ok(Err(timed_out)),
    }
}

impl<const N: usize> std::fmt::Debug for Monitor<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Monitor").field(&self.peek()).finish()
    }
}
