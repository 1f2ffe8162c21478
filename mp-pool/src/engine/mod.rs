//! The engine: the lock around the table, and who sleeps where. Its page is the README beside the crate's sources.
#![doc = include_str!("../README.md")]

mod clerk;
mod collect;
mod end;
mod keeper;
mod starter;
mod table;
pub(crate) mod waiters;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mp_core::{Own, os::own_pid};
use parking_lot::{Condvar, Mutex, MutexGuard};

pub(crate) use self::clerk::{Underway, runs_callbacks};
use self::{
    clerk::Clerk,
    collect::Role,
    starter::Starter,
    table::{Phase, Table},
    waiters::Waiters,
};
use crate::{
    batch::{Batch, Span},
    builder::Settings,
    crew::Crew,
    error::Error,
    insights::Insights,
    job::{Callback, End, Job, WorkerName},
    local::{Local, alarm::Alarm, link::Bell, member::ExitResult},
    own_thread::OwnThread,
    store::Stock,
};

pub(crate) struct Engine {
    table: Own<Mutex<Table<Local>>>,
    bell: Bell,
    alarm: Arc<Alarm>,
    /// Whether somebody collects.
    role: Own<Mutex<Role>>,
    /// Somebody's task has ended, or nobody collects any more.
    changed: Condvar,
    /// The callers that wait without collecting.
    waiters: Waiters,
    clerk: Clerk,
    starter: Starter,
    stopped: AtomicBool,
    /// Memory for long runs of arguments.
    pub(crate) stock: Arc<Stock>,
    threads: Mutex<Vec<OwnThread>>,
    settings: Arc<Settings>,
    born: Instant,
    /// The process that has the workers: one that was forked from it has only a copy of this.
    pid: u32,
}

impl Engine {
    /// Starts the keeper, the workers (unless they are started lazily) and the starter of others.
    pub(crate) fn start(settings: Settings) -> Result<Arc<Self>, Error> {
        let settings = Arc::new(settings);
        let bell = Bell::new()?;
        let alarm = Arc::new(Alarm::new()?);
        let stock = Stock::new()?;
        let crew = Local::new(Arc::clone(&settings), bell.clone(), stock.store().clone(), Arc::clone(&alarm));
        let engine = Arc::new(Self {
            table: Own::new(Mutex::new(Table::new(crew, Arc::clone(&stock)))),
            bell,
            alarm,
            role: Own::new(Mutex::default()),
            changed: Condvar::new(),
            waiters: Waiters::default(),
            clerk: Clerk::default(),
            starter: Starter::default(),
            stopped: AtomicBool::new(false),
            stock,
            threads: Mutex::default(),
            settings,
            born: Instant::now(),
            pid: own_pid(),
        });
        engine.start_thread("keeper", Self::keep)?;
        let begin = || {
            while let Some(started) = engine.start_worker() {
                started?;
            }
            Ok(engine.start_thread("starter", Self::start_workers)?)
        };
        if let Err(error) = begin() {
            engine.terminate();
            return Err(error);
        }
        Ok(engine)
    }

    /// Starts one of the pool's own threads.
    fn start_thread(self: &Arc<Self>, who: &'static str, life: fn(&Self)) -> io::Result<()> {
        let engine = Arc::clone(self);
        self.threads.lock().push(OwnThread::start(who, move || engine.live(who, life))?);
        Ok(())
    }

    pub(crate) fn size(&self) -> usize {
        self.settings.workers
    }

