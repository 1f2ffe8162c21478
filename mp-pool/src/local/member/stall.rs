//! Whether a worker goes on, seen by looking twice.
//!
//! A worker that is at an item can be told how long it has been there; its time-out is the item's. Between items, or stopped by a
//! signal, it tells nothing: then all that can be known is whether anything of it has changed since the last look.

use std::time::{Duration, Instant};

use super::Member;
use crate::{crew::Ticket, local::desk::Item};

/// What a worker is about to begin is left to it for so long.
const SOON: Duration = Duration::from_millis(50);

/// What was seen of a worker.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// What was to be seen when it was looked at, and when it was first seen like that.
    seen: Option<(Trail, Instant)>,
    /// It was seen to take no step for a while.
    pub(super) stalls: bool,
}

/// What changes with every step that a worker takes at its chunks, while it is at none of their items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trail {
    at: Option<Item>,
    front: Ticket,
    unclaimed: u32,
    answers: u32,
}

/// Whether a process was stopped by a signal; without `/proc` none is.
fn is_stopped(pid: u32) -> bool {
    // The name, in brackets, may be anything.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
}

impl Member {
    /// What it holds, and for how long it was seen to take no step, if it should be at work and is not.
    pub(crate) fn stall(&mut self, now: Instant) -> Option<(Vec<Ticket>, Duration)> {
        let at = self.desk.at();
        let front = self.held.front().filter(|_| !self.ended)?;
        if !self.desk.has(front.place, front.len) {
            self.disown();
            return None;
        }
        let (unclaimed, begun) = self.desk.unclaimed(front.place);
        // An initializer may take as long as it likes, but not stand still. One that has begun a chunk is behind it, whatever was heard.
        let at_work = at.is_some_and(|at| self.place(at.ticket).is_some());
        if at_work || !begun && !self.was_ready() && !is_stopped(self.who.pid) {
            self.sight = Sight::default();
            return None;
        }
        let trail = Trail { at, front: front.ticket, unclaimed, answers: self.link.arrived() };
        let since = match self.sight.seen {
            Some((seen, since)) if seen == trail => since,
            _ => self.sight.seen.insert((trail, now)).1,
        };
        let still = now.saturating_duration_since(since);
        self.sight.stalls = still >= SOON;
        Some((self.held.iter().map(|held| held.ticket).collect(), still))
    }
}
