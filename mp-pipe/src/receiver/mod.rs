//! The receiving half of a connection.
//!
//! A receiver that finds nothing spins a little, then asks the sender for a bell and sleeps on the socket: see
//! [`Ring::wait_for_bell`]. Beside bells the socket carries the handles of messages, each packet ahead of its message.

mod bytes;

use std::{
    collections::VecDeque,
    fmt, io,
    marker::PhantomData,
    time::{Duration, Instant},
};

use mp_core::{
    fds::{self, Bundle},
    os::{
        self,
        event::{PollFd, PollFlags, poll},
        fd::{AsFd, BorrowedFd, OwnedFd},
        net::RecvFlags,
        time::Timespec,
    },
    shared::{Entry, Ring, Slept, Waited},
    transfer::{self, Fd},
};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{error::RecvError, tenure::Tenure};

/// Receives the messages of a [`Sender`](crate::Sender) in another process or thread.
///
/// May be shared by threads; each message goes to one of them. It travels as an argument and in messages; the one who sent
/// it away should drop it: while it exists, the other end does not learn that the one who has it now is gone. It is for one
/// process at a time: of two that wait by the same receiver, one may sleep beside a message that the other was woken for.
///
/// ```
/// # mp_core::test_init!();
/// use mp_pipe::{Receiver, simplex};
///
/// fn add_all(numbers: Receiver<u64>) -> u64 {
///     std::iter::from_fn(|| numbers.recv().ok()).sum()
/// }
///
/// let (receiver, sender) = simplex()?;
/// let child = mp_core::spawn(add_all, (receiver,))?;
/// (1..=10).try_for_each(|number| sender.send(&number))?;
/// drop(sender);
/// assert_eq!(child.join()?, 55);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// As a descriptor ([`AsFd`]) it becomes readable when there may be something to receive *after a receive has found
/// nothing*: call [`Receiver::try_recv`] until it says [`RecvError::Empty`], then wait for readability, and again. That is
/// what async runtimes do.
pub struct Receiver<T> {
    ring: Ring,
    socket: OwnedFd,
    inbox: Mutex<Inbox>,
    tenure: Tenure,
    messages: PhantomData<fn() -> T>,
}

#[derive(Default)]
struct Inbox {
    packet: Vec<u8>,
    /// Handles that came ahead of their messages, in the order in which they came, which is that of the messages.
    handles: VecDeque<(u64, Vec<OwnedFd>)>,
}

/// In place of a tag: handles that this process could not take, whose message is not known for this reason. It is most likely the
/// next one that has handles.
const TORN: u64 = 0;

impl Inbox {
    /// Takes out the handles of the message with this tag, if they are here: the inner `None` if this process could not open
    /// so many. Those that came before are of messages that never were: their senders died.
    fn take_handles(&mut self, tag: u64) -> Option<Option<Vec<OwnedFd>>> {
        let at = self.handles.iter().position(|(of, _)| *of == tag || *of == TORN)?;
        self.handles.drain(..=at).next_back().map(|(of, fds)| (of == tag).then_some(fds))
    }

    /// Whoever found no message, and has handles, knows them for those of the dead, but for the last: before a sender sends
    /// handles, the one before him has put the message for his, or is dead.
    fn forget_handles_of_the_dead(&mut self) {
        self.handles.drain(..self.handles.len().saturating_sub(1));
    }
}

impl<T> Receiver<T> {
    pub(crate) fn new(ring: Ring, socket: OwnedFd) -> Self {
        Self { ring, socket, inbox: Mutex::default(), tenure: Tenure::new(), messages: PhantomData }
    }

    /// Receives the next message: appends its bytes to `into` and returns its descriptors. Waits until `deadline` (`None`:
    /// for ever; passed: not at all).
    fn recv_encoded(&self, into: &mut Vec<u8>, deadline: Option<Instant>) -> Result<Vec<OwnedFd>, RecvError> {
        let mut inbox = self.lock(deadline).ok_or(RecvError::Empty)?;
        self.recv_raw(&mut inbox, into, deadline)
    }

