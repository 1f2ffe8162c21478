//! What was started: a handle of a running process and of its result.

use std::{
    fmt, io,
    marker::PhantomData,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::{
    error::{ExitStatus, JoinError},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        net::RecvFlags,
        process::Signal,
    },
    reaper::{Entry, Kind},
    start::{StartMethod, Started},
    transfer,
    wire::{self, Payload, Report, Wire},
};

/// A process that was started by [`spawn`](crate::spawn) or [`Process`](crate::Process), and its result.
///
/// Dropping the handle leaves the process running; it is reaped when it ends. As a file descriptor ([`AsFd`]) it becomes
/// readable when the process has ended: Python's `sentinel`.
pub struct Child<T> {
    entry: Arc<Entry>,
    method: StartMethod,
    heard: Mutex<Heard>,
    result: PhantomData<fn() -> T>,
}

/// What came over the wire so far.
#[derive(Debug)]
struct Heard {
    wire: Option<Wire>,
    /// The process ended before it had read what it was to do.
    unread: bool,
    outcome: Option<(Report, Vec<OwnedFd>)>,
    joined: bool,
}

impl Heard {
    /// Takes in what has arrived; called when the process has ended, so that nothing more will.
    fn listen(&mut self) {
        let Some(wire) = self.wire.take() else { return };
        let mut again = true;
        while self.outcome.is_none() {
            match wire.recv::<Report>(RecvFlags::DONTWAIT) {
                Ok(wire::Heard::Frame(report, fds)) => self.outcome = Some((report, fds)),
                Ok(wire::Heard::Unread) => self.unread = true,
                Ok(wire::Heard::End) => return,
                // A copy of the other end is still open somewhere: in a fork of the child's own making, or of this program's,
                // for the moment until it executes another one.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unread |= wire.is_unread();
                    // It may have been closed in between, and what was unread is gone with it.
                    if self.unread || !mem::take(&mut again) {
                        return;
                    }
                }
                Err(error) => self.outcome = Some((Report::ResultNotSent(error.to_string()), Vec::new())),
            }
        }
    }
}

impl<T> Child<T> {
    pub(crate) fn new(Started { entry, wire, method, sent }: Started) -> Self {
        let heard = Heard { wire: Some(wire), unread: !sent, outcome: None, joined: false };
        Self { entry, method, heard: Mutex::new(heard), result: PhantomData }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.entry.pid
    }

    /// The name given at the start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Whether the process was started as a daemon.
    #[must_use]
    pub fn daemon(&self) -> bool {
        self.entry.kind == Kind::Daemon
    }

    /// How the process was started: not always as was asked for, see [`StartMethod::ForkServer`].
    #[must_use]
    pub fn start_method(&self) -> StartMethod {
        self.method
    }

    /// Whether the process has not ended yet.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.entry.status(), Ok(None))
    }

    /// How the process ended; `None` while it runs. Python: `exitcode`.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.entry.status().ok().flatten()
    }

    /// Sends SIGTERM; nothing happens if the process has ended.
    ///
    /// # Errors
    /// The kernel does not allow it, for instance because the process has changed its user.
    pub fn terminate(&self) -> io::Result<()> {
        self.entry.signal(Signal::TERM)
    }

    /// Sends SIGKILL; nothing happens if the process has ended.
    ///
    /// # Errors
    /// As for [`Child::terminate`].
    pub fn kill(&self) -> io::Result<()> {
        self.entry.signal(Signal::KILL)
    }

    /// Sends SIGINT, as Ctrl-C does; nothing happens if the process has ended.
    ///
    /// # Errors
    /// As for [`Child::terminate`].
    pub fn interrupt(&self) -> io::Result<()> {
        self.entry.signal(Signal::INT)
    }
}

/// Its name, its pid, and whether it runs or how it ended.
impl<T> fmt::Debug for Child<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({}, pid {}, ", self.name(), self.pid())?;
        match self.entry.status() {
            Ok(None) => f.write_str("running)"),
            Ok(Some(status)) => write!(f, "ended with {status})"),
            Err(cause) => write!(f, "unknown: {cause})"),
        }
    }
}

