//! Jobs: what was submitted by one call, and where the ends of its tasks go.
//!
//! The table knows jobs and their options; only the one who called knows types. Answers are stored as they come and decoded by
//! whoever asked for them.

mod ends;

use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use mp_core::{call::Pointer, run_foreign};
use parking_lot::Mutex;

pub(crate) use self::ends::{Death, End, Ends};
use crate::{
    batch::Span,
    engine::Underway,
    error::Error,
    worker::{Packed, Runner},
};

/// Which worker it was.
#[derive(Debug, Clone)]
pub(crate) struct WorkerName {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl WorkerName {
    pub(crate) fn initializer_failed(&self, cause: String) -> Error {
        Error::Initializer { worker: self.name.clone(), pid: self.pid, cause }
    }
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many of its tasks have ended, however they ended.
    pub done: usize,
    /// How many there are; `None` if neither the input says that (by its `size_hint`), nor was all of it read.
    pub total: Option<usize>,
}

/// What an iterator says of its length: at least, at most.
pub(crate) type Hint = (usize, Option<usize>);

pub(crate) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a caller may say about a call.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) chunk_size: Option<NonZeroUsize>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) retries: u32,
    pub(crate) backoff: Duration,
    pub(crate) window: Option<NonZeroUsize>,
    pub(crate) progress: Option<OnProgress>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk_size: None,
            timeout: None,
            grace: Duration::from_millis(100),
            retries: 0,
            backoff: Duration::ZERO,
            window: None,
            progress: None,
        }
    }
}

/// A context: sent to each worker at most once per call.
#[derive(Debug)]
pub(crate) struct Context {
    /// Not 0.
    pub(crate) id: u32,
    pub(crate) packed: Packed,
}

/// Called once, by the clerk, when the job has finished.
pub(crate) type Callback = Box<dyn FnOnce() + Send>;

const UNKNOWN: usize = usize::MAX;

/// One call.
pub(crate) struct Job {
    pub(crate) runner: Pointer<Runner>,
    pub(crate) options: Options,
    pub(crate) context: Option<Arc<Context>>,
    /// How many tasks it has; [`UNKNOWN`] while the input is being read.
    total: AtomicUsize,
    /// How many it may have, as the input says at its beginning.
    hint: Hint,
    ended: AtomicUsize,
    /// About how many tasks were not given to any worker yet, or were taken back.
    pub(crate) unassigned: AtomicUsize,
    /// How long a task takes, in nanoseconds; 0 before the first answer.
    pub(crate) pace: AtomicU64,
    pub(crate) cancelled: AtomicBool,
    /// Its spans in line. Changed with the lock of the table held.
    pub(crate) waiting: Mutex<VecDeque<Span>>,
    /// The progress that was told last.
    told: Mutex<Option<Progress>>,
    /// The clerk has it on its list to tell the progress.
    to_tell: AtomicBool,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    ends: Vec<Ends>,
    failed: Option<Error>,
    underway: Option<Underway>,
    /// Of threads that wait for several jobs.
    wakers: Vec<Waker>,
    /// Of the task that has polled last.
    task: Option<Waker>,
    callbacks: Vec<Callback>,
}

impl Job {
    pub(crate) fn new(
        runner: Pointer<Runner>,
        options: Options,
        context: Option<Arc<Context>>,
        hint: Hint,
    ) -> Arc<Self> {
        Arc::new(Self {
            runner,
            options,
            context,
            total: AtomicUsize::new(UNKNOWN),
            ended: AtomicUsize::new(0),
            hint,
            unassigned: AtomicUsize::new(hint.0),
            pace: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            waiting: Mutex::default(),
            told: Mutex::default(),
            to_tell: AtomicBool::new(false),
            inbox: Mutex::default(),
        })
    }

    /// Notes how `len` tasks from `first` on ended: the one place where a task ends. Called with the lock of the table held.
    pub(crate) fn end(&self, first: usize, len: usize, end: End) {
        self.inbox.lock().ends.push(Ends { first, len, end });
        self.ended.fetch_add(len, Ordering::Release);
    }

    /// Ends the whole call with an error of the pool. Called with the lock of the table held.
    pub(crate) fn fail(&self, error: Error) {
        self.inbox.lock().failed.get_or_insert(error);
        self.cancelled.store(true, Ordering::Release);
    }

