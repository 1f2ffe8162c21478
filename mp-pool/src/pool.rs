//! The pool: what a person uses.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use mp_core::call::Function;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    chunk,
    dispatch::Dispatcher,
    error::{Error, TaskError},
    imap::Imap,
    job::{self, Chunk, Job},
};

/// Chunks for each worker, if all items take the same time: Python's rule.
const CHUNKS_PER_WORKER: usize = 4;

const RUNNING: u8 = 0;
const CLOSED: u8 = 1;
const TERMINATED: u8 = 2;
const JOINED: u8 = 3;

/// A pool of worker processes. Python: `multiprocessing.Pool`.
///
/// Functions are function items, or closures that capture nothing; arguments and results are serde values. The death of a
/// worker concerns exactly the task that it worked on, which gets an error that names it; the worker is replaced. Tasks
/// that waited behind it in the same chunk run again elsewhere, so a task may run more than once when workers die, but
/// its result comes once.
///
/// Dropping a pool terminates it.
#[derive(Debug)]
pub struct Pool {
    dispatcher: Dispatcher,
    phase: AtomicU8,
}

impl Pool {
    /// Starts a pool of one worker for each CPU that this process may use.
    ///
    /// # Errors
    /// [`Error::Start`], for instance because `mp_pool::init()` is missing; no worker is left then.
    pub fn new() -> Result<Self, Error> {
        Self::with_workers(mp_core::cpu_count().get())
    }

    /// Starts a pool of `workers` workers.
    ///
    /// # Errors
    /// [`Error::NoWorkers`] for 0; else as [`Pool::new`].
    pub fn with_workers(workers: usize) -> Result<Self, Error> {
        if workers == 0 {
            return Err(Error::NoWorkers);
        }
        Ok(Self { dispatcher: Dispatcher::start(workers)?, phase: AtomicU8::new(RUNNING) })
    }

    /// How many workers the pool has.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.dispatcher.workers()
    }

    /// Calls `function` with each of `items` and returns the results in the order of the items.
    ///
    /// Blocks until all have ended. See [`Pool::try_map`] for the results of the others if one fails.
    ///
    /// # Errors
    /// [`Error::Task`]: the first item, in their order, that has no result; [`Error::Closed`].
    pub fn map<F, T, R>(&self, function: F, items: impl IntoIterator<Item = T>) -> Result<Vec<R>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let results = self.try_map(function, items)?;
        results.into_iter().collect::<Result<_, _>>().map_err(Error::Task)
    }

    /// As [`Pool::map`], with one result for each item, so that a failure costs nobody else's result.
    ///
    /// # Errors
    /// [`Error::Closed`], or an error of the pool as a whole.
    pub fn try_map<F, T, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Result<R, TaskError>>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let items: Vec<T> = items.into_iter().collect();
        self.run::<F, (T,), T, R>(function, &items)
    }

    /// As [`Pool::map`], for functions with several arguments: each item is the tuple of them.
    ///
    /// # Errors
    /// As for [`Pool::map`].
    pub fn starmap<F, Args, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<R>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let items: Vec<Args> = items.into_iter().collect();
        let results = self.run::<F, Args, Args, R>(function, &items)?;
        results.into_iter().collect::<Result<_, _>>().map_err(Error::Task)
    }

    /// Calls `function` once, in some worker, with the tuple `args`, and returns its result.
    ///
    /// # Errors
    /// As for [`Pool::map`].
    pub fn apply<F, Args, R>(&self, function: F, args: Args) -> Result<R, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let results = self.run::<F, Args, Args, R>(function, &[args])?;
        match results.into_iter().next() {
            Some(result) => result.map_err(Error::Task),
            None => Err(Error::Closed),
        }
    }

    /// Calls `function` with each of `items`, which are read as they are needed, and gives the results in their order.
    ///
    /// At most a few items for each worker are read ahead of the results that were taken.
    ///
    /// # Errors
    /// [`Error::Closed`]. Each result has its own error.
    pub fn imap<F, I, R>(&self, function: F, items: I) -> Result<Imap<'_, I::IntoIter, F, R>, Error>
    where
        I: IntoIterator,
        F: Function<(I::Item,), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.check_running()?;
        Ok(Imap::new(&self.dispatcher, function, items.into_iter(), true))
    }

    /// As [`Pool::imap`], with each result as soon as it is there.
    ///
    /// # Errors
    /// As for [`Pool::imap`].
    pub fn imap_unordered<F, I, R>(&self, function: F, items: I) -> Result<Imap<'_, I::IntoIter, F, R>, Error>
    where
        I: IntoIterator,
        F: Function<(I::Item,), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.check_running()?;
        Ok(Imap::new(&self.dispatcher, function, items.into_iter(), false))
    }

    fn run<F, Args, T, R>(&self, function: F, items: &[T]) -> Result<Vec<Result<R, TaskError>>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        T: Serialize,
        R: Serialize + DeserializeOwned,
    {
        self.check_running()?;
        let size = NonZeroUsize::new(items.len().div_ceil(CHUNKS_PER_WORKER * self.workers()))
            .unwrap_or(NonZeroUsize::MIN)
            .get();
        let job = Arc::new(Job::default());
        let mut chunks = Vec::new();
        for (number, part) in items.chunks(size).enumerate() {
            let first = number * size;
            let encoded = chunk::encode::<F, Args, T>(function, part)
                .map_err(|_| not_encoded(function, first, part))?;
            let split = chunk::split::<F, Args>;
            chunks.push(Chunk { job: Arc::clone(&job), first, len: part.len(), encoded, split });
        }
        self.dispatcher.submit(chunks);
        self.dispatcher.drive(&|| job.ended() == items.len())?;
        let mut ends = job.take();
        ends.sort_unstable_by_key(|(first, ..)| *first);
        Ok(ends.into_iter().flat_map(|(first, len, end)| job::results(first, len, end)).collect())
    }

    fn check_running(&self) -> Result<(), Error> {
        if self.phase.load(Ordering::Acquire) == RUNNING { Ok(()) } else { Err(Error::Closed) }
    }

    /// Takes no more work from now on; what was submitted goes on.
    pub fn close(&self) {
        let _ = self.phase.compare_exchange(RUNNING, CLOSED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Waits until everything that was submitted has ended and the workers have exited.
    ///
    /// # Errors
    /// [`Error::StillRunning`] before [`Pool::close`] or [`Pool::terminate`].
    pub fn join(&self) -> Result<(), Error> {
        match self.phase.load(Ordering::Acquire) {
            RUNNING => Err(Error::StillRunning),
            CLOSED => {
                self.dispatcher.finish()?;
                self.phase.store(JOINED, Ordering::Release);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends the workers now; what has not ended is cancelled. Returns when they are gone, within seconds.
    pub fn terminate(&self) {
        if self.phase.swap(TERMINATED, Ordering::AcqRel) < TERMINATED {
            self.dispatcher.terminate();
        }
    }
}

/// Which item of a chunk it was that could not be encoded.
fn not_encoded<F, Args, T>(function: F, first: usize, items: &[T]) -> TaskError
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: Serialize,
    T: Serialize,
{
    let failed = items.iter().enumerate().find_map(|(item, value)| {
        let error = chunk::encode::<F, Args, T>(function, std::slice::from_ref(value)).err()?;
        Some(TaskError::Encode { index: first + item, reason: error.to_string() })
    });
    failed.unwrap_or(TaskError::Encode { index: first, reason: "its chunk could not be encoded".to_owned() })
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
    }
}
