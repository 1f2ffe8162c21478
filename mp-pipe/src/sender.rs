//! The sending half of a connection.

use std::{
    borrow::Borrow,
    fmt, io,
    marker::PhantomData,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use mp_core::{
    fds::{self, Bundle},
    os::{
        event::{PollFd, PollFlags, poll},
        fd::{AsFd, BorrowedFd, OwnedFd},
        net::SendFlags,
        time::{ClockId, Timespec, clock_gettime},
    },
    shared::{Entry, PutError, Ring, Wake},
    transfer::{self, Fd, Handle},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{error::SendError, tenure::Tenure};

/// How long a send waits for room before it looks whether the other end is still there.
const SLICE: Duration = Duration::from_millis(20);

/// Sends messages to a [`Receiver`](crate::Receiver) in another process or thread.
///
/// May be shared by threads; each message is whole. It travels as an argument and in messages; the one who sent it away
/// should drop it: while it exists, the other end does not learn that the one who has it now is gone.
///
/// ```
/// # mp_core::test_init!();
/// use mp_pipe::{Sender, simplex};
///
/// let (receiver, sender) = simplex()?;
/// mp_core::spawn(|sender: Sender<u32>| (0..3).for_each(|i| sender.send(&i).unwrap()), (sender,))?;
/// let mut sum = 0;
/// while let Ok(number) = receiver.recv() {
///     sum += number;
/// }
/// assert_eq!(sum, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// As a descriptor ([`AsFd`]) it is at its end when the receiver is gone; it says nothing about room.
pub struct Sender<T> {
    ring: Ring,
    socket: OwnedFd,
    /// The tick of the coarse clock at which the other end was last seen alive.
    seen_alive: AtomicI64,
    tenure: Tenure,
    messages: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    pub(crate) fn new(ring: Ring, socket: OwnedFd) -> Self {
        Self {
            ring,
            socket,
            seen_alive: AtomicI64::new(i64::MIN),
            tenure: Tenure::new(),
            messages: PhantomData,
        }
    }

    /// Sends a value; blocks while the connection is full. Python: `send()`.
    ///
    /// ```
    /// let (receiver, sender) = mp_pipe::simplex::<String>()?;
    /// // What is borrowed as the type of the messages will do.
    /// sender.send("text")?;
    /// assert_eq!(receiver.recv()?, "text");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Disconnected`] if the other end is gone (a process that has ended with it, by a signal or by
    /// `exit`, is noticed within some milliseconds: until then messages go into the void);
    /// else see [`SendError`]. Nothing was sent then.
    pub fn send<Q>(&self, value: &Q) -> Result<(), SendError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.send_until(value, None)
    }

    /// Sends a value if there is room.
    ///
    /// ```
    /// use mp_pipe::{SendError, simplex};
    ///
    /// let (_receiver, sender) = simplex::<Vec<u8>>()?;
    /// while sender.try_send(&vec![0; 5000]).is_ok() {}
    /// assert!(matches!(sender.try_send(&vec![0; 5000]), Err(SendError::Full)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] if there is none; else as [`Sender::send`].
    pub fn try_send<Q>(&self, value: &Q) -> Result<(), SendError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.send_until(value, Some(Instant::now()))
    }

    /// Sends a value, waiting for room at most for `timeout`, never less.
    ///
    /// ```
    /// use mp_pipe::{SendError, simplex};
    /// use std::time::Duration;
    ///
    /// let (_receiver, sender) = simplex::<Vec<u8>>()?;
    /// while sender.try_send(&vec![0; 5000]).is_ok() {}
    /// let outcome = sender.send_timeout(&vec![0; 5000], Duration::from_millis(5));
    /// assert!(matches!(outcome, Err(SendError::Full)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] after the time-out; else as [`Sender::send`].
    pub fn send_timeout<Q>(&self, value: &Q, timeout: Duration) -> Result<(), SendError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.send_until(value, Instant::now().checked_add(timeout))
    }

    /// Sends bytes as they are; blocks while the connection is full. Python: `send_bytes()`; for its `offset` and `size`
    /// there are slices.
    ///
    /// ```
    /// let (receiver, sender) = mp_pipe::simplex::<()>()?;
    /// sender.send_bytes(&b"abcdef"[2..4])?;
    /// assert_eq!(receiver.recv_bytes()?, b"cd");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Sender::send`].
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send_raw(bytes, Vec::new(), None)
    }

    /// Sends bytes as they are if there is room.
    ///
    /// ```
    /// let (receiver, sender) = mp_pipe::simplex::<()>()?;
    /// sender.try_send_bytes(b"there is room")?;
    /// assert_eq!(receiver.recv_bytes()?, b"there is room");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Sender::try_send`].
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send_raw(bytes, Vec::new(), Some(Instant::now()))
    }

    /// Sends bytes as they are, waiting for room at most for `timeout`, never less.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (receiver, sender) = mp_pipe::simplex::<()>()?;
    /// sender.send_bytes_timeout(b"bytes", Duration::from_secs(1))?;
    /// assert_eq!(receiver.recv_bytes()?, b"bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Sender::send_timeout`].
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_raw(bytes, Vec::new(), Instant::now().checked_add(timeout))
    }

    fn send_until<Q: Serialize + ?Sized>(
        &self,
        value: &Q,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        transfer::with_buffer(|bytes| {
            let handles = transfer::encode_into(value, bytes)?;
            self.send_raw(bytes, handles, deadline)
        })
    }

    fn send_raw(
        &self,
        bytes: &[u8],
        handles: Vec<Handle>,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        self.check_other_end()?;
        let bundle =
            if handles.is_empty() { None } else { Some(Bundle::pack(handles).map_err(SendError::Handles)?) };
        let tag = bundle.as_ref().map_or(0, Bundle::tag);
        // The handles go right before the commit, when there is room for their message: a send that fails leaves none
        // behind, and those of a message that can be received have arrived.
        let mut deliver =
            || bundle.as_ref().map_or(Ok(()), |bundle| bundle.send(&self.socket, SendFlags::DONTWAIT));
        // What this sends does not matter, only that the socket becomes readable; if it is full, it is.
        let bell = || drop(fds::send(&self.socket, &[], &[], SendFlags::DONTWAIT));
        let wake = Wake::Bell(&bell);
        let mut outcome = self.ring.try_put(bytes, tag, wake, &mut deliver);
        loop {
            match outcome {
                Ok(Some(())) => return Ok(()),
                Ok(None) | Err(PutError::Full) => {}
                Err(PutError::Handles(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for_packets(deadline);
                }
                // Reset: it died with something unread.
                Err(PutError::Handles(error))
                    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
                {
                    return Err(SendError::Disconnected);
                }
                Err(error) => return Err(error.into()),
            }
            self.seen_alive.store(i64::MIN, Ordering::Relaxed);
            self.check_other_end()?;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(SendError::Full);
            }
            outcome = self.ring.put(bytes, tag, Some(slice(deadline)), wake, &mut deliver).map(Some);
        }
    }

    /// Waits until the socket takes packets again, for a slice of time at most.
    fn wait_for_packets(&self, deadline: Option<Instant>) {
        let left = slice(deadline).saturating_duration_since(Instant::now());
        // Whatever ends this, the caller looks for itself.
        let _ =
            poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Timespec::try_from(left).ok().as_ref());
    }

    /// An orderly end is a flag in shared memory; a death is seen on the socket, asked once per tick of the coarse clock.
    #[inline]
    fn check_other_end(&self) -> Result<(), SendError> {
        if self.ring.is_abandoned() {
            return Err(SendError::Disconnected);
        }
        let now = clock_gettime(ClockId::MonotonicCoarse);
        let tick = now.tv_sec * 1_000_000_000 + now.tv_nsec;
        if self.seen_alive.load(Ordering::Relaxed) != tick {
            let mut socket = [PollFd::new(&self.socket, PollFlags::empty())];
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut socket, Some(&none)).is_ok() && socket[0].revents().contains(PollFlags::HUP) {
                return Err(SendError::Disconnected);
            }
            self.seen_alive.store(tick, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The end of the next slice of waiting.
fn slice(deadline: Option<Instant>) -> Instant {
    let slice = Instant::now() + SLICE;
    deadline.map_or(slice, |deadline| deadline.min(slice))
}

impl<T> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.tenure.ends() {
            let bell = || drop(fds::send(&self.socket, &[], &[], SendFlags::DONTWAIT));
            // A corrupt ring has no end to be marked. If one that is stopped holds the gate, the end of the socket will do,
            // as after a death.
            let _ = self.ring.close_by(Entry::Soon, Wake::Bell(&bell));
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("waiting", &self.ring.len()).finish()
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let socket = transfer::attach_fd(self.socket.as_fd()).map_err(serde::ser::Error::custom)?;
        let result = (&self.ring, socket).serialize(serializer)?;
        self.tenure.travels();
        Ok(result)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (ring, socket) = <(Ring, Fd<OwnedFd>)>::deserialize(deserializer)?;
        Ok(Self::new(ring, socket.0))
    }
}
