//! A counter in shared memory that can be waited for, with no wake that a death can swallow.
//!
//! The word is `count << 1 | SLEEPER`. A change of the count while SLEEPER is set goes through one system call that
//! changes the word *and* wakes, so no death can fall between the two. At most one process or thread sleeps on the word:
//! the one that holds the *right to sleep*, a gate. All others wait for that right, so that the death of a sleeper, or of
//! one that was just woken, promotes the next, who then looks for itself. The right is held for as long as its owner
//! waits, also when that owner is stopped (SIGSTOP); therefore the others wait for it in slices and look for
//! themselves after each.

use std::time::{Duration, Instant};

use super::{
    aside,
    gate::{Gate, GateError},
};
use crate::{
    kill_points::kill_point,
    sync::{AtomicU32, Ordering, futex},
    sys::map::shared_struct,
};

const SLEEPER: u32 = 1;
/// How long those that have no right to sleep wait before they look for themselves, at first.
const SLICE: Duration = Duration::from_millis(100);
/// And at most. Each look takes its place among the waiting from one, so that the time between two is to become longer than all before it
/// take, or it would never have its turn. No longer than what a mutex is waited for in one sleep, which has slices of its own.
const LONGEST: Duration = Duration::from_secs(1);
/// About the price of a sleep and a wake: spinning longer than this never pays.
const SPIN: Duration = Duration::from_micros(20);
/// How long to wait for one that is on its way to another CPU.
const MOVE: Duration = Duration::from_micros(100);

shared_struct! {
    /// A counter that can be waited for.
    ///
    /// The right comes first, so that the word is next to the state that its owner puts behind it.
    pub struct Word {
        right: Gate,
        word: AtomicU32,
        /// Where the last change was made: a hint for spinning, nothing else.
        cpu: AtomicU32,
    }
}

/// The deadline passed first.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

crate::message_as_debug!(TimedOut);

impl Word {
    /// The number of changes so far, modulo 2^31: compare by equality only.
    #[inline]
    #[must_use]
    pub fn count(&self) -> u32 {
        self.word.load(Ordering::Acquire) >> 1
    }

    /// Counts one change and wakes the sleeper, if there is one, in the same step.
    ///
    /// Only one thread of all processes may be here at a time: the caller holds a gate that sees to that. Without it, as a
    /// bell that many ring, the word still changes and wakes, but is no count any more: two that see the same sleeper may
    /// leave a sleeper's mark where nobody sleeps, which costs the next one an idle system call.
    #[inline]
    pub fn advance(&self) {
        self.advance_and_wake(1);
    }

    /// Counts one change and wakes all sleepers in the same step; for those of [`Word::wait_shared`].
    #[inline]
    pub fn advance_waking_all(&self) {
        self.advance_and_wake(i32::MAX);
    }

    #[inline]
    fn advance_and_wake(&self, count: i32) {
        self.note_cpu();
        let mut word = self.word.load(Ordering::Relaxed);
        while word & SLEEPER == 0 {
            let next = word.wrapping_add(2);
            match self.word.compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
        kill_point!(BeforeWake);
        #[cfg(any(feature = "kill-points", mp_loom))]
        if crate::kill_points::mutated() {
            self.word.fetch_add(1, Ordering::SeqCst);
            kill_point!(BetweenChangeAndWake);
            futex::wake(&self.word, count);
            return;
        }
        // Adding 1 to `count << 1 | SLEEPER` carries into the count and clears the flag.
        futex::add_and_wake(&self.word, count);
    }

    /// Counts one change that nobody waits for: whoever sleeps sleeps on.
    #[inline]
    pub fn advance_quietly(&self) {
        self.note_cpu();
        self.word.fetch_add(2, Ordering::Release);
    }

    /// Whether somebody sleeps, or is about to and has not seen the last change of this thread.
    #[inline]
    pub(super) fn has_sleeper(&self) -> bool {
        self.word.load(Ordering::Relaxed) & SLEEPER != 0
    }

    /// Makes those that wait look again, though nothing is done: for an end, which is to be seen elsewhere, and for what was
    /// done quietly. Counts two
    /// changes in one step, so that the state of an even count stays the one of an even count.
    ///
    /// Only one thread of all processes may be here at a time, as for [`Word::advance`]. A death in here may leave the
    /// sleeper asleep, so that it must sleep in slices.
    pub fn call(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let next = (word & !SLEEPER).wrapping_add(4);
            match self.word.compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) if word & SLEEPER != 0 => return futex::wake(&self.word, 1),
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Counts one change, unless a bell was asked for ([`Word::arm`]): then the count as it is.
    ///
    /// Only one thread of all processes may be here at a time.
    #[inline]
    pub fn advance_unless_armed(&self) -> Option<u32> {
        self.note_cpu();
        let mut word = self.word.load(Ordering::Relaxed);
        while word & SLEEPER == 0 {
            let next = word.wrapping_add(2);
            match self.word.compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return None,
                Err(now) => word = now,
            }
        }
        Some(word >> 1)
    }

