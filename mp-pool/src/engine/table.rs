//! The table: what waits, what is in flight, and what follows from what the crew tells.
//!
//! Everything here happens under one lock and waits for nothing. What must be told to others is left in `news`.

mod ends;
mod give;
mod line;
mod tend;

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use self::{line::Line, tend::PATIENCE};
#[cfg(feature = "tracing")]
use crate::trace::note;
use crate::{
    batch::Span,
    crew::{Crew, Event, Ticket},
    error::Error,
    insights::Slowest,
    job::{End, Job},
    local::desk::Item,
    store::Stock,
};

/// Stalls are looked for every so many turns, for those who collect and never sleep long enough to look for them then.
const TURNS: u32 = 256;

/// A span that a worker has.
#[derive(Debug)]
struct Flight {
    job: Arc<Job>,
    span: Span,
    /// How many of its tasks were answered: the first ones.
    answered: u32,
    /// How many the worker was left with.
    len: u32,
    /// When the task at work was told to stop.
    warned: Option<(Item, Instant)>,
}

/// Tickets are numbers in a row: nothing needs to be scattered.
#[derive(Default)]
struct Tickets(u64);

impl Hasher for Tickets {
    fn write(&mut self, _: &[u8]) {}

    fn write_u32(&mut self, ticket: u32) {
        // The table looks at the highest bits, too.
        self.0 = u64::from(ticket).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Running,
    Closed,
    Terminated,
    Broken(Error),
}

pub(super) struct Table<C> {
    pub(super) crew: C,
    stock: Arc<Stock>,
    pub(super) phase: Phase,
    line: Line,
    /// What waits for its next attempt.
    later: Vec<(Instant, Arc<Job>, Span)>,
    flights: HashMap<Ticket, Flight, BuildHasherDefault<Tickets>>,
    /// Of chunks whose tasks have all ended, and which a worker still holds: for how long it may take no step.
    forgotten: HashMap<Ticket, Duration, BuildHasherDefault<Tickets>>,
    next: Ticket,
    /// Tasks that were announced and have not ended.
    outstanding: usize,
    /// Calls that have not read their input to its end.
    reading: usize,
    /// How often it was [advanced](Self::advance).
    turns: u32,
    /// When the keeper sees to time-outs and cancelled tasks, at the latest; `None` if there are none.
    looks: Option<Instant>,
    /// Something is due that the keeper does not know of.
    pub(super) kick: bool,
    pub(super) slowest: Slowest,
    /// Jobs of which tasks have ended since this was last taken.
    pub(super) news: Vec<Arc<Job>>,
    /// Memory for the lengths of a chunk's items.
    lengths: Vec<u8>,
}

impl<C: Crew> Table<C> {
    pub(super) fn new(crew: C, stock: Arc<Stock>) -> Self {
        Self {
            crew,
            stock,
            phase: Phase::Running,
            line: Line::default(),
            later: Vec::new(),
            flights: HashMap::default(),
            forgotten: HashMap::default(),
            next: 1,
            outstanding: 0,
            reading: 0,
            turns: 0,
            looks: None,
            kick: false,
            slowest: Slowest::default(),
            news: Vec::new(),
            lengths: Vec::new(),
        }
    }

    pub(super) fn check_running(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Running => Ok(()),
            Phase::Broken(error) => Err(error.clone()),
            Phase::Closed | Phase::Terminated => Err(Error::Closed),
        }
    }

    /// Announces tasks, which may come later; the pool is not done before they have ended.
    pub(super) fn announce(&mut self, tasks: usize) {
        self.outstanding += tasks;
    }

    /// A call begins to read its input: what it submits is taken until it has [ended](Self::end_reading).
    pub(super) fn begin_reading(&mut self) -> Result<(), Error> {
        self.check_running()?;
        self.reading += 1;
        Ok(())
    }

    /// A call has read its input; whether somebody may wait for that, who waits for the end of everything.
    pub(super) fn end_reading(&mut self) -> bool {
        self.reading -= 1;
        !matches!(self.phase, Phase::Running)
    }

