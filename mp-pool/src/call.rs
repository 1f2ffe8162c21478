//! Calls, and what may be said about one.

mod encode;
mod ends;
mod submit;
mod task;

use std::{marker::PhantomData, num::NonZeroUsize, sync::Arc, time::Duration};

use mp_core::transfer;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::encode::submit_items;
pub use self::task::{TaskFunction, With};
use crate::{
    engine::Engine,
    error::Error,
    job::{Context, Options, Progress},
    worker::Packed,
};

/// The type of a function says everything. That it captures nothing is named in each method that a user calls, so that the error
/// of a build shows the line with the call.
macro_rules! known_by_type {
    ($function:ident: $type:ident) => {
        let _ = $function;
        let () = mp_core::call::Captures::<$type>::NOTHING;
    };
}
pub(crate) use known_by_type;

/// A call to a pool, with what is to be different about it; made by [`Pool::call`](crate::Pool::call), ended by `map`, `apply` and
/// the like.
///
/// ```
/// # mp_pool::test_init!();
/// use mp_pool::Pool;
/// use std::{num::NonZeroUsize, time::Duration};
///
/// let pool = Pool::with_workers(2)?;
/// let lengths = pool
///     .call()
///     .chunk_size(NonZeroUsize::new(10).unwrap())
///     .timeout(Duration::from_secs(60))
///     .retries(2)
///     .map(|text: String| text.len(), ["a".to_owned(), "bc".to_owned()])?;
/// assert_eq!(lengths, [1, 2]);
/// # Ok::<(), mp_pool::Error>(())
/// ```
///
/// `C` says whether its tasks share a [context](Self::context), and of which type: [`With`] it, or `()`.
#[must_use = "nothing is called before `map`, `apply` or the like"]
pub struct Call<'p, C = ()> {
    engine: &'p Arc<Engine>,
    options: Options,
    context: Option<Arc<Context>>,
    types: PhantomData<fn(C)>,
}

impl<'p> Call<'p> {
    pub(crate) fn new(engine: &'p Arc<Engine>) -> Self {
        Self { engine, options: Options::default(), context: None, types: PhantomData }
    }
}

impl<'p, C> Call<'p, C> {
    /// How many tasks a worker gets at once; by default what fits the number of tasks and the time that they take. Python:
    /// `chunksize`.
    ///
    /// `imap` and `imap_unordered` give each task by itself unless this says otherwise, as in Python, so that a result is there as soon as
    /// it can be. That costs some microseconds a task: where tasks take less, a size of 1000 makes them several times as fast.
    pub fn chunk_size(mut self, size: NonZeroUsize) -> Self {
        self.options.chunk_size = Some(size);
        self
    }

