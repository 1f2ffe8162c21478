//! Conditions: waiting for a change of what a lock protects.
//!
//! Whoever waits draws a ticket while it holds the lock, so no notification after that is missed. To notify some is to
//! put out tokens, never as many as there are waiters, for those whose ticket was drawn by then; to notify as many as
//! wait is to release all tickets so far. Either wakes all that sleep, in the same step, and those who are not meant
//! sleep on: so no death of one that was woken can swallow the wake of another, without any timer. A token is taken under
//! the lock, as the last step of a wait. So a waiter that is killed either leaves its token, which another takes, or
//! dies as the owner of the lock, which the next owner is told (and [`Condition`] then wakes all).

use std::{
    fmt,
    time::{Duration, Instant},
};

use mp_core::{
    kill_points::{Point, reach},
    shared::{Change, GateError, Monitor, RegionError, Slot, TimedOut, Wakes},
};
use serde::{Deserialize, Serialize};

use crate::{Lock, LockError, LockGuard};

/// The words of the state, in this order.
#[derive(Clone, Copy)]
struct State {
    /// Tickets that were drawn and neither released nor given up; those of the dead among them.
    waiting: u64,
    /// How many of them may go on.
    tokens: u64,
    /// The next ticket.
    next: u64,
    /// A token is for tickets before this one.
    limit: u64,
    /// Tickets before this one go on without a token.
    released: u64,
}

impl State {
    fn read([waiting, tokens, next, limit, released]: [u64; 5]) -> Self {
        Self { waiting, tokens, next, limit, released }
    }

    fn change(self, wakes: Wakes) -> Change<5> {
        Some(([self.waiting, self.tokens, self.next, self.limit, self.released], wakes))
    }

    fn draw(self) -> (Change<5>, u64) {
        let drawn = Self { waiting: self.waiting.saturating_add(1), next: self.next.wrapping_add(1), ..self };
        (drawn.change(Wakes::Nobody), self.next)
    }

    fn is_released(self, ticket: u64) -> bool {
        is_before(ticket, self.released)
    }

    fn has_token_for(self, ticket: u64) -> bool {
        self.tokens > 0 && is_before(ticket, self.limit)
    }

    fn lets_go(self, ticket: u64) -> bool {
        self.is_released(ticket) || self.has_token_for(ticket)
    }

    /// The end of a wait, under the lock: whether it was notified, or `None` if it goes on.
    fn leave(self, ticket: u64, timed_out: bool) -> (Change<5>, Option<bool>) {
        let waiting = self.waiting.saturating_sub(1);
        if self.is_released(ticket) {
            (None, Some(true))
        } else if self.has_token_for(ticket) {
            (Self { waiting, tokens: self.tokens - 1, ..self }.change(Wakes::Nobody), Some(true))
        } else if timed_out {
            (Self { waiting, ..self }.change(Wakes::Nobody), Some(false))
        } else {
            (None, None)
        }
    }

    fn notify(self, count: u64) -> Change<5> {
        if count == 0 || self.waiting == 0 {
            return None;
        }
        let tokens = self.tokens.saturating_add(count);
        if tokens < self.waiting {
            Self { tokens, limit: self.next, ..self }.change(Wakes::All)
        } else {
            // Also those that were killed while they waited are counted no longer.
            Self { waiting: 0, tokens: 0, released: self.next, ..self }.change(Wakes::All)
        }
    }
}

/// Tickets wrap around: compared as the distance between them.
fn is_before(ticket: u64, other: u64) -> bool {
    other.wrapping_sub(ticket).cast_signed() > 0
}

/// A condition with its lock; a cheap handle that travels.
///
/// Now and then a wait ends for nothing: look again at what was waited for, or use [`Condition::wait_while`]. A
/// notification wakes all that sleep for a moment, whomever it is for, so that no death can lose it: where hundreds wait,
/// a [`Semaphore`](crate::Semaphore) is cheaper.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::{Condition, Value};
///
/// let (condition, ready) = (Condition::new()?, Value::new(0_u8)?);
/// let child = mp_core::spawn(
///     |condition: Condition, ready: Value<u8>| {
///         let _guard = condition.lock().unwrap();
///         ready.set(1).unwrap();
///         condition.notify_one().unwrap();
///     },
///     (condition.clone(), ready.clone()),
/// )?;
/// let guard = condition.lock().unwrap();
/// drop(condition.wait_while(guard, || ready.get().unwrap() == 0).unwrap());
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Condition {
    lock: Lock,
    state: Slot<Monitor<5>>,
}

/// A lock guard, or why there is none.
type Relocked<'a> = Result<LockGuard<'a>, LockError<LockGuard<'a>>>;

