//! Barriers: a number of parties wait for each other.
//!
//! The last party to arrive ends the generation, in one step, and that wakes all. If there is an action, its arrival
//! begins the action instead, which wakes all, too: they wait for the *acting gate* then, which the one that acts took
//! before and holds until the generation is over. So the kernel tells them when it dies, and the barrier breaks. A reset
//! ends a generation and says so in its bit, so that late wakers of that generation know. A broken barrier stays so until
//! it is reset.
//!
//! A party that was killed while it waited has arrived all the same; one that never arrives is noticed by the time-outs of
//! the others.

use std::{
    fmt,
    time::{Duration, Instant},
};

use mp_core::{
    kill_points::{Point, reach},
    shared::{Change, Gate, GateError, GateGuard, Monitor, RegionError, Slot, TimedOut, Wakes},
};
use serde::{Deserialize, Serialize};

/// The words of the state, in this order.
#[derive(Clone, Copy)]
struct State {
    /// Counts the ends of generations.
    generation: u64,
    /// How many have arrived in this one.
    arrived: u64,
    phase: u64,
    /// Bit `n % 64`: generation `n` was ended by a reset.
    resets: u64,
}

const OPEN: u64 = 0;
/// All have arrived, and the last of them runs the action and holds the acting gate, or is dead.
const ACTING: u64 = 1;
const BROKEN: u64 = 2;

/// What an arrival led to.
enum Arrival {
    Broken,
    Waits { generation: u64, index: u64 },
    Acts { generation: u64, index: u64 },
    Passed { index: u64 },
}

/// What one that waits has seen.
enum Seen {
    Passed,
    Broken,
    Acting,
}

impl State {
    fn read([generation, arrived, phase, resets]: [u64; 4]) -> Self {
        Self { generation, arrived, phase, resets }
    }

    fn change(self, wakes: Wakes) -> Change<4> {
        Some(([self.generation, self.arrived, self.phase, self.resets], wakes))
    }

    /// Begins the next generation, and notes how this one ended.
    fn end(self, reset: bool) -> Change<4> {
        let bit = 1 << (self.generation % 64);
        let resets = if reset { self.resets | bit } else { self.resets & !bit };
        Self { generation: self.generation.wrapping_add(1), arrived: 0, phase: OPEN, resets }
            .change(Wakes::All)
    }

    fn broken(self) -> Change<4> {
        if self.phase == BROKEN { None } else { Self { phase: BROKEN, ..self }.change(Wakes::All) }
    }

    /// One party arrives; it holds the acting gate.
    fn arrive(self, parties: u64, acts: bool) -> (Change<4>, Arrival) {
        let Self { generation, arrived: index, .. } = self;
        if self.phase != OPEN {
            // The gate was free, so whoever acted is dead.
            return (self.broken(), Arrival::Broken);
        }
        let arrived = Self { arrived: index.saturating_add(1), ..self };
        if arrived.arrived < parties {
            (arrived.change(Wakes::Nobody), Arrival::Waits { generation, index })
        } else if acts {
            (Self { phase: ACTING, ..arrived }.change(Wakes::All), Arrival::Acts { generation, index })
        } else {
            (arrived.end(false), Arrival::Passed { index })
        }
    }

    /// The action has been run: whether the generation passed.
    fn acted(self, own: u64) -> (Change<4>, bool) {
        // Else it was broken or reset meanwhile.
        let whole = self.generation == own && self.phase == ACTING;
        (if whole { self.end(false) } else { None }, whole)
    }

    /// What a party of generation `own` goes on from.
    fn look(self, own: u64) -> Option<Seen> {
        match self.generation.wrapping_sub(own) {
            0 => match self.phase {
                OPEN => None,
                ACTING => Some(Seen::Acting),
                _ => Some(Seen::Broken),
            },
            // Too long ago to know: it slept through more generations than are noted.
            65.. => Some(Seen::Broken),
            _ if self.resets >> (own % 64) & 1 == 1 => Some(Seen::Broken),
            _ => Some(Seen::Passed),
        }
    }

    /// A party of generation `own` breaks it, unless it is over.
    fn give_up(self, own: u64) -> Change<4> {
        if self.generation == own { self.broken() } else { None }
    }

