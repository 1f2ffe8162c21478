//! One worker process, as the pool sees it.

mod remains;
mod stall;

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use mp_core::{
    Child,
    shared::{GetError, PutError, Wake},
    transfer::{self, Handle},
};

pub(crate) use self::remains::Remains;
use self::stall::Sight;
use super::{
    desk::{self, Desk, Item, PLACES},
    link::{Link, Next},
};
use crate::{
    crew::{Outgoing, Refused, Ticket, Why},
    insights::Work,
    job::{Context, WorkerName},
    message::{self, Apart, Chunk, Order, Part},
    worker::CONTEXTS,
};

/// A worker holds as many chunks as take about this long, so that it never waits for the pool.
const AHEAD: Duration = Duration::from_micros(200);
/// But at least this many: one at work, one waiting.
const FEWEST: usize = 2;
/// And with more bytes than this no more than that: to take them in takes time, too, and the ring must have room for them.
const ENOUGH_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Ready,
    /// Its ring is closed.
    Closing,
}

/// What an exit hook returned, encoded, or why it has not.
pub(crate) type ExitResult = Result<Vec<u8>, String>;
/// What a worker returns at its end; nothing without a hook.
pub(crate) type Ended = Option<ExitResult>;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) number: u64,
    pub(crate) who: Arc<WorkerName>,
    pub(crate) child: Child<Ended>,
    link: Link,
    desk: Desk,
    pub(crate) phase: Phase,
    /// Its process has ended.
    pub(crate) ended: bool,
    /// In the order in which it works on them.
    held: VecDeque<Held>,
    /// The bytes of all these.
    bytes: usize,
    /// Bit `n` is set if place `n` of the desk is in use.
    places: u32,
    /// How many items it was given and has kept.
    pub(crate) given: u64,
    pub(crate) idle_since: Instant,
    contexts: VecDeque<u32>,
    killed: Option<Killed>,
    /// It was killed since it has said, or written into what it shares, what no worker does: it is not listened to any more.
    wild: bool,
    sight: Sight,
    /// There was no room for a chunk beside those that it holds.
    full: bool,
    /// It may sleep beside what it was given.
    to_wake: bool,
    /// How long a chunk takes, in nanoseconds; 0 before the first.
    pace: u64,
    /// By the time that all processes share: when it was started, and when it was ready.
    started: Duration,
    ready: Option<Duration>,
    work: Work,
    /// Which of the pool's places for workers it has.
    pub(crate) seat: usize,
}

/// For what the pool has killed it.
#[derive(Debug, Clone, Copy)]
enum Killed {
    For(Item, Why),
    Stalled,
    /// There is no memory for its answer.
    Unheard,
}

#[derive(Debug)]
struct Held {
    ticket: Ticket,
    place: u32,
    bytes: usize,
    /// How many items it has, without those that were taken back, and how many of them were answered.
    len: u32,
    answered: u32,
    /// How long it has been at work so far.
    nanoseconds: u64,
}

impl Member {
    pub(crate) fn new(number: u64, started: Duration, child: Child<Ended>, link: Link, desk: Desk) -> Self {
        let who = Arc::new(WorkerName { name: child.name().to_owned(), pid: child.pid() });
        Self {
            number,
            who,
            child,
            link,
            desk,
            phase: Phase::Starting,
            ended: false,
            held: VecDeque::new(),
            bytes: 0,
            places: 0,
            given: 0,
            idle_since: Instant::now(),
            contexts: VecDeque::new(),
            killed: None,
            wild: false,
            sight: Sight::default(),
            full: false,
            to_wake: false,
            pace: 0,
            started,
            ready: None,
            work: Work::default(),
            seat: 0,
        }
    }

    pub(crate) fn holds(&self) -> usize {
        self.held.len()
    }

    /// How many chunks it may hold.
    pub(crate) fn credit(&self) -> usize {
        match (self.phase, self.pace) {
            _ if self.full => 0,
            (Phase::Starting, _) => 1,
            (_, 0) => FEWEST,
            _ if self.bytes > ENOUGH_BYTES => FEWEST,
            (_, pace) => {
                usize::try_from(AHEAD.as_nanos() as u64 / pace).unwrap_or(PLACES).clamp(FEWEST, PLACES)
            }
        }
    }