impl Condition {
    /// Makes a condition with a lock of its own.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new() -> Result<Self, RegionError> {
        Self::with_lock(Lock::new()?)
    }

    /// Makes a condition of what `lock` protects. Python: `Condition(lock)`.
    ///
    /// Whoever takes that lock by itself and is told that its owner died should [`notify_all`](Condition::notify_all): the
    /// dead one may have been notified. [`Condition::lock`] does so.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn with_lock(lock: Lock) -> Result<Self, RegionError> {
        Ok(Self { lock, state: Slot::new()? })
    }

    /// The lock by itself.
    #[must_use]
    pub fn get_lock(&self) -> &Lock {
        &self.lock
    }

    /// Waits for the lock. Python: `acquire()`.
    ///
    /// # Errors
    /// Those of [`Lock::lock`].
    pub fn lock(&self) -> Relocked<'_> {
        let locked = self.lock.lock();
        if let Err(LockError::OwnerDied(guard)) = locked {
            self.notify_all()?;
            return Err(LockError::OwnerDied(guard));
        }
        locked
    }

    /// Releases the lock, waits until notified, and takes the lock again.
    ///
    /// # Errors
    /// Those of [`Lock::lock`], when the lock is taken again; [`LockError::OtherLock`] at once, with the guard, if it is not
    /// of this condition's lock.
    pub fn wait<'a>(&'a self, guard: LockGuard<'a>) -> Relocked<'a> {
        self.wait_until(guard, None).0
    }

    /// As [`Condition::wait`], but waits for a notification at most for `timeout`, never less; also whether there was one.
    ///
    /// The lock is waited for as long as it takes, also after the time-out; so is the gate in which all are notified if
    /// its owner died. Where another process is stopped (SIGSTOP) inside a change of the condition, the wait ends 100 ms
    /// after the time-out as one that was not notified, and is counted until all are notified, or never began.
    ///
    /// # Errors
    /// As for [`Condition::wait`].
    pub fn wait_timeout<'a>(&'a self, guard: LockGuard<'a>, timeout: Duration) -> (Relocked<'a>, bool) {
        self.wait_until(guard, Instant::now().checked_add(timeout))
    }

    /// Waits until `blocked` says no. Python: `wait_for()`, with the opposite predicate.
    ///
    /// # Errors
    /// As for [`Condition::wait`].
    pub fn wait_while<'a>(
        &'a self,
        mut guard: LockGuard<'a>,
        mut blocked: impl FnMut() -> bool,
    ) -> Relocked<'a> {
        while blocked() {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`Condition::wait_while`], but at most for `timeout`; also whether `blocked` has said no.
    ///
    /// # Errors
    /// As for [`Condition::wait`].
    pub fn wait_timeout_while<'a>(
        &'a self,
        mut guard: LockGuard<'a>,
        timeout: Duration,
        mut blocked: impl FnMut() -> bool,
    ) -> (Relocked<'a>, bool) {
        let deadline = Instant::now().checked_add(timeout);
        while blocked() {
            let (relocked, notified) = self.wait_until(guard, deadline);
            guard = match relocked {
                Ok(guard) => guard,
                error => return (error, false),
            };
            if !notified && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return (Ok(guard), !blocked());
            }
        }
        (Ok(guard), true)
    }

    fn wait_until<'a>(&'a self, guard: LockGuard<'a>, deadline: Option<Instant>) -> (Relocked<'a>, bool) {
        if !guard.is_of(&self.lock) {
            return (Err(LockError::OtherLock(guard)), false);
        }
        let ticket = match self.state.update_by(deadline, |state| State::read(state).draw()) {
            Ok(ticket) => ticket,
            // One is stopped with the gate in its hands. No ticket, no wait, and the lock was never released.
            Err(GateError::Busy) => return (Ok(guard), false),
            Err(error) => return (Err(error.into()), false),
        };
        reach(Point::TicketDrawn);
        drop(guard);
        reach(Point::LockReleased);
        loop {
            let look = |state| State::read(state).lets_go(ticket).then_some(());
            let timed_out = self.state.wait_shared(deadline, look) == Err(TimedOut);
            let relocked = self.lock();
            reach(Point::Relocked);
            // A lock that was not obtained ends the wait, too.
            let ends = timed_out || relocked.is_err();
            match self.state.update_by(deadline, |state| State::read(state).leave(ticket, ends)) {
                Ok(Some(notified)) => return (relocked, notified),
                // The ticket stays, as that of one that was killed; if a token is for it, another one takes that.
                Err(GateError::Busy) => {
                    return (relocked, State::read(self.state.peek()).is_released(ticket));
                }
                // Another one took the token meanwhile.
                Ok(None) => {}
                Err(error) => return (Err(error.into()), false),
            }
        }
    }

    /// Wakes one of those that wait. Need not hold the lock, but should, so that what they wait for cannot change meanwhile.
    ///
    /// Waits only while another process is stopped or descheduled inside a change: microseconds, unless it is SIGSTOPped.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the shared memory was overwritten.
    pub fn notify_one(&self) -> Result<(), GateError> {
        self.notify(1)
    }

    /// Wakes up to `count` of those that wait, and nobody who begins to wait later.
    ///
    /// # Errors
    /// As for [`Condition::notify_one`].
    pub fn notify(&self, count: u64) -> Result<(), GateError> {
        self.state.update(|state| (State::read(state).notify(count), ()))
    }

    /// Wakes all that wait.
    ///
    /// # Errors
    /// As for [`Condition::notify_one`].
    pub fn notify_all(&self) -> Result<(), GateError> {
        self.notify(u64::MAX)
    }

    /// How many wait at this moment; those that were killed while they waited count until all are notified.
    #[must_use]
    pub fn waiters(&self) -> u64 {
        State::read(self.state.peek()).waiting
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({} wait, {:?})", self.waiters(), self.lock)
    }
}
