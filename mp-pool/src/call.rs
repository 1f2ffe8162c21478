//! Calls, and what may be said about one.

mod submit;
pub(crate) mod with;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use mp_core::{call::Function, transfer};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::submit::submit_items;
use self::with::CallWith;
use crate::{
    engine::Engine,
    error::{Error, TaskError},
    handle::{self, Handle},
    imap::Imap,
    job::{Context, Options, Progress},
    worker::{self, Packed},
};

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
#[must_use = "nothing is called before `map`, `apply` or the like"]
#[derive(Clone)]
pub struct Call<'p> {
    engine: &'p Arc<Engine>,
    options: Options,
}

impl<'p> Call<'p> {
    pub(crate) fn new(engine: &'p Arc<Engine>) -> Self {
        Self { engine, options: Options::default() }
    }

    /// How many tasks a worker gets at once; by default what fits the number of tasks and the time that they take. Python:
    /// `chunksize`.
    pub fn chunk_size(mut self, size: NonZeroUsize) -> Self {
        self.options.chunk_size = Some(size);
        self
    }

    /// How long each task may take. Then it is told to stop ([`task::should_stop`](crate::task::should_stop)); if it has not
    /// ended after the [grace](Self::grace), its worker is killed and replaced, and the task's result is
    /// [`TaskError::TimedOut`]. A task that ends within the grace has the result that it returns.
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

    /// How long a task that was told to stop may go on before its worker is killed; by default 100 ms. See
    /// [`task::should_stop`](crate::task::should_stop) for a task that listens.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// How often a task is tried again if its worker dies while it works on it; by default never, since nobody knows how much of it
    /// was done. A panic is a result, and a time-out one, too: neither is tried again.
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

    /// How long to wait before a task is tried again, twice as long each time; by default not at all. Other tasks go on meanwhile.
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
    /// on that of a caller who waits, who does not return before it was told of the end. It may use the pool. If it panics, nothing
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

    /// A value for all tasks of the call, of which the function gets a reference in front of its item. It is encoded once, and sent
    /// and decoded once for each worker.
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
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Share`] if it cannot be encoded.
    pub fn context<C>(self, context: &C) -> Result<CallWith<'p, C>, Error>
    where
        C: Serialize + DeserializeOwned + 'static,
    {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let parcel = transfer::encode(context)?;
        let id = COUNT.fetch_add(1, Ordering::Relaxed).max(1);
        let packed = Packed { bytes: parcel.bytes, handles: parcel.handles };
        Ok(CallWith {
            call: self,
            context: Arc::new(Context { id, packed }),
            types: std::marker::PhantomData,
        })
    }

    /// See [`Pool::apply`](crate::Pool::apply).
    ///
    /// # Errors
    /// See there.
    pub fn apply<F, Args, R>(self, function: F, args: Args) -> Result<R, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        let job = self.submit(worker::run_call::<F, Args>(), None, [args], false, |_| {})?;
        self.engine.wait(None, &|| job.finished());
        job.tell_progress();
        handle::read_one(&job)
    }

    /// See [`Pool::apply_async`](crate::Pool::apply_async).
    ///
    /// # Errors
    /// See there.
    pub fn apply_async<F, Args, R>(self, function: F, args: Args) -> Result<Handle<R>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        let job = self.submit(worker::run_call::<F, Args>(), None, [args], true, |_| {})?;
        Ok(Handle::new(Arc::clone(self.engine), job, handle::read_one))
    }

    /// See [`Pool::map`](crate::Pool::map).
    ///
    /// # Errors
    /// See there.
    pub fn map<F, T, R>(self, function: F, items: impl IntoIterator<Item = T>) -> Result<Vec<R>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.collect(worker::run_call::<F, (T,)>(), None, items)
    }

    /// See [`Pool::try_map`](crate::Pool::try_map).
    ///
    /// # Errors
    /// See there.
    pub fn try_map<F, T, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Result<R, TaskError>>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.try_collect(worker::run_call::<F, (T,)>(), None, items)
    }

    /// See [`Pool::map_async`](crate::Pool::map_async).
    ///
    /// # Errors
    /// See there.
    pub fn map_async<F, T, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Handle<Vec<R>>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.later(worker::run_call::<F, (T,)>(), None, items)
    }

    /// See [`Pool::starmap`](crate::Pool::starmap).
    ///
    /// # Errors
    /// See there.
    pub fn starmap<F, Args, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<R>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.collect(worker::run_call::<F, Args>(), None, items)
    }

    /// See [`Pool::starmap_async`](crate::Pool::starmap_async).
    ///
    /// # Errors
    /// See there.
    pub fn starmap_async<F, Args, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Handle<Vec<R>>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.later(worker::run_call::<F, Args>(), None, items)
    }

    /// See [`Pool::imap`](crate::Pool::imap).
    ///
    /// # Errors
    /// See there.
    pub fn imap<F, I, R>(self, function: F, items: I) -> Result<Imap<I::IntoIter, R>, Error>
    where
        I: IntoIterator,
        F: Function<(I::Item,), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.stream(worker::run_call::<F, (I::Item,)>(), None, items, true)
    }

    /// See [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    ///
    /// # Errors
    /// See there.
    pub fn imap_unordered<F, I, R>(self, function: F, items: I) -> Result<Imap<I::IntoIter, R>, Error>
    where
        I: IntoIterator,
        F: Function<(I::Item,), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.stream(worker::run_call::<F, (I::Item,)>(), None, items, false)
    }
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
