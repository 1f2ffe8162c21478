//! The starter: starts workers in the place of those that are gone.
//!
//! It is not the keeper who does that, nor a caller, since nobody knows how long a start takes: the system may be short of memory,
//! the fork server stopped, the new process stopped before it executes the program. Time-outs go on meanwhile, and what others do.

use std::{sync::atomic::Ordering, time::Instant};

use parking_lot::{Condvar, Mutex};

use super::Engine;
use crate::{crew::Crew, error::Error};

#[derive(Default)]
pub(super) struct Starter {
    wanted: Mutex<bool>,
    bell: Condvar,
}

impl Starter {
    /// Has it look whether a worker is missing.
    pub(super) fn wake(&self) {
        *self.wanted.lock() = true;
        self.bell.notify_one();
    }
}

impl Engine {
    /// Starts a worker, if one is missing.
    pub(super) fn start_worker(&self) -> Option<Result<(), Error>> {
        let mut table = self.table.lock();
        let wanted = table.waiting();
        let opening = table.crew.opening(wanted, Instant::now())?;
        drop(table);
        let started = opening.start();
        let outcome = started.as_ref().map(drop).map_err(Clone::clone);
        self.table.lock().crew.welcome(started, Instant::now());
        Some(outcome)
    }

    /// The life of the starter.
    pub(super) fn start_workers(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            if self.start_worker().is_some() {
                // For the keeper, what follows from it; for whoever waits for the last worker to be gone, that this one is there.
                self.alarm.kick();
                self.ring();
                continue;
            }
            let mut wanted = self.starter.wanted.lock();
            if !std::mem::take(&mut *wanted) {
                self.starter.bell.wait(&mut wanted);
            }
        }
    }
}
