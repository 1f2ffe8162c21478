//! The one thread that starts processes and sees to it that none is left as a zombie.
//!
//! Starts are made by this thread because the kernel's parent-death signal follows the *thread* that made the child: this
//! one lives exactly as long as the process. (The main thread does, too, so it makes its starts itself.) It also watches
//! every child's pidfd, so that a child whose handle was dropped is reaped all the same. Whoever joins a child does not
//! wait for this thread: a joiner takes the child out of its watch and reaps by itself.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    current::current_process,
    error::ExitStatus,
    os::{
        self,
        event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll},
        fd::{AsFd, BorrowedFd, OwnedFd},
        io::retry_on_intr,
        process::{
            Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal,
            waitid,
        },
        time::Timespec,
    },
    role, start, sys, threads,
    wire::Identity,
};

/// A started process as all its handles and the reaper see it.
#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) pidfd: OwnedFd,
    status: Mutex<Option<ExitStatus>>,
}

/// What the end of this process means for the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is waited for.
    Ordinary,
    /// It is terminated.
    Daemon,
    /// Nothing.
    Detached,
    /// It is part of the machinery, and no business of the program.
    Server,
}

impl Kind {
    pub(crate) fn of(identity: &Identity) -> Self {
        match (identity.detached, identity.daemon) {
            (true, _) => Self::Detached,
            (false, true) => Self::Daemon,
            (false, false) => Self::Ordinary,
        }
    }
}

impl Entry {
    /// Takes charge of the child `pid` of this process, which nobody may have reaped; or, if it cannot be watched, ends it.
    pub(crate) fn adopt(pid: u32, name: String, kind: Kind) -> io::Result<Arc<Self>> {
        let raw = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
        Self::watched(raw, name, kind).inspect_err(|error| {
            // Otherwise the number is its own until it is reaped.
            if error.raw_os_error() != Some(os::io::Errno::SRCH.raw_os_error()) {
                let _ = kill_process(raw, Signal::KILL);
                let _ = retry_on_intr(|| waitid(WaitId::Pid(raw), WaitIdOptions::EXITED));
            }
        })
    }

    fn watched(raw: Pid, name: String, kind: Kind) -> io::Result<Arc<Self>> {
        static COUNT: AtomicU64 = AtomicU64::new(BELL + 1);
        let pid = raw.as_raw_nonzero().get().cast_unsigned();
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Self { id, pid, name, kind, pidfd, status: Mutex::new(None) });
        let reaper = reaper()?;
        reaper.children.lock().insert(id, Arc::clone(&entry));
        // Held meanwhile: see the end of a claim.
        let status = entry.status.lock();
        let watched = if status.is_none() { reaper.watch(&entry) } else { Ok(()) };
        if watched.is_err() {
            reaper.forget(&entry);
        }
        drop(status);
        watched.map(|()| entry)
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
                Err(os::io::Errno::CHILD) if self.gone()? => {
                    // Somebody else in this process reaped every child it could find; how it ended is lost.
                    Some(ExitStatus::exited(255))
                }
                Err(os::io::Errno::CHILD) => None,
                Err(error) => return Err(error.into()),
            };
            if status.is_some()
                && let Some(reaper) = own()
            {
                reaper.forget(self);
            }
        }
        Ok(*status)
    }

    fn gone(&self) -> io::Result<bool> {
        Ok(wait_readable(&[self.pidfd.as_fd()], Some(Instant::now()))?[0])
    }

    /// Waits for the end, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.status()? {
            return Ok(Some(status));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
        let _claim = Claim::new(self);
        loop {
            let ended = wait_readable(&[self.pidfd.as_fd()], deadline)?[0];
            match self.status()? {
                None if ended => {}
                status => return Ok(status),
            }
        }
    }

    /// Whether it is stopped, as by SIGSTOP or a debugger.
    pub(crate) fn is_stopped(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options)), Ok(Some(_)))
    }

    /// Sends a signal; a process that has ended is left alone.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(os::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// While somebody waits for a child, the reaper need not wake for it, too.
struct Claim<'a>(&'a Entry);

impl<'a> Claim<'a> {
    fn new(entry: &'a Entry) -> Self {
        if let Some(reaper) = own() {
            // Fails if somebody else has claimed it, which is as good.
            let _ = epoll::delete(&reaper.epoll, &entry.pidfd);
        }
        Self(entry)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // Held meanwhile: a process that another thread finds ended now must not be watched afterwards, for ever.
        let status = self.0.status.lock();
        if status.is_none()
            && let Some(reaper) = own()
        {
            let _ = reaper.watch(self.0);
        }
    }
}

/// Waits until one of `fds` is readable or at its end, at most until `deadline`; never early, and says which are.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let ready = match poll(&mut polled, timeout.as_ref()) {
            Ok(ready) => ready,
            Err(os::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        if ready > 0 || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect());
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

struct Reaper {
    /// The process whose reaper it is: a fork of that one has neither its thread nor its children, but shares its set of
    /// watched descriptors, and must not touch it.
    owner: u32,
    jobs: mpsc::Sender<Job>,
    bell: OwnedFd,
    epoll: OwnedFd,
    children: Mutex<HashMap<u64, Arc<Entry>>>,
}

/// What the bell is called among the watched descriptors; children count from the next number.
const BELL: u64 = 0;

static REAPER: Mutex<Option<&Reaper>> = Mutex::new(None);

/// That of this process, if it has one.
fn own() -> Option<&'static Reaper> {
    REAPER.lock().filter(|reaper| reaper.owner == std::process::id())
}

