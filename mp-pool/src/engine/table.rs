//! The table: what waits, what is in flight, and what follows from what the crew tells.
//!
//! Everything here happens under one lock and waits for nothing. What must be told to others is left in `news`.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mp_core::{os::fd::OwnedFd, transfer::Handle};

use crate::{
    batch::Batch,
    crew::{Crew, Event, Fault, Outgoing, Room, Ticket, Why},
    error::Error,
    insights::Slowest,
    job::{Death, End, Job, WorkerName},
    local::desk::{self, Item},
    message::{Chunk, Part},
    spare,
    trace::note,
};

/// Chunks for each worker, if all tasks take the same time: Python's rule, applied to what is left.
const CHUNKS_PER_WORKER: usize = 4;
/// A chunk is not made shorter than this, if there are enough short tasks.
const SHORTEST: Duration = Duration::from_micros(50);
/// What a task is taken for before the first was measured.
const UNKNOWN: Duration = Duration::from_millis(1);
/// A chunk that was begun and lost so often, through no task's fault, is cut into single tasks.
const CUT: u32 = 2;
/// A single task to which that happened so often is at fault.
const GIVE_UP: u32 = 5;

/// Consecutive tasks of one job; never empty.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) job: Arc<Job>,
    batch: Arc<Batch>,
    items: Range<u32>,
    /// How many workers died while they were at it (a single task then).
    attempts: u32,
    /// How many workers died between its tasks.
    losses: u32,
}

impl Span {
    pub(super) fn all(job: Arc<Job>, batch: Batch) -> Self {
        let items = 0..batch.len();
        Self { job, batch: Arc::new(batch), items, attempts: 0, losses: 0 }
    }

    fn part(&self, items: Range<u32>) -> Self {
        Self { job: Arc::clone(&self.job), batch: Arc::clone(&self.batch), items, ..*self }
    }

    fn len(&self) -> u32 {
        self.items.end - self.items.start
    }

    fn first(&self) -> usize {
        self.batch.first() + self.items.start as usize
    }
}

/// A span that a worker has.
#[derive(Debug)]
struct Flight {
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
    pub(super) phase: Phase,
    line: VecDeque<Span>,
    /// What waits for its next attempt.
    later: Vec<(Instant, Span)>,
    flights: HashMap<Ticket, Flight, BuildHasherDefault<Tickets>>,
    next: Ticket,
    /// Tasks that were announced and have not ended.
    outstanding: usize,
    /// Calls that have not read their input to its end.
    reading: usize,
    /// Whether a chunk in flight has a time-out, or belongs to a cancelled job.
    watched: bool,
    /// Something is due that the keeper does not know of.
    pub(super) kick: bool,
    pub(super) slowest: Slowest,
    /// Jobs of which tasks have ended since this was last taken.
    pub(super) news: Vec<Arc<Job>>,
}

