//! The receiving half of a connection.
//!
//! A receiver that finds nothing spins a little, then asks the sender for a bell and sleeps on the socket. The sender
//! rings *before* it commits the message; so a receiver that was rung for nothing waits until the sender's gate is free
//! (it has committed, or died) and looks again. No death between the two steps can lose the wake.

use std::{
    collections::HashMap,
    fmt, io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mp_core::{
    fds::{self, Bundle},
    shared::Ring,
    transfer::{self, Fd},
};
use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::RecvFlags,
    time::Timespec,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::error::RecvError;

/// A buffer larger than this is not kept.
const KEPT: usize = 1 << 20;

/// Receives the messages of a [`Sender`](crate::Sender) in another process or thread.
///
/// May be shared by threads; each message goes to one of them. It travels as an argument and in messages; the one who sent
/// it away should not use it any more.
///
/// As a descriptor ([`AsFd`]) it becomes readable when there may be something to receive *after a receive has found
/// nothing*: call [`Receiver::try_recv`] until it says [`RecvError::Empty`], then wait for readability, and again. That is
/// what async runtimes do.
pub struct Receiver<T> {
    ring: Ring,
    socket: Arc<OwnedFd>,
    inbox: Mutex<Inbox>,
    travelled: AtomicBool,
    messages: PhantomData<fn() -> T>,
}

#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// Handles that came ahead of their messages.
    handles: HashMap<u64, Vec<OwnedFd>>,
}

impl<T> Receiver<T> {
    pub(crate) fn new(ring: Ring, socket: Arc<OwnedFd>) -> Self {
        Self {
            ring,
            socket,
            inbox: Mutex::default(),
            travelled: AtomicBool::new(false),
            messages: PhantomData,
        }
    }

