//! The keeper: learns of deaths, tends deadlines, sees that workers are missing.

use std::{io, sync::atomic::Ordering, time::Instant};

use mp_core::catch_panic;

use super::Engine;
use crate::{crew::Crew, error::Error};

impl Engine {
    /// The life of one of the pool's own threads. A panic there, of a `tracing` subscriber for instance, would
    /// keep those who wait for ever: it breaks the pool.
    pub(super) fn live(&self, who: &str, life: impl Fn(&Self)) {
        let Err(report) = catch_panic(|| life(self)) else { return };
        let error = Error::from(io::Error::other(format!("its {who} {report}")));
        let _ = catch_panic(|| {
            let mut table = self.table.lock();
            table.break_down(error);
            table.kick = true;
            self.after(table);
        });
        self.ring();
        // What is left to do is to see the workers off.
        let _ = catch_panic(|| life(self));
    }

    /// The life of the keeper.
    pub(super) fn keep(&self) {
        let mut due = None;
        while !self.stopped.load(Ordering::Acquire) {
            let ended = self.alarm.wait(due);
            let now = Instant::now();
            let mut table = self.table.lock();
            let any = !ended.is_empty();
            for number in ended {
                table.crew.ended(number);
            }
            table.advance();
            let tended = table.tend(now);
            let short = table.crew.is_short(table.waiting());
            let news = std::mem::take(&mut table.news);
            let trace = std::mem::take(table.crew.trace());
            drop(table);
            // Without the lock: it takes time.
            due = [tended, self.stock.tend(now)].into_iter().flatten().min();
            trace.tell();
            let any = any || !news.is_empty();
            self.tell(news);
            if any {
                // For the one that collects: something has ended without an answer. And for one that waits for workers to end.
                self.ring();
            }
            if short {
                self.starter.wake();
            }
        }
    }
}
