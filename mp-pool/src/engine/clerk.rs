//! The clerk: collects while asynchronous work is under way and no caller waits, and runs callbacks.
//!
//! It lets a while pass before it begins, since most callers that submit something wait for it soon, and are faster if they need
//! not ask the clerk to make room. It hurries when tasks wait for a worker, or somebody wants to be told.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mp_core::run_foreign;
use parking_lot::{Condvar, Mutex};

use super::{
    Engine,
    collect::{Holder, Leave},
};
use crate::job::Callback;

/// How long nobody must have collected.
const PATIENCE: Duration = Duration::from_micros(500);
/// How often it looks whether a caller still collects. By one that collects for longer it is told, which others would pay too much for.
const LOOK: Duration = Duration::from_millis(5);

thread_local! {
    /// This thread is at a callback of the clerk's list.
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is at a callback, so that those behind it have to wait for it.
pub(crate) fn runs_callbacks() -> bool {
    RUNS.get()
}

fn run(callback: Callback) {
    let before = RUNS.replace(true);
    let _ = run_foreign(callback);
    RUNS.set(before);
}

#[derive(Default)]
pub(super) struct Clerk {
    desk: Mutex<Desk>,
    bell: Condvar,
    /// Asynchronous calls that have not finished.
    calls: AtomicUsize,
    /// Callbacks that wait.
    callbacks: AtomicUsize,
}

#[derive(Default)]
struct Desk {
    /// Whether there is a clerk.
    hired: bool,
    hurry: bool,
    stop: bool,
    callbacks: VecDeque<Callback>,
}

impl Clerk {
    /// Has the clerk collect soon, if there is asynchronous work.
    pub(super) fn hurry(&self) {
        if self.calls.load(Ordering::Acquire) > 0 {
            let mut desk = self.desk.lock();
            if !desk.hurry {
                desk.hurry = true;
                self.bell.notify_all();
            }
        }
    }

    /// Has the clerk look again.
    pub(super) fn wake(&self) {
        // It has seen what it sleeps for under this lock.
        drop(self.desk.lock());
        self.bell.notify_all();
    }

    /// Has the clerk run callbacks; where it has left, with the pool, they run here.
    pub(super) fn call(&self, callbacks: Vec<Callback>) {
        if callbacks.is_empty() {
            return;
        }
        let mut desk = self.desk.lock();
        if desk.stop {
            drop(desk);
            callbacks.into_iter().for_each(run);
            return;
        }
        self.callbacks.fetch_add(callbacks.len(), Ordering::AcqRel);
        desk.callbacks.extend(callbacks);
        drop(desk);
        self.bell.notify_all();
    }

    pub(super) fn stop(&self) {
        self.desk.lock().stop = true;
        self.bell.notify_all();
    }
}

/// While it exists, there is asynchronous work.
#[derive(Debug)]
pub(crate) struct Underway(Arc<Engine>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.clerk.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Engine {
    /// Notes that there is asynchronous work from now on; the clerk is hired for the first.
    pub(crate) fn underway(self: &Arc<Self>) -> Result<Underway, crate::Error> {
        self.clerk.calls.fetch_add(1, Ordering::AcqRel);
        let underway = Underway(Arc::clone(self));
        let mut desk = self.clerk.desk.lock();
        if !desk.hired && !desk.stop {
            self.start_thread("clerk", Self::attend)?;
            desk.hired = true;
        }
        self.clerk.bell.notify_all();
        drop(desk);
        Ok(underway)
    }

    /// Has the clerk collect at once: somebody wants to be told.
    pub(crate) fn hurry(&self) {
        self.clerk.hurry();
    }

    /// Has the clerk run a callback.
    pub(crate) fn call(&self, callback: Callback) {
        self.clerk.call(vec![callback]);
    }

    /// The life of the clerk.
    fn attend(&self) {
        let mut desk = self.clerk.desk.lock();
        loop {
            if let Some(callback) = desk.callbacks.pop_front() {
                self.clerk.callbacks.fetch_sub(1, Ordering::AcqRel);
                drop(desk);
                run(callback);
                desk = self.clerk.desk.lock();
                continue;
            }
            if desk.stop {
                return;
            }
            if self.clerk.calls.load(Ordering::Acquire) == 0 {
                desk.hurry = false;
                self.clerk.bell.wait(&mut desk);
                continue;
            }
            let (holder, turns) = {
                let role = self.role.lock();
                (role.holder, role.turns)
            };
            if holder.is_some() || !desk.hurry {
                let patience = if holder.is_some() { LOOK } else { PATIENCE };
                desk.hurry = false;
                self.clerk.bell.wait_for(&mut desk, patience);
                let mut role = self.role.lock();
                if !desk.hurry && holder.is_some() && role.holder.is_some() && role.turns == turns {
                    role.awaited = true;
                    drop(role);
                    self.clerk.bell.wait(&mut desk);
                    continue;
                }
                if !desk.hurry && (role.holder.is_some() || role.turns != turns) {
                    continue;
                }
            }
            desk.hurry = false;
            drop(desk);
            self.stand_in();
            desk = self.clerk.desk.lock();
            // It has left off for these, and goes on behind them.
            desk.hurry |= !desk.callbacks.is_empty();
        }
    }

    /// Collects until a caller wants to, there is nothing left to wait for, or callbacks are due.
    fn stand_in(&self) {
        {
            let mut role = self.role.lock();
            if role.holder.is_some() || self.waiters.any() {
                return;
            }
            role.holder = Some(Holder::Clerk);
        }
        let _leave = Leave(self);
        self.collect(None, &|| {
            self.waiters.any()
                || self.stopped.load(Ordering::Acquire)
                || self.clerk.callbacks.load(Ordering::Acquire) > 0
                || self.clerk.calls.load(Ordering::Acquire) == 0
        });
    }
}
