//! What a pool is like.

use std::{num::NonZeroUsize, time::Duration};

use mp_core::{
    StartError, StartMethod,
    call::{Function, Pointer},
    transfer,
};
use serde::{Serialize, de::DeserializeOwned};

#[cfg(feature = "log")]
use crate::logs::Collector;
use crate::{
    call::known_by_type,
    engine::Engine,
    error::Error,
    pool::Pool,
    worker::{self, Exit, Initializer, Prelude, Setup},
};

/// What the engine is told about its workers.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) name: String,
    pub(crate) initializer: Option<Prelude>,
    exit: Option<Pointer<Exit>>,
    pub(crate) max_tasks: Option<u64>,
    pub(crate) address_space: Option<u64>,
    resident: Option<u64>,
    pub(crate) start_method: Option<StartMethod>,
    cpus: Vec<Vec<u32>>,
    threads: Option<usize>,
    pub(crate) idle_timeout: Option<Duration>,
    lazy: bool,
    #[cfg(feature = "log")]
    pub(crate) logs: Option<Collector>,
}

impl Settings {
    /// Whether workers are started only when there is work for them.
    pub(crate) fn lazy(&self) -> bool {
        self.lazy || self.idle_timeout.is_some()
    }

    /// The CPUs of the worker with this number, counted from 1.
    pub(crate) fn cpus_of(&self, number: u64) -> Option<Vec<u32>> {
        let sets = self.cpus.len() as u64;
        (sets > 0).then(|| self.cpus[((number - 1) % sets) as usize].clone())
    }

    /// What a worker is told.
    pub(crate) fn setup(&self) -> Result<Setup, Error> {
        Ok(Setup {
            initializer: self.initializer.as_ref().map(Prelude::try_clone).transpose()?,
            exit: self.exit,
            threads: self.threads,
            resident: self.resident,
            #[cfg(feature = "log")]
            forward: self.logs.as_ref().map(Collector::forward),
        })
    }
}

/// Makes a [`Pool`] that is not like any other. Python: the arguments of `multiprocessing.Pool()`, and more.
///
/// ```
/// # mp_pool::test_init!();
/// use mp_pool::Pool;
///
/// let pool = Pool::builder().workers(2).name("digits").max_tasks_per_worker(1000).build()?;
/// assert_eq!(pool.workers(), 2);
/// assert_eq!(pool.map(|digit: char| digit.to_digit(10), "42x".chars())?, [Some(4), Some(2), None]);
/// # Ok::<(), mp_pool::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "there is no pool before `build`"]
pub struct PoolBuilder {
    settings: Settings,
    error: Option<Error>,
    #[cfg(feature = "log")]
    forward_logs: bool,
}

impl Default for PoolBuilder {
    fn default() -> Self {
        let workers = mp_core::cpu_count().get();
        Self {
            settings: Settings { workers, name: "worker".to_owned(), ..Settings::default() },
            error: None,
            #[cfg(feature = "log")]
            forward_logs: false,
        }
    }
}

impl PoolBuilder {
    /// How many workers there are; by default one for each CPU that this process may use, by affinity and cgroup. Python:
    /// `processes`.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// The first part of the workers' names, by default `worker`: they are `worker-1`, `worker-2` and so on, and one that replaces
    /// another has a new number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// A function that each worker calls before its first task, with `args`, a tuple. What it returns is the worker's state, for
    /// [`task::with_state`](crate::task::with_state). Python: `initializer` and `initargs`.
    ///
    /// It may take as long as it likes: that is no task's time, so no [time-out](crate::Call::timeout) and no cancellation ends it, only
    /// the end of the pool. If it panics or ends the process, the pool is broken: every call gets [`Error::Initializer`] with the cause,
    /// and no more workers are started.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::{Pool, task};
    ///
    /// struct Dictionary(Vec<String>);
    ///
    /// fn load(words: String) -> Dictionary {
    ///     Dictionary(words.split(' ').map(str::to_owned).collect())
    /// }
    ///
    /// fn knows(word: String) -> bool {
    ///     task::with_state(|dictionary: &mut Dictionary| dictionary.0.contains(&word)).unwrap_or(false)
    /// }
    ///
    /// let pool = Pool::builder().workers(2).initializer(load, ("to be or not".to_owned(),)).build()?;
    /// assert_eq!(pool.map(knows, ["be".to_owned(), "is".to_owned()])?, [true, false]);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    pub fn initializer<F, Args>(mut self, function: F, args: Args) -> Self
    where
        F: Function<Args>,
        Args: Serialize + DeserializeOwned,
        F::Output: 'static,
    {
        known_by_type!(function: F);
        self.initialize(worker::initializer::<F, Args>(), &args);
        self
    }

