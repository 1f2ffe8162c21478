//! The receiving end.

use std::{
    fmt, io,
    marker::PhantomData,
    time::{Duration, Instant},
};

use ipc_channel::{IpcError, TryRecvError, ipc::IpcReceiver};
use mp_core::{
    os::{
        self,
        event::PollFlags,
        fd::{AsFd, BorrowedFd, OwnedFd},
    },
    transfer::{self, Fd},
};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{Packet, exchange, unpack, wait_for};
use crate::error::RecvError;

/// Receives what all [`ChannelSender`](super::ChannelSender)s send, in the order of the sends; made by [`channel`](super::channel()).
///
/// May be shared by threads; each message goes to one of them. It travels as an argument and in messages; the one who sent
/// it away should drop it.
///
/// As a descriptor ([`AsFd`]) it is readable when there is something to receive, or the end. Python: the reading side of a
/// `SimpleQueue`.
///
/// ```
/// use mp_pipe::{Source, channel, wait};
///
/// let (sender, receiver) = channel::<u32>()?;
/// sender.send(&1)?;
/// assert_eq!(wait(&[Source::fd(&receiver)], None)?, [0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChannelReceiver<T> {
    ipc: Mutex<IpcReceiver<Packet>>,
    /// The same socket.
    socket: OwnedFd,
    messages: PhantomData<fn() -> T>,
}

impl<T> ChannelReceiver<T> {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let ipc = exchange::import_receiver(socket.try_clone()?)?.to();
        Ok(Self { ipc: Mutex::new(ipc), socket, messages: PhantomData })
    }

    /// Waits at most for `timeout` until there is something to receive, a message or the end; whether there is.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (sender, receiver) = mp_pipe::channel::<u32>()?;
    /// assert!(!receiver.poll(Duration::ZERO)?);
    /// sender.send(&1)?;
    /// assert!(receiver.poll(Duration::MAX)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::System`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        wait_for(&self.socket, PollFlags::IN, Instant::now().checked_add(timeout)).map_err(RecvError::System)
    }
}

impl<T: DeserializeOwned> ChannelReceiver<T> {
    /// Receives the next message; blocks until there is one.
    ///
    /// ```
    /// let (sender, receiver) = mp_pipe::channel::<u32>()?;
    /// sender.send(&1)?;
    /// drop(sender);
    /// assert_eq!(receiver.recv()?, 1);
    /// assert!(receiver.recv().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] if all senders are gone and everything that they sent was received;
    /// [`RecvError::Decode`] or [`RecvError::Handles`] if this message cannot be used, the next one can be received then.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None)
    }

    /// Receives the next message if there is one.
    ///
    /// ```
    /// use mp_pipe::{RecvError, channel};
    ///
    /// let (_sender, receiver) = channel::<u32>()?;
    /// assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; else as [`ChannelReceiver::recv`].
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Some(Instant::now()))
    }

    /// Receives the next message, waiting for it at most for `timeout`, never less.
    ///
    /// ```
    /// use mp_pipe::{RecvError, channel};
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = channel::<u32>()?;
    /// let outcome = receiver.recv_timeout(Duration::from_millis(5));
    /// assert!(matches!(outcome, Err(RecvError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::Empty`] after the time-out; else as [`ChannelReceiver::recv`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvError> {
        let packet = self.recv_packet(deadline)?;
        let (bytes, fds) = unpack(packet).map_err(RecvError::Handles)?;
        Ok(transfer::decode(&bytes, fds)?)
    }

    fn recv_packet(&self, deadline: Option<Instant>) -> Result<Packet, RecvError> {
        let locked = match deadline {
            None => Some(self.ipc.lock()),
            Some(deadline) => self.ipc.try_lock_until(deadline),
        };
        let ipc = locked.ok_or(RecvError::Empty)?;
        loop {
            let outcome = if deadline.is_none() {
                exchange::receive(|| ipc.recv())
            } else {
                if !wait_for(&self.socket, PollFlags::IN, deadline).map_err(RecvError::System)? {
                    return Err(RecvError::Empty);
                }
                exchange::receive(|| match ipc.try_recv() {
                    Ok(packet) => Ok(packet),
                    Err(TryRecvError::IpcError(error)) => Err(error),
                    Err(TryRecvError::Empty) => Err(IpcError::Io(io::ErrorKind::WouldBlock.into())),
                })
            };
            return match outcome {
                Ok(packet) => Ok(packet),
                Err(IpcError::Disconnected) => Err(RecvError::Disconnected),
                Err(IpcError::Io(error)) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        // Also if somebody made the descriptor non-blocking.
                        wait_for(&self.socket, PollFlags::IN, deadline).map_err(RecvError::System)?;
                        continue;
                    }
                    io::ErrorKind::ConnectionReset => Err(RecvError::Disconnected),
                    _ if error.raw_os_error() == Some(os::io::Errno::MFILE.raw_os_error()) => {
                        Err(RecvError::Handles(error))
                    }
                    _ => Err(RecvError::System(error)),
                },
                Err(_) => Err(RecvError::Corrupt),
            };
        }
    }
}

impl<T> AsFd for ChannelReceiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> fmt::Debug for ChannelReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelReceiver").field("socket", &self.socket).finish()
    }
}

impl<T> Serialize for ChannelReceiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let socket = transfer::attach_fd(self.socket.as_fd()).map_err(serde::ser::Error::custom)?;
        socket.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for ChannelReceiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let socket = Fd::<OwnedFd>::deserialize(deserializer)?;
        Self::new(socket.0).map_err(serde::de::Error::custom)
    }
}
