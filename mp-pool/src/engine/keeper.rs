//! The keeper: learns of deaths, starts workers, tends deadlines.

use std::{sync::atomic::Ordering, time::Instant};

use super::Engine;
use crate::crew::Crew;

impl Engine {
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
            due = table.tend(now);
            let wanted = table.waiting();
            let opening = table.crew.opening(wanted, now);
            let news = std::mem::take(&mut table.news);
            let trace = std::mem::take(table.crew.trace());
            drop(table);
            trace.tell();
            let any = any || !news.is_empty();
            self.tell(news);
            if any {
                // For the one that collects: something has ended without an answer. And for one that waits for workers to end.
                self.ring();
            }
            if let Some(opening) = opening {
                let started = opening.start();
                let now = Instant::now();
                self.table.lock().crew.welcome(started, now);
                // There may be more to start, and the new one may have ended already.
                due = Some(now);
            }
        }
    }
}
