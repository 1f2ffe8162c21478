//! Worker processes of this machine.

pub(crate) mod alarm;
pub(crate) mod desk;
pub(crate) mod link;
pub(crate) mod member;
mod memory;

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use mp_core::{ExitStatus, Process};

use self::{
    alarm::Alarm,
    desk::{Desk, Item},
    link::{Bell, Link},
    member::{ExitResult, Member, Phase},
    memory::Shortage,
};
use crate::{
    builder::Settings,
    crew::{Crew, Event, Outgoing, Room, Ticket, Why},
    error::Error,
    insights::{Work, WorkerInsights},
    job::{Death, WorkerName},
    message::{Answer, NotReady, Part},
    spare,
    trace::{Trace, note},
    worker,
};

/// How many workers in a row may end by themselves before one was ready.
const STILLBORN: u32 = 8;
/// And how many may be killed before one was ready.
const KILLED: u32 = 100;
/// How long the pool waits before the next start after such a death or a failed start, at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How long a worker that has nothing to do any more may take to end.
pub(crate) const LEAVING: Duration = Duration::from_secs(30);

pub(crate) struct Local {
    settings: Arc<Settings>,
    bell: Bell,
    alarm: Arc<Alarm>,
    members: Vec<Member>,
    /// How many are being started.
    starting: usize,
    /// How many were started so far.
    started: u64,
    events: VecDeque<Event>,
    trace: Trace,
    stillborn: u32,
    killed: u32,
    /// Nobody is started before this.
    pause: Option<Instant>,
    shortage: Shortage,
    closed: bool,
    /// What was done in each place for a worker, until the one that has it now.
    seats: Vec<Seat>,
    /// What the exit hooks returned.
    ends: Vec<(Arc<WorkerName>, ExitResult)>,
}

/// A place for a worker.
struct Seat {
    /// Who has it, or had it last.
    last: Arc<WorkerName>,
    /// What those did who had it and are gone.
    past: Work,
}

/// What it takes to start a worker.
pub(crate) struct Opening {
    number: u64,
    settings: Arc<Settings>,
    bell: Bell,
}

impl Opening {
    /// Starts a worker; does not wait until it is ready.
    pub(crate) fn start(self) -> Result<Member, Error> {
        let Self { number, settings, bell } = self;
        let (ours, theirs) = Link::pair()?;
        let desk = Desk::new()?;
        let mut process = Process::new().name(format!("{}-{number}", settings.name)).daemon(true);
        if let Some(method) = settings.start_method {
            process = process.start_method(method);
        }
        if let Some(bytes) = settings.address_space {
            process = process.address_space(bytes);
        }
        if let Some(cpus) = settings.cpus_of(number) {
            process = process.cpus(cpus);
        }
        let started = desk::now();
        let child = process.spawn(worker::main, (theirs, desk.clone(), bell, settings.setup()?))?;
        Ok(Member::new(number, started, child, ours, desk))
    }
}