    /// How long each task may take. Then it is told to stop ([`task::should_stop`](crate::task::should_stop)); if it has not
    /// ended after the [grace](Self::grace), its worker is killed and replaced, and the task's result is
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut). A task that ends within the grace has the result that it returns.
    ///
    /// The time of a task is that of its function and of what is its own: its argument is decoded and dropped within it, and so is the
    /// [context](Self::context) decoded within that of the first task that needs it. To encode its result may take as long again. A
    /// worker that does not go on although it is at no task, because it was stopped or hangs in the `Drop` of a result, is replaced
    /// after that time, or a second if that is more, and up to twice as late; no task is over time then, and what it held runs
    /// again. One that is still in its [initializer](crate::PoolBuilder::initializer) is waited for, unless it was stopped: no task's
    /// time has begun.
    ///
    /// The clock goes on while the whole program is stopped (Ctrl-Z): tasks may be over time when it continues.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::{Pool, TaskError};
    /// use std::time::Duration;
    ///
    /// fn wait(milliseconds: u64) {
    ///     std::thread::sleep(Duration::from_millis(milliseconds));
    /// }
    ///
    /// let pool = Pool::with_workers(2)?;
    /// let results = pool.call().timeout(Duration::from_millis(300)).try_map(wait, [0, 600_000, 1])?;
    /// assert!(results[0].is_ok() && results[2].is_ok());
    /// assert!(matches!(results[1], Err(TaskError::TimedOut { index: 1, .. })));
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// How long a task that was told to stop may go on before its worker is killed; by default 100 ms, so that a task which
    /// does not listen has its time and these. `Duration::ZERO` kills it at once. See [`task::should_stop`](crate::task::should_stop)
    /// for one that listens.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// How often a task is tried again if its worker dies at it; by default never, since nobody knows how much of it was done.
    ///
    /// What counts is a death, by a signal, an abort or an exit, between the moment in which the worker begins to decode the task's
    /// argument and the return of the function; and a worker that was killed because the pool's process has no memory for the
    /// task's result. Whichever comes after the last retry is the task's error ([`TaskError::WorkerDied`](crate::TaskError), with the
    /// number of attempts, or [`TaskError::Decode`](crate::TaskError)). Each task of a chunk counts for itself.
    ///
    /// What does not count, and is not tried again: a panic, a time-out, a cancellation, and whatever does not encode or decode.
    /// These are answers. A function that returns an `Err` has returned a value.
    ///
    /// What does not count, and runs again all the same, also without retries: tasks that the worker had not begun, or had done and
    /// not answered, when it died or was killed for another. Only a task to which that has happened five times is given up.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::{Error, Pool, TaskError};
    ///
    /// let pool = Pool::with_workers(2)?;
    /// let hopeless = pool.call().retries(2).apply(|| std::process::abort(), ()).map(|(): ()| ());
    /// assert!(matches!(hopeless, Err(Error::Task(TaskError::WorkerDied { attempts: 3, .. }))));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// How long to wait before a task is tried again for the first time, and twice as long each time that follows (up to 65,536 times
    /// as long); by default not at all. Other tasks go on meanwhile. It is no part of a time-out: that is of each attempt. A
    /// cancellation ends it.
    pub fn backoff(mut self, pause: Duration) -> Self {
        self.options.backoff = pause;
        self
    }

    /// How many tasks of [`imap`](Self::imap) and [`imap_unordered`](Self::imap_unordered) are read ahead of the results that were
    /// taken; by default sixteen chunks for each worker. Python has no such limit before 3.14 (`buffersize`, of executors).
    pub fn window(mut self, tasks: NonZeroUsize) -> Self {
        self.options.window = Some(tasks);
        self
    }

    /// Has `progress` called now and then as tasks end, and when the last has ended: one call at a time, on a thread of the pool, or
    /// on that of a caller who waits, who does not return before it was told of the end. It is not called for each task: counts are
    /// skipped, but none is less than the one before. It may use the pool. If it panics, nothing
    /// else is disturbed.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::Pool;
    /// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
    ///
    /// let pool = Pool::with_workers(2)?;
    /// let done = Arc::new(AtomicUsize::new(0));
    /// let seen = done.clone();
    /// pool.call().progress(move |progress| seen.store(progress.done, Ordering::Relaxed)).map(|x: u8| x, 0..100)?;
    /// assert_eq!(done.load(Ordering::Relaxed), 100);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.options.progress = Some(Arc::new(progress));
        self
    }

    /// Shows the progress of the call on standard error, behind `label`: how many tasks have ended, how many of how many, how fast, and
    /// how long it will take. Silent where that is not a terminal. Takes the place of [`progress`](Self::progress). Needs the feature
    /// `progress`.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::Pool;
    ///
    /// let pool = Pool::with_workers(2)?;
    /// let lengths = pool.call().progress_bar("words").map(|word: String| word.len(), ["a".to_owned()])?;
    /// // words [################################] 1/1, 1,234/s, 0s left
    /// assert_eq!(lengths, [1]);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    #[cfg(feature = "progress")]
    pub fn progress_bar(self, label: impl Into<String>) -> Self {
        self.progress(crate::progress::bar(label.into()))
    }
}

impl<'p> Call<'p> {
    /// A value for all tasks of the call, of which the function gets a reference in front of its arguments. It is encoded once, and
    /// sent and decoded once for each worker.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::Pool;
    ///
    /// fn lookup(table: &Vec<String>, at: usize) -> Option<String> {
    ///     table.get(at).cloned()
    /// }
    ///
    /// let pool = Pool::with_workers(2)?;
    /// let table = vec!["zero".to_owned(), "one".to_owned()];
    /// let words = pool.call().context(&table)?.map(lookup, [1, 7])?;
    /// assert_eq!(words, [Some("one".to_owned()), None]);
    /// let more = |table: &Vec<String>, from: usize, to: usize| table[from..to].join(" ");
    /// assert_eq!(pool.call().context(&table)?.apply(more, (0, 2))?, "zero one");
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Share`] if it cannot be encoded.
    pub fn context<C>(self, context: &C) -> Result<Call<'p, With<C>>, Error>
    where
        C: Serialize + DeserializeOwned + 'static,
    {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let parcel = transfer::encode(context)?;
        let id = COUNT.fetch_add(1, Ordering::Relaxed).max(1);
        let packed = Packed { bytes: parcel.bytes, handles: parcel.handles };
        let context = Some(Arc::new(Context { id, packed }));
        Ok(Call { engine: self.engine, options: self.options, context, types: PhantomData })
    }
}

impl<C> Clone for Call<'_, C> {
    fn clone(&self) -> Self {
        let Self { engine, ref options, ref context, types } = *self;
        Self { engine, options: options.clone(), context: context.clone(), types }
    }
}

impl<C> std::fmt::Debug for Call<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
