//! The dispatcher: who holds which chunk, and what follows from what the workers do.
//!
//! The table of chunks in flight is here and nowhere else, so that the death of a worker concerns exactly the chunks that
//! it held. There is no thread for this: whoever waits for a result takes the *seat* and dispatches until its own result
//! is there, then hands the seat to the next who waits.

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use mp_core::{
    Child,
    os::{
        self,
        event::{EventfdFlags, eventfd},
        fd::OwnedFd,
    },
};
use mp_pipe::Source;
use parking_lot::{Condvar, Mutex};

use crate::{
    error::Error,
    job::{Chunk, End},
    local::{self, Event, Worker},
};

/// Longer than a wake costs it does not pay to look again and again.
const SPIN: Duration = Duration::from_micros(20);
/// How many workers in a row may die without having begun a chunk.
const STILLBORN: u32 = 8;

#[derive(Debug)]
pub(crate) struct Dispatcher {
    size: usize,
    seat: Mutex<Seat>,
    /// Whether somebody dispatches, and who else waits for a turn or a result.
    taken: Mutex<bool>,
    changed: Condvar,
    /// Chunks that the one on the seat has not seen yet.
    inbox: Mutex<VecDeque<Chunk>>,
    kick: OwnedFd,
    outstanding: AtomicUsize,
    terminated: AtomicBool,
}

#[derive(Debug)]
struct Seat {
    workers: Vec<Worker>,
    pending: VecDeque<Chunk>,
    started: usize,
    stillborn: u32,
}