    /// How many tasks have ended so far.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn finished(&self) -> bool {
        self.ended() >= self.total.load(Ordering::Acquire)
    }

    /// How many tasks it has, if that is known.
    pub(crate) fn total(&self) -> Option<usize> {
        Some(self.total.load(Ordering::Acquire)).filter(|total| *total != UNKNOWN)
    }

    /// Says how many tasks it has: all of the input was read. Called with the lock of the table held.
    pub(crate) fn seal(&self, total: usize) {
        self.total.store(total, Ordering::Release);
    }

    /// Whether its tasks have a time-out.
    pub(crate) fn is_timed(&self) -> bool {
        self.options.timeout.is_some()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn failed(&self) -> Option<Error> {
        self.inbox.lock().failed.clone()
    }

    /// The ends that have come since the last call, in the order in which they came.
    pub(crate) fn take(&self) -> Vec<Ends> {
        std::mem::take(&mut self.inbox.lock().ends)
    }

    pub(crate) fn progress(&self) -> Progress {
        let (least, most) = self.hint;
        Progress { done: self.ended(), total: self.total().or(most.filter(|most| *most == least)) }
    }

    /// What is to be called so that its progress is told; `None` if nobody wants to know, or that is going to happen anyway.
    pub(crate) fn progress_callback(self: &Arc<Self>) -> Option<Callback> {
        if self.options.progress.is_none() || self.to_tell.swap(true, Ordering::AcqRel) {
            return None;
        }
        let job = Arc::clone(self);
        Some(Box::new(move || {
            job.to_tell.store(false, Ordering::Release);
            job.tell_progress();
        }))
    }

    /// Tells its progress, unless that was told. Foreign code runs here.
    pub(crate) fn tell_progress(&self) {
        if let Some(progress) = &self.options.progress {
            // One at a time, so that nobody hears of less than before.
            let mut told = self.told.lock();
            let now = self.progress();
            if told.replace(now) != Some(now) {
                let _ = run_foreign(|| progress(now));
            }
        }
    }

    /// Notes how long `len` tasks took.
    pub(crate) fn note_pace(&self, len: u32, nanoseconds: u64) {
        if len > 0 {
            let now = (nanoseconds / u64::from(len)).max(1);
            let before = self.pace.load(Ordering::Relaxed);
            // Long tasks count at once: to plan with too small chunks costs little, with too large ones much.
            let next = if before == 0 || now > before { now } else { (7 * before + now) / 8 };
            self.pace.store(next, Ordering::Relaxed);
        }
    }

    /// Has `waker` woken when the job has finished; false if it has.
    pub(crate) fn watch(&self, waker: &Waker) -> bool {
        let mut inbox = self.inbox.lock();
        if self.finished() {
            return false;
        }
        if !inbox.wakers.iter().any(|known| known.will_wake(waker)) {
            inbox.wakers.push(waker.clone());
        }
        true
    }

    #[cfg(all(test, target_os = "linux", not(mp_unsupported), not(mp_loom)))]
    pub(crate) fn watchers(&self) -> usize {
        self.inbox.lock().wakers.len()
    }

    /// Has `waker` not woken any more.
    pub(crate) fn unwatch(&self, waker: &Waker) {
        self.inbox.lock().wakers.retain(|known| !known.will_wake(waker));
    }

    /// Has `waker` woken when the job has finished, instead of that which it returns: there is one future, and its last poll counts.
    /// Not even dropped under the lock is what it returns: that is foreign code.
    pub(crate) fn watch_for_task(&self, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut self.inbox.lock().task, waker)
    }

    /// Has `callback` called when the job has finished; gives it back if it has.
    pub(crate) fn when_finished(&self, callback: Callback) -> Option<Callback> {
        let mut inbox = self.inbox.lock();
        if self.finished() {
            return Some(callback);
        }
        inbox.callbacks.push(callback);
        None
    }

    /// Has the clerk see to it until it has finished.
    pub(crate) fn keep_underway(&self, underway: Underway) {
        let mut inbox = self.inbox.lock();
        if !self.finished() {
            inbox.underway = Some(underway);
        }
    }

    /// Those that wait for the end of a job that has finished.
    pub(crate) fn take_watchers(&self) -> (Vec<Waker>, Vec<Callback>) {
        let mut inbox = self.inbox.lock();
        inbox.underway = None;
        let mut wakers = std::mem::take(&mut inbox.wakers);
        wakers.extend(inbox.task.take());
        (wakers, std::mem::take(&mut inbox.callbacks))
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("total", &self.total())
            .field("ended", &self.ended())
            .finish_non_exhaustive()
    }
}