    /// Waits at most for `timeout` until there is something to receive, a message or the end; whether there is. A time of
    /// zero looks, [`Duration::MAX`] waits for ever. Takes nothing out. Python: `poll()`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (receiver, sender) = mp_pipe::simplex::<u8>()?;
    /// assert!(!receiver.poll(Duration::ZERO)?);
    /// sender.send(&1)?;
    /// assert!(receiver.poll(Duration::MAX)?);
    /// assert_eq!(receiver.recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::System`] or [`RecvError::Corrupt`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        let deadline = Instant::now().checked_add(timeout);
        let Some(mut inbox) = self.lock(deadline) else { return Ok(false) };
        let waited = self.ring.wait_for_bell(
            deadline,
            &mut *inbox,
            |_| Ok((!self.ring.is_empty() || self.ring.is_closed()).then_some(())),
            |inbox| self.sleep(inbox, deadline),
        )?;
        Ok(waited != Waited::TimedOut)
    }

    fn lock(&self, deadline: Option<Instant>) -> Option<MutexGuard<'_, Inbox>> {
        match deadline {
            None => Some(self.inbox.lock()),
            Some(deadline) => self.inbox.try_lock_until(deadline),
        }
    }

    fn recv_raw(
        &self,
        inbox: &mut Inbox,
        into: &mut Vec<u8>,
        deadline: Option<Instant>,
    ) -> Result<Vec<OwnedFd>, RecvError> {
        let waited = self.ring.wait_for_bell(
            deadline,
            inbox,
            |inbox| self.take_message(inbox, into, deadline),
            |inbox| self.sleep(inbox, deadline),
        )?;
        match waited {
            Waited::Found(fds) => Ok(fds),
            Waited::TimedOut => Err(RecvError::Empty),
            Waited::Alone => {
                // Those of messages that were not committed when the sender died.
                inbox.handles.clear();
                Err(RecvError::Disconnected)
            }
        }
    }

    /// Takes the next message, if there is one: its bytes, and its descriptors.
    fn take_message(
        &self,
        inbox: &mut Inbox,
        into: &mut Vec<u8>,
        deadline: Option<Instant>,
    ) -> Result<Option<Vec<OwnedFd>>, RecvError> {
        let mut fds = None;
        let got = self.ring.try_get(into, Entry::By(deadline), &mut |tag| {
            if tag != 0 {
                let mut found = inbox.take_handles(tag);
                // They were sent before the message was committed: they are here. What lies behind them stays there, where it
                // takes none of this process's descriptors.
                while found.is_none() && self.take_packet(inbox, RecvFlags::DONTWAIT)? == Packet::One {
                    found = inbox.take_handles(tag);
                }
                fds = found.flatten();
            }
            Ok(())
        })?;
        match (got, fds) {
            (None, _) => Ok(None),
            (Some(0), _) => Ok(Some(Vec::new())),
            (Some(tag), Some(fds)) => Bundle::unpack(tag, fds).map(Some).map_err(RecvError::Handles),
            (Some(_), None) => {
                let cause = "they arrived when this process could not open so many";
                Err(RecvError::Handles(io::Error::new(io::ErrorKind::InvalidData, cause)))
            }
        }
    }

    /// Sleeps until a packet was taken in: a bell, most likely.
    fn sleep(&self, inbox: &mut Inbox, deadline: Option<Instant>) -> Result<Slept, RecvError> {
        // Without a deadline the sleep is one system call, which takes the bell in at once.
        inbox.forget_handles_of_the_dead();
        let mut flags = if deadline.is_none() { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        loop {
            if flags.contains(RecvFlags::DONTWAIT) && !self.wait_for_packet(deadline)? {
                return Ok(Slept::TimedOut);
            }
            match self.take_packet(inbox, flags).map_err(RecvError::System)? {
                Packet::One => return Ok(Slept::Rung),
                Packet::End => return Ok(Slept::Alone),
                // Somebody made the descriptor non-blocking.
                Packet::None => flags = RecvFlags::DONTWAIT,
            }
        }
    }

    /// Waits until there is a packet or the end; false if there was none by the deadline.
    fn wait_for_packet(&self, deadline: Option<Instant>) -> Result<bool, RecvError> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut socket, timeout.as_ref()) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                Ok(0) | Err(os::io::Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(RecvError::System(error.into())),
            }
        }
    }

    /// Takes in one packet from the socket: a bell, or the handles of a message to come.
    fn take_packet(&self, inbox: &mut Inbox, flags: RecvFlags) -> io::Result<Packet> {
        match fds::recv_small(&self.socket, &mut inbox.packet, flags) {
            Ok(Some(fds)) => {
                if let Some(tag) = inbox.packet.first_chunk::<8>() {
                    inbox.handles.push_back((u64::from_le_bytes(*tag), fds));
                }
                Ok(Packet::One)
            }
            Ok(None) => Ok(Packet::End),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Packet::None),
                io::ErrorKind::ConnectionReset => Ok(Packet::End),
                io::ErrorKind::InvalidData => {
                    if !fds::is_malformed(&error) {
                        // Lost. That is told to whoever receives their message.
                        inbox.handles.push_back((TORN, Vec::new()));
                    }
                    Ok(Packet::One)
                }
                _ => Err(error),
            },
        }
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message; blocks until there is one. Python: `recv()`.
    ///
    /// ```
    /// let (receiver, sender) = mp_pipe::simplex::<Option<u8>>()?;
    /// sender.send(&None)?;
    /// assert_eq!(receiver.recv()?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] if the other end is gone and everything that it sent was received;
    /// [`RecvError::Decode`] if this message is not a `T`, the next one can be received then.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None)
    }

    /// Receives the next message if there is one.
    ///
    /// ```
    /// use mp_pipe::{RecvError, simplex};
    ///
    /// let (receiver, sender) = simplex::<u8>()?;
    /// assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    /// drop(sender);
    /// assert!(matches!(receiver.try_recv(), Err(RecvError::Disconnected)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; else as [`Receiver::recv`].
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Some(Instant::now()))
    }

    /// Receives the next message, waiting for it at most for `timeout`, never less.
    ///
    /// ```
    /// use mp_pipe::{RecvError, simplex};
    /// use std::time::{Duration, Instant};
    ///
    /// let (receiver, _sender) = simplex::<u8>()?;
    /// let begin = Instant::now();
    /// assert!(matches!(receiver.recv_timeout(Duration::from_millis(5)), Err(RecvError::Empty)));
    /// assert!(begin.elapsed() >= Duration::from_millis(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::Empty`] after the time-out; else as [`Receiver::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvError> {
        transfer::with_buffer(|bytes| {
            let fds = self.recv_encoded(bytes, deadline)?;
            // The decoding runs the value's own code; no lock is held.
            Ok(transfer::decode(bytes, fds)?)
        })
    }
}