impl Dispatcher {
    pub(crate) fn start(size: usize) -> Result<Self, Error> {
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::System(error.into()))?;
        let mut seat = Seat { workers: Vec::new(), pending: VecDeque::new(), started: 0, stillborn: 0 };
        for _ in 0..size {
            if let Err(error) = seat.hire() {
                seat.end_all(Duration::ZERO);
                return Err(error);
            }
        }
        Ok(Self {
            size,
            seat: Mutex::new(seat),
            taken: Mutex::new(false),
            changed: Condvar::new(),
            inbox: Mutex::default(),
            kick,
            outstanding: AtomicUsize::new(0),
            terminated: AtomicBool::new(false),
        })
    }

    pub(crate) fn workers(&self) -> usize {
        self.size
    }

    /// Puts chunks in line; somebody must [`drive`](Self::drive) for them to run.
    pub(crate) fn submit(&self, chunks: impl IntoIterator<Item = Chunk>) {
        let mut inbox = self.inbox.lock();
        let before = inbox.len();
        inbox.extend(chunks);
        self.outstanding.fetch_add(inbox.len() - before, Ordering::Relaxed);
        drop(inbox);
        if *self.taken.lock() {
            self.kick();
        }
    }

    fn kick(&self) {
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = os::io::write(&self.kick, &1_u64.to_ne_bytes());
    }

    /// Dispatches, or waits while somebody else does, until `done`.
    pub(crate) fn drive(&self, done: &dyn Fn() -> bool) -> Result<(), Error> {
        loop {
            if done() {
                return Ok(());
            }
            if self.terminated.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            let mut taken = self.taken.lock();
            if *taken {
                if !done() {
                    self.changed.wait(&mut taken);
                }
                continue;
            }
            *taken = true;
            drop(taken);
            let _leave = Leave(self);
            self.dispatch(done)?;
        }
    }

    fn dispatch(&self, done: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut seat = self.seat.lock();
        let mut quiet_since: Option<Instant> = None;
        while !done() && !self.terminated.load(Ordering::Acquire) {
            seat.pending.append(&mut self.inbox.lock());
            seat.fill();
            if self.take_events(&mut seat, false)? {
                quiet_since = None;
                continue;
            }
            let now = Instant::now();
            if now.duration_since(*quiet_since.get_or_insert(now)) < SPIN {
                std::hint::spin_loop();
                continue;
            }
            if !self.take_events(&mut seat, true)? {
                let kick = Source::fd(&self.kick);
                let sources: Vec<_> = seat.workers.iter().map(Worker::source).chain([kick]).collect();
                mp_pipe::wait(&sources, None).map_err(Error::System)?;
                let _ = os::io::read(&self.kick, &mut [0; 8]);
            }
            quiet_since = None;
        }
        Ok(())
    }

    /// Takes in what the workers did; whether they did anything.
    fn take_events(&self, seat: &mut Seat, asleep: bool) -> Result<bool, Error> {
        let mut any = false;
        let mut position = 0;
        while position < seat.workers.len() {
            match seat.workers[position].event(asleep) {
                None => position += 1,
                Some(Event::Answered(chunk, bytes, fds)) => {
                    let name = seat.workers[position].name();
                    seat.stillborn = 0;
                    any = true;
                    self.end(&chunk, chunk.first, chunk.len, End::Answered(bytes, fds, name));
                    self.outstanding.fetch_sub(1, Ordering::Release);
                    seat.fill();
                }
                Some(Event::Died) => {
                    any = true;
                    let worker = seat.workers.swap_remove(position);
                    self.after_death(seat, worker)?;
                }
            }
        }
        if any {
            // Whoever waits for one of these results checks under the lock before it sleeps.
            drop(self.taken.lock());
            self.changed.notify_all();
        }
        Ok(any)
    }

    fn end(&self, chunk: &Chunk, first: usize, len: usize, end: End) {
        chunk.job.end(first, len, end);
    }

    fn after_death(&self, seat: &mut Seat, worker: Worker) -> Result<(), Error> {
        let name = worker.name();
        let (begun, others, status) = worker.bury();
        // In front of the line, in their order: they have waited longest.
        for chunk in others.into_iter().rev() {
            seat.pending.push_front(chunk);
        }
        match begun {
            None => seat.stillborn += 1,
            Some((chunk, item)) => {
                seat.stillborn = 0;
                let item = item.min(chunk.len - 1);
                self.end(&chunk, chunk.first + item, 1, End::Died(name, status));
                let rest = chunk.without(item);
                self.outstanding.fetch_add(rest.len(), Ordering::Relaxed);
                self.outstanding.fetch_sub(1, Ordering::Release);
                for chunk in rest.into_iter().rev() {
                    seat.pending.push_front(chunk);
                }
            }
        }
        if seat.stillborn >= STILLBORN {
            return Err(Error::WorkersDie { status });
        }
        match seat.hire() {
            Err(error) if seat.workers.is_empty() => Err(error),
            // Fewer workers do the work, too; the next death tries again.
            _ => Ok(()),
        }
    }

    /// Waits until everything that was submitted has ended, then lets the workers go.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        self.drive(&|| self.outstanding.load(Ordering::Acquire) == 0)?;
        self.seat.lock().end_all(Duration::from_secs(10));
        Ok(())
    }

    /// Ends everything now: what has not ended is cancelled.
    pub(crate) fn terminate(&self) {
        self.terminated.store(true, Ordering::Release);
        self.kick();
        let mut seat = self.seat.lock();
        seat.pending.append(&mut self.inbox.lock());
        for worker in &seat.workers {
            worker.terminate();
        }
        let held: Vec<Chunk> = seat.workers.iter_mut().flat_map(Worker::take_held).collect();
        for chunk in held.into_iter().chain(std::mem::take(&mut seat.pending)) {
            self.end(&chunk, chunk.first, chunk.len, End::Cancelled);
        }
        self.outstanding.store(0, Ordering::Release);
        seat.end_all(Duration::from_secs(1));
        drop(seat);
        drop(self.taken.lock());
        self.changed.notify_all();
    }
}

/// Gives the seat up, also if the one on it panicked.
struct Leave<'a>(&'a Dispatcher);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock() = false;
        self.0.changed.notify_all();
    }
}

impl Seat {
    fn hire(&mut self) -> Result<(), Error> {
        self.started += 1;
        self.workers.push(Worker::start(format!("worker-{}", self.started))?);
        Ok(())
    }

    /// Gives out what waits: first to those that have nothing, then ahead.
    fn fill(&mut self) {
        for only_idle in [true, false] {
            for worker in &mut self.workers {
                while worker.has_room() && (!only_idle || worker.is_idle()) {
                    let Some(chunk) = self.pending.pop_front() else { return };
                    worker.give(chunk);
                }
            }
        }
    }

    /// Drops the connections, at which the workers end, and sees to it that they do.
    fn end_all(&mut self, grace: Duration) {
        let children: Vec<Child<()>> = self.workers.drain(..).map(Worker::dismiss).collect();
        local::reap(children, grace);
    }
}

/// An error of the kernel on the way.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