impl Local {
    pub(crate) fn new(settings: Arc<Settings>, bell: Bell, alarm: Arc<Alarm>) -> Self {
        Self {
            settings,
            bell,
            alarm,
            members: Vec::new(),
            starting: 0,
            started: 0,
            events: VecDeque::new(),
            trace: Trace::default(),
            stillborn: 0,
            killed: 0,
            pause: None,
            shortage: Shortage::new(),
            closed: false,
            seats: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The process of this number has ended.
    pub(crate) fn ended(&mut self, number: u64) {
        if let Some(member) = self.members.iter_mut().find(|member| member.number == number) {
            member.ended = true;
        }
    }

    pub(crate) fn take_ends(&mut self) -> Vec<(Arc<WorkerName>, ExitResult)> {
        std::mem::take(&mut self.ends)
    }

    /// What a member has to tell: of its messages until there is something for above.
    fn hear(&mut self, at: usize) -> Option<Event> {
        loop {
            let member = &mut self.members[at];
            let mut message = spare::take();
            let Some(fds) = member.receive(&mut message) else {
                spare::give(message);
                return None;
            };
            if let Some(part) = Part::read(&message) {
                if member.note(&part) {
                    let who = Arc::clone(&member.who);
                    if part.retire {
                        member.close(false);
                    }
                    if part.last && member.leaves() {
                        // The keeper starts another, and sees that this one ends.
                        self.alarm.kick();
                    }
                    return Some(Event::Answered { part, message, fds, who });
                }
            } else if let Ok(answer) = mp_core::transfer::decode::<Answer>(&message, fds) {
                match answer {
                    Answer::Ready(at) => {
                        let _after = member.is_ready(at);
                        note!(self.trace, DEBUG, Ready { who: Arc::clone(&member.who), after: _after });
                        (self.stillborn, self.killed, self.pause) = (0, 0, None);
                        continue;
                    }
                    Answer::NotReady(cause) => {
                        let cause = match cause {
                            NotReady::Panicked(report) => report.to_string(),
                            NotReady::Failed(reason) => format!("failed: {reason}"),
                        };
                        return Some(Event::Broken(member.who.initializer_failed(cause)));
                    }
                }
            }
            // An answer to nothing, or no answer at all: whatever this process is, it is not a worker any more.
            let _ = member.child.kill();
        }
    }

    fn bury(&mut self, at: usize) -> Event {
        let member = self.members.swap_remove(at);
        let (who, phase) = (Arc::clone(&member.who), member.phase);
        if let Some(seat) = self.seats.get_mut(member.seat) {
            seat.past += member.work();
        }
        let (fault, held, status, ended) = member.bury();
        note!(self.trace, WARN, Ended { who: Arc::clone(&who), status });
        let returned: bool = ended.is_some();
        if let Some(ended) = ended {
            self.ends.push((Arc::clone(&who), ended));
        }
        if phase == Phase::Starting && !returned && !self.closed {
            self.mourn(&who, status);
        }
        let out_of_memory = status.signal() == Some(9) && self.shortage.has_killed();
        Event::Lost { who, death: Death { status, out_of_memory }, fault, held }
    }

    /// Judges the death of one that was not ready yet.
    fn mourn(&mut self, who: &WorkerName, status: ExitStatus) {
        let from_outside = matches!(status.signal(), Some(9 | 15));
        if from_outside {
            self.killed += 1;
        } else if self.settings.initializer.is_some() {
            let cause = format!("ended its worker: {status}");
            self.events.push_back(Event::Broken(who.initializer_failed(cause)));
        } else {
            self.stillborn += 1;
        }
        if self.stillborn >= STILLBORN || self.killed >= KILLED {
            self.events.push_back(Event::Broken(Error::WorkersDie { status }));
        }
        self.wait_a_little();
    }

    fn wait_a_little(&mut self) {
        let pause = Duration::from_millis(1) * 2_u32.saturating_pow((self.stillborn + self.killed).min(16));
        self.pause = Some(Instant::now() + pause.min(LONGEST_PAUSE));
    }

    /// Finds a place for a new member.
    fn sit_down(&mut self, member: &mut Member) {
        let free = |seat: &usize| self.members.iter().all(|member| member.seat != *seat || member.leaves());
        member.seat = (0..self.seats.len()).find(free).unwrap_or(self.seats.len());
        match self.seats.get_mut(member.seat) {
            Some(seat) => {
                seat.past.restarts += 1;
                seat.last = Arc::clone(&member.who);
            }
            None => self.seats.push(Seat { last: Arc::clone(&member.who), past: Work::default() }),
        }
    }

    /// The most items that a member may still be given.
    fn allowance(&self, member: &Member) -> u32 {
        self.settings
            .max_tasks
            .map_or(u32::MAX, |max| u32::try_from(max.saturating_sub(member.given)).unwrap_or(u32::MAX))
    }
}

impl Crew for Local {
    type Opening = Opening;
    type Recruit = Member;

    fn size(&self) -> usize {
        self.settings.workers
    }

    fn room(&self) -> Option<Room> {
        let mut best: Option<(usize, Room)> = None;
        for (at, member) in self.members.iter().enumerate() {
            let holds = member.holds();
            if member.phase == Phase::Closing || member.ended || holds >= member.credit() {
                continue;
            }
            // One that is still starting comes behind those that are ready with as much to do.
            let rank = 2 * holds + usize::from(member.phase == Phase::Starting);
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, Room { member: at, idle: holds == 0, most: self.allowance(member) }));
            }
            if rank == 0 {
                break;
            }
        }
        best.map(|(_, room)| room)
    }

    fn give(&mut self, room: Room, chunk: Outgoing<'_>) -> Result<(), String> {
        let member = &mut self.members[room.member];
        note!(
            self.trace,
            TRACE,
            Given { who: Arc::clone(&member.who), first: chunk.head.first, len: chunk.head.len }
        );
        member.give(chunk)?;
        let given = member.given;
        if self.settings.max_tasks.is_some_and(|max| given >= max) {
            member.close(false);
        }
        Ok(())
    }

    fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let mut at = 0;
        while at < self.members.len() {
            if let Some(event) = self.hear(at) {
                return Some(event);
            }
            if self.members[at].ended {
                return Some(self.bury(at));
            }
            at += 1;
        }
        None
    }

    fn heaviest(&self, weight: &dyn Fn(Ticket, u32, bool) -> u64) -> Option<Ticket> {
        self.members
            .iter()
            .flat_map(Member::spare)
            .map(|(ticket, unclaimed, begun)| (weight(ticket, unclaimed, begun), ticket))
            .filter(|(weight, _)| *weight > 0)
            .max()
            .map(|(_, ticket)| ticket)
    }

    fn take_back(&mut self, ticket: Ticket, keep: &dyn Fn(u32) -> u32) -> Range<u32> {
        self.members.iter_mut().find_map(|member| member.take_back(ticket, keep)).unwrap_or(0..0)
    }

    fn at_work(&self) -> Vec<(Item, Duration)> {
        self.members.iter().filter_map(Member::at_since).collect()
    }

    fn tell_to_stop(&mut self, item: Item) {
        if let Some(member) = self.members.iter().find(|member| member.is_at(item)) {
            member.stop(item);
        }
    }

    fn kill(&mut self, item: Item, why: Why) {
        if let Some(member) = self.members.iter_mut().find(|member| member.is_at(item)) {
            member.kill(item, why);
        }
    }

    fn is_short(&self) -> bool {
        // Exit hooks may take their time; but of those that never end there are not more and more.
        let size = self.settings.workers;
        let leaving = self.members.iter().filter(|member| member.leaves()).count().min(size);
        !self.closed && self.members.len() + self.starting < size + leaving
    }

    fn opening(&mut self, wanted: bool, now: Instant) -> Option<Opening> {
        let missing = self.is_short() && (wanted || !self.settings.lazy());
        if !missing || self.pause.is_some_and(|pause| now < pause) {
            return None;
        }
        self.starting += 1;
        self.started += 1;
        let (settings, bell) = (Arc::clone(&self.settings), self.bell.clone());
        Some(Opening { number: self.started, settings, bell })
    }

    fn welcome(&mut self, recruit: Result<Member, Error>, now: Instant) {
        self.starting -= 1;
        let watched = recruit.and_then(|member| match self.alarm.watch(&member.child, member.number) {
            Ok(()) => Ok(member),
            Err(error) => {
                let _ = member.child.kill();
                Err(error.into())
            }
        });
        match watched {
            Ok(mut member) => {
                member.idle_since = now;
                if self.closed {
                    member.close(true);
                }
                note!(self.trace, DEBUG, Started { who: Arc::clone(&member.who) });
                self.sit_down(&mut member);
                self.members.push(member);
            }
            Err(error) => {
                self.stillborn += 1;
                if self.stillborn >= STILLBORN && self.members.is_empty() {
                    self.events.push_back(Event::Broken(error));
                }
                self.wait_a_little();
            }
        }
    }

    fn trace(&mut self) -> &mut Trace {
        &mut self.trace
    }

    fn insights(&self) -> Vec<WorkerInsights> {
        let mut all: Vec<_> = self
            .seats
            .iter()
            .map(|Seat { last, past }| WorkerInsights { name: last.name.clone(), pid: last.pid, work: *past })
            .collect();
        for member in &self.members {
            if let Some(seat) = all.get_mut(member.seat) {
                seat.work += member.work();
            }
        }
        all
    }

    fn tend(&mut self, now: Instant) -> Option<Instant> {
        let mut next = self.pause.filter(|pause| now < *pause);
        for member in self.members.iter().filter(|member| member.leaves() && !member.ended) {
            let due = member.idle_since + LEAVING;
            if due <= now {
                let _ = member.child.kill();
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        if let Some(idle) = self.settings.idle_timeout {
            for member in &mut self.members {
                let idles = member.phase == Phase::Ready && member.holds() == 0;
                let due = if idles {
                    member.idle_since.checked_add(idle)
                } else {
                    now.checked_add(idle.max(Duration::from_millis(1)))
                };
                if due.is_some_and(|due| due <= now) {
                    member.close(false);
                } else {
                    next = [next, due].into_iter().flatten().min();
                }
            }
        }
        next
    }

    fn close(&mut self, hurry: bool) {
        self.closed = true;
        for member in &mut self.members {
            member.close(hurry);
        }
    }

    fn end(&mut self, force: bool) {
        for member in &self.members {
            let _ = if force { member.child.kill() } else { member.child.terminate() };
        }
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.starting == 0
    }
}
