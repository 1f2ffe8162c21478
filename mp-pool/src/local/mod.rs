//! Worker processes of this machine.

pub(crate) mod alarm;
mod crew;
pub(crate) mod desk;
pub(crate) mod link;
pub(crate) mod member;
mod memory;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use mp_core::{ExitStatus, JoinError, Process};

use self::{
    alarm::Alarm,
    desk::Desk,
    link::{Bell, Link, Next},
    member::{ExitResult, Member, Remains},
    memory::Shortage,
};
use crate::{
    builder::Settings,
    crew::Event,
    error::Error,
    insights::Work,
    job::{Death, WorkerName},
    message::{Answer, NotReady, Part},
    spare,
    store::Store,
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
    store: Store,
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
    store: Store,
}

impl Opening {
    /// Starts a worker; does not wait until it is ready.
    pub(crate) fn start(self) -> Result<Member, Error> {
        let Self { number, settings, bell, store } = self;
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
        let child = process.spawn(worker::main, (theirs, desk.clone(), bell, store, settings.setup()?))?;
        Ok(Member::new(number, started, child, ours, desk))
    }
}

impl Local {
    pub(crate) fn new(settings: Arc<Settings>, bell: Bell, store: Store, alarm: Arc<Alarm>) -> Self {
        Self {
            settings,
            bell,
            store,
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
            if !member.has_news() {
                return None;
            }
            let mut message = spare::take();
            let mut came = match member.receive(&mut message) {
                Next::Message(came) => came,
                next => {
                    spare::give(message);
                    return matches!(next, Next::Ahead).then_some(Event::Partly);
                }
            };
            if let Some(part) = Part::read(&message) {
                if member.note(&part) {
                    let who = Arc::clone(&member.who);
                    // Not when it is given the last of them: that may be taken back, as long as it has not begun it.
                    let done =
                        member.holds() == 0 && self.settings.max_tasks.is_some_and(|max| member.given >= max);
                    if part.retire || done {
                        member.close(false);
                    }
                    if part.last && member.leaves() {
                        // The keeper has another started, and sees that this one ends.
                        self.alarm.kick();
                    }
                    came.long.truncate(part.long as usize);
                    return Some(Event::Answered { part, message, came, who });
                }
            } else if let Ok((answer, [])) = mp_core::transfer::decode_front::<Answer>(&message) {
                match answer {
                    _ if member.was_ready() => {}
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
            member.disown();
        }
    }

    fn bury(&mut self, at: usize) -> Event {
        let member = self.members.swap_remove(at);
        self.alarm.forget(&member.child);
        let (who, was_ready) = (Arc::clone(&member.who), member.was_ready());
        if let Some(seat) = self.seats.get_mut(member.seat) {
            seat.past += member.work();
        }
        let Remains { fault, held, status, ended } = member.bury();
        note!(self.trace, WARN, Ended { who: Arc::clone(&who), status });
        match ended {
            Ok(Some(ended)) => self.ends.push((Arc::clone(&who), ended)),
            ended if !was_ready && !self.closed => self.mourn(&who, status, ended.err()),
            Ok(None) | Err(_) => {}
        }
        let out_of_memory = status.signal() == Some(9) && self.shortage.has_killed();
        Event::Lost { who, death: Death { status, out_of_memory }, fault, held }
    }

    /// Judges the death of one that was not ready yet.
    fn mourn(&mut self, who: &WorkerName, status: ExitStatus, error: Option<JoinError>) {
        let from_outside = matches!(status.signal(), Some(9 | 15));
        let began = !matches!(error, Some(JoinError::DiedEarly { .. } | JoinError::Refused { .. }));
        if from_outside {
            self.killed += 1;
        } else if began && self.settings.initializer.is_some() {
            let cause = format!("ended its worker: {status}");
            self.events.push_back(Event::Broken(who.initializer_failed(cause)));
        } else {
            self.stillborn += 1;
        }
        if self.stillborn >= STILLBORN || self.killed >= KILLED {
            let cause = match error {
                Some(error @ JoinError::DiedEarly { .. }) if status.signal().is_none() => {
                    format!("{error}: a worker, too, does what `main` does in front of `init`")
                }
                Some(error) => error.to_string(),
                None => format!("{} (pid {}) ended with {status}", who.name, who.pid),
            };
            self.events.push_back(Event::Broken(Error::WorkersDie { status, cause }));
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
