//! Barriers: a number of parties wait for each other.
//!
//! The state is four words of a monitor: the generation, how many have arrived in it, flags (broken; the action runs), and
//! how the last 64 generations ended. The last party to arrive ends the generation; a reset ends it, too, and says so in
//! its bit, so that late wakers of that generation know. A broken barrier stays so until it is reset. An arrival wakes
//! nobody; whatever ends or breaks a generation wakes all.
//!
//! A party that was killed while it waited has arrived all the same; one that never arrives is noticed by the time-outs of
//! the others. The party that runs the action holds a gate meanwhile: its death breaks the barrier.

use std::time::{Duration, Instant};

use mp_core::shared::{Gate, GateError, Monitor, RegionError, Slot, Wakes};
use serde::{Deserialize, Serialize};

const BROKEN: u64 = 1;
const ACTING: u64 = 2;
/// How often those that wait look whether the one that runs the action still lives.
const SLICE: Duration = Duration::from_millis(100);

/// A wait at a barrier did not end as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// It was aborted, reset, or some party's time-out has passed, or the action failed. Python: `BrokenBarrierError`.
    #[error("the barrier is broken: a party gave up, or it was aborted or reset")]
    Broken,
    /// The shared memory was overwritten.
    #[error("the barrier cannot be used: its memory is corrupt")]
    Corrupt,
}

impl From<GateError> for BarrierError {
    fn from(_: GateError) -> Self {
        Self::Corrupt
    }
}

/// A meeting point of a fixed number of parties; a cheap handle that travels.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Barrier;
///
/// let start = Barrier::new(2)?;
/// let child = mp_core::spawn(|start: Barrier| start.wait().unwrap(), (start.clone(),))?;
/// let ours = start.wait()?;
/// assert_eq!(ours + child.join()?, 1); // one of them is 0, the other 1
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Barrier {
    parties: u64,
    state: Slot<Monitor<4>>,
    acting: Slot<Gate>,
}

/// What an arrival led to.
enum Arrival {
    Broken,
    Waits { generation: u64, index: u64 },
    Last { index: u64 },
}

impl Barrier {
    /// Makes a barrier for `parties` parties (0 is taken for 1).
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new(parties: u32) -> Result<Self, RegionError> {
        Ok(Self { parties: parties.max(1).into(), state: Slot::new()?, acting: Slot::new()? })
    }

    /// Waits until all parties wait; returns the order of arrival, 0 for exactly one of them.
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    pub fn wait(&self) -> Result<u32, BarrierError> {
        self.wait_until(None, || true)
    }

    /// As [`Barrier::wait`], but breaks the barrier for everybody after `timeout`.
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<u32, BarrierError> {
        self.wait_until(Instant::now().checked_add(timeout), || true)
    }

    /// As [`Barrier::wait`]; the last party to arrive runs `action` before anybody goes on, and breaks the barrier if it
    /// says false or panics. All parties should pass the same action. Python: `Barrier(parties, action)`.
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    pub fn wait_with(&self, action: impl FnOnce() -> bool) -> Result<u32, BarrierError> {
        self.wait_until(None, action)
    }

    fn wait_until(
        &self,
        deadline: Option<Instant>,
        action: impl FnOnce() -> bool,
    ) -> Result<u32, BarrierError> {
        match self.arrive(deadline)? {
            Arrival::Broken => Err(BarrierError::Broken),
            Arrival::Last { index } => self.act(index, action),
            Arrival::Waits { generation, index } => self.wait_for_end(generation, index, deadline),
        }
    }

    fn arrive(&self, deadline: Option<Instant>) -> Result<Arrival, BarrierError> {
        let parties = self.parties;
        // While an action runs the generation is full: a party of the next one waits for its end first.
        let arrived = self.state.wait_shared(deadline, None, |[generation, count, flags, ends]| {
            if flags & BROKEN != 0 {
                return Some((None, Arrival::Broken));
            }
            if count >= parties {
                return None;
            }
            if count + 1 == parties {
                Some((Some([generation, parties, flags | ACTING, ends]), Arrival::Last { index: count }))
            } else {
                Some((
                    Some([generation, count + 1, flags, ends]),
                    Arrival::Waits { generation, index: count },
                ))
            }
        })?;
        match arrived {
            Ok(arrival) => Ok(arrival),
            Err(_timed_out) => {
                self.abort()?;
                Ok(Arrival::Broken)
            }
        }
    }