    /// Gives it a chunk, or says why that cannot be sent.
    pub(crate) fn give(&mut self, chunk: Outgoing<'_>) -> Result<(), Refused> {
        self.try_give(chunk).map_err(|reason| {
            self.full = self.holds() > 0;
            if self.full { Refused::Now } else { Refused::Ever(reason) }
        })
    }

    fn try_give(&mut self, chunk: Outgoing<'_>) -> Result<(), String> {
        let Outgoing { head, items, apart, lengths, handles, context } = chunk;
        if let Some(context) = context {
            self.bring(context)?;
        }
        let place = self.places.trailing_ones();
        let (ticket, len) = (head.ticket, head.len);
        self.desk.lay(place, len);
        let long: usize = apart.iter().map(|(_, kept)| kept.place().len).sum();
        let apart = apart.into_iter().map(|(at, kept)| Apart { at, place: kept.place() }).collect();
        let head = Chunk { place, apart, ..head };
        self.send(&Order::Run(head), [items, lengths], handles)?;
        self.work.sent += long as u64;
        self.places |= 1 << place;
        let bytes = items.len() + long;
        self.held.push_back(Held { ticket, place, bytes, len, answered: 0, nanoseconds: 0 });
        self.bytes += bytes;
        self.given += u64::from(len);
        Ok(())
    }

    /// Sends a context that it does not have.
    fn bring(&mut self, context: &Arc<Context>) -> Result<(), String> {
        if self.contexts.contains(&context.id) {
            return Ok(());
        }
        let handles = context.packed.handles.iter().map(Handle::try_clone).collect::<Result<_, _>>();
        // Without its handles it does not decode, which each task will say.
        self.send(&Order::Context(context.id), [&context.packed.bytes, &[]], handles.unwrap_or_default())?;
        if self.contexts.len() == CONTEXTS {
            self.contexts.pop_front();
        }
        self.contexts.push_back(context.id);
        Ok(())
    }

    /// Has it look at what it was given.
    pub(crate) fn wake(&mut self) {
        if std::mem::take(&mut self.to_wake) {
            self.link.wake();
        }
    }

    /// Sends something, or says why it cannot be sent, through no fault of the worker's.
    fn send(&mut self, order: &Order, body: [&[u8]; 2], handles: Vec<Handle>) -> Result<(), String> {
        let [front, back] = body;
        let sent = transfer::with_buffer(|head| {
            message::write_order(order, head).map_err(|_| PutError::Corrupt)?;
            self.link.try_send(&[head, front, back], handles, Wake::Later)?;
            Ok(head.len() + front.len() + back.len())
        });
        self.to_wake = true;
        self.sent(sent)
    }

    /// Notes that so many bytes were sent, or why not.
    fn sent(&mut self, sent: Result<usize, PutError>) -> Result<(), String> {
        match sent {
            Ok(len) => self.work.sent += len as u64,
            Err(error @ (PutError::Memory(_) | PutError::Handles(_) | PutError::Full)) => {
                return Err(error.to_string());
            }
            // One that cannot be reached can do nothing any more: its death tells what becomes of what it holds.
            Err(_) => {
                let _ = self.child.kill();
            }
        }
        Ok(())
    }

    /// Whether there may be a message.
    pub(crate) fn has_news(&self) -> bool {
        !self.wild && self.link.has_news()
    }

    /// The next message, if there is one, also if its handles cannot be had: what it says is not trusted yet.
    pub(crate) fn receive(&mut self, message: &mut Vec<u8>) -> Next {
        match self.link.try_receive(message) {
            Ok(next) => {
                if let Next::Message(came) = &next {
                    let long = came.long.iter().map(|long| long.bytes.len());
                    self.work.received += (message.len() + long.sum::<usize>()) as u64;
                }
                next
            }
            Err(error) => {
                if matches!(error, GetError::Memory) {
                    // Nobody can read it, nor what is behind it.
                    self.killed = Some(Killed::Unheard);
                }
                self.disown();
                Next::Nothing
            }
        }
    }

    /// Takes leave of one that is no worker any more.
    pub(crate) fn disown(&mut self) {
        self.wild = true;
        let _ = self.child.kill();
    }

