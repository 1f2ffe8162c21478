//! What becomes due with time: next attempts, time-outs, and the ends of cancelled tasks that do not listen.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::Table;
use crate::{
    crew::{Crew, Stall, Ticket, Why},
    job::{End, Job, Options},
    local::desk,
};

/// However short the time-out of its tasks: a worker that is at none of them may take so long to go on.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// Time-outs are not looked at more often than this.
const OFTEN: Duration = Duration::from_millis(1);

/// For how long a worker that holds a chunk of this job may take no step.
pub(super) fn patience(job: &Job) -> Option<Duration> {
    let Options { timeout, grace, .. } = job.options;
    if job.is_cancelled() {
        Some(grace)
    } else {
        timeout.map(|limit| limit.max(PATIENCE).saturating_add(grace))
    }
}

impl<C: Crew> Table<C> {
    /// Cancels a job: what nobody has begun ends now, what is at work is told to stop, and killed after its grace.
    pub(in crate::engine) fn cancel(&mut self, job: &Arc<Job>, now: Instant) {
        job.cancelled.store(true, Ordering::Release);
        let mine = |other: &Arc<Job>| Arc::ptr_eq(other, job);
        let later = self.later.extract_if(.., |(_, other, _)| mine(other)).map(|(_, _, span)| span);
        for span in later.chain(self.line.leave(&mut self.news, job)).collect::<Vec<_>>() {
            self.end_waiting(job, &span);
        }
        let flights = self.flights.iter().filter(|(_, flight)| mine(&flight.job));
        let tickets: Vec<Ticket> = flights.map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            let taken = self.crew.take_back(ticket, &|_| 0);
            if let Some(flight) = self.flights.get_mut(&ticket)
                && !taken.is_empty()
            {
                flight.len = taken.start;
                let first = flight.span.first() + taken.start as usize;
                self.end(job, first, taken.len(), End::Cancelled);
            }
            self.forget_ended(ticket);
        }
        self.looks = Some(now);
        self.tend_tasks(now);
    }

    /// Has the keeper look in `time`, at the latest; it is kicked only if it would look later.
    pub(super) fn watch(&mut self, time: Duration) {
        // Too far off to be told is never.
        if let Some(at) = Instant::now().checked_add(time.max(OFTEN))
            && self.looks.is_none_or(|looks| at < looks)
        {
            (self.looks, self.kick) = (Some(at), true);
        }
    }

    /// Warns and kills what has been at work for too long; says when to look again.
    fn tend_tasks(&mut self, now: Instant) -> Option<Instant> {
        if self.looks.is_none() && !self.line.has_timed() {
            return None;
        }
        // The moment it was told stays, also if that chunk has ended by now: so one kick serves many short calls.
        let mut next = self.looks.filter(|looks| *looks > now);
        // Too far off to be told is never.
        let mut due = |at: Option<Instant>| next = [next, at].into_iter().flatten().min();
        let clock = desk::now();
        for (item, began) in self.crew.at_work() {
            let Some(flight) = self.flights.get_mut(&item.ticket) else { continue };
            let options = &flight.job.options;
            let (why, over) = if flight.job.is_cancelled() {
                (Why::Cancelled, Some(now))
            } else {
                let limit = options.timeout.map(|limit| limit.saturating_sub(clock.saturating_sub(began)));
                (Why::TimedOut, limit.and_then(|left| now.checked_add(left)))
            };
            match (over, flight.warned) {
                (None, _) => {}
                (Some(over), _) if over > now => due(Some(over)),
                (Some(_), Some((warned, since))) if warned == item => {
                    let end = since.checked_add(options.grace);
                    if end.is_some_and(|end| end <= now) { self.crew.kill(item, why) } else { due(end) }
                }
                (Some(_), _) => {
                    self.crew.tell_to_stop(item);
                    flight.warned = Some((item, now));
                    due(now.checked_add(options.grace));
                }
            }
        }
        // Whoever is at no task where it should be: between two of them nothing takes long but code of a user, such as `Drop`. All that
        // it holds waits for it.
        for Stall { member, held, still } in self.crew.stalls(now) {
            // So does what is in line, for which there was room nowhere. Nothing there is over time earlier than this.
            let in_line = if still < PATIENCE { None } else { self.line.first_timed() };
            let held = held.iter().filter_map(|ticket| match self.flights.get(ticket) {
                Some(flight) => patience(&flight.job),
                None => self.forgotten.get(ticket).copied(),
            });
            let limits = held.chain(in_line.and_then(|job| patience(job)));
            match limits.min().map(|limit| limit.saturating_sub(still)) {
                None => {}
                Some(Duration::ZERO) => self.crew.kill_stalled(member),
                Some(left) => due(now.checked_add(left)),
            }
        }
        // Chunks that a worker has not begun, or that it goes on with after the task at work; and what waits for room.
        if self.line.has_timed() {
            due(now.checked_add(PATIENCE));
        }
        due(self.forgotten.values().min().and_then(|patience| now.checked_add(*patience)));
        for flight in self.flights.values() {
            let options = &flight.job.options;
            if flight.job.is_cancelled() {
                due(now.checked_add(options.grace.max(OFTEN)));
            } else if let Some(limit) = options.timeout {
                // None of the tasks to come can be over earlier.
                due(now.checked_add(limit.max(OFTEN)));
            }
        }
        self.looks = next;
        next
    }

    /// Looks for workers that do not go on with what they hold, and gives that to those that have nothing.
    pub(in crate::engine) fn look_for_stalls(&mut self, now: Instant) {
        self.crew.stalls(now);
        self.fill();
    }

    /// Does what is due, and says when something will be.
    pub(in crate::engine) fn tend(&mut self, now: Instant) -> Option<Instant> {
        for (_, job, span) in self.later.extract_if(.., |(at, _, _)| *at <= now) {
            self.line.push_back(job, span);
        }
        let crew = self.crew.tend(now);
        self.fill();
        let tasks = self.tend_tasks(now);
        let later = self.later.iter().map(|(at, _, _)| *at).min();
        [crew, tasks, later].into_iter().flatten().min()
    }
}
