//! Results one after another, while the input is still being read.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use mp_core::run_foreign;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    call::submit_items,
    engine::{Engine, Underway},
    error::{Error, TaskError},
    job::{End, Job},
};

/// How many chunks for each worker are read ahead of the results.
const AHEAD: usize = 16;

/// The results of [`Pool::imap`](crate::Pool::imap) and [`Pool::imap_unordered`](crate::Pool::imap_unordered).
///
/// The input is read by the steps, on their thread: a step whose result is there reads nothing, any other reads chunks until its
/// result is there or the [window](crate::Call::window) is full. So an endless input is fine, and a slow reader costs constant memory.
/// An input whose own `next` blocks holds the step up, time-out or not: where it waits for what comes of earlier results, a window of
/// 1 has it asked only when all of these were given.
///
/// The error of a task is an item like any other, after which the results go on.
///
/// In a process that was forked from that of the pool it ends with [`Error::OtherProcess`].
///
/// When the pool is closed it reads on, but only until a [`join`](crate::Pool::join) has found no task under way: then it gives the
/// results of what it had read, and ends with an error, [`TaskError::Cancelled`] of tasks or [`Error::Closed`].
///
/// Dropping it reads no more of the input; tasks that were submitted run to their end.
pub struct Imap<I, R> {
    engine: Arc<Engine>,
    /// `None` when it has ended, or panicked.
    input: Option<I>,
    ordered: bool,
    job: Arc<Job>,
    window: usize,
    chunk: usize,
    /// How many items were read.
    read: usize,
    /// How many results were given.
    given: usize,
    ready: BTreeMap<usize, Result<R, TaskError>>,
    /// The pool's own end was given.
    over: bool,
    _underway: Underway,
}

impl<I, R> Imap<I, R> {
    pub(crate) fn new(engine: Arc<Engine>, job: Arc<Job>, input: I, ordered: bool) -> Result<Self, Error> {
        let chunk = job.options.chunk_size.map_or(1, |size| size.get());
        let window =
            job.options.window.map_or((AHEAD * engine.size()).saturating_mul(chunk), |window| window.get());
        Ok(Self {
            _underway: engine.underway()?,
            engine,
            input: Some(input),
            ordered,
            job,
            window,
            chunk: chunk.min(window),
            read: 0,
            given: 0,
            ready: BTreeMap::new(),
            over: false,
        })
    }
}

impl<I, R> Imap<I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned,
    R: DeserializeOwned,
{
    /// As `next`, but gives up after `timeout`, never earlier, with [`Error::TimedOut`], after which the results go on. It cannot
    /// interrupt the input's own `next`. Python: `next(timeout)`.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R, Error>> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    /// Cancels what has not ended, as [`Handle::cancel`](crate::Handle::cancel) does, and reads no more of the input. The results of
    /// what was read come all the same, most of them as [`TaskError::Cancelled`].
    pub fn cancel(&mut self) {
        self.input = None;
        self.engine.cancel(&self.job);
    }

    /// Reads one chunk ahead, if the window has room; whether there may be more to read.
    fn read_ahead(&mut self) -> bool {
        if self.input.is_none() || (self.read - self.given).saturating_add(self.chunk) > self.window {
            return false;
        }
        if let Some(error) = self.engine.over() {
            // What was submitted has ended; there will be no more.
            self.input = None;
            self.job.fail(error);
            return false;
        }
        // A size that the caller made up is no reason to run out of memory.
        let mut items = Vec::with_capacity(self.chunk.min(1 << 14));
        let mut panicked = None;
        while items.len() < self.chunk
            && let Some(input) = &mut self.input
        {
            match run_foreign(|| input.next()) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => self.input = None,
                Err(report) => {
                    self.input = None;
                    panicked = Some(report);
                }
            }
        }
        submit_items(&self.engine, &self.job, self.read, &items);
        self.read += items.len();
        if let Some(report) = panicked {
            self.engine.end(&self.job, self.read, End::Input(report));
            self.read += 1;
        }
        true
    }

    /// The next result, if it is there.
    fn take(&mut self) -> Option<Result<R, Error>> {
        for ends in self.job.take() {
            let mut index = ends.first;
            ends.decode(|result| {
                self.ready.insert(index, result);
                index += 1;
            });
        }
        let result = if self.ordered {
            self.ready.remove(&self.given)
        } else {
            self.ready.pop_first().map(|(_, result)| result)
        }?;
        self.given += 1;
        Some(result.map_err(Error::Task))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Result<R, Error>> {
        if let Err(error) = self.engine.check_process() {
            return (!std::mem::replace(&mut self.over, true)).then_some(Err(error));
        }
        loop {
            let seen = self.job.ended();
            if let Some(result) = self.take() {
                return Some(result);
            }
            if self.read_ahead() {
                // The input may block the next time: what has come until now comes first.
                self.engine.glance();
                if self.job.ended() == seen && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    return Some(Err(Error::TimedOut));
                }
                continue;
            }
            if self.input.is_none() && self.given == self.read {
                self.job.tell_progress();
                // Its end is told once.
                let over = std::mem::replace(&mut self.over, true);
                return self.job.failed().filter(|_| !over).map(Err);
            }
            let job = &self.job;
            if !self.engine.wait(deadline, &|| job.ended() != seen) {
                return Some(Err(Error::TimedOut));
            }
        }
    }
}

impl<I, R> Iterator for Imap<I, R>
where
    I: Iterator,
    I::Item: Serialize + DeserializeOwned,
    R: DeserializeOwned,
{
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None)
    }
}

impl<I, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("read", &self.read).field("given", &self.given).finish_non_exhaustive()
    }
}