    /// Whether this is the process that has the workers. In another no lock may be taken: who had it may be missing.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.pid == own_pid() { Ok(()) } else { Err(Error::OtherProcess { pid: self.pid }) }
    }

    /// Whether a call may begin.
    pub(crate) fn check_running(&self) -> Result<(), Error> {
        self.check_process()?;
        self.table.lock().check_running()
    }

    /// Begins a call that reads an input, which the pool is not done before.
    pub(crate) fn begin_reading(&self) -> Result<Reading<'_>, Error> {
        self.check_process()?;
        self.table.lock().begin_reading()?;
        Ok(Reading(self))
    }

    /// Puts tasks in line, and gives out what can be given out.
    pub(crate) fn submit(&self, job: &Arc<Job>, batch: Batch) {
        let mut table = self.table.lock();
        table.announce(batch.len() as usize);
        table.enqueue(job, Span::all(batch));
        self.after(table);
    }

    /// How many workers have nothing to do, now that what has come is taken in, and how long all have worked.
    pub(crate) fn look(&self) -> (usize, Duration) {
        self.glance();
        self.table.lock().look()
    }

    /// Ends a task that never got in line.
    pub(crate) fn end(&self, job: &Arc<Job>, index: usize, end: End) {
        let mut table = self.table.lock();
        table.announce(1);
        table.end(job, index, 1, end);
        self.after(table);
    }

    pub(crate) fn cancel(&self, job: &Arc<Job>) {
        if self.check_process().is_err() {
            return;
        }
        let mut table = self.table.lock();
        table.cancel(job, Instant::now());
        table.kick = true;
        self.after(table);
    }

    /// What is left to do when the table was changed by somebody who does not collect.
    fn after(&self, mut table: MutexGuard<'_, Table<Local>>) {
        let news = std::mem::take(&mut table.news);
        let waiting = table.waiting();
        let kick = table.takes_kick() || waiting && table.crew.is_short(true);
        let trace = std::mem::take(table.crew.trace());
        drop(table);
        trace.tell();
        if kick {
            self.alarm.kick();
        }
        if waiting {
            self.clerk.hurry();
        }
        if !news.is_empty() {
            self.tell(news);
            self.ring();
        }
    }

    /// Has all who wait look again.
    fn ring(&self) {
        self.bell.advance();
        self.wake_waiters();
    }

    fn wake_waiters(&self) {
        if self.waiters.any() {
            // Whoever waits has looked under this lock before it slept.
            drop(self.role.lock());
            self.changed.notify_all();
        }
    }

    /// Tells those who wait for these jobs. Foreign code, which may use the pool, is the clerk's to run: the caller may be one that
    /// collects, or the keeper.
    fn tell(&self, news: Vec<Arc<Job>>) {
        let mut callbacks = Vec::new();
        for job in news {
            callbacks.extend(job.progress_callback());
            if job.finished() {
                let (wakers, own) = job.take_watchers();
                callbacks.extend(wakers.into_iter().map(|waker| Box::new(|| waker.wake()) as Callback));
                callbacks.extend(own);
            }
        }
        self.clerk.call(callbacks);
        self.wake_waiters();
    }

    /// What is left to do when a call has read its input.
    fn read(&self, awaited: bool) {
        // Not for nothing: the bell tells by the CPU of its last change whether it pays to spin.
        if awaited {
            self.ring();
        }
    }

    /// Why nothing runs any more, if that is so.
    pub(crate) fn over(&self) -> Option<Error> {
        match &self.table.lock().phase {
            Phase::Running | Phase::Closed if self.stopped.load(Ordering::Acquire) => Some(Error::Closed),
            Phase::Running | Phase::Closed => None,
            Phase::Terminated => Some(Error::Closed),
            Phase::Broken(error) => Some(error.clone()),
        }
    }

    pub(crate) fn insights(&self) -> Insights {
        if self.check_process().is_err() {
            return Insights::default();
        }
        // What has come and nobody has collected counts as well.
        self.turn();
        let table = self.table.lock();
        Insights { age: self.born.elapsed(), workers: table.crew.insights(), slowest: table.slowest.to_vec() }
    }

    pub(crate) fn take_ends(&self) -> Vec<(Arc<WorkerName>, ExitResult)> {
        if self.check_process().is_err() {
            return Vec::new();
        }
        self.table.lock().crew.take_ends()
    }
}

/// While it exists, a call reads its input.
#[must_use]
pub(crate) struct Reading<'a>(&'a Engine);

impl Reading<'_> {
    /// Says that a job has no more than so many tasks: all of the input was read.
    pub(crate) fn end(self, job: &Arc<Job>, total: usize) {
        let engine = self.0;
        let mut table = engine.table.lock();
        job.seal(total);
        // Nobody else can have seen its end before.
        if job.finished() || job.options.progress.is_some() {
            table.news.push(Arc::clone(job));
        }
        let awaited = table.end_reading();
        std::mem::forget(self);
        engine.after(table);
        engine.read(awaited);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let awaited = self.0.table.lock().end_reading();
        self.0.read(awaited);
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("workers", &self.settings.workers).finish_non_exhaustive()
    }
}
