//! Results of a call, decoded in the order of the input as they come.
//!
//! Where many have piled up, the pool's process is slower than its workers, and then [helpers](crate::help) decode, too: while they
//! keep up, the caller leaves it to them, and does what only one can do at a time. What comes of it is the same with them and
//! without.

use std::{
    any::Any,
    collections::BTreeMap,
    mem,
    panic::resume_unwind,
    sync::Arc,
    time::{Duration, Instant},
};

use mp_core::run_foreign;
use parking_lot::MutexGuard;
use serde::de::DeserializeOwned;

use crate::{
    engine::Engine,
    error::{Error, TaskError},
    help::{
        self,
        pile::{Part, Pile},
    },
    job::{Ends, Job},
};

/// With so much to decode it pays to wake a helper, and another with as much again.
const LARGE: Duration = Duration::from_micros(150);
/// So many bytes may be as much, if it is not known yet how long they take: some 4,000 records with a string have them.
const LARGE_BYTES: usize = 1 << 17;
/// An answer with fewer is decoded sooner than given to a helper.
const SMALL: usize = 1 << 10;
/// With so much left the helpers do not keep up.
const TOO_MUCH: Duration = Duration::from_millis(1);

/// What becomes of the results of consecutive tasks, of whatever type: what handles them as a whole is there once for all types.
pub(crate) trait Results: Any + Send {
    /// How to make what is like it and empty.
    fn empty(&self) -> Empty;

    fn reserve(&mut self, results: usize);

    /// Decodes the results that are next.
    fn decode(&mut self, ends: Ends);

    /// Moves those that are next, and of the same type, to the end.
    fn append(&mut self, next: &mut dyn Results);
}

type Empty = fn() -> Box<dyn Results>;

/// What the caller gets of them.
pub(crate) trait Finish: Results + Default {
    type Whole;

    fn finish(self, job: &Job) -> Result<Self::Whole, Error>;
}

/// They are, unless somebody mixed what two readers read.
fn of_same_type<R: Results>(results: &mut dyn Results) -> Option<&mut R> {
    (results as &mut dyn Any).downcast_mut()
}

/// The values, and the first error.
pub(crate) struct Values<R> {
    values: Vec<R>,
    failed: Option<TaskError>,
}

impl<R> Default for Values<R> {
    fn default() -> Self {
        Self { values: Vec::new(), failed: None }
    }
}

impl<R: DeserializeOwned + Send + 'static> Results for Values<R> {
    fn empty(&self) -> Empty {
        || Box::<Self>::default()
    }

    fn reserve(&mut self, results: usize) {
        self.values.reserve(results);
    }

    fn decode(&mut self, ends: Ends) {
        ends.decode(|result| match result {
            Ok(value) => self.values.push(value),
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        });
    }

    fn append(&mut self, next: &mut dyn Results) {
        if let Some(next) = of_same_type::<Self>(next) {
            self.values.append(&mut next.values);
            self.failed = self.failed.take().or(next.failed.take());
        }
    }
}

impl<R: DeserializeOwned + Send + 'static> Finish for Values<R> {
    type Whole = Vec<R>;

    fn finish(self, job: &Job) -> Result<Vec<R>, Error> {
        finish(self.values, job.failed().or(self.failed.map(Error::Task)))
    }
}

/// One for each task, whether it has a value or not.
pub(crate) type Each<R> = Vec<Result<R, TaskError>>;

impl<R: DeserializeOwned + Send + 'static> Results for Each<R> {
    fn empty(&self) -> Empty {
        || Box::<Self>::default()
    }

    fn reserve(&mut self, results: usize) {
        self.reserve(results);
    }

    fn decode(&mut self, ends: Ends) {
        ends.decode(|result| self.push(result));
    }

    fn append(&mut self, next: &mut dyn Results) {
        if let Some(next) = of_same_type::<Self>(next) {
            self.append(next);
        }
    }
}

impl<R: DeserializeOwned + Send + 'static> Finish for Each<R> {
    type Whole = Self;

    fn finish(self, job: &Job) -> Result<Self, Error> {
        finish(self, job.failed())
    }
}

fn finish<R>(results: Vec<R>, failed: Option<Error>) -> Result<Vec<R>, Error> {
    let Some(error) = failed else { return Ok(results) };
    // Foreign code, of which the error is worth more.
    let _ = run_foreign(|| drop(results));
    Err(error)
}

/// How many bytes an answer has, if that is worth a helper.
fn weight(ends: &Ends) -> usize {
    Some(ends.bytes()).filter(|bytes| *bytes >= SMALL).unwrap_or(0)
}

/// Answers with results, decoded on any thread.
struct Answers {
    ends: Ends,
    empty: Empty,
}

impl Part for Answers {
    /// How many tasks, and what became of them.
    type Done = (usize, Box<dyn Results>);

    fn weight(&self) -> usize {
        weight(&self.ends)
    }

    fn work(self, memory: Option<Self::Done>) -> Self::Done {
        let len = self.ends.len;
        let mut results = memory.map_or_else(self.empty, |(_, results)| results);
        results.reserve(len);
        results.decode(self.ends);
        (len, results)
    }
}