fn reaper() -> io::Result<&'static Reaper> {
    let mut place = REAPER.lock();
    let owner = std::process::id();
    if let Some(reaper) = place.filter(|reaper| reaper.owner == owner) {
        return Ok(reaper);
    }
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), epoll::EventFlags::IN)?;
    let (jobs, queue) = mpsc::channel();
    // It takes part as soon as the reaper is in its place; a handle that it waits for comes through the channel.
    let (begin, begun) = mpsc::sync_channel::<&'static Reaper>(1);
    thread::Builder::new().name("mp-reaper".into()).stack_size(256 * 1024).spawn(move || {
        if let Ok(reaper) = begun.recv() {
            reaper.run(&queue);
        }
    })?;
    let reaper = Box::leak(Box::new(Reaper { owner, jobs, bell, epoll, children: Mutex::default() }));
    let reaper: &'static Reaper = place.insert(reaper);
    // The thread waits for it; were it gone, the first job would say so.
    let _ = begin.send(reaper);
    Ok(reaper)
}

impl Reaper {
    fn run(&self, queue: &mpsc::Receiver<Job>) {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        loop {
            // Interrupted, or out of memory: try again, in the second case a little later.
            let ready = match epoll::wait(&self.epoll, &mut events, None) {
                Ok((ready, _)) => ready,
                Err(os::io::Errno::INTR) => continue,
                Err(_) => {
                    thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            for event in ready {
                match event.data.u64() {
                    BELL => {
                        let _ = os::io::read(&self.bell, &mut [0; 8]);
                        queue.try_iter().for_each(|job| job());
                    }
                    id => {
                        let entry = self.children.lock().get(&id).cloned();
                        if let Some(entry) = entry {
                            let _ = entry.status();
                        }
                    }
                }
            }
        }
    }

    fn watch(&self, entry: &Entry) -> io::Result<()> {
        if !self.children.lock().contains_key(&entry.id) {
            // A child of the process that this one was forked from: nobody here could take it out of the set again.
            return Ok(());
        }
        match epoll::add(
            &self.epoll,
            &entry.pidfd,
            epoll::EventData::new_u64(entry.id),
            epoll::EventFlags::IN,
        ) {
            Ok(()) | Err(os::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn forget(&self, entry: &Entry) {
        let _ = epoll::delete(&self.epoll, &entry.pidfd);
        self.children.lock().remove(&entry.id);
    }
}

pub(crate) fn on_main_thread() -> bool {
    os::thread::gettid() == os::process::getpid()
}

/// Runs `job` on a thread that lives as long as the process, and returns what it returns.
pub(crate) fn on_lasting_thread<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> io::Result<R> {
    if on_main_thread() {
        return Ok(job());
    }
    let reaper = reaper()?;
    let (answer, answered) = mpsc::sync_channel(1);
    let boxed: Job = Box::new(move || {
        let _ = answer.send(job());
    });
    reaper.jobs.send(boxed).map_err(|_| io::Error::other("the starting thread has ended"))?;
    // Fails only when the counter is full, and then the thread is awake anyway.
    let _ = os::io::write(&reaper.bell, &1_u64.to_ne_bytes());
    answered.recv().map_err(io::Error::other)
}

/// The children that run (those that have ended are reaped on the way).
pub(crate) fn running() -> Vec<Arc<Entry>> {
    let Some(reaper) = own() else { return Vec::new() };
    let all: Vec<_> = reaper.children.lock().values().cloned().collect();
    let mut running: Vec<_> = all
        .into_iter()
        .filter(|entry| entry.kind != Kind::Server && matches!(entry.status(), Ok(None)))
        .collect();
    running.sort_unstable_by_key(|entry| entry.id);
    running
}

/// What a normal end of the process owes its threads and children: daemons are told to end, all but the detached are
/// waited for, and not in silence: the program may have forgotten what they wait for. So does a test that has failed, and
/// nobody would see which: what tests leave behind is told to end, too, or is not waited for.
pub(crate) extern "C" fn end_children() {
    /// How long a daemon may take to follow SIGTERM before it is killed.
    const GRACE: Duration = Duration::from_secs(5);
    /// How long anybody is waited for before that is said.
    const SILENT: Duration = Duration::from_secs(2);
    let say = |what: &str| {
        let this = current_process();
        sys::process::say(&format!("[{} {}] is at its end and {what}\n", this.name, this.pid));
    };
    if !sys::process::is_original() {
        // A fork of the program's own making: none of these are its children.
        return;
    }
    let (silent, is_test) = (Some(Instant::now() + SILENT), role::is_test_program());
    if !threads::wait_for_all(silent) {
        if is_test {
            say(
                "leaves threads of `spawn_thread` behind: a test has not joined them, perhaps since it failed",
            );
        } else {
            say("waits for threads of `spawn_thread`");
            threads::wait_for_all(None);
        }
    }
    let (mut daemons, others): (Vec<_>, Vec<_>) = running()
        .into_iter()
        .filter(|entry| entry.kind != Kind::Detached)
        .partition(|entry| entry.kind == Kind::Daemon);
    for entry in &daemons {
        let _ = entry.signal(Signal::TERM);
    }
    for entry in others {
        if let Ok(None) = entry.wait(silent) {
            let child = format!("{} (pid {})", entry.name, entry.pid);
            if is_test {
                say(&format!("terminates {child}: a test has not joined it, perhaps since it failed"));
                let _ = entry.signal(Signal::TERM);
                daemons.push(entry);
            } else {
                say(&format!(
                    "waits for {child}: terminate it before, or make it a daemon, if nobody is to wait"
                ));
                let _ = entry.wait(None);
            }
        }
    }
    // Not asked for the time if nobody needs it.
    let deadline = (!daemons.is_empty()).then(|| Instant::now() + GRACE);
    for entry in &daemons {
        if let Ok(None) = entry.wait(deadline) {
            let _ = entry.signal(Signal::KILL);
            let _ = entry.wait(None);
        }
    }
    start::server::end();
}
