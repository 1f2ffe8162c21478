//! How one waits for a [`Word`] while asleep on a descriptor: with a bell that no death and no stop can swallow.
//!
//! A receiver that finds nothing *arms* the word and sleeps on a socket, where a message and the end of its peer wake it
//! alike. A sender that finds the word armed prepares everything, says so, and rings *before* its change, so no death can
//! fall between the change and the wake. What is left to do after the bell is one change of the count, and whoever comes
//! first does it: the sender; the receiver that was rung, so that it never waits for a sender that was stopped there, or
//! that it has just pushed from its CPU; or the next sender, when the first one is dead.

use std::time::Instant;

use super::word::Word;
use crate::{
    kill_points::kill_point,
    sync::{AtomicU64, Ordering},
};

/// What a sleep on the descriptor came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// There was a bell, and it was taken in; or there may have been one.
    Rung,
    /// The other end is gone.
    Alone,
    /// The deadline passed.
    TimedOut,
}

/// What a wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited<R> {
    /// The look found this.
    Found(R),
    /// There was nothing, and there will be nothing: the other end is gone.
    Alone,
    /// There was nothing by the deadline. The descriptor becomes readable when there may be something.
    TimedOut,
}

/// The words that a bell hangs on.
#[derive(Clone, Copy)]
pub(super) struct Bell<'a> {
    /// What changes, under the senders' gate.
    pub(super) moves: &'a Word,
    /// The change that is prepared and rung for, or 0.
    ///
    /// While this is [`token`] of the count, what the next count makes valid is complete, and nobody touches it.
    pub(super) rung: &'a AtomicU64,
}

/// The change that leads from `count` to the next.
fn token(count: u32) -> u64 {
    1 << 32 | u64::from(count)
}

impl Bell<'_> {
    /// Finishes the change of one who died after it had prepared it. Comes first whenever the senders' gate was taken.
    #[inline]
    pub(super) fn resume(self, ring: &dyn Fn()) {
        if self.rung.load(Ordering::Relaxed) != 0 {
            // It may have died before it rang.
            self.ring_and_finish(self.moves.count(), ring);
        }
    }

    /// Makes a change that is prepared, and rings for it if somebody sleeps. The caller holds the senders' gate.
    #[inline]
    pub(super) fn change(self, ring: &dyn Fn()) {
        let Some(count) = self.moves.advance_unless_armed() else { return };
        kill_point!(BeforeWake);
        #[cfg(any(feature = "kill-points", mp_loom))]
        if crate::kill_points::mutated() {
            self.moves.advance_from(count);
            kill_point!(BetweenChangeAndWake);
            return ring();
        }
        self.rung.store(token(count), Ordering::Release);
        kill_point!(Prepared);
        self.ring_and_finish(count, ring);
    }

    fn ring_and_finish(self, count: u32, ring: &dyn Fn()) {
        ring();
        kill_point!(Rung);
        self.finish(count);
        kill_point!(Finished);
        self.rung.store(0, Ordering::Relaxed);
    }

    /// Makes the change that leads away from `count`, if it is prepared; whether it was.
    fn finish(self, count: u32) -> bool {
        // Acquire, for what was prepared.
        let prepared = self.rung.load(Ordering::Acquire) == token(count);
        if prepared {
            self.moves.advance_from(count);
        }
        prepared
    }

    /// Waits until `look` finds something, at most until `deadline` (`None`: for ever; passed: one look, no waiting).
    ///
    /// `sleep` sleeps on the descriptor until it has taken a bell in, the other end is gone, or the same deadline has
    /// passed. After [`Slept::Alone`] there is one more look. Both get the `context`.
    pub(super) fn wait<C, R, E>(
        self,
        deadline: Option<Instant>,
        context: &mut C,
        mut look: impl FnMut(&mut C) -> Result<Option<R>, E>,
        mut sleep: impl FnMut(&mut C) -> Result<Slept, E>,
    ) -> Result<Waited<R>, E> {
        let mut slept = None;
        loop {
            // Read before the look: after a change that the look did not see, the arming fails.
            let seen = self.moves.count();
            if let Some(found) = look(context)? {
                return Ok(Waited::Found(found));
            }
            if slept == Some(Slept::Alone) {
                return Ok(Waited::Alone);
            }
            if slept == Some(Slept::Rung) && self.finish(seen) {
                continue;
            }
            let passed = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if !passed && self.moves.spin(seen) || !self.moves.arm(seen) {
                continue;
            }
            kill_point!(Armed);
            let outcome = sleep(context)?;
            kill_point!(Woken);
            if outcome == Slept::TimedOut {
                return Ok(Waited::TimedOut);
            }
            slept = Some(outcome);
        }
    }
}
