//! From the items of an input to tasks in line: read piece by piece, encoded, and handed in, in their order.
//!
//! Workers decode what is encoded here, and do more, so mostly it is they who are waited for: then the caller encodes alone. Where they
//! have nothing to do when he comes with the next tasks it is he who is waited for, and [helpers](crate::help) encode parts of
//! the pieces that follow, on the CPUs that these workers leave idle.
//!
//! Nothing of a piece is left when the next is read, which may block for what becomes of the tasks before.

use std::{
    mem,
    ops::Deref,
    panic::resume_unwind,
    sync::Arc,
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use mp_core::{PanicReport, run_foreign};
use parking_lot::MutexGuard;
use serde::Serialize;

use crate::{
    batch::{self, Encoded},
    engine::Engine,
    help::{
        self,
        pile::{List, Part, Pile},
    },
    job::{End, Job},
    store::Stock,
};

/// How many items of an input are read at once: few at first, so that workers begin early.
const FIRST_PIECE: usize = 256;
const SMALLEST_PIECE: usize = 16;
const LARGEST_PIECE: usize = 1 << 14;
/// For the same reason pieces do not grow that take so long to encode, and shrink if it is twice as long.
const LONG: Duration = Duration::from_millis(2);
/// With so much to encode it pays to wake a helper, and another with as much again.
const LARGE: Duration = Duration::from_micros(300);
/// An item that takes less is encoded sooner than fetched from the cache of the CPU that has read it.
const NEAR: u64 = 50;
/// So much of a CPU must be free for a helper.
const ENOUGH: f64 = 0.25;
/// For how long it counts how busy workers were. They tell it every few milliseconds.
const MEMORY: Duration = Duration::from_millis(20);
/// No part of a piece is made smaller.
const SMALL: Duration = Duration::from_micros(50);

/// Consecutive items of an input, of whatever type: what handles them as a whole is there once for all types.
pub(crate) trait Items {
    fn count(&self) -> usize;

    /// Encodes those from `from` on, as many as fit one batch; the first of them is the item `first` of the input.
    fn encode(&self, from: usize, first: usize, stock: &Arc<Stock>) -> Encoded;
}

impl<T: Serialize, L: Deref<Target = [T]>> Items for L {
    fn count(&self) -> usize {
        self.len()
    }

    fn encode(&self, from: usize, first: usize, stock: &Arc<Stock>) -> Encoded {
        batch::encode(first, &self[from..], stock)
    }
}

/// Encodes all of them; the first is the item `first` of the input.
fn encode_all(stock: &Arc<Stock>, first: usize, items: &dyn Items, mut each: impl FnMut(Encoded)) {
    let mut at = 0;
    while at < items.count() {
        let encoded = items.encode(at, first + at, stock);
        at += encoded.len + usize::from(encoded.failed.is_some());
        each(encoded);
    }
}

fn hand_in(engine: &Engine, job: &Arc<Job>, encoded: Encoded) {
    if let Some(batch) = encoded.batch {
        engine.submit(job, batch);
    }
    if let Some((index, reason)) = encoded.failed {
        engine.end(job, index, End::NotEncoded(reason));
    }
}

/// Submits consecutive items, of which the first is the item `first` of the input.
pub(crate) fn submit_items(engine: &Engine, job: &Arc<Job>, first: usize, items: &dyn Items) {
    encode_all(&engine.stock, first, items, |encoded| hand_in(engine, job, encoded));
}

/// A part of a piece, to be encoded on any thread.
struct SomeItems {
    stock: Arc<Stock>,
    first: usize,
    items: Box<dyn Items + Send>,
}

struct EncodedItems {
    /// They are dropped where they came from.
    items: Box<dyn Items + Send>,
    encoded: Vec<Encoded>,
    took: Duration,
    by: ThreadId,
}

impl Part for SomeItems {
    type Done = EncodedItems;

    fn weight(&self) -> usize {
        self.items.count()
    }

    fn work(self, _: Option<EncodedItems>) -> EncodedItems {
        let Self { stock, first, items } = self;
        let begin = Instant::now();
        let mut encoded = Vec::new();
        encode_all(&stock, first, &*items, |one| encoded.push(one));
        EncodedItems { items, encoded, took: begin.elapsed(), by: thread::current().id() }
    }
}

/// An input, and what was read of it last.
pub(super) trait Source {
    /// Reads so many items, or up to the end, or to a panic; those that were read before are dropped.
    fn read(&mut self, items: usize) -> Result<(), PanicReport>;

    fn items(&self) -> &dyn Items;

    /// Takes them, with their memory.
    fn take_items(&mut self) -> Box<dyn Items + Send>;
}

pub(super) struct Input<I: Iterator> {
    items: Vec<I::Item>,
    rest: I,
}

impl<I: Iterator> Input<I> {
    pub(super) fn new(rest: I) -> Self {
        Self { items: Vec::new(), rest }
    }
}

impl<I: Iterator<Item: Serialize + Send + 'static>> Source for Input<I> {
    fn read(&mut self, items: usize) -> Result<(), PanicReport> {
        self.items.clear();
        run_foreign(|| self.items.extend(self.rest.by_ref().take(items)))
    }

    fn items(&self) -> &dyn Items {
        &self.items
    }

    fn take_items(&mut self) -> Box<dyn Items + Send> {
        Box::new(mem::take(&mut self.items))
    }
}

