//! Events: a flag that can be waited for.
//!
//! The state is one word of a monitor: 0 or 1. Setting it wakes all that sleep, in the same step, so nobody's death can
//! swallow another's wake. Clearing it wakes nobody.

use std::time::{Duration, Instant};

use mp_core::shared::{GateError, Monitor, RegionError, Slot, Wakes};
use serde::{Deserialize, Serialize};

/// A flag that processes share and can wait for; a cheap handle that travels.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Event;
///
/// let ready = Event::new()?;
/// let child = mp_core::spawn(|ready: Event| ready.wait().unwrap(), (ready.clone(),))?;
/// ready.set()?;
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
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
        self.0.peek() != [0]
    }

    /// Sets it: everybody who waits goes on. Never waits for them.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the shared memory was overwritten.
    pub fn set(&self) -> Result<(), GateError> {
        self.0.update_waking(Wakes::All, |[set]| ((set == 0).then_some([1]), ()))
    }

    /// Clears it: whoever waits from now on waits until it is set again.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the shared memory was overwritten.
    pub fn clear(&self) -> Result<(), GateError> {
        self.0.update_waking(Wakes::Nobody, |[set]| ((set != 0).then_some([0]), ()))
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the shared memory was overwritten.
    pub fn wait(&self) -> Result<(), GateError> {
        self.wait_until(None).map(|_| ())
    }

    /// Waits until it is set, at most for `timeout`, never less; whether it was set.
    ///
    /// # Errors
    /// [`GateError::Corrupt`] if the shared memory was overwritten.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, GateError> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<bool, GateError> {
        if self.is_set() {
            return Ok(true);
        }
        Ok(self.0.wait_shared(deadline, None, |[set]| (set != 0).then_some((None, ())))?.is_ok())
    }
}