    /// Notes an answer; whether it is one to what comes next of something that this worker holds.
    pub(crate) fn note(&mut self, part: &Part) -> bool {
        let Some(at) = self.held.iter().position(|held| held.ticket == part.ticket) else { return false };
        let held = &mut self.held[at];
        let left = held.len - held.answered;
        if part.from != held.answered || part.len > left || part.len == 0 && !part.last {
            return false;
        }
        held.answered += part.len;
        held.nanoseconds = held.nanoseconds.saturating_add(part.nanoseconds);
        self.sight.stalls = false;
        self.work.tasks += u64::from(part.len);
        self.work.busy += Duration::from_nanos(part.nanoseconds);
        if part.last
            && let Some(held) = self.held.remove(at)
        {
            self.places &= !(1 << held.place);
            self.bytes -= held.bytes;
            self.full = false;
            let before = if self.pace == 0 { held.nanoseconds } else { self.pace };
            self.pace = (before - before / 4 + held.nanoseconds / 4).max(1);
            self.idle_since = Instant::now();
        }
        true
    }

    fn place(&self, ticket: Ticket) -> Option<u32> {
        self.held.iter().find(|held| held.ticket == ticket).map(|held| held.place)
    }

    /// Its chunks, with how many items of each nobody has begun, and whether any was.
    fn unclaimed(&self) -> impl Iterator<Item = (Ticket, u32, bool)> {
        self.held.iter().map(|held| {
            let (unclaimed, begun) = self.desk.unclaimed(held.place);
            (held.ticket, unclaimed, begun)
        })
    }

    /// As [`unclaimed`](Self::unclaimed), without one that it is about to begin.
    pub(crate) fn spare(&self) -> impl Iterator<Item = (Ticket, u32, bool)> {
        let ready = self.was_ready();
        self.unclaimed().enumerate().filter_map(move |(position, chunk)| {
            let about_to_begin = position == 0 && !chunk.2 && ready && !self.sight.stalls;
            (!about_to_begin && chunk.1 > 0).then_some(chunk)
        })
    }

    pub(crate) fn take_back(&mut self, ticket: Ticket, keep: &dyn Fn(u32) -> u32) -> Option<Range<u32>> {
        let held = self.held.iter_mut().find(|held| held.ticket == ticket)?;
        let taken = self.desk.take_back(held.place, keep);
        if taken.start < held.answered || taken.end != held.len {
            self.disown();
            return Some(0..0);
        }
        held.len = taken.start;
        self.given -= u64::from(taken.end - taken.start);
        Some(taken)
    }

    pub(crate) fn at_since(&self) -> Option<(Item, Duration)> {
        self.desk.at_since()
    }

    pub(crate) fn is_at(&self, item: Item) -> bool {
        self.desk.at() == Some(item)
    }

    pub(crate) fn stop(&self, item: Item) {
        self.desk.stop(item);
    }

    pub(crate) fn kill(&mut self, item: Item, why: Why) {
        self.killed = Some(Killed::For(item, why));
        let _ = self.child.kill();
    }

    pub(crate) fn kill_stalled(&mut self) {
        self.killed = Some(Killed::Stalled);
        let _ = self.child.kill();
    }

    /// It takes work since `at`, by the time that all processes share; returns how long its start took.
    pub(crate) fn is_ready(&mut self, at: Duration) -> Duration {
        if self.phase == Phase::Starting {
            self.phase = Phase::Ready;
            self.idle_since = Instant::now();
        }
        self.ready = Some(at);
        at.saturating_sub(self.started)
    }

    /// Whether its initializer has returned, whatever became of it since. One whose pool is closed before that is closing and still
    /// not ready.
    pub(crate) fn was_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// How long it has worked at what it has answered.
    pub(crate) fn worked(&self) -> Duration {
        self.work.busy
    }

    /// What it has done until now. What it is at counts when it is answered: until then it neither works nor waits.
    pub(crate) fn work(&self) -> Work {
        let now = desk::now();
        let at_work = if self.held.is_empty() { Duration::ZERO } else { self.idle_since.elapsed() };
        let starting = self.ready.unwrap_or(now).saturating_sub(self.started);
        let since = now.saturating_sub(self.started + starting);
        let waiting = since.saturating_sub(self.work.busy + at_work);
        Work { starting, waiting, ..self.work }
    }

    /// Whether it has done everything and is only to end.
    pub(crate) fn leaves(&self) -> bool {
        self.phase == Phase::Closing && self.holds() == 0
    }

    pub(crate) fn close(&mut self, hurry: bool) {
        if hurry {
            self.desk.stop_all();
        }
        if self.phase != Phase::Closing {
            self.phase = Phase::Closing;
            self.idle_since = Instant::now();
            self.link.close();
        }
    }
}