    /// As [`initializer`](Self::initializer), for a function that returns the state or an error, which breaks the pool.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::{Error, Pool};
    ///
    /// fn open(path: String) -> std::io::Result<std::fs::File> {
    ///     std::fs::File::open(path)
    /// }
    ///
    /// let pool = Pool::builder().workers(1).try_initializer(open, ("/not/there".to_owned(),)).build()?;
    /// match pool.apply(|| 1, ()) {
    ///     Err(Error::Initializer { cause, .. }) => assert!(cause.contains("No such file")),
    ///     other => unreachable!("{other:?}"),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_initializer<F, Args, S, E>(mut self, function: F, args: Args) -> Self
    where
        F: Function<Args, Output = Result<S, E>>,
        Args: Serialize + DeserializeOwned,
        S: 'static,
        E: std::fmt::Display,
    {
        known_by_type!(function: F);
        self.initialize(worker::try_initializer::<F, Args, S, E>(), &args);
        self
    }

    fn initialize<Args: Serialize>(&mut self, initializer: Pointer<Initializer>, args: &Args) {
        let parcel = transfer::encode(args).map_err(Error::from);
        match parcel.and_then(|parcel| Ok(Prelude::new(initializer, parcel)?)) {
            Ok(prelude) => self.settings.initializer = Some(prelude),
            Err(error) => self.error = Some(error),
        }
    }

    /// A function that each worker calls after its last task, when it ends in good order: after `close` and `join`, when it is
    /// replaced because of a limit, when it was idle for too long. What it returns is for [`Pool::exit_results`].
    ///
    /// While it runs, another worker takes the place of this one. Of those that are at their hooks there are no more than the pool has
    /// places: further ones are waited for, and a hook that takes longer than 30 s is killed with its worker.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::{Pool, task};
    ///
    /// fn count(_: u32) {
    ///     task::with_state(|count: &mut u32| *count += 1);
    /// }
    ///
    /// let pool = Pool::builder()
    ///     .workers(2)
    ///     .initializer(|| 0_u32, ())
    ///     .exit_hook(|| task::with_state(|count: &mut u32| *count).unwrap_or(0))
    ///     .build()?;
    /// pool.map(count, 0..100)?;
    /// pool.close();
    /// pool.join()?;
    /// let counts = pool.exit_results::<u32>();
    /// assert_eq!(counts.into_iter().map(|(_, count)| count.unwrap()).sum::<u32>(), 100);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    pub fn exit_hook<F>(mut self, function: F) -> Self
    where
        F: Function<()>,
        F::Output: Serialize,
    {
        known_by_type!(function: F);
        self.settings.exit = Some(worker::exit::<F>());
        self
    }

