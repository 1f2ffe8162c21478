//! The one thread that starts processes and sees to it that none is left as a zombie.
//!
//! All starts are made by this thread because the kernel's parent-death signal follows the *thread* that made the child:
//! this one lives exactly as long as the process. It also watches every child's pidfd, so that a child whose handle was
//! dropped is reaped all the same. Whoever joins a child does not wait for this thread: a joiner reaps by itself.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::retry_on_intr,
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
    time::Timespec,
};

use crate::error::ExitStatus;

/// A started process as all its handles and the reaper see it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    pub(crate) detached: bool,
    pub(crate) pidfd: OwnedFd,
    status: Mutex<Option<ExitStatus>>,
}

impl Entry {
    pub(crate) fn new(pid: u32, name: String, daemon: bool, detached: bool, pidfd: OwnedFd) -> Self {
        Self { pid, name, daemon, detached, pidfd, status: Mutex::new(None) }
    }

    /// How the process ended, if it has; takes it from the kernel the first time.
    pub(crate) fn status(&self) -> io::Result<Option<ExitStatus>> {
        let mut status = self.status.lock();
        if status.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            *status = match retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options)) {
                Ok(None) => None,
                Ok(Some(ended)) => Some(match (ended.exit_status(), ended.terminating_signal()) {
                    (Some(code), _) => ExitStatus::exited(code),
                    (None, signal) => ExitStatus::killed(signal.unwrap_or(0), ended.dumped()),
                }),
                Err(rustix::io::Errno::CHILD) if self.gone()? => {
                    // Somebody else in this process reaped every child it could find; how it ended is lost.
                    Some(ExitStatus::exited(255))
                }
                Err(rustix::io::Errno::CHILD) => None,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(*status)
    }

    fn gone(&self) -> io::Result<bool> {
        Ok(wait_readable(&[self.pidfd.as_fd()], Some(Instant::now()))?[0])
    }

    /// Waits for the end, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.status()? {
                return Ok(Some(status));
            }
            if !wait_readable(&[self.pidfd.as_fd()], deadline)?[0] {
                return Ok(None);
            }
        }
    }

    /// Sends a signal; a process that has ended is left alone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits until one of `fds` is readable or at its end, at most until `deadline`; never early, and says which are.
pub(crate) fn wait_readable(
    fds: &[rustix::fd::BorrowedFd<'_>],
    deadline: Option<Instant>,
) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let ready = match poll(&mut polled, timeout.as_ref()) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        if ready > 0 || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect());
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

struct Reaper {
    jobs: mpsc::Sender<Job>,
    wake: Arc<OwnedFd>,
    children: Arc<Mutex<Vec<Arc<Entry>>>>,
}

static REAPER: OnceLock<Reaper> = OnceLock::new();
static BEGIN: Mutex<()> = Mutex::new(());

fn reaper() -> io::Result<&'static Reaper> {
    if let Some(reaper) = REAPER.get() {
        return Ok(reaper);
    }
    let _one_at_a_time = BEGIN.lock();
    if let Some(reaper) = REAPER.get() {
        return Ok(reaper);
    }
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let children = Arc::new(Mutex::new(Vec::new()));
    let (jobs, queue) = mpsc::channel();
    let (bell, table) = (Arc::clone(&wake), Arc::clone(&children));
    thread::Builder::new()
        .name("mp-reaper".into())
        .stack_size(256 * 1024)
        .spawn(move || run(&queue, &bell, &table))?;
    Ok(REAPER.get_or_init(|| Reaper { jobs, wake, children }))
}

fn run(queue: &mpsc::Receiver<Job>, bell: &OwnedFd, table: &Mutex<Vec<Arc<Entry>>>) {
    loop {
        let watched: Vec<Arc<Entry>> = table.lock().clone();
        let fds: Vec<_> =
            std::iter::once(bell.as_fd()).chain(watched.iter().map(|entry| entry.pidfd.as_fd())).collect();
        // Out of memory or descriptors for a poll: nothing can be reaped now; try again a little later.
        let Ok(ready) = wait_readable(&fds, None) else {
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        if ready[0] {
            let _ = rustix::io::read(bell, &mut [0; 8]);
            for job in queue.try_iter() {
                job();
            }
        }
        for (entry, _) in watched.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            if !matches!(entry.status(), Ok(None)) {
                forget(table, entry);
            }
        }
    }
}

fn forget(table: &Mutex<Vec<Arc<Entry>>>, entry: &Arc<Entry>) {
    table.lock().retain(|other| !Arc::ptr_eq(other, entry));
}

/// Runs `job` on the thread that lives as long as the process, and returns what it returns.
pub(crate) fn on_lasting_thread<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> io::Result<R> {
    let reaper = reaper()?;
    let (answer, answered) = mpsc::sync_channel(1);
    let boxed: Job = Box::new(move || {
        let _ = answer.send(job());
    });
    reaper.jobs.send(boxed).map_err(|_| io::Error::other("the starting thread has ended"))?;
    ring(reaper);
    answered.recv().map_err(io::Error::other)
}

fn ring(reaper: &Reaper) {
    // Fails only when the counter is full, and then the thread is awake anyway.
    let _ = rustix::io::write(&*reaper.wake, &1_u64.to_ne_bytes());
}

/// Has the reaper watch a child; called on the lasting thread, which looks at the table again before it sleeps.
pub(crate) fn watch(entry: Arc<Entry>) {
    if let Some(reaper) = REAPER.get() {
        reaper.children.lock().push(entry);
    }
}

/// The children that run (those that have ended are reaped on the way).
pub(crate) fn running() -> Vec<Arc<Entry>> {
    let Some(reaper) = REAPER.get() else { return Vec::new() };
    let all = reaper.children.lock().clone();
    all.into_iter().filter(|entry| matches!(entry.status(), Ok(None))).collect()
}

/// What a normal end of the process owes its children: daemons are told to end, all but the detached are waited for.
pub(crate) extern "C" fn end_children() {
    /// How long a daemon may take to follow SIGTERM before it is killed.
    const GRACE: Duration = Duration::from_secs(5);
    let own: Vec<_> = running().into_iter().filter(|entry| !entry.detached).collect();
    let (daemons, others): (Vec<_>, Vec<_>) = own.into_iter().partition(|entry| entry.daemon);
    for entry in &daemons {
        let _ = entry.signal(Signal::TERM);
    }
    for entry in &others {
        let _ = entry.wait(None);
    }
    let deadline = Instant::now() + GRACE;
    for entry in &daemons {
        if let Ok(None) = entry.wait(Some(deadline)) {
            let _ = entry.signal(Signal::KILL);
            let _ = entry.wait(None);
        }
    }
}