impl<T: DeserializeOwned> Child<T> {
    /// Waits for the end of the process and returns what its function returned.
    ///
    /// Blocks until the process has ended, however it ends; never longer.
    ///
    /// # Errors
    /// [`JoinError`] says what happened instead of a result.
    pub fn join(&self) -> Result<T, JoinError> {
        self.join_until(None)
    }

    /// As [`Child::join`], but gives up with [`JoinError::TimedOut`] after `timeout`, never earlier. The process runs on
    /// then, and can be joined again.
    ///
    /// # Errors
    /// As for [`Child::join`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, JoinError> {
        self.join_until(Some(Instant::now().checked_add(timeout)).flatten())
    }

    /// As [`Child::join`], but `None` if the process has not ended yet; does not block.
    ///
    /// # Errors
    /// As for [`Child::join`].
    pub fn try_join(&self) -> Result<Option<T>, JoinError> {
        match self.join_until(Some(Instant::now())) {
            Err(JoinError::TimedOut { .. }) => Ok(None),
            result => result.map(Some),
        }
    }

    fn join_until(&self, deadline: Option<Instant>) -> Result<T, JoinError> {
        let (name, pid) = (self.name().to_owned(), self.pid());
        let Some(mut heard) = (match deadline {
            None => Some(self.heard.lock()),
            Some(deadline) => self.heard.try_lock_until(deadline),
        }) else {
            return Err(JoinError::TimedOut { name, pid });
        };
        if heard.joined {
            return Err(JoinError::AlreadyJoined { name, pid });
        }
        // The report is small and stays in the socket until it is read: nothing but the end is worth waking for.
        let status = match self.entry.wait(deadline) {
            Ok(Some(status)) => status,
            Ok(None) => return Err(JoinError::TimedOut { name, pid }),
            Err(cause) => return Err(JoinError::System { name, pid, cause }),
        };
        heard.listen();
        heard.joined = true;
        let unread = heard.unread;
        let outcome = heard.outcome.take();
        drop(heard);
        match outcome {
            Some((Report::Returned(payload), fds)) => read(payload, fds, name, pid),
            Some((Report::Panicked(report), _)) => Err(JoinError::Panicked { name, pid, report }),
            Some((Report::ResultNotSent(reason), _)) => Err(JoinError::ResultNotSent { name, pid, reason }),
            Some((Report::Refused(reason), _)) => Err(JoinError::Refused { name, pid, reason }),
            None => Err(match status.signal() {
                _ if unread => JoinError::DiedEarly { name, pid, status },
                Some(_) => JoinError::Killed { name, pid, status },
                None => JoinError::Exited { name, pid, code: status.code() },
            }),
        }
    }
}

fn read<T: DeserializeOwned>(
    payload: Payload,
    fds: Vec<OwnedFd>,
    name: String,
    pid: u32,
) -> Result<T, JoinError> {
    let (bytes, fds) = match payload.unpack(fds) {
        Ok(unpacked) => unpacked,
        Err(cause) => return Err(JoinError::ResultNotSent { name, pid, reason: cause.to_string() }),
    };
    transfer::decode(&bytes, fds).map_err(|cause| JoinError::ResultUndecodable { name, pid, cause })
}

impl<T> AsFd for Child<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.entry.pidfd.as_fd()
    }
}

#[cfg(all(test, target_os = "linux", not(any(mp_loom, mp_unsupported))))]
mod tests {
    use super::*;

    /// What a handle learns of a process whose end of the wire is open elsewhere, too.
    fn heard(is_read: bool) -> Heard {
        let (wire, theirs) = Wire::pair().unwrap();
        let theirs = Wire::given(theirs);
        wire.send(&"what to do", &[]).unwrap();
        if is_read {
            assert!(matches!(theirs.recv::<String>(RecvFlags::DONTWAIT), Ok(wire::Heard::Frame(..))));
        }
        let mut heard = Heard { wire: Some(wire), unread: false, outcome: None, joined: false };
        heard.listen();
        drop(theirs);
        heard
    }

    #[test]
    fn whether_a_frame_was_read_is_known_although_its_reader_s_end_is_open() {
        assert!(!heard(true).unread);
        assert!(heard(false).unread);
    }
}
