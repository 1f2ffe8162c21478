//! Results that will be there.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread::ThreadId,
    time::{Duration, Instant},
};

use mp_core::run_foreign;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    engine::{Engine, runs_callbacks},
    error::Error,
    help,
    job::{Job, Progress},
};

/// The result of a call that was submitted and not waited for. Python: `AsyncResult`.
///
/// Dropping it changes nothing: the call goes on. It is also a [`Future`], for any executor.
///
/// It belongs to the process of the pool. In one that was forked from it there is no result and will be none: whatever would give
/// one is [`Error::OtherProcess`], the waits return at once, and callbacks are not called.
///
/// ```
/// # mp_pool::test_init!();
/// use mp_pool::Pool;
/// use std::time::Duration;
///
/// let pool = Pool::with_workers(2)?;
/// let sum = pool.apply_async(|a: u32, b: u32| a + b, (1, 2))?;
/// let squares = pool.map_async(|x: u32| x * x, 0..4)?;
/// assert_eq!(sum.get()?, 3);
/// assert_eq!(squares.get_timeout(Duration::from_secs(60))?, [0, 1, 4, 9]);
/// # Ok::<(), mp_pool::Error>(())
/// ```
pub struct Handle<T> {
    engine: Arc<Engine>,
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    job: Arc<Job>,
    read: fn(&Job) -> Result<T, Error>,
    state: Mutex<State<T>>,
    /// A value that was out is back.
    back: Condvar,
}

struct State<T> {
    value: Value<T>,
    /// Callbacks that have not begun; none if it was taken.
    looks: VecDeque<Look<T>>,
}

type Look<T> = Box<dyn FnOnce(Result<&T, &Error>) + Send>;

enum Value<T> {
    Encoded,
    Here(Result<T, Error>),
    /// Somebody has it on this thread: decodes it, or runs callbacks with it, and then it is known whether it is a success.
    Out(ThreadId, Option<bool>),
    /// Whether it was a success.
    Taken(bool),
}

impl<T> Value<T> {
    fn is_success(&self) -> bool {
        matches!(self, Self::Here(Ok(_)) | Self::Out(_, Some(true)) | Self::Taken(true))
    }

    fn is_with_another_thread(&self) -> bool {
        matches!(self, Self::Out(to, _) if *to != help::on_behalf_of())
    }

