//! What a process can learn about itself: who it is, who started it, whom it started.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    os::{
        fd::{AsFd, OwnedFd},
        process::{Pid, PidfdFlags, Signal, getppid, pidfd_open},
    },
    reaper::{self, Entry, wait_readable},
    role,
    start::StartMethod,
    sys,
};

/// The calling process, as it was started. Python: `current_process()`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentProcess {
    /// Its name; `Main` in a process that was not started by this crate.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Whether it was started as a daemon.
    pub daemon: bool,
    /// How it was started; `None` in a process that was not started by this crate.
    pub start_method: Option<StartMethod>,
}

/// Who the calling process is.
///
/// ```
/// assert_eq!(mp_core::current_process().name, "Main");
/// ```
#[must_use]
pub fn current_process() -> CurrentProcess {
    let pid = std::process::id();
    match role::identity() {
        Some(own) => {
            CurrentProcess { name: own.name.clone(), pid, daemon: own.daemon, start_method: Some(own.method) }
        }
        None => CurrentProcess { name: "Main".to_owned(), pid, daemon: false, start_method: None },
    }
}

/// The process that started the calling one. Python: `parent_process()`.
#[derive(Debug)]
pub struct ParentProcess {
    name: String,
    pid: u32,
    /// `None` once it was seen to be dead.
    pidfd: Option<OwnedFd>,
}

/// The process that started the calling one by this crate; `None` in any other process.
///
/// ```
/// assert!(mp_core::parent_process().is_none());
/// ```
#[must_use]
pub fn parent_process() -> Option<ParentProcess> {
    let own = role::identity()?;
    let parent = || getppid().filter(|pid| pid.as_raw_nonzero().get().cast_unsigned() == own.parent_pid);
    // Still the parent after the open: the number was not given to another process meanwhile.
    let pidfd = parent()
        .and_then(|pid: Pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .filter(|_| parent().is_some());
    Some(ParentProcess { name: own.parent_name.clone(), pid: own.parent_pid, pidfd })
}

impl ParentProcess {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which may belong to another process after its death.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs. Only a detached process can see its parent dead.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.ended_by(Some(Instant::now()))
    }

    /// Waits for its end, at most for `timeout`; whether it has ended.
    #[must_use]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.ended_by(Instant::now().checked_add(timeout))
    }

    fn ended_by(&self, deadline: Option<Instant>) -> bool {
        match &self.pidfd {
            None => true,
            Some(pidfd) => wait_readable(&[pidfd.as_fd()], deadline).is_ok_and(|ready| ready[0]),
        }
    }
}

/// A running child of the calling process, whoever holds its [`Child`](crate::Child).
///
/// It can be waited for, up to a time, and ended. It has neither the result nor the exit status: these are the `Child`'s, whose
/// `join` is not disturbed by this one.
#[derive(Debug, Clone)]
pub struct ActiveChild(Arc<Entry>);

/// The children of the calling process that have not ended. Python: `active_children()`.
#[must_use]
pub fn active_children() -> Vec<ActiveChild> {
    reaper::running().into_iter().map(ActiveChild).collect()
}

impl ActiveChild {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.0.status(), Ok(None))
    }

    /// Waits for its end, at most for `timeout`; whether it has ended.
    #[must_use]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        !matches!(self.0.wait(Instant::now().checked_add(timeout)), Ok(None))
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// The kernel does not allow it.
    pub fn terminate(&self) -> io::Result<()> {
        self.0.signal(Signal::TERM)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The kernel does not allow it.
    pub fn kill(&self) -> io::Result<()> {
        self.0.signal(Signal::KILL)
    }
}

/// Has the calling process ignore SIGINT from now on: for workers whose parent decides what Ctrl-C means.
pub fn ignore_interrupt() {
    sys::process::ignore_interrupt();
}
