//! Events: a flag that can be waited for.
//!
//! The state is one word of a monitor: how often it was set, and whether it is set now. Setting it wakes all that sleep,
//! in the same step, so nobody's death can swallow another's wake. Clearing it wakes nobody. Because the word counts, one
//! that waits goes on even if the event is cleared again before it has looked.

use std::{
    fmt,
    time::{Duration, Instant},
};

use mp_core::shared::{Change, GateError, Monitor, RegionError, Slot, Wakes};
use serde::{Deserialize, Serialize};

const SET: u64 = 1;

fn set([word]: [u64; 1]) -> Change<1> {
    // From a count of `n` without the flag to `n + 1` with it.
    (word & SET == 0).then(|| ([word.wrapping_add(3)], Wakes::All))
}

fn clear([word]: [u64; 1]) -> Change<1> {
    (word & SET != 0).then_some(([word & !SET], Wakes::Nobody))
}

/// Whether one that has waited since `seen` goes on.
fn is_over(seen: u64, [word]: [u64; 1]) -> bool {
    word & SET != 0 || word >> 1 != seen >> 1
}

/// A flag that processes share and can wait for; a cheap handle that travels.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Event;
///
/// let ready = Event::new()?;
/// let child = mp_core::spawn(|ready: Event| ready.wait(), (ready.clone(),))?;
/// ready.set()?;
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Event(Slot<Monitor<1>>);

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new() -> Result<Self, RegionError> {
        Slot::new().map(Self)
    }

    /// Whether it is set at this moment.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.peek()[0] & SET != 0
    }

    /// Sets it: everybody who waits goes on, also if it is cleared again at once. Never waits for them.
    ///
    /// Waits only while another process is stopped or descheduled inside a change: microseconds, unless it is SIGSTOPped.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the shared memory was overwritten.
    pub fn set(&self) -> Result<(), GateError> {
        self.0.update(|state| (set(state), ()))
    }

    /// Clears it: whoever begins to wait from now on waits until it is set again. Waits as [`Event::set`] does.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the shared memory was overwritten.
    pub fn clear(&self) -> Result<(), GateError> {
        self.0.update(|state| (clear(state), ()))
    }

    /// Waits until it is set.
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until it is set, at most for `timeout`, never less; whether it was set.
    #[must_use = "the time-out may have passed"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let [seen] = self.0.peek();
        self.0.wait_shared(deadline, |state| is_over(seen, state).then_some(())).is_ok()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "Event(set)" } else { "Event(not set)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(state: [u64; 1], change: fn([u64; 1]) -> Change<1>) -> [u64; 1] {
        change(state).map_or(state, |(next, _)| next)
    }

    #[test]
    fn one_that_has_not_looked_between_set_and_clear_goes_on() {
        for begin in [[0], [u64::MAX - 1]] {
            let [seen] = begin;
            assert!(!is_over(seen, begin));
            let pulsed = after(after(begin, set), clear);
            assert_eq!(pulsed[0] & SET, 0);
            assert!(is_over(seen, pulsed));
            // Nor does setting twice or clearing twice undo it, or do anything else.
            assert_eq!(after(after(begin, set), set), after(begin, set));
            assert_eq!(after(pulsed, clear), pulsed);
            assert!(!is_over(pulsed[0], pulsed));
        }
    }
}
