//! What the crew tells, and which tasks end or run again for it: answers and deaths.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Flight, Table,
    tend::{PATIENCE, patience},
};
use crate::{
    batch::Span,
    crew::{Crew, Fault, Ticket, Why},
    job::{Death, End, Job, WorkerName},
    local::link::Came,
    message::{Beside, Part, Runs},
    trace::note,
};

/// A chunk that was begun and lost so often, through no task's fault, is cut into single tasks.
const CUT: u32 = 2;
/// A single task to which that happened so often is at fault.
const GIVE_UP: u32 = 5;
/// A longer pause than any program lives, and one that clocks can add.
const AGES: Duration = Duration::from_secs(100 * 365 * 86_400);

impl<C: Crew> Table<C> {
    pub(super) fn answered(&mut self, part: Part, message: Vec<u8>, came: Came, who: Arc<WorkerName>) {
        let Some(flight) = self.flights.get_mut(&part.ticket) else {
            if part.last {
                self.forgotten.remove(&part.ticket);
            }
            return;
        };
        let len = part.len;
        let (job, first) = (Arc::clone(&flight.job), flight.span.first() + flight.answered as usize);
        flight.answered += len;
        job.note_pace(len, part.nanoseconds);
        let slowest = flight.span.first() + part.slowest as usize;
        self.slowest.note(Duration::from_nanos(part.slowest_nanoseconds), slowest, &who);
        if !part.last {
            self.forget_ended(part.ticket);
        } else if let Some(flight) = self.flights.remove(&part.ticket)
            && flight.answered < flight.len
        {
            self.again(&job, flight.span.part(flight.answered..flight.len));
        }
        if len > 0 {
            note!(
                self.crew.trace(),
                TRACE,
                Answered { who: Arc::clone(&who), first, len, took: Duration::from_nanos(part.nanoseconds) }
            );
            let end = match came.fds {
                Ok(fds) => {
                    let beside = Beside { fds, runs: Runs::Came(came.long) };
                    let beside = (!beside.is_empty()).then(|| Box::new(beside));
                    End::Answered { bytes: part.bytes, failed: part.failed, message, beside, who }
                }
                Err(error) => End::NotReceived(error.to_string()),
            };
            self.end(&job, first, len as usize, end);
        }
    }

    /// Lets go of a chunk with its last task, not with the worker's word that it is over: that may come when nobody collects
    /// any more, and the arguments would keep their memory and their handles until then.
    pub(super) fn forget_ended(&mut self, ticket: Ticket) {
        if self.flights.get(&ticket).is_some_and(|flight| flight.answered == flight.len)
            && let Some(flight) = self.flights.remove(&ticket)
            && let Some(patience) = patience(&flight.job)
        {
            // There is no hurry: nobody waits for it.
            self.forgotten.insert(ticket, patience.max(PATIENCE));
        }
    }

    /// Puts tasks, which may be none, back in line: in front, since they have waited longest.
    pub(super) fn again(&mut self, job: &Arc<Job>, span: Span) {
        if span.items.is_empty() {
            return;
        }
        if job.is_cancelled() {
            self.end_waiting(job, &span);
        } else {
            job.unassigned.fetch_add(span.len() as usize, Ordering::Relaxed);
            self.line.push_front(Arc::clone(job), span);
        }
    }

    pub(super) fn lost(
        &mut self,
        who: &Arc<WorkerName>,
        death: Death,
        fault: Fault,
        held: Vec<(Ticket, bool)>,
    ) {
        // In front of the line in their order.
        for (ticket, begun) in held.into_iter().rev() {
            let Some(Flight { job, span, answered, len, .. }) = self.flights.remove(&ticket) else {
                self.forgotten.remove(&ticket);
                continue;
            };
            let at = match fault {
                Fault::At(item) | Fault::Killed(item, _) if item.ticket == ticket => Some(item.item),
                Fault::Unheard(unheard) if unheard == ticket && answered + 1 == len => Some(answered),
                _ => None,
            };
            match at.filter(|item| (answered..len).contains(item)) {
                Some(item) => {
                    self.again(&job, span.part(item + 1..len));
                    self.at_fault(&job, &span, item, who, death, fault);
                    self.again(&job, span.part(answered..item));
                }
                // One of them has a result for which there is no memory, or all together.
                None if fault == Fault::Unheard(ticket) => self.again_alone(&job, &span.part(answered..len)),
                None if begun && matches!(fault, Fault::Nobody | Fault::Stalled) => {
                    self.lost_between(&job, span.part(answered..len), who, death, fault)
                }
                None => self.again(&job, span.part(answered..len)),
            }
        }
    }

    /// One task at which a worker died.
    fn at_fault(
        &mut self,
        job: &Arc<Job>,
        span: &Span,
        item: u32,
        who: &Arc<WorkerName>,
        death: Death,
        fault: Fault,
    ) {
        let (first, who) = (span.first() + item as usize, Arc::clone(who));
        let attempts = if span.len() == 1 { span.attempts + 1 } else { 1 };
        let end = match fault {
            Fault::Killed(_, Why::Cancelled) => End::Cancelled,
            Fault::Killed(_, Why::TimedOut) => End::timed_out(who, job),
            _ if job.is_cancelled() => End::Cancelled,
            Fault::Unheard(_) if attempts > job.options.retries => {
                End::NotReceived("there is no memory for it in the pool's process".to_owned())
            }
            _ if attempts > job.options.retries => End::Died { who, death, attempts },
            _ => {
                note!(self.crew.trace(), INFO, Again { index: first, attempts, who, status: death.status });
                let again = Span { attempts, ..span.part(item..item + 1) };
                job.unassigned.fetch_add(1, Ordering::Relaxed);
                let pause = job.options.backoff.saturating_mul(1 << (attempts - 1).min(16));
                if pause.is_zero() {
                    self.line.push_front(Arc::clone(job), again);
                } else {
                    let now = Instant::now();
                    self.kick = true;
                    let at = now.checked_add(pause.min(AGES)).unwrap_or(now);
                    self.later.push((at, Arc::clone(job), again));
                }
                return;
            }
        };
        self.end(job, first, 1, end);
    }

    /// As [`again`](Self::again), each in a chunk of its own.
    fn again_alone(&mut self, job: &Arc<Job>, span: &Span) {
        for item in (0..span.len()).rev() {
            self.again(job, span.part(item..item + 1));
        }
    }

    /// Tasks of a chunk that was begun when its worker died between two of them, or while it sent an answer.
    fn lost_between(
        &mut self,
        job: &Arc<Job>,
        span: Span,
        who: &Arc<WorkerName>,
        death: Death,
        fault: Fault,
    ) {
        let losses = span.losses + 1;
        let span = Span { losses, ..span };
        if span.len() == 1 && losses >= GIVE_UP {
            let who = Arc::clone(who);
            let end = match fault {
                Fault::Stalled if job.is_timed() => End::timed_out(who, job),
                _ => End::Died { who, death, attempts: losses },
            };
            self.end(job, span.first(), 1, end);
        } else if losses >= CUT {
            self.again_alone(job, &span);
        } else {
            self.again(job, span);
        }
    }
}