    fn act(&self, index: u64, action: impl FnOnce() -> bool) -> Result<u32, BarrierError> {
        /// Breaks the barrier if the action panics.
        struct Abort<'a>(&'a Barrier);
        impl Drop for Abort<'_> {
            fn drop(&mut self) {
                let _ = self.0.abort();
            }
        }
        let acting = self.acting.lock(None)?;
        let abort = Abort(self);
        if !action() {
            return Err(BarrierError::Broken);
        }
        let passed = self.state.update_waking(Wakes::All, |[generation, _, flags, ends]| {
            let kept = ends & !(1 << (generation % 64));
            // Broken meanwhile by an abort or a reset: this generation did not pass.
            let whole = flags & (BROKEN | ACTING) == ACTING;
            (whole.then_some([generation.wrapping_add(1), 0, 0, kept]), whole)
        })?;
        std::mem::forget(abort);
        drop(acting);
        if passed { Ok(u32::try_from(index).unwrap_or(u32::MAX)) } else { Err(BarrierError::Broken) }
    }

    fn wait_for_end(&self, own: u64, index: u64, deadline: Option<Instant>) -> Result<u32, BarrierError> {
        loop {
            let slice = Instant::now() + SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            let ended = self.state.wait_shared(Some(until), None, |[generation, _, flags, ends]| {
                if generation != own {
                    let reset = ends >> (own % 64) & 1 == 1;
                    return Some((None, !reset));
                }
                (flags & BROKEN != 0).then_some((None, false))
            })?;
            match ended {
                Ok(true) => return Ok(u32::try_from(index).unwrap_or(u32::MAX)),
                Ok(false) => return Err(BarrierError::Broken),
                Err(_timed_out) => self.check_action()?,
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                // The last look and the break are one step: a generation that ended meanwhile is not broken.
                let broken = self.state.update_waking(Wakes::All, |[generation, count, flags, ends]| {
                    let late = generation == own;
                    (late.then_some([generation, count, flags | BROKEN, ends]), late)
                })?;
                if broken {
                    return Err(BarrierError::Broken);
                }
            }
        }
    }

    /// Breaks the barrier if the one that ran the action has died.
    fn check_action(&self) -> Result<(), BarrierError> {
        let [.., flags, _] = self.state.peek();
        if flags & ACTING == 0 {
            return Ok(());
        }
        // It takes the gate only after it has said that it acts; then it may be found free for a moment, by one that lives.
        match self.acting.try_lock() {
            Ok(guard) if guard.owner_died() => self.abort(),
            Ok(_) | Err(GateError::Busy) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Breaks the barrier: everybody who waits, and whoever comes before a [`reset`](Self::reset), gets an error.
    ///
    /// # Errors
    /// [`BarrierError::Corrupt`] if the shared memory was overwritten.
    pub fn abort(&self) -> Result<(), BarrierError> {
        Ok(self.state.update_waking(Wakes::All, |[generation, count, flags, ends]| {
            ((flags & BROKEN == 0).then_some([generation, count, flags | BROKEN, ends]), ())
        })?)
    }

    /// Makes the barrier new: everybody who waits gets an error, whoever comes later does not.
    ///
    /// # Errors
    /// [`BarrierError::Corrupt`] if the shared memory was overwritten.
    pub fn reset(&self) -> Result<(), BarrierError> {
        Ok(self.state.update_waking(Wakes::All, |[generation, _, _, ends]| {
            (Some([generation.wrapping_add(1), 0, 0, ends | 1 << (generation % 64)]), ())
        })?)
    }

    /// How many parties it is for.
    #[must_use]
    pub fn parties(&self) -> u32 {
        u32::try_from(self.parties).unwrap_or(u32::MAX)
    }

    /// How many wait at this moment. Python: `n_waiting`.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let [_, count, flags, _] = self.state.peek();
        if flags & BROKEN != 0 || count >= self.parties {
            0
        } else {
            u32::try_from(count).unwrap_or(u32::MAX)
        }
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let [.., flags, _] = self.state.peek();
        flags & BROKEN != 0
    }
}
