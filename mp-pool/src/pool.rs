//! The pool: what a person uses.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::{builder::PoolBuilder, call::Call, engine::Engine, error::Error, insights::Insights};

mod calls;

/// A pool of worker processes. Python: `multiprocessing.Pool`.
///
/// Functions are function items, or closures that capture nothing; arguments and results are serde values, with handles in them if
/// need be. A pool may be used by several threads, and inside of a worker.
///
/// What it does, and so does each [`Call`] with something special about it:
///
/// | the function is called | and waited for | and left to a [`Handle`](crate::Handle) |
/// |---|---|---|
/// | once | [`apply`](Self::apply) | [`apply_async`](Self::apply_async) |
/// | with each item | [`map`](Self::map) | [`map_async`](Self::map_async) |
/// | with each item, which is all its arguments | [`starmap`](Self::starmap) | [`starmap_async`](Self::starmap_async) |
/// | the same, with a `Result` for each item | [`try_map`](Self::try_map), [`try_starmap`](Self::try_starmap) | [`try_map_async`](Self::try_map_async), [`try_starmap_async`](Self::try_starmap_async) |
/// | with each item, which is read when it is needed | [`imap`](Self::imap), [`imap_unordered`](Self::imap_unordered) | |
///
/// The death of a worker concerns exactly the task that it worked on, which gets an error that names it, or is
/// [tried again](Call::retries); the worker is replaced. A task that had ended, but whose result was lost with the worker, runs again,
/// and so do tasks that waited behind: a task may run more than once when workers die, but its result comes once.
///
/// Dropping a pool [terminates](Self::terminate) it.
#[derive(Debug)]
pub struct Pool {
    engine: Arc<Engine>,
}

impl Pool {
    pub(crate) fn over(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Starts a pool of one worker for each CPU that this process may use, by affinity and cgroup. Python: `Pool()`.
    ///
    /// Returns when the workers' processes exist, without waiting for what they do first.
    ///
    /// # Errors
    /// [`Error::NotInitialised`] if [`init`](crate::init) is missing, [`Error::Start`] and [`Error::Connect`] if the system refuses
    /// what a worker needs; no worker is left then.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Starts a pool of `workers` workers. Python: `Pool(workers)`.
    ///
    /// # Errors
    /// [`Error::NoWorkers`] for 0; else as [`Pool::new`].
    pub fn with_workers(workers: usize) -> Result<Self, Error> {
        Self::builder().workers(workers).build()
    }

    /// For a pool that is not like any other: see [`PoolBuilder`].
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// How many workers the pool has when all are there; fewer for a moment after one has died, or if they are started lazily.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.engine.size()
    }

    /// A call about which more is to be said: time-outs, retries, chunk sizes, a context, and so on.
    pub fn call(&self) -> Call<'_> {
        Call::new(&self.engine)
    }

    /// Takes no more work from now on; what was submitted goes on. Does not wait; may be called any number of times. Python:
    /// `close()`.
    ///
    /// An [`Imap`](crate::Imap) submits as it is read, and may go on with that until [`Pool::join`] finds no task under way. What it reads
    /// later is cancelled: so take its results before.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Waits until everything that was submitted has ended, the workers have exited, their exit hooks included, and callbacks have
    /// returned. A worker that does not exit, because it was stopped or its exit hook hangs, is waited for up to 30 s, and killed then.
    /// Python: `join()`.
    ///
    /// Results that nobody has taken stay with their handles. May be called any number of times.
    ///
    /// # Errors
    /// [`Error::StillRunning`] before [`Pool::close`] or [`Pool::terminate`].
    pub fn join(&self) -> Result<(), Error> {
        self.engine.join()
    }

    /// Ends the workers now; what has not ended is cancelled. Returns when they are gone, which takes a second or two at most, also if
    /// they do not listen; one that not even SIGKILL ends, as in a frozen control group, is waited for during 30 s. A callback that is at
    /// work is waited for during another second, and left to itself then: it runs on, and so do those behind it. Python: `terminate()`.
    pub fn terminate(&self) {
        self.engine.terminate();
    }

    /// Calls `body` with the pool, then closes and joins it. If `body` panics, the pool is terminated. Python: `with`, which
    /// terminates in any case.
    ///
    /// An [`Imap`](crate::Imap) that `body` returns was not read to its end: it reads only while it is read from, and not after
    /// the `join`. So `collect` it in `body`.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::Pool;
    ///
    /// let squares = Pool::with_workers(2)?.scope(|pool| pool.map(|x: u32| x * x, [1, 2, 3]))??;
    /// assert_eq!(squares, [1, 4, 9]);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Pool::join`].
    pub fn scope<R>(self, body: impl FnOnce(&Self) -> R) -> Result<R, Error> {
        let result = body(&self);
        self.close();
        self.join()?;
        Ok(result)
    }

    /// What the pool did so far (nothing, in a process that was forked from the pool's): per worker and in all how many tasks, how busy, how much waiting, how many bytes; the slowest tasks;
    /// a warning if the workers mostly wait. Its `Display` is a table. What a worker is at counts when it has been answered.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::Pool;
    ///
    /// let pool = Pool::with_workers(2)?;
    /// let task = |x: u32| std::thread::sleep(std::time::Duration::from_millis(if x == 7 { 200 } else { 1 }));
    /// pool.map(task, 0..20)?;
    /// let insights = pool.insights();
    /// assert_eq!(insights.total().tasks, 20);
    /// assert!(insights.slowest.iter().any(|task| task.index == 7));
    /// println!("{insights}");
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    #[must_use]
    pub fn insights(&self) -> Insights {
        self.engine.insights()
    }

    /// What the [exit hooks](PoolBuilder::exit_hook) of the workers that have ended so far returned, each with the name of its worker.
    /// Each result is given once.
    pub fn exit_results<E: DeserializeOwned>(&self) -> Vec<(String, Result<E, Error>)> {
        let decode =
            |bytes: Vec<u8>| mp_core::transfer::decode(&bytes, Vec::new()).map_err(|error| error.to_string());
        let ends = self.engine.take_ends().into_iter();
        ends.map(|(who, result)| {
            let failed = |reason| Error::ExitHook { worker: who.name.clone(), pid: who.pid, reason };
            (who.name.clone(), result.and_then(decode).map_err(failed))
        })
        .collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
    }
}