    /// The value, which is out or taken from now on; `None` if it was.
    fn replace(&mut self, with: Self) -> Option<Result<T, Error>> {
        match std::mem::replace(self, with) {
            Self::Here(result) => Some(result),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl<T> Shared<T> {
    /// The value of a job that has finished. The first to ask decodes it, with no lock held: that is foreign code, which others do
    /// not wait for longer than they want to.
    fn decoded(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.state.lock();
        if matches!(state.value, Value::Encoded) {
            state.value = Value::Out(help::on_behalf_of(), None);
            let result = MutexGuard::unlocked(&mut state, || run_foreign(|| (self.read)(&self.job)));
            let failed = |report| Err(io::Error::other(format!("its results {report}")).into());
            state.value = Value::Here(result.unwrap_or_else(failed));
            // A task that polls is told by `show`: nobody else can have decoded it meanwhile.
            self.back.notify_all();
        }
        state
    }

    /// As [`decoded`](Self::decoded), and by another thread, too, unless that is this value's own code.
    fn decoded_by_any(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.decoded();
        while matches!(state.value, Value::Out(_, None)) && state.value.is_with_another_thread() {
            self.back.wait(&mut state);
        }
        state
    }

    /// Takes the value when its callbacks have run; `None` if they have not, or another thread decodes it, until the deadline. Whoever
    /// has time without end runs those that have not begun: who would run them may be at another one, which may even wait for this.
    fn take(&self, deadline: Option<Instant>) -> Option<Result<T, Error>> {
        let here = deadline.is_none() || runs_callbacks();
        let mut state = self.decoded();
        loop {
            let awaited = !here && matches!(state.value, Value::Here(_)) && !state.looks.is_empty();
            if !awaited && !state.value.is_with_another_thread() {
                break;
            }
            match deadline {
                None => self.back.wait(&mut state),
                Some(deadline) if self.back.wait_until(&mut state, deadline).timed_out() => return None,
                Some(_) => {}
            }
        }
        self.show(&mut state);
        let taken = Value::Taken(state.value.is_success());
        Some(state.value.replace(taken).unwrap_or(Err(Error::AlreadyTaken)))
    }

    /// Runs the callbacks that have not begun, if the value is there. If it is not, it was taken, or whoever has it for those before
    /// runs these, too. No lock is held: that is foreign code, which may ask for what it is told of.
    fn show(&self, state: &mut MutexGuard<'_, State<T>>) {
        if state.looks.is_empty() {
            return;
        }
        let lent = Value::Out(help::on_behalf_of(), Some(state.value.is_success()));
        let Some(result) = state.value.replace(lent) else { return };
        while let Some(look) = state.looks.pop_front() {
            let _ = MutexGuard::unlocked(state, || run_foreign(|| look(result.as_ref())));
        }
        state.value = Value::Here(result);
        self.back.notify_all();
        if let Some(waker) = self.job.watch_for_task(None) {
            let _ = MutexGuard::unlocked(state, || run_foreign(|| waker.wake()));
        }
    }
}

impl<T> Handle<T> {
    pub(crate) fn new(engine: Arc<Engine>, job: Arc<Job>, read: fn(&Job) -> Result<T, Error>) -> Self {
        Self {
            engine,
            shared: Arc::new(Shared {
                job,
                read,
                state: Mutex::new(State { value: Value::Encoded, looks: VecDeque::new() }),
                back: Condvar::new(),
            }),
        }
    }

    /// Waits for the result, has its [callbacks](Self::on_success) run, and takes it. Python: `get()`.
    ///
    /// # Errors
    /// What went wrong with the call; [`Error::AlreadyTaken`] if the result was taken before.
    pub fn get(&self) -> Result<T, Error> {
        self.engine.check_process()?;
        self.wait();
        self.shared.take(None).unwrap_or(Err(Error::TimedOut))
    }

    /// As [`get`](Self::get), but gives up after `timeout`, never earlier. The call goes on then.
    ///
    /// It also gives up where the result is there and another thread decodes it, or its own callbacks have not returned. It runs none of
    /// these, since it could not leave off, but leaves them to the pool's thread: so it times out, too, where that hangs in a callback
    /// of *another* call. Whoever would rather run them calls [`wait_timeout`](Self::wait_timeout), then [`get`](Self::get). A result
    /// without callbacks waits for nobody's. What it cannot interrupt is the result's own `Deserialize`, if this is the first to ask
    /// for it.
    ///
    /// # Errors
    /// [`Error::TimedOut`]; else as [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, Error> {
        self.engine.check_process()?;
        let deadline = Instant::now().checked_add(timeout);
        let result = if self.wait_until(deadline) { self.shared.take(deadline) } else { None };
        result.unwrap_or(Err(Error::TimedOut))
    }

    /// Waits until the call has ended, however it ended. Python: `wait()`.
    pub fn wait(&self) {
        let job = &self.shared.job;
        self.engine.wait(None, &|| job.finished());
    }

    /// As [`wait`](Self::wait), at most for `timeout`; whether the call has ended. Python: `wait(timeout)`.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let job = &self.shared.job;
        self.engine.wait(deadline, &|| job.finished())
    }

    /// Whether the call has ended, so that [`get`](Self::get) returns at once. Python: `ready()`.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.wait_timeout(Duration::ZERO)
    }