/// Reads results in the order of the input.
pub(crate) struct Reader<'a> {
    read: &'a mut dyn Results,
    /// The next to be read.
    next: usize,
    /// What came ahead of others.
    early: BTreeMap<usize, Ends>,
    /// How many bytes that has.
    bytes: usize,
    /// What was much at once, until it is read: by the position of the first task in the input, and its weight is bytes.
    pile: Arc<Pile<Answers>>,
    /// How many are in the pile and were not read.
    piled: usize,
    /// How many nanoseconds a byte took to decode; 0 if that is not known.
    pace: f64,
}

impl<'a> Reader<'a> {
    /// Reads into `read` about so many.
    pub(crate) fn new(read: &'a mut dyn Results, results: usize) -> Self {
        // A size that the input promised is no reason to run out of memory.
        read.reserve(results.min(1 << 20));
        Self { read, next: 0, early: BTreeMap::new(), bytes: 0, pile: Pile::new(), piled: 0, pace: 0.0 }
    }

    /// Reads what has come; if the job has finished, all.
    pub(crate) fn read(&mut self, job: &Job) {
        let finished = job.finished();
        let came = job.take();
        self.bytes += came.iter().map(weight).sum::<usize>();
        let large = if self.pace > 0.0 { self.takes(self.bytes) >= LARGE } else { self.bytes >= LARGE_BYTES };
        if large || self.piled > 0 {
            let early = mem::take(&mut self.early).into_values();
            self.pile_up(early.chain(came));
            return self.read_pile(finished);
        }
        for ends in came {
            if ends.first == self.next {
                self.take_in(ends);
            } else {
                self.early.insert(ends.first, ends);
            }
            while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() == self.next) {
                let ends = entry.remove();
                self.take_in(ends);
            }
        }
    }

    fn take_in(&mut self, ends: Ends) {
        self.next += ends.len;
        self.bytes -= weight(&ends);
        self.decode(ends);
    }

    fn decode(&mut self, ends: Ends) {
        let bytes = weight(&ends);
        let begin = (bytes > 0).then(Instant::now);
        self.read.decode(ends);
        if let Some(begin) = begin {
            self.pace = begin.elapsed().as_nanos() as f64 / bytes as f64;
        }
    }

    /// How long so many bytes take to decode; no time if that is not known.
    fn takes(&self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as f64 * self.pace) as u64)
    }

    fn pile_up(&mut self, all: impl Iterator<Item = Ends>) {
        let mut list = self.pile.lock();
        self.bytes = 0;
        for ends in all {
            self.piled += ends.len;
            list.insert(ends.first, Answers { ends, empty: self.read.empty() });
        }
    }

    /// Reads what is next, as far as it is in the pile; if `all`, waits for what helpers have of it.
    fn read_pile(&mut self, all: bool) {
        let pile = Arc::clone(&self.pile);
        let mut list = pile.lock();
        while self.piled > 0 {
            let left = self.takes(list.weight());
            // As long as results are to come, workers want the CPUs, too.
            if left >= if all { LARGE } else { TOO_MUCH } {
                let wanted = (left.as_nanos() / LARGE.as_nanos()) as usize;
                pile.ask_for_help(&mut list, wanted.min(help::most()));
            }
            if let Some(done) = list.take_done(self.next) {
                let memory = MutexGuard::unlocked(&mut list, || {
                    let (len, mut results) = done.unwrap_or_else(|panic| resume_unwind(panic));
                    self.step(len);
                    self.read.append(&mut *results);
                    (0, results)
                });
                list.give_back(memory);
            } else if !all && list.has_helpers() && left < TOO_MUCH {
                break;
            } else if let Some(Answers { ends, .. }) = list.take(self.next) {
                self.step(ends.len);
                MutexGuard::unlocked(&mut list, || self.decode(ends));
            } else if !all {
                break;
            } else if !pile.do_first(&mut list) && !pile.wait(&mut list) {
                // Else a helper has what is next.
                break;
            }
        }
    }

    fn step(&mut self, len: usize) {
        self.next += len;
        self.piled -= len;
    }

    /// Reads until the job has finished, or to no end in a process that cannot wait for it.
    pub(crate) fn read_to_end(mut self, engine: &Engine, job: &Job) {
        while !job.finished() {
            let seen = job.ended();
            if !engine.wait(None, &|| job.ended() != seen || job.finished()) {
                break;
            }
            self.read(job);
        }
        self.read(job);
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // Whichever way a call ends, nothing more is decoded for it.
        self.pile.clear();
    }
}

/// Reads the results of a finished job.
pub(crate) fn read_all<R: Finish>(job: &Job) -> Result<R::Whole, Error> {
    let mut read = R::default();
    Reader::new(&mut read, job.ended()).read(job);
    read.finish(job)
}

/// Reads the result of a finished job with one task.
pub(crate) fn read_one<R: DeserializeOwned>(job: &Job) -> Result<R, Error> {
    let mut result = Err(Error::Closed);
    for ends in job.take() {
        ends.decode(|one| result = one.map_err(Error::Task));
    }
    job.failed().map_or(result, Err)
}