    /// The acting gate was free: breaks the barrier if whoever acted is dead.
    fn check_action(self, own: u64) -> Change<4> {
        if self.generation == own && self.phase == ACTING { self.broken() } else { None }
    }
}

/// A barrier could not be made.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum NewBarrierError {
    /// Nobody could ever wait at it.
    #[error("a barrier cannot be made for 0 parties: at least one must wait at it")]
    NoParties,
    /// There is no shared memory.
    #[error(transparent)]
    Memory(#[from] RegionError),
}

/// A wait at a barrier did not end as it should.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// It was aborted, reset, or some party's time-out has passed, or the action failed. Python: `BrokenBarrierError`.
    #[error("the barrier is broken: a party gave up or died as it acted, or it was aborted or reset")]
    Broken,
    /// The time-out has passed, but the barrier could not be broken for the others, since one of them is stopped (SIGSTOP)
    /// inside a change of it. If this party had arrived, it stays counted, as one that was killed while it waited.
    #[error(
        "the time-out has passed, and the barrier could not be broken: a party is stopped while it changes it"
    )]
    TimedOut,
    /// The calling thread runs the barrier's action at this moment, and cannot wait for its own end.
    #[error("the barrier cannot be waited at from within its own action")]
    Deadlock,
    /// The shared memory was overwritten.
    #[error("the barrier cannot be used: its memory is corrupt")]
    Corrupt,
}

mp_core::message_as_debug!(NewBarrierError, BarrierError);

impl From<GateError> for BarrierError {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Busy => Self::TimedOut,
            GateError::Deadlock => Self::Deadlock,
            _ => Self::Corrupt,
        }
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
#[derive(Clone, Serialize, Deserialize)]
pub struct Barrier {
    parties: u32,
    timeout: Option<Duration>,
    state: Slot<Monitor<4>>,
    acting: Slot<Gate>,
}

impl Barrier {
    /// Makes a barrier for `parties` parties.
    ///
    /// # Errors
    /// [`NewBarrierError`] if there are none, or no shared memory.
    pub fn new(parties: u32) -> Result<Self, NewBarrierError> {
        if parties == 0 {
            return Err(NewBarrierError::NoParties);
        }
        Ok(Self { parties, timeout: None, state: Slot::new()?, acting: Slot::new()? })
    }

    /// This handle, and copies of it, with a time-out for each wait that names none. Python: `Barrier(parties, timeout=…)`.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Waits until all parties wait; returns the order of arrival. Exactly one of them gets 0: let that one be the leader,
    /// where something is to be done once.
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    pub fn wait(&self) -> Result<u32, BarrierError> {
        self.wait_until(self.deadline(self.timeout), None::<fn() -> bool>)
    }