    /// Whether the call has ended without an error; `None` if it has not ended. A result that does not decode is an error, so this
    /// decodes it, or waits for another thread that does: either takes as long as the result's own `Deserialize`. It does not wait for
    /// a callback; and [`ready`](Self::ready) for neither. Python: `successful()`, which raises then.
    #[must_use]
    pub fn successful(&self) -> Option<bool> {
        self.ready().then(|| self.shared.decoded_by_any().value.is_success())
    }

    /// How many of its tasks have ended.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.job.progress()
    }

    /// Cancels the call: tasks that were not begun will not be, those at work are told to stop
    /// ([`task::should_stop`](crate::task::should_stop)) and killed with their workers after the call's
    /// [grace](crate::Call::grace). Results that are there stay. Does not wait.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::{Error, Pool, TaskError};
    ///
    /// let pool = Pool::with_workers(1)?;
    /// let endless = pool.apply_async(|| std::thread::sleep(std::time::Duration::from_secs(600)), ())?;
    /// endless.cancel();
    /// assert!(matches!(endless.get(), Err(Error::Task(TaskError::Cancelled { .. }))));
    /// assert_eq!(pool.apply(|| 5, ())?, 5);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    pub fn cancel(&self) {
        self.engine.cancel(&self.shared.job);
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn job(&self) -> &Arc<Job> {
        &self.shared.job
    }
}

impl<T: Send + 'static> Handle<T> {
    /// Has `callback` called with the result, once, if the call succeeds. Python: `callback`.
    ///
    /// It runs on a thread of the pool, or on that of a [`get`](Self::get) that comes before that thread has begun it. Whoever takes
    /// the result waits until it has returned, and on the pool's thread one runs at a time, so it should be quick. If it panics, nothing
    /// else is disturbed. It may use the pool, end it, and ask this handle, but not take the result: that is [`Error::AlreadyTaken`].
    /// Called after the call has ended, it runs as well, on the calling thread if the pool is gone; only if the result was taken by
    /// then, it does not. [`Pool::join`](crate::Pool::join) waits for those that no `get` runs, [`Pool::terminate`](crate::Pool::terminate)
    /// for a second.
    #[must_use = "the handle is still that of the result"]
    pub fn on_success(self, callback: impl FnOnce(&T) + Send + 'static) -> Self {
        self.when_finished(move |result| {
            if let Ok(value) = result {
                callback(value);
            }
        })
    }

    /// As [`on_success`](Self::on_success), if the call fails. Python: `error_callback`.
    #[must_use = "the handle is still that of the result"]
    pub fn on_error(self, callback: impl FnOnce(&Error) + Send + 'static) -> Self {
        self.when_finished(move |result| {
            if let Err(error) = result {
                callback(error);
            }
        })
    }

    fn when_finished(self, callback: impl FnOnce(Result<&T, &Error>) + Send + 'static) -> Self {
        if self.engine.check_process().is_err() {
            return self;
        }
        {
            let mut state = self.shared.state.lock();
            if matches!(state.value, Value::Taken(_)) {
                drop(state);
                return self;
            }
            state.looks.push_back(Box::new(callback));
        }
        let shared = Arc::clone(&self.shared);
        let callback = Box::new(move || shared.show(&mut shared.decoded_by_any()));
        match self.shared.job.when_finished(callback) {
            None => self.engine.hurry(),
            Some(callback) => self.engine.call(callback),
        }
        self
    }
}

impl<T> Future for Handle<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(error) = self.engine.check_process() {
            return Poll::Ready(Err(error));
        }
        let job = &self.shared.job;
        // First, so that whoever ends the call or has run its callbacks from now on finds it.
        drop(job.watch_for_task(Some(context.waker().clone())));
        if !job.finished() {
            self.engine.hurry();
            return Poll::Pending;
        }
        let Some(result) = self.shared.take(Some(Instant::now())) else { return Poll::Pending };
        drop(job.watch_for_task(None));
        Poll::Ready(result)
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("job", &self.shared.job).finish_non_exhaustive()
    }
}
