//! Collecting: one takes in what has come for all, the others wait to be told.
//!
//! There is one bell, and who sleeps on it is woken for every answer. So it is one at a time who listens: a caller that waits, or the
//! clerk if no caller does. He leaves off when what he waits for is there, and one of the others takes over.

use std::time::{Duration, Instant};

use super::Engine;
use crate::crew::Crew;

/// The one that collects looks for stalls after so much sleep in which nothing has happened, at the earliest.
const SLICE: Duration = Duration::from_millis(50);
/// So often it looks in vain before it sleeps for the first time.
const BEFORE_SLEEP: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Role {
    pub(super) holder: Option<Holder>,
    /// How often a caller has collected.
    pub(super) turns: u64,
    /// The clerk sleeps until the one who collects leaves off.
    pub(super) awaited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Caller,
    Clerk,
}

impl Engine {
    /// Takes in what has come, if nobody else does: for one who submits much.
    pub(crate) fn glance(&self) {
        {
            let mut role = self.role.lock();
            if role.holder.is_some() {
                return;
            }
            role.holder = Some(Holder::Caller);
        }
        let _leave = Leave(self);
        self.turn();
    }

    /// Collects once; whether anything has happened.
    pub(super) fn turn(&self) -> bool {
        let mut table = self.table.lock();
        let any = table.advance();
        let news = std::mem::take(&mut table.news);
        let kick = table.takes_kick();
        let trace = std::mem::take(table.crew.trace());
        drop(table);
        trace.tell();
        if kick {
            self.alarm.kick();
        }
        if !news.is_empty() {
            self.tell(news);
        }
        any
    }

    /// Waits until `done`, at most until `deadline`; whether it is. Collects meanwhile, unless somebody else does. In a forked process
    /// it is not, and will not be.
    pub(crate) fn wait(&self, deadline: Option<Instant>, done: &dyn Fn() -> bool) -> bool {
        if self.check_process().is_err() {
            return false;
        }
        loop {
            if done() {
                return true;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                // What has come by now counts, also if the time was none.
                self.glance();
                return done();
            }
            let mut role = self.role.lock();
            match role.holder {
                None => {
                    role.holder = Some(Holder::Caller);
                    role.turns += 1;
                    drop(role);
                    let _leave = Leave(self);
                    self.collect(deadline, done);
                }
                Some(holder) => {
                    self.waiters.enter();
                    if holder == Holder::Clerk {
                        // It makes room for whoever waits.
                        self.bell.advance();
                    }
                    if !done() {
                        match deadline {
                            None => self.changed.wait(&mut role),
                            Some(deadline) => drop(self.changed.wait_until(&mut role, deadline)),
                        }
                    }
                    self.waiters.leave();
                }
            }
        }
    }

    pub(super) fn collect(&self, deadline: Option<Instant>, done: &dyn Fn() -> bool) {
        let mut in_vain = 0;
        // Ends at the deadline as well.
        let _ = self.bell.wait_in_slices(deadline, SLICE, || {
            in_vain += 1;
            while self.turn() {
                in_vain = 0;
                if done() {
                    break;
                }
            }
            if in_vain > BEFORE_SLEEP {
                self.look_for_stalls();
            }
            done().then_some(())
        });
    }

    /// Gives what stalls in one worker to another that has nothing to do.
    fn look_for_stalls(&self) {
        let mut table = self.table.lock();
        table.look_for_stalls(Instant::now());
        self.after(table);
    }
}

/// Gives the role up, also if the one who had it panicked.
pub(super) struct Leave<'a>(pub(super) &'a Engine);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let awaited = {
            let mut role = self.0.role.lock();
            role.holder = None;
            std::mem::take(&mut role.awaited)
        };
        if awaited {
            self.0.clerk.wake();
        }
        if self.0.waiters.any() {
            self.0.changed.notify_all();
        }
    }
}