    /// Whether nothing is left to do; a closed pool takes nothing more from then on.
    pub(super) fn finish(&mut self) -> bool {
        let closed = matches!(self.phase, Phase::Closed);
        let finished = self.outstanding == 0 && !(closed && self.reading > 0);
        if finished && closed {
            self.phase = Phase::Terminated;
        }
        finished
    }

    /// Whether tasks wait for a worker.
    pub(super) fn waiting(&self) -> bool {
        !self.line.is_empty()
    }

    /// How many workers have nothing to do, and nothing waits for them; and how long all have worked.
    pub(super) fn look(&self) -> (usize, Duration) {
        let (idle, worked) = self.crew.look();
        (if self.waiting() { 0 } else { idle }, worked)
    }

    /// Puts announced tasks in line.
    pub(super) fn enqueue(&mut self, job: &Arc<Job>, span: Span) {
        match &self.phase {
            Phase::Running | Phase::Closed if !job.is_cancelled() => {
                self.line.push_back(Arc::clone(job), span);
                self.fill();
                if self.line.has_timed() {
                    self.watch(PATIENCE);
                }
            }
            phase => {
                if let Phase::Broken(error) = phase {
                    job.fail(error.clone());
                }
                job.cancelled.store(true, Ordering::Release);
                self.end_waiting(job, &span);
            }
        }
    }

    /// The one way for tasks to end.
    pub(super) fn end(&mut self, job: &Arc<Job>, first: usize, len: usize, end: End) {
        #[cfg(feature = "tracing")]
        if let End::Died { who, death, attempts } = &end {
            let (who, status, attempts) = (Arc::clone(who), death.status, *attempts);
            note!(self.crew.trace(), WARN, Lost { index: first, attempts, who, status });
        }
        job.end(first, len, end);
        self.outstanding = self.outstanding.saturating_sub(len);
        if !self.news.last().is_some_and(|last| Arc::ptr_eq(last, job)) {
            self.news.push(Arc::clone(job));
        }
    }

    /// Ends tasks that no worker has, as cancelled.
    fn end_waiting(&mut self, job: &Arc<Job>, span: &Span) {
        self.end(job, span.first(), span.len() as usize, End::Cancelled);
    }

    /// Whether the keeper has something to do that it does not know of.
    pub(super) fn takes_kick(&mut self) -> bool {
        std::mem::take(&mut self.kick) || self.stock.has_news()
    }

    /// Takes in what has happened and gives out what waits; whether anything has happened.
    pub(super) fn advance(&mut self) -> bool {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS) {
            self.look_for_stalls(Instant::now());
        }
        let mut any = false;
        while let Some(event) = self.crew.next_event() {
            any = true;
            match event {
                Event::Answered { part, message, came, who } => self.answered(part, message, came, who),
                Event::Lost { who, death, fault, held } => self.lost(&who, death, fault, held),
                // Others want the lock, too.
                Event::Partly => break,
                Event::Broken(error) => self.break_down(error),
            }
        }
        if any {
            self.fill();
        }
        any
    }

    /// Ends everything that has not ended.
    pub(super) fn cancel_all(&mut self, failed: Option<&Error>) {
        // Their workers are not waited for.
        self.stock.end();
        let line = std::iter::from_fn(|| self.line.cut(&mut self.news, |_, span| span.len()));
        let later = self.later.drain(..).map(|(_, job, span)| (job, span));
        let flights = self.flights.drain().filter_map(|(_, flight)| {
            let Flight { job, span, answered, len, .. } = flight;
            (answered < len).then(|| (job, span.part(answered..len)))
        });
        for (job, span) in line.chain(later).chain(flights).collect::<Vec<_>>() {
            if let Some(error) = failed {
                job.fail(error.clone());
            }
            job.cancelled.store(true, Ordering::Release);
            self.end_waiting(&job, &span);
        }
    }

    pub(super) fn break_down(&mut self, error: Error) {
        if matches!(self.phase, Phase::Running | Phase::Closed) {
            self.phase = Phase::Broken(error.clone());
            self.cancel_all(Some(&error));
            self.crew.close(true);
        }
    }
}