    /// As [`Barrier::wait`], but breaks the barrier for everybody after `timeout`.
    ///
    /// # Errors
    /// [`BarrierError::Broken`]; [`BarrierError::TimedOut`], a fifth of a second late at most, if it cannot be broken.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<u32, BarrierError> {
        self.wait_until(self.deadline(Some(timeout)), None::<fn() -> bool>)
    }

    /// As [`Barrier::wait`]; the last party to arrive runs `action` before anybody goes on, and breaks the barrier if it
    /// says false, panics or dies. All parties should pass the same action. Python: `Barrier(parties, action)`.
    ///
    /// # Errors
    /// [`BarrierError::Broken`].
    pub fn wait_with(&self, action: impl FnOnce() -> bool) -> Result<u32, BarrierError> {
        self.wait_until(self.deadline(self.timeout), Some(action))
    }

    fn deadline(&self, timeout: Option<Duration>) -> Option<Instant> {
        timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    fn wait_until(
        &self,
        deadline: Option<Instant>,
        action: Option<impl FnOnce() -> bool>,
    ) -> Result<u32, BarrierError> {
        // While an action runs, a party of the next generation waits here for its end.
        let gate = match self.acting.lock(deadline) {
            Err(GateError::Busy) => {
                self.abort_by(deadline)?;
                return Err(BarrierError::Broken);
            }
            gate => gate?,
        };
        let parties = u64::from(self.parties);
        let arrive = |state| State::read(state).arrive(parties, action.is_some());
        let arrival = self.state.update_by(deadline, arrive)?;
        match (arrival, action) {
            (Arrival::Passed { index }, _) => Ok(index_of(index)),
            (Arrival::Acts { generation, index }, Some(action)) => {
                self.act(gate, generation, deadline, action).map(|()| index_of(index))
            }
            (Arrival::Waits { generation, index }, _) => {
                drop(gate);
                self.wait_for_end(generation, deadline).map(|()| index_of(index))
            }
            _ => Err(BarrierError::Broken),
        }
    }

    fn act(
        &self,
        acting: GateGuard<'_>,
        own: u64,
        deadline: Option<Instant>,
        action: impl FnOnce() -> bool,
    ) -> Result<(), BarrierError> {
        /// Breaks the barrier if the action panics. If it cannot, whoever gets the acting gate next does.
        struct Abort<'a>(&'a Barrier, Option<Instant>);
        impl Drop for Abort<'_> {
            fn drop(&mut self) {
                let _ = self.0.abort_by(self.1);
            }
        }
        reach(Point::Acting);
        let abort = Abort(self, deadline);
        if !action() {
            return Err(BarrierError::Broken);
        }
        std::mem::forget(abort);
        reach(Point::Acted);
        let passed = self.state.update_by(deadline, |state| State::read(state).acted(own))?;
        drop(acting);
        if passed { Ok(()) } else { Err(BarrierError::Broken) }
    }

    fn wait_for_end(&self, own: u64, deadline: Option<Instant>) -> Result<(), BarrierError> {
        loop {
            match self.state.wait_shared(deadline, |state| State::read(state).look(own)) {
                Ok(Seen::Passed) => return Ok(()),
                Ok(Seen::Broken) => return Err(BarrierError::Broken),
                Ok(Seen::Acting) => match self.acting.lock(deadline) {
                    // The action is over, or the one that ran it is dead.
                    Ok(_gate) => {
                        self.state.update_by(deadline, |state| (State::read(state).check_action(own), ()))?;
                    }
                    Err(GateError::Busy) => self.give_up(own, deadline)?,
                    Err(error) => return Err(error.into()),
                },
                Err(TimedOut) => self.give_up(own, deadline)?,
            }
        }
    }

    fn give_up(&self, own: u64, deadline: Option<Instant>) -> Result<(), GateError> {
        self.state.update_by(deadline, |state| (State::read(state).give_up(own), ()))
    }

    /// Breaks the barrier: everybody who waits, and whoever comes before a [`reset`](Self::reset), gets an error.
    ///
    /// Waits only while another process is stopped or descheduled inside a change: microseconds, unless it is SIGSTOPped.
    ///
    /// # Errors
    /// [`BarrierError::Corrupt`] if the shared memory was overwritten.
    pub fn abort(&self) -> Result<(), BarrierError> {
        self.abort_by(None)
    }

    fn abort_by(&self, deadline: Option<Instant>) -> Result<(), BarrierError> {
        Ok(self.state.update_by(deadline, |state| (State::read(state).broken(), ()))?)
    }

    /// Makes the barrier new: everybody who waits gets an error, whoever comes later does not. Waits as [`Barrier::abort`] does.
    ///
    /// # Errors
    /// [`BarrierError::Corrupt`] if the shared memory was overwritten.
    pub fn reset(&self) -> Result<(), BarrierError> {
        Ok(self.state.update(|state| (State::read(state).end(true), ()))?)
    }

    /// How many parties it is for.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.parties
    }

    /// How many wait at this moment. Python: `n_waiting`.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let State { phase, arrived, .. } = State::read(self.state.peek());
        if phase == OPEN { index_of(arrived) } else { 0 }
    }

    /// Whether it is broken. Python: `broken`.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        State::read(self.state.peek()).phase == BROKEN
    }
}

fn index_of(index: u64) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { phase, arrived, .. } = State::read(self.state.peek());
        match phase {
            OPEN => write!(f, "Barrier({arrived} of {} wait)", self.parties),
            ACTING => {
                write!(f, "Barrier(all {} wait, {} runs the action)", self.parties, self.acting.holder())
            }
            _ => write!(f, "Barrier(of {}, broken)", self.parties),
        }
    }
}
