//! Waiting for many things at once: connections, the ends of processes, anything with a descriptor.

use std::{
    io,
    time::{Duration, Instant},
};

use mp_core::os::{
    self,
    event::{PollFd, PollFlags, poll},
    fd::{AsFd, BorrowedFd},
    time::Timespec,
};

use crate::{Connection, Receiver, RecvError};

/// A receiver of messages of whatever type, as [`wait`] sees it.
///
/// ```
/// use mp_pipe::{Receive, simplex};
///
/// let (numbers, _sender) = simplex::<u32>()?;
/// let (texts, sender) = simplex::<String>()?;
/// sender.send("x")?;
/// let receivers: [&dyn Receive; 2] = [&numbers, &texts];
/// assert_eq!(receivers.map(|receiver| receiver.look().unwrap()), [false, true]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Receive: AsFd {
    /// Whether there is something to receive; if not, the descriptor becomes readable when there is.
    ///
    /// # Errors
    /// As for [`Receiver::poll`].
    fn look(&self) -> Result<bool, RecvError>;
}

impl<T> Receive for Receiver<T> {
    fn look(&self) -> Result<bool, RecvError> {
        self.poll(Duration::ZERO)
    }
}

/// Something that [`wait`] can wait for.
///
/// ```
/// # mp_core::test_init!();
/// use mp_pipe::{Source, simplex, wait};
///
/// let (receiver, _sender) = simplex::<u8>()?;
/// let child = mp_core::spawn(|| (), ())?;
/// assert_eq!(wait(&[Source::from(&receiver), Source::fd(&child)], None)?, [1]);
/// # child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Source<'a> {
    /// Something to receive: a message or the end.
    Receiver(&'a dyn Receive),
    /// A descriptor that is readable or at its end; a [`Child`](mp_core::Child) is when its process has ended.
    Fd(BorrowedFd<'a>),
}

impl<'a> Source<'a> {
    /// Anything with a descriptor: a socket, a [`Child`](mp_core::Child), a
    /// [`ChannelReceiver`](crate::ChannelReceiver).
    ///
    /// ```
    /// use mp_pipe::{Source, wait};
    /// use std::{io::Write, time::Duration};
    ///
    /// let (reading, mut writing) = std::io::pipe()?;
    /// assert!(wait(&[Source::fd(&reading)], Some(Duration::ZERO))?.is_empty());
    /// writing.write_all(b"x")?;
    /// assert_eq!(wait(&[Source::fd(&reading)], None)?, [0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fd(fd: &'a impl AsFd) -> Self {
        Self::Fd(fd.as_fd())
    }
}

impl<'a, T> From<&'a Receiver<T>> for Source<'a> {
    fn from(receiver: &'a Receiver<T>) -> Self {
        Self::Receiver(receiver)
    }
}

impl<'a, S, R> From<&'a Connection<S, R>> for Source<'a> {
    fn from(connection: &'a Connection<S, R>) -> Self {
        Self::Receiver(connection.receiver())
    }
}

/// Waits until at least one of `sources` is ready, at most for `timeout` (`None`: for ever), and returns the positions of
/// all that are, in their order: one that always has something hides no other. None after the time-out; a time-out of zero
/// looks. Python: `multiprocessing.connection.wait()`.
///
/// ```
/// use mp_pipe::{Source, simplex, wait};
/// use std::time::Duration;
///
/// let (quiet, _sender) = simplex::<String>()?;
/// let (busy, sender) = simplex::<String>()?;
/// sender.send("x")?;
/// assert_eq!(wait(&[(&quiet).into(), (&busy).into()], Some(Duration::from_secs(1)))?, [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What the kernel says, for instance that a descriptor is closed.
pub fn wait(sources: &[Source<'_>], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    let deadline = timeout.map(|timeout| Instant::now().checked_add(timeout)).unwrap_or_default();
    let bounded = timeout.is_some() && deadline.is_some();
    loop {
        // A look arms the bell of each receiver that has nothing: what comes later makes its socket readable.
        let mut ready = Vec::new();
        for (position, source) in sources.iter().enumerate() {
            if let Source::Receiver(receiver) = source
                && receiver.look().map_err(io::Error::other)?
            {
                ready.push(position);
            }
        }
        let left = match deadline {
            Some(deadline) if ready.is_empty() => Some(deadline.saturating_duration_since(Instant::now())),
            _ if ready.is_empty() => None,
            _ => Some(Duration::ZERO),
        };
        let fds: Vec<BorrowedFd<'_>> = sources
            .iter()
            .map(|source| match source {
                Source::Receiver(receiver) => receiver.as_fd(),
                Source::Fd(fd) => *fd,
            })
            .collect();
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(os::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (position, (source, fd)) in sources.iter().zip(&polled).enumerate() {
            if fd.revents().contains(PollFlags::NVAL) {
                return Err(io::Error::from_raw_os_error(os::io::Errno::BADF.raw_os_error()));
            }
            if matches!(source, Source::Fd(_)) && !fd.revents().is_empty() {
                ready.push(position);
            }
        }
        if !ready.is_empty() {
            ready.sort_unstable();
            return Ok(ready);
        }
        if bounded && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(ready);
        }
    }
}
