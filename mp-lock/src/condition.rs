//! Conditions: waiting for a change of what a lock protects.
//!
//! The state is four words of a monitor: how many wait, how many tokens are out, the number of the next ticket, and the
//! limit. Whoever waits draws a ticket while it holds the lock, so no notification after that is missed. To notify is to
//! put out tokens, never more than there are waiters, and to raise the limit to the next ticket: only those that waited
//! by then may take one. The same step wakes as many as it puts out; nobody waits for the woken. A waiter that was killed
//! leaves its token to another one, which wakes for nothing (conditions are allowed to), and because sleeps are capped, a
//! waiter that was killed between its wake and its token delays another one by 100 ms at most.

use std::time::{Duration, Instant};

use mp_core::shared::{GateError, Monitor, RegionError, Slot, Wakes};
use serde::{Deserialize, Serialize};

use crate::{Lock, LockError, LockGuard};

/// How long a waiter sleeps at a time.
const CAP: Duration = Duration::from_millis(100);

/// A condition with its lock; a cheap handle that travels.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Condition;
///
/// let condition = Condition::new()?;
/// let guard = condition.lock().lock().unwrap();
/// let child = mp_core::spawn(
///     |condition: Condition| {
///         let _guard = condition.lock().lock().unwrap();
///         condition.notify_one().unwrap();
///     },
///     (condition.clone(),),
/// )?;
/// drop(condition.wait(guard).unwrap());
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Condition {
    lock: Lock,
    state: Slot<Monitor<4>>,
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
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn with_lock(lock: Lock) -> Result<Self, RegionError> {
        Ok(Self { lock, state: Slot::new()? })
    }

    /// The lock.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Releases the lock, waits until notified, and takes the lock again. Now and then it wakes for nothing: look again at
    /// what was waited for, or use [`Condition::wait_while`].
    ///
    /// # Errors
    /// Those of [`Lock::lock`], when the lock is taken again.
    pub fn wait<'a>(&'a self, guard: LockGuard<'a>) -> Relocked<'a> {
        self.wait_until(guard, None).0
    }

    /// As [`Condition::wait`], but at most for `timeout`, never less; also whether it was notified.
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
        let drawn = self.state.update_waking(Wakes::Nobody, |state| {
            let [waiters, tokens, next, limit] = state;
            (Some([waiters.saturating_add(1), tokens, next.saturating_add(1), limit]), next)
        });
        let Ok(ticket) = drawn else { return (Err(LockError::Corrupt), false) };
        drop(guard);
        let notified = self.wait_for_token(ticket, deadline).unwrap_or(false);
        let relocked = self.lock.lock();
        (relocked, notified)
    }

    fn wait_for_token(&self, ticket: u64, deadline: Option<Instant>) -> Result<bool, GateError> {
        let taken = |[waiters, tokens, next, limit]: [u64; 4]| {
            (tokens > 0 && ticket < limit).then(|| [waiters.saturating_sub(1), tokens - 1, next, limit])
        };
        if self
            .state
            .wait_shared(deadline, Some(CAP), |state| taken(state).map(|next| (Some(next), ())))?
            .is_ok()
        {
            return Ok(true);
        }
        // Out of time. If there are tokens for all who wait, one is this waiter's: it was notified at the last moment.
        self.state.update_waking(Wakes::Nobody, |state| {
            let [waiters, tokens, next, limit] = state;
            match taken(state) {
                Some(after) if tokens >= waiters => (Some(after), true),
                _ => (Some([waiters.saturating_sub(1), tokens, next, limit]), false),
            }
        })
    }

    /// Wakes one of those that wait. Hold the lock, so that what they wait for cannot change meanwhile.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the shared memory was overwritten.
    pub fn notify_one(&self) -> Result<(), GateError> {
        self.notify(1)
    }

    /// Wakes up to `count` of those that wait.
    ///
    /// # Errors
    /// As for [`Condition::notify_one`].
    pub fn notify(&self, count: u64) -> Result<(), GateError> {
        let wakes = Wakes::Some(u32::try_from(count).unwrap_or(u32::MAX));
        self.state.update_waking(wakes, |[waiters, tokens, next, _]| {
            let out = tokens.saturating_add(count).min(waiters);
            ((waiters > 0).then_some([waiters, out, next, next]), ())
        })
    }

    /// Wakes all that wait.
    ///
    /// # Errors
    /// As for [`Condition::notify_one`].
    pub fn notify_all(&self) -> Result<(), GateError> {
        self.notify(u64::MAX)
    }

    /// How many wait at this moment; those that were killed while they waited count until the next `notify_all`.
    #[must_use]
    pub fn waiters(&self) -> u64 {
        self.state.peek()[0]
    }
}