    /// Counts the change that leads away from `count`, for which a bell was asked, unless somebody has done it already.
    pub fn advance_from(&self, count: u32) {
        let (armed, next) = (count << 1 | SLEEPER, count.wrapping_add(1) << 1);
        let _ = self.word.compare_exchange(armed, next, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Asks for a bell at the next change; false if the count is no longer `seen`, and nothing was asked.
    #[must_use]
    pub fn arm(&self, seen: u32) -> bool {
        let mut word = seen << 1;
        loop {
            match self.word.compare_exchange(word, seen << 1 | SLEEPER, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) if now >> 1 == seen => word = now,
                Err(_) => return false,
            }
        }
    }

    /// The lock in it, for [`Ring::scribble`](super::Ring::scribble), which spares locks.
    #[cfg(all(feature = "kill-points", not(mp_loom)))]
    pub(super) fn right(&self) -> &Gate {
        &self.right
    }

    /// The address of the count, for [`Ring::scribble`](super::Ring::scribble), which does not spare it.
    #[cfg(all(feature = "kill-points", not(mp_loom)))]
    pub(super) fn place(&self) -> usize {
        std::ptr::from_ref(&self.word).addr()
    }

    #[inline]
    fn note_cpu(&self) {
        // The models know no CPUs, and each store is a step more.
        if cfg!(mp_loom) {
            return;
        }
        // Also if it is the same: a look first would fetch the cache line once more than the change that follows.
        self.cpu.store(aside::place(futex::current_cpu()), Ordering::Relaxed);
    }

    /// Waits until `look` finds what it looks for, at most until `deadline` (`None`: for ever).
    ///
    /// `look` is called again after each change of the count, and now and then for no reason. It may take gates, but not
    /// wait on this word. A deadline that has passed still lets `look` have one look.
    ///
    /// # Errors
    /// [`TimedOut`], inside the outer `Ok`, after the deadline; [`GateError::Corrupt`] if the memory was overwritten.
    #[inline]
    pub fn wait<R>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Result<Result<R, TimedOut>, GateError> {
        let seen = self.count();
        if let Some(found) = look() {
            return Ok(Ok(found));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(Err(TimedOut));
        }
        if self.spin(seen)
            && let Some(found) = look()
        {
            return Ok(Ok(found));
        }
        self.wait_for_right(deadline, look)
    }

    /// As [`Word::wait`], but without the right to sleep: any number sleep on the word itself.
    ///
    /// For those whose looks differ, so that one who sleeps says nothing about the others. Whoever changes the word for
    /// them wakes all, so that no death among them can swallow another's wake.
    ///
    /// # Errors
    /// [`TimedOut`] after the deadline.
    pub fn wait_shared<R>(
        &self,
        deadline: Option<Instant>,
        look: impl FnMut() -> Option<R>,
    ) -> Result<R, TimedOut> {
        self.wait_without_right(deadline, None, look)
    }

    /// As [`Word::wait_shared`], for one that also looks for what nobody rings for: it looks again at the latest after each
    /// `slice` of sleep.
    ///
    /// # Errors
    /// [`TimedOut`] after the deadline.
    pub fn wait_in_slices<R>(
        &self,
        deadline: Option<Instant>,
        slice: Duration,
        look: impl FnMut() -> Option<R>,
    ) -> Result<R, TimedOut> {
        self.wait_without_right(deadline, Some(slice), look)
    }

    #[inline]
    fn wait_without_right<R>(
        &self,
        deadline: Option<Instant>,
        slice: Option<Duration>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Result<R, TimedOut> {
        // The first change may be an old one: what it tells of was found before it was made.
        const SPINS: u32 = if cfg!(mp_loom) { 1 } else { 2 };
        for _ in 0..SPINS {
            let seen = self.count();
            if let Some(found) = look() {
                return Ok(found);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(TimedOut);
            }
            if !self.spin(seen) {
                break;
            }
        }
        self.sleep(deadline, slice, look)
    }

    /// Whether the last change was made on another CPU than the calling thread's.
    #[inline]
    #[must_use]
    pub fn changed_elsewhere(&self) -> bool {
        self.cpu.load(Ordering::Relaxed) != futex::current_cpu()
    }

    /// Lets others run at once, if the last change was made on this CPU: whoever made it may wait for what was done since. Else
    /// they run when the calling thread waits for the next, until which it may have more to do.
    #[inline]
    pub(super) fn make_way(&self) {
        if !self.changed_elsewhere() {
            aside::make_way();
        }
    }

    /// Waits a little for the count to leave `seen`, if whoever changes it runs on another CPU than this thread; whether
    /// it has left. One that finds its partner on its own CPU time and again may move to another, by which it spends some
    /// microseconds.
    #[must_use]
    pub fn spin(&self, seen: u32) -> bool {
        let cpu = futex::current_cpu();
        let there = self.cpu.load(Ordering::Relaxed);
        if there != cpu {
            aside::stays();
        } else if self.count() != seen || !aside::waits_on(cpu, SPIN) {
            return self.count() != seen;
        }
        let limit = if there == aside::LEAVES { MOVE } else { SPIN };
        let start = Instant::now();
        loop {
            for _ in 0..32 {
                if self.count() != seen {
                    aside::found();
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > limit {
                return false;
            }
        }
    }

    #[cold]
    fn wait_for_right<R>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Result<Result<R, TimedOut>, GateError> {
        let mut slice = SLICE;
        loop {
            let end = Instant::now() + slice;
            let until = deadline.map_or(end, |deadline| deadline.min(end));
            slice = (2 * slice).min(LONGEST);
            match self.right.lock(Some(until)) {
                Ok(_right) => {
                    kill_point!(RightTaken);
                    return Ok(self.sleep(deadline, None, look));
                }
                Err(GateError::Busy) => {}
                Err(error) => return Err(error),
            }
            if let Some(found) = look() {
                return Ok(Ok(found));
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(Err(TimedOut));
            }
        }
    }

    /// Sleeps on the word until `look` finds what it looks for, never longer than a slice at once.
    fn sleep<R>(
        &self,
        deadline: Option<Instant>,
        slice: Option<Duration>,
        mut look: impl FnMut() -> Option<R>,
    ) -> Result<R, TimedOut> {
        // Where a change and its wake are two steps, a death in between must not cost more than this.
        let cap =
            if futex::atomic_wake() { slice } else { Some(slice.map_or(SLICE, |slice| slice.min(SLICE))) };
        loop {
            // The word is read before the look: a change after it makes the arming or the sleep fail.
            let word = self.word.load(Ordering::Acquire);
            if let Some(found) = look() {
                return Ok(found);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(TimedOut);
            }
            let armed = word | SLEEPER;
            if word != armed
                && self.word.compare_exchange(word, armed, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                continue;
            }
            kill_point!(Armed);
            let capped = cap.and_then(|cap| now.checked_add(cap));
            let until = match (deadline, capped) {
                (Some(deadline), Some(capped)) => Some(deadline.min(capped)),
                (deadline, capped) => deadline.or(capped),
            };
            futex::wait(&self.word, armed, until);
            kill_point!(Woken);
        }
    }
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Word({})", self.count())
    }
}