impl<C: Crew> Table<C> {
    pub(super) fn new(crew: C) -> Self {
        Self {
            crew,
            phase: Phase::Running,
            line: VecDeque::new(),
            later: Vec::new(),
            flights: HashMap::default(),
            next: 1,
            outstanding: 0,
            reading: 0,
            watched: false,
            kick: false,
            slowest: Slowest::default(),
            news: Vec::new(),
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

    pub(super) fn end_reading(&mut self) {
        self.reading -= 1;
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

    /// Puts announced tasks in line.
    pub(super) fn enqueue(&mut self, span: Span) {
        match &self.phase {
            Phase::Running | Phase::Closed if !span.job.is_cancelled() => {
                self.line.push_back(span);
                self.fill();
            }
            phase => {
                if let Phase::Broken(error) = phase {
                    span.job.fail(error.clone());
                }
                span.job.cancelled.store(true, Ordering::Release);
                self.end(&span.job, span.first(), span.len() as usize, End::Cancelled);
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

    /// Takes in what has happened and gives out what waits; whether anything has happened.
    pub(super) fn advance(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.crew.next_event() {
            any = true;
            match event {
                Event::Answered { part, message, fds, who } => self.answered(part, message, fds, who),
                Event::Lost { who, death, fault, held } => self.lost(&who, death, fault, held),
                Event::Broken(error) => self.break_down(error),
            }
        }
        if any {
            self.fill();
        }
        any
    }

    fn answered(&mut self, part: Part, message: Vec<u8>, fds: Vec<OwnedFd>, who: Arc<WorkerName>) {
        let Some(flight) = self.flights.get_mut(&part.ticket) else { return };
        // A worker that answers for other tasks than it was given is not believed: what is missing runs again.
        let sound = part.from == flight.answered && part.len <= flight.len - flight.answered;
        let len = if sound { part.len } else { 0 };
        let (job, first) = (Arc::clone(&flight.span.job), flight.span.first() + flight.answered as usize);
        flight.answered += len;
        job.note_pace(len, part.nanoseconds);
        if sound {
            let index = flight.span.first() + part.slowest as usize;
            self.slowest.note(Duration::from_nanos(part.slowest_nanoseconds), index, &who);
        }
        if part.last
            && let Some(flight) = self.flights.remove(&part.ticket)
            && flight.answered < flight.len
        {
            self.again(&flight.span, flight.answered..flight.len, |_| {});
        }
        self.forget_ended(part.ticket);
        if len > 0 {
            note!(
                self.crew.trace(),
                TRACE,
                Answered { who: Arc::clone(&who), first, len, took: Duration::from_nanos(part.nanoseconds) }
            );
            self.end(&job, first, len as usize, End::Answered { part, message, fds, who });
        }
    }

    /// Lets go of a chunk with its last task, not with the worker's word that it is over: that may come when nobody collects
    /// any more, and the arguments would keep their memory and their handles until then.
    fn forget_ended(&mut self, ticket: Ticket) {
        if self.flights.get(&ticket).is_some_and(|flight| flight.answered == flight.len) {
            self.flights.remove(&ticket);
        }
    }

    /// Puts tasks of a span, counted within it, back in line: in front, since they have waited longest.
    fn again(&mut self, span: &Span, items: Range<u32>, change: impl FnOnce(&mut Span)) {
        if items.is_empty() {
            return;
        }
        let mut again = span.part(span.items.start + items.start..span.items.start + items.end);
        change(&mut again);
        if again.job.is_cancelled() {
            let (job, first, len) = (Arc::clone(&again.job), again.first(), again.len() as usize);
            self.end(&job, first, len, End::Cancelled);
        } else {
            again.job.unassigned.fetch_add(again.len() as usize, Ordering::Relaxed);
            self.line.push_front(again);
        }
    }

    fn lost(&mut self, who: &Arc<WorkerName>, death: Death, fault: Fault, held: Vec<(Ticket, bool)>) {
        // In front of the line in their order.
        for (ticket, begun) in held.into_iter().rev() {
            let Some(Flight { span, answered, len, .. }) = self.flights.remove(&ticket) else { continue };
            let at = match fault {
                Fault::At(item) | Fault::Killed(item, _) if item.ticket == ticket => Some(item.item),
                _ => None,
            };
            match at.filter(|item| (answered..len).contains(item)) {
                Some(item) => {
                    self.again(&span, item + 1..len, |_| {});
                    self.at_fault(&span, item, who, death, fault);
                    self.again(&span, answered..item, |_| {});
                }
                None if begun && fault == Fault::Nobody => {
                    self.lost_between(&span, answered..len, who, death)
                }
                None => self.again(&span, answered..len, |_| {}),
            }
        }
    }

    /// One task at which a worker died.
    fn at_fault(&mut self, span: &Span, item: u32, who: &Arc<WorkerName>, death: Death, fault: Fault) {
        let job = &span.job;
        let (first, who) = (span.first() + item as usize, Arc::clone(who));
        let attempts = if span.len() == 1 { span.attempts + 1 } else { 1 };
        let end = match fault {
            Fault::Killed(_, Why::Cancelled) => End::Cancelled,
            Fault::Killed(_, Why::TimedOut) => {
                End::TimedOut { who, limit: job.options.timeout.unwrap_or_default() }
            }
            _ if job.is_cancelled() => End::Cancelled,
            _ if attempts > job.options.retries => End::Died { who, death, attempts },
            _ => {
                note!(self.crew.trace(), INFO, Again { index: first, attempts, who, status: death.status });
                let item = span.items.start + item;
                let again = Span { attempts, ..span.part(item..item + 1) };
                job.unassigned.fetch_add(1, Ordering::Relaxed);
                let pause = job.options.backoff.saturating_mul(1 << (attempts - 1).min(16));
                match Instant::now().checked_add(pause) {
                    Some(due) if !pause.is_zero() => {
                        self.kick = true;
                        self.later.push((due, again));
                    }
                    _ => self.line.push_front(again),
                }
                return;
            }
        };
        self.end(job, first, 1, end);
    }

    /// Tasks of a chunk that was begun when its worker died between two of them, or while it sent an answer.
    fn lost_between(&mut self, span: &Span, items: Range<u32>, who: &Arc<WorkerName>, death: Death) {
        let losses = span.losses + 1;
        if items.len() == 1 && losses >= GIVE_UP {
            let end = End::Died { who: Arc::clone(who), death, attempts: losses };
            self.end(&span.job, span.first() + items.start as usize, 1, end);
        } else if losses >= CUT {
            for item in items.rev() {
                self.again(span, item..item + 1, |again| again.losses = losses);
            }
        } else {
            self.again(span, items, |again| again.losses = losses);
        }
    }

    /// Gives out what waits to those that have room; takes back from the busy for the idle.
    pub(super) fn fill(&mut self) {
        while let Some(room) = self.crew.room() {
            let Some(span) = self.cut(room.most) else {
                if room.idle && self.take_back() {
                    continue;
                }
                break;
            };
            self.give(room, span);
        }
    }

    /// Cuts the next chunk, of at most so many tasks, from what is in line.
    fn cut(&mut self, most: u32) -> Option<Span> {
        let span = self.line.pop_front()?;
        let job = &span.job;
        let left = job.unassigned.load(Ordering::Relaxed).max(span.len() as usize);
        let size = job.options.chunk_size.map_or_else(
            || {
                let share = left.div_ceil(CHUNKS_PER_WORKER * self.crew.size());
                let shortest = match job.pace.load(Ordering::Relaxed) {
                    0 => 1,
                    pace => SHORTEST.as_nanos() as usize / pace as usize,
                };
                share.max(shortest)
            },
            |size| size.get(),
        );
        let size = u32::try_from(size).unwrap_or(u32::MAX).min(most.max(1));
        let len = span.batch.together(&span.items).min(size);
        job.unassigned.store(left - len as usize, Ordering::Relaxed);
        if len == span.len() {
            return Some(span);
        }
        let middle = span.items.start + len;
        let (chunk, rest) = (span.part(span.items.start..middle), span.part(middle..span.items.end));
        // Behind what others have submitted: so everybody gets on, chunk by chunk.
        self.line.push_back(rest);
        Some(chunk)
    }

    fn give(&mut self, room: Room, span: Span) {
        let ticket = self.next;
        self.next = self.next.checked_add(1).unwrap_or(1);
        let job = &span.job;
        let handles =
            span.batch.handles(span.items.start).iter().map(Handle::try_clone).collect::<Result<_, _>>();
        let handles = match handles {
            Ok(handles) => handles,
            Err(error) => {
                let reason = format!("its handles could not be copied: {error}");
                let (job, first) = (Arc::clone(job), span.first());
                return self.end(&job, first, span.len() as usize, End::NotEncoded(reason));
            }
        };
        let items = span.batch.bytes(&span.items);
        let mut lengths = spare::take();
        span.batch.write_lengths(&span.items, &mut lengths);
        let head = Chunk {
            ticket,
            place: 0,
            first: span.first() as u64,
            len: span.len(),
            bytes: items.len() as u64,
            timed: job.options.timeout.is_some(),
            context: job.context.as_ref().map_or(0, |context| context.id),
            runner: job.runner,
        };
        if head.timed && !self.watched {
            (self.watched, self.kick) = (true, true);
        }
        let context = job.context.as_ref();
        let given = self.crew.give(room, Outgoing { head, items, lengths: &lengths, handles, context });
        spare::give(lengths);
        if let Err(reason) = given {
            let (job, first) = (Arc::clone(job), span.first());
            return self.end(&job, first, span.len() as usize, End::NotEncoded(reason));
        }
        let len = span.len();
        self.flights.insert(ticket, Flight { span, answered: 0, len, warned: None });
    }

    /// Takes something back from whoever has most to do, for one that has nothing; whether there was anything.
    fn take_back(&mut self) -> bool {
        let flights = &self.flights;
        let weight = |ticket: Ticket, unclaimed: u32, begun: bool| {
            let Some(flight) = flights.get(&ticket) else { return 0 };
            let job = &flight.span.job;
            if begun && job.options.chunk_size.is_some() {
                // What its caller wanted together stays together.
                return 0;
            }
            let pace = job.pace.load(Ordering::Relaxed);
            let pace = if pace == 0 { UNKNOWN.as_nanos() as u64 } else { pace };
            // However short they are on the average: the task in front of them may be a long one.
            u64::from(unclaimed).saturating_mul(pace)
        };
        let Some(ticket) = self.crew.heaviest(&weight) else { return false };
        let Some(flight) = self.flights.get_mut(&ticket) else { return false };
        let fresh = flight.answered == 0;
        let taken = self
            .crew
            .take_back(ticket, &|unclaimed| if fresh && unclaimed == flight.len { 0 } else { unclaimed / 2 });
        if taken.is_empty() {
            return false;
        }
        flight.len = taken.start;
        let span = flight.span.part(flight.span.items.clone());
        self.again(&span, taken, |_| {});
        self.forget_ended(ticket);
        true
    }

    /// Cancels a job: what nobody has begun ends now, what is at work is told to stop, and killed after its grace.
    pub(super) fn cancel(&mut self, job: &Arc<Job>, now: Instant) {
        job.cancelled.store(true, Ordering::Release);
        let mine = |span: &Span| Arc::ptr_eq(&span.job, job);
        let (own, others) = std::mem::take(&mut self.line).into_iter().partition(mine);
        self.line = others;
        let (later, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(_, span)| mine(span));
        self.later = others;
        for span in Vec::from(own).into_iter().chain(later.into_iter().map(|(_, span)| span)) {
            self.end(job, span.first(), span.len() as usize, End::Cancelled);
        }
        let tickets: Vec<Ticket> =
            self.flights.iter().filter(|(_, flight)| mine(&flight.span)).map(|(ticket, _)| *ticket).collect();
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
        self.watched = true;
        self.tend_tasks(now);
    }

    /// Warns and kills what has been at work for too long; says when to look again.
    fn tend_tasks(&mut self, now: Instant) -> Option<Instant> {
        if !self.watched {
            return None;
        }
        let mut next: Option<Instant> = None;
        // Too far off to be told is never.
        let mut due = |at: Option<Instant>| next = [next, at].into_iter().flatten().min();
        let clock = desk::now();
        for (item, began) in self.crew.at_work() {
            let Some(flight) = self.flights.get_mut(&item.ticket) else { continue };
            let options = &flight.span.job.options;
            let (why, over) = if flight.span.job.is_cancelled() {
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
        // Chunks that a worker has not begun, or that it goes on with after the task at work.
        let mut watched = false;
        for flight in self.flights.values() {
            let options = &flight.span.job.options;
            if flight.span.job.is_cancelled() {
                watched = true;
                due(now.checked_add(options.grace.max(Duration::from_millis(1))));
            } else if let Some(limit) = options.timeout {
                watched = true;
                // None of the tasks to come can be over earlier.
                due(now.checked_add(limit.max(Duration::from_millis(1))));
            }
        }
        self.watched = watched;
        next
    }

    /// Does what is due, and says when something will be.
    pub(super) fn tend(&mut self, now: Instant) -> Option<Instant> {
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(Instant, Span)> = due;
        self.line.extend(due.into_iter().map(|(_, span)| span));
        let crew = self.crew.tend(now);
        self.fill();
        let tasks = self.tend_tasks(now);
        let later = self.later.iter().map(|(at, _)| *at).min();
        [crew, tasks, later].into_iter().flatten().min()
    }

    /// Ends everything that has not ended.
    pub(super) fn cancel_all(&mut self, failed: Option<&Error>) {
        let line = std::mem::take(&mut self.line).into_iter();
        let later = std::mem::take(&mut self.later).into_iter().map(|(_, span)| span);
        let flights = std::mem::take(&mut self.flights).into_values().filter_map(|flight| {
            let Flight { span, answered, len, .. } = flight;
            let start = span.items.start;
            (answered < len).then(|| span.part(start + answered..start + len))
        });
        for span in line.chain(later).chain(flights).collect::<Vec<_>>() {
            if let Some(error) = failed {
                span.job.fail(error.clone());
            }
            span.job.cancelled.store(true, Ordering::Release);
            self.end(&span.job, span.first(), span.len() as usize, End::Cancelled);
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