    /// Receives the next message as bytes, as [`Sender::send_bytes`](crate::Sender::send_bytes) sent them.
    ///
    /// # Errors
    /// As for [`Receiver::recv`].
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        let mut bytes = Vec::new();
        self.recv_raw(&mut self.inbox.lock(), &mut bytes, None)?;
        Ok(bytes)
    }

    /// Receives the next message, not decoded yet: appends its bytes to `into` and returns its descriptors. Waits until
    /// `deadline` (`None`: for ever; passed: not at all).
    ///
    /// # Errors
    /// As for [`Receiver::recv_timeout`].
    pub fn recv_encoded(
        &self,
        into: &mut Vec<u8>,
        deadline: Option<Instant>,
    ) -> Result<Vec<OwnedFd>, RecvError> {
        self.recv_raw(&mut self.inbox.lock(), into, deadline)
    }

    /// Receives the next message if its bytes are there already: one look, no system call. See [`Receiver::recv_encoded`].
    ///
    /// # Errors
    /// As for [`Receiver::recv_encoded`]; never says [`RecvError::Disconnected`] because of a death.
    pub fn peek_encoded(&self, into: &mut Vec<u8>) -> Result<Vec<OwnedFd>, RecvError> {
        if self.ring.is_empty() {
            return Err(RecvError::Empty);
        }
        self.recv_raw(&mut self.inbox.lock(), into, Some(Instant::now()))
    }

    /// Receives the next message as bytes into `buffer` and returns its length. Python: `recv_bytes_into()`.
    ///
    /// # Errors
    /// [`RecvError::BufferTooShort`] carries a message that is longer than the buffer; else as [`Receiver::recv`].
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let message = self.recv_bytes()?;
        match buffer.get_mut(..message.len()) {
            Some(place) => {
                place.copy_from_slice(&message);
                Ok(message.len())
            }
            None => Err(RecvError::BufferTooShort { message, buffer: buffer.len() }),
        }
    }

    /// Waits at most for `timeout` until there is something to receive, a message or the end; whether there is.
    ///
    /// # Errors
    /// [`RecvError::System`] or [`RecvError::Corrupt`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        let deadline = Instant::now().checked_add(timeout);
        let mut inbox = self.inbox.lock();
        loop {
            let puts = self.ring.puts();
            if !self.ring.is_empty() || self.ring.is_closed() {
                return Ok(true);
            }
            match self.sleep(&mut inbox, puts, deadline)? {
                Slept::Look => {}
                Slept::TimedOut => return Ok(false),
                Slept::Alone => return Ok(true),
            }
        }
    }

    fn recv_raw(
        &self,
        inbox: &mut Inbox,
        into: &mut Vec<u8>,
        deadline: Option<Instant>,
    ) -> Result<Vec<OwnedFd>, RecvError> {
        let mut alone = false;
        loop {
            let puts = self.ring.puts();
            let mut fds = Vec::new();
            let got = self.ring.try_get(into, &mut |tag| {
                if tag != 0 {
                    // They were sent before the message was committed: they are here.
                    self.collect(inbox)?;
                    fds = inbox.handles.remove(&tag).unwrap_or_default();
                }
                Ok(())
            })?;
            if let Some(tag) = got {
                return Bundle::unpack(tag, fds).map_err(RecvError::Handles);
            }
            if alone {
                return Err(RecvError::Disconnected);
            }
            match self.sleep(inbox, puts, deadline)? {
                Slept::Look => {}
                Slept::TimedOut => return Err(RecvError::Empty),
                // What the other end sent before its end is still to be received.
                Slept::Alone => alone = true,
            }
        }
    }

    /// Waits until there may be a message beyond `puts`.
    fn sleep(&self, inbox: &mut Inbox, puts: u32, deadline: Option<Instant>) -> Result<Slept, RecvError> {
        let passed = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if !passed && self.ring.spin(puts) || !self.ring.arm(puts) {
            return Ok(Slept::Look);
        }
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut socket = [PollFd::new(&*self.socket, PollFlags::IN)];
            match poll(&mut socket, timeout.as_ref()) {
                Ok(0) if left.is_some_and(|left| !left.is_zero()) && deadline > Some(Instant::now()) => {
                    continue;
                }
                Ok(0) => return Ok(Slept::TimedOut),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(RecvError::System(error.into())),
            }
            let alone = self.collect(inbox).map_err(RecvError::Handles)?;
            // Whoever rang has committed, or is dead, when its gate is free.
            self.ring.settle()?;
            return Ok(if alone { Slept::Alone } else { Slept::Look });
        }
    }

    /// Takes in what lies on the socket; whether the other end is gone.
    fn collect(&self, inbox: &mut Inbox) -> io::Result<bool> {
        let mut bytes = Vec::new();
        loop {
            match fds::recv(&*self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok(Some(fds)) => {
                    if let Some(tag) = bytes.first_chunk::<8>() {
                        inbox.handles.insert(u64::from_le_bytes(*tag), fds);
                    }
                }
                Ok(None) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message; blocks until there is one. Python: `recv()`.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] if the other end is gone and everything that it sent was received;
    /// [`RecvError::Decode`] if this message is not a `T`, the next one can be received then.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None)
    }

    /// Receives the next message if there is one.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; else as [`Receiver::recv`].
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Some(Instant::now()))
    }

    /// Receives the next message, waiting for it at most for `timeout`, never less.
    ///
    /// # Errors
    /// [`RecvError::Empty`] after the time-out; else as [`Receiver::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvError> {
        let locked = match deadline {
            None => Some(self.inbox.lock()),
            Some(deadline) => self.inbox.try_lock_until(deadline),
        };
        let mut inbox = locked.ok_or(RecvError::Empty)?;
        let mut bytes = std::mem::take(&mut inbox.bytes);
        bytes.clear();
        let received = self.recv_raw(&mut inbox, &mut bytes, deadline);
        drop(inbox);
        // The decoding runs the value's own code: no lock may be held.
        let result = received.and_then(|fds| Ok(transfer::decode(&bytes, fds)?));
        if bytes.capacity() <= KEPT {
            self.inbox.lock().bytes = bytes;
        }
        result
    }
}

enum Slept {
    Look,
    TimedOut,
    /// The other end is gone.
    Alone,
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if !*self.travelled.get_mut() {
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
        let inbox = self.inbox.lock();
        let mut handles = Vec::new();
        for (tag, fds) in &inbox.handles {
            handles.push((*tag, fds.iter().map(|fd| attach(fd.as_fd())).collect::<Result<Vec<_>, _>>()?));
        }
        let result = (&self.ring, socket, handles).serialize(serializer)?;
        self.travelled.store(true, Ordering::Relaxed);
        Ok(result)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Handles = Vec<(u64, Vec<Fd<OwnedFd>>)>;
        let (ring, socket, handles) = <(Ring, Fd<OwnedFd>, Handles)>::deserialize(deserializer)?;
        let receiver = Self::new(ring, Arc::new(socket.0));
        receiver.inbox.lock().handles =
            handles.into_iter().map(|(tag, fds)| (tag, fds.into_iter().map(|fd| fd.0).collect())).collect();
        Ok(receiver)
    }
}