/// Submits an input.
pub(super) struct Encoder<'a> {
    engine: &'a Engine,
    job: &'a Arc<Job>,
    /// How many items were read.
    read: usize,
    /// How many to read next.
    size: usize,
    /// How long an item took to encode, in nanoseconds; 0 if it is not known.
    pace: u64,
    /// Some worker had nothing to do when the last piece was handed in, or a part of it.
    hungry: bool,
    /// How much the workers have worked when they were last looked at, and how many of them were at work until then, on the average.
    seen: Option<(Instant, Duration)>,
    busy: f64,
    /// For how long that is known.
    watched: Duration,
    /// Parts by the position of their first item.
    pile: Option<Arc<Pile<SomeItems>>>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(engine: &'a Engine, job: &'a Arc<Job>) -> Self {
        Self {
            engine,
            job,
            read: 0,
            size: FIRST_PIECE,
            pace: 0,
            hungry: false,
            seen: None,
            busy: 0.0,
            watched: Duration::ZERO,
            pile: None,
        }
    }

    /// How many items were read, with one that could not be.
    pub(super) fn read(&self) -> usize {
        self.read
    }

    /// Reads a piece of the input and submits it; whether there may be more.
    pub(super) fn step(&mut self, input: &mut dyn Source) -> bool {
        let (before, size) = (self.read, self.size);
        let helpers = self.helpers();
        self.hungry = false;
        let (took, outcome) = if helpers == 0 { self.alone(input) } else { self.with(helpers, input) };
        if took > 2 * LONG {
            self.size = (size / 2).max(SMALLEST_PIECE);
        } else if took <= LONG {
            self.size = (2 * size).min(LARGEST_PIECE);
        }
        let more = self.read - before == size;
        match outcome {
            Ok(()) => more,
            Err(report) => {
                self.engine.end(self.job, self.read, End::Input(report));
                self.read += 1;
                false
            }
        }
    }

    /// How many helpers are to encode of the next piece: one for each CPU that neither the caller nor the workers need, if some of
    /// these had nothing to do.
    fn helpers(&self) -> usize {
        let piece = Duration::from_nanos(self.pace.saturating_mul(self.size as u64));
        let worth = (piece.as_nanos() / LARGE.as_nanos()) as usize;
        if !self.hungry || worth == 0 || self.pace < NEAR {
            return 0;
        }
        let free = help::most() as f64 - self.busy;
        ((free + 1.0 - ENOUGH).max(0.0) as usize).min(worth)
    }

    /// Notes what the workers do when something is about to be handed in.
    fn look(&mut self) {
        let (idle, worked) = self.engine.look();
        let now = Instant::now();
        self.hungry |= idle > 0;
        if let Some((at, before)) = self.seen.replace((now, worked)) {
            let passed = now - at;
            self.watched = (self.watched + passed).min(MEMORY);
            let worked = worked.saturating_sub(before).as_secs_f64();
            let passed = passed.as_secs_f64();
            self.busy += (worked - self.busy * passed) / self.watched.as_secs_f64().max(passed);
        }
    }

    /// Reads and encodes a piece on this thread; how long the encoding took, unless it is the last.
    fn alone(&mut self, input: &mut dyn Source) -> (Duration, Result<(), PanicReport>) {
        let outcome = input.read(self.size);
        let items = input.items();
        let len = items.count();
        let timed = len == self.size;
        let clock = || timed.then(Instant::now);
        let mut took = Duration::ZERO;
        let mut begin = clock();
        encode_all(&self.engine.stock, self.read, items, |encoded| {
            took += begin.map_or(Duration::ZERO, |begin| begin.elapsed());
            // The next piece may be twice as large.
            if 2 * took >= LARGE {
                self.look();
            }
            hand_in(self.engine, self.job, encoded);
            begin = clock();
        });
        self.note_pace(took, len);
        self.read += len;
        (took, outcome)
    }

    fn note_pace(&mut self, took: Duration, items: usize) {
        self.pace = took.as_nanos() as u64 / items.max(1) as u64;
    }

    /// Reads a piece, in parts that become smaller, and encodes it together with helpers; how long that took.
    fn with(&mut self, helpers: usize, input: &mut dyn Source) -> (Duration, Result<(), PanicReport>) {
        let begin = Instant::now();
        let pile = Arc::clone(self.pile.get_or_insert_with(Pile::new));
        let smallest = (SMALL.as_nanos() as u64).div_ceil(self.pace.max(1)) as usize;
        let (mut next, end) = (self.read, self.read + self.size);
        let mut outcome = Ok(());
        let mut list = pile.lock();
        while self.read < end {
            let left = end - self.read;
            let len = left.div_ceil(2 * (helpers + 1)).max(smallest).min(left);
            let (read, items) = MutexGuard::unlocked(&mut list, || (input.read(len), input.take_items()));
            outcome = read;
            let (first, count) = (self.read, items.count());
            let short = count < len;
            self.read += count;
            if count > 0 {
                list.insert(first, SomeItems { stock: Arc::clone(&self.engine.stock), first, items });
            }
            if short {
                break;
            }
            pile.ask_for_help(&mut list, helpers);
            self.hand_in_done(&mut list, &mut next);
        }
        while pile.do_first(&mut list) || pile.wait(&mut list) {
            self.hand_in_done(&mut list, &mut next);
        }
        (begin.elapsed(), outcome)
    }

    /// Hands in what is done and next.
    fn hand_in_done(&mut self, list: &mut MutexGuard<'_, List<SomeItems>>, next: &mut usize) {
        while let Some(done) = list.take_done(*next) {
            MutexGuard::unlocked(list, || {
                let done = done.unwrap_or_else(|panic| resume_unwind(panic));
                let EncodedItems { items, encoded, took, by } = done;
                let len = items.count();
                *next += len;
                // To fetch them is not part of what they take.
                if by == thread::current().id() {
                    self.note_pace(took, len);
                }
                self.look();
                encoded.into_iter().for_each(|encoded| hand_in(self.engine, self.job, encoded));
            });
        }
    }
}

impl Drop for Encoder<'_> {
    fn drop(&mut self) {
        // Whichever way a call ends, nothing more is encoded for it.
        if let Some(pile) = &self.pile {
            pile.clear();
        }
    }
}