#[derive(PartialEq)]
enum Packet {
    One,
    /// There is none.
    None,
    /// The other end is gone.
    End,
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.tenure.ends() {
            self.ring.abandon();
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("waiting", &self.ring.len()).finish()
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let attach = |fd: BorrowedFd<'_>| transfer::attach_fd(fd).map_err(serde::ser::Error::custom);
        let socket = attach(self.socket.as_fd())?;
        // Not waited for: whoever sleeps in a receive has it until there is a message.
        let Some(inbox) = self.inbox.try_lock() else {
            return Err(serde::ser::Error::custom(
                "a receiver cannot travel while another thread receives by it",
            ));
        };
        let mut handles = Vec::new();
        for (tag, fds) in &inbox.handles {
            handles.push((*tag, fds.iter().map(|fd| attach(fd.as_fd())).collect::<Result<Vec<_>, _>>()?));
        }
        let result = (&self.ring, socket, handles).serialize(serializer)?;
        self.tenure.travels();
        Ok(result)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Handles = Vec<(u64, Vec<Fd<OwnedFd>>)>;
        let (ring, socket, handles) = <(Ring, Fd<OwnedFd>, Handles)>::deserialize(deserializer)?;
        let receiver = Self::new(ring, socket.0);
        receiver.inbox.lock().handles =
            handles.into_iter().map(|(tag, fds)| (tag, fds.into_iter().map(|fd| fd.0).collect())).collect();
        Ok(receiver)
    }
}
