//! What is left of a worker that has ended.
//!
//! Its process can tell no more, but what it shared with the pool still says what it was at: that is how the tasks that it held are
//! told apart from the one that it died of.

use mp_core::{ExitStatus, JoinError};

use super::{Ended, Killed, Member};
use crate::{
    crew::{Fault, Ticket},
    local::desk::Step,
};

/// What is left of a member.
pub(crate) struct Remains {
    pub(crate) fault: Fault,
    /// As in [`Event::Lost`](crate::crew::Event::Lost).
    pub(crate) held: Vec<(Ticket, bool)>,
    pub(crate) status: ExitStatus,
    pub(crate) ended: Result<Ended, JoinError>,
}

impl Member {
    /// Of one that has ended.
    pub(crate) fn bury(self) -> Remains {
        let ended = self.child.join();
        let status = match &ended {
            Ok(_) => ExitStatus::default(),
            Err(error) => error.exit_status().or(self.child.exit_status()).unwrap_or_default(),
        };
        let at = self.desk.at().filter(|at| self.place(at.ticket).is_some());
        let fault = match (at, self.killed) {
            (Some(at), Some(Killed::For(item, why))) if at == item => Fault::Killed(item, why),
            (Some(at), None) if at.step == Step::Runs => Fault::At(at),
            (_, Some(Killed::Stalled)) => Fault::Stalled,
            (_, Some(Killed::Unheard)) => {
                self.held.front().map_or(Fault::Nobody, |front| Fault::Unheard(front.ticket))
            }
            _ => Fault::Nobody,
        };
        // To take in the first chunk, and its context, is part of being at it; one that is not ready may not have seen it.
        let ready = self.was_ready();
        let chunks = self.unclaimed().enumerate();
        let held = chunks.map(|(at, (ticket, _, begun))| (ticket, begun || at == 0 && ready)).collect();
        Remains { fault, held, status, ended }
    }
}