    /// Replaces each worker after so many tasks, which sets free what leaks. Python: `maxtasksperchild`, which counts chunks.
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.settings.max_tasks = Some(tasks);
        self
    }

    /// The most address space of each worker, in bytes: an allocation beyond it fails, which ends most programs. What that
    /// costs is one task, and not the machine.
    pub fn address_space(mut self, bytes: u64) -> Self {
        self.settings.address_space = Some(bytes);
        self
    }

    /// Replaces a worker that has more than so many bytes of resident memory when it has answered: after a chunk, and every few
    /// milliseconds within a long one. Memory that it shares with other processes does not count. A worker with this limit leaves it to
    /// the C library what memory of large arguments it keeps, so that these may take longer.
    pub fn max_resident(mut self, bytes: u64) -> Self {
        self.settings.resident = Some(bytes);
        self
    }

    /// How workers are started; by default as the program's other processes. Python: `context`.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::{Pool, StartMethod};
    ///
    /// let pool = Pool::builder().workers(2).start_method(StartMethod::ForkServer).build()?;
    /// assert_eq!(pool.apply(|| 7, ())?, 7);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.settings.start_method = Some(method);
        self
    }

    /// The CPUs on which workers run, counted from 0: those of the first worker, of the second, and so on in a circle.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// # use mp_pool::Pool;
    /// // Two workers, each on a CPU of its own.
    /// let pool = Pool::builder().workers(2).cpus([[0], [1]]).build();
    /// # drop(pool);
    /// ```
    pub fn cpus<Cpus: IntoIterator<Item = u32>>(mut self, sets: impl IntoIterator<Item = Cpus>) -> Self {
        self.settings.cpus = sets.into_iter().map(|cpus| cpus.into_iter().collect()).collect();
        self
    }

    /// How many threads rayon's global pool has in each worker; by default what rayon decides, which is one for each CPU *in each
    /// worker*. A pool in a worker decodes with no more threads than that.
    pub fn threads_per_worker(mut self, threads: NonZeroUsize) -> Self {
        self.settings.threads = Some(threads.get());
        self
    }

    /// Ends a worker that had nothing to do for so long; others are started when there is work again. Such a pool is
    /// [lazy](Self::lazy).
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.settings.idle_timeout = Some(time);
        self
    }

    /// Whether workers are started when the first work for them comes; by default at once.
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.settings.lazy = lazy;
        self
    }

    /// Has what workers log with the `log` crate come out of the logger of this process, under its own target and with the worker's
    /// name and process id in front. Needs the feature `log`. Python: `log_to_stderr()` comes close.
    ///
    /// A worker logs up to the level that is set here when it is started. A record is sent before the call that logs it returns, so
    /// the last words of a worker that dies are not lost; they come out on a thread of the pool, all of them before `join`
    /// returns. `terminate` waits a second at most for a logger that does not return. The logger must not call
    /// the pool. An initializer that sets a logger comes too late, and its worker's records go on to come here.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::Pool;
    ///
    /// # struct Printer;
    /// # impl log::Log for Printer {
    /// #     fn enabled(&self, _: &log::Metadata<'_>) -> bool { true }
    /// #     fn log(&self, record: &log::Record<'_>) { println!("{} {}", record.level(), record.args()) }
    /// #     fn flush(&self) {}
    /// # }
    /// # log::set_logger(&Printer).unwrap();
    /// log::set_max_level(log::LevelFilter::Info); // after your logger was set up
    /// let pool = Pool::builder().workers(2).forward_logs(true).build()?;
    /// pool.map(|x: u32| log::info!("got {x}"), 0..3)?; // INFO [worker-1 4242] got 0
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    #[cfg(feature = "log")]
    pub fn forward_logs(mut self, forward: bool) -> Self {
        self.forward_logs = forward;
        self
    }

    /// Makes the pool.
    ///
    /// Returns when the workers' processes exist; they may not be ready yet, which no call has to care about.
    ///
    /// # Errors
    /// [`Error::NoWorkers`] for 0 workers, [`Error::NoLimit`] for a limit of 0, [`Error::Share`] if the initializer's arguments cannot
    /// be sent, [`Error::NotInitialised`] if [`init`](crate::init) is missing, else as [`Pool::new`]. No worker is left then.
    pub fn build(self) -> Result<Pool, Error> {
        #[cfg_attr(not(feature = "log"), allow(unused_mut, reason = "there is nothing to add"))]
        let mut settings = self.settings;
        if let Some(error) = self.error {
            return Err(error);
        }
        if settings.workers == 0 {
            return Err(Error::NoWorkers);
        }
        let limits = [
            (settings.max_tasks, "tasks per worker"),
            (settings.address_space, "address space"),
            (settings.resident, "resident memory"),
        ];
        for (value, limit) in limits {
            if value == Some(0) {
                return Err(Error::NoLimit { limit });
            }
        }
        if settings.cpus.iter().any(Vec::is_empty) {
            return Err(Error::NoLimit { limit: "CPUs per worker" });
        }
        if !mp_core::os::SUPPORTED {
            return Err(StartError::Unsupported.into());
        }
        #[cfg(feature = "log")]
        if self.forward_logs {
            settings.logs = Some(Collector::start()?);
        }
        Ok(Pool::over(Engine::start(settings)?))
    }
}
