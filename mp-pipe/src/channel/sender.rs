//! The sending ends.

use std::{
    borrow::Borrow,
    fmt, io,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use ipc_channel::ipc::IpcSender;
use mp_core::{
    os::{
        event::PollFlags,
        fd::{AsFd, OwnedFd},
        io::ioctl_fionbio,
    },
    transfer::{self, Fd},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Packet, exchange, pack, wait_for};
use crate::error::SendError;

/// Sends to the one [`ChannelReceiver`](super::ChannelReceiver); made by [`channel`](super::channel()).
///
/// A clone is cheap; one that arrives in another process takes two descriptors there. Python: the writing side of a
/// `SimpleQueue`.
///
/// ```
/// let (sender, receiver) = mp_pipe::channel::<u32>()?;
/// let clone = sender.clone();
/// sender.send(&1)?;
/// clone.send(&2)?;
/// assert_eq!((receiver.recv()?, receiver.recv()?), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChannelSender<T> {
    inner: Arc<Inner>,
    messages: PhantomData<fn(T)>,
}

struct Inner {
    ipc: IpcSender<Packet>,
    /// The same socket; it does not block, so that ipc-channel's send does not.
    socket: OwnedFd,
}

impl<T> ChannelSender<T> {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        let ipc = exchange::import_sender(socket.try_clone()?)?.to();
        Ok(Self { inner: Arc::new(Inner { ipc, socket }), messages: PhantomData })
    }

    /// Sends a value.
    ///
    /// **Blocks while the channel is full**, which on Linux it is with some two hundred small messages, or a hundred
    /// kilobytes, that nobody has received; messages of more than 64 KiB count little, since they lie outside. Nobody waits
    /// in vain: if the receiver dies, this is [`SendError::Disconnected`] at once.
    ///
    /// ```
    /// let (sender, receiver) = mp_pipe::channel::<String>()?;
    /// sender.clone().send("one of many")?;
    /// assert_eq!(receiver.recv()?, "one of many");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Disconnected`] if the receiver is gone; else see [`SendError`]. Nothing was sent then. Sending to nobody
    /// raises SIGPIPE in a program that does not ignore it; Rust programs do, unless they changed it.
    pub fn send<Q>(&self, value: &Q) -> Result<(), SendError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.send_until(value, None)
    }

    /// Sends a value if there is room; does not block, however many others send at the same time. (The crate's README names
    /// the exception.)
    ///
    /// ```
    /// use mp_pipe::{SendError, channel};
    ///
    /// let (sender, _receiver) = channel::<u32>()?;
    /// while sender.try_send(&1).is_ok() {}
    /// assert!(matches!(sender.try_send(&1), Err(SendError::Full)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] if there is none; else as [`ChannelSender::send`].
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
    /// use std::time::Duration;
    ///
    /// let (sender, receiver) = mp_pipe::channel::<u32>()?;
    /// sender.send_timeout(&1, Duration::from_secs(1))?;
    /// assert_eq!(receiver.recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError::Full`] after the time-out; else as [`ChannelSender::send`].
    pub fn send_timeout<Q>(&self, value: &Q, timeout: Duration) -> Result<(), SendError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.send_until(value, Instant::now().checked_add(timeout))
    }

    fn send_until<Q: Serialize + ?Sized>(
        &self,
        value: &Q,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        let parcel = transfer::encode(value)?;
        let packet = pack(parcel.bytes, parcel.handles).map_err(SendError::Handles)?;
        loop {
            let Err(error) = self.inner.ipc.send(packet.clone()) else { return Ok(()) };
            let error = exchange::into_io(error);
            // A packet is sent or not sent: nothing was.
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return Err(SendError::Full);
                }
                io::ErrorKind::WouldBlock => {
                    wait_for(&self.inner.socket, PollFlags::OUT, deadline).map_err(SendError::Handles)?;
                }
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    return Err(SendError::Disconnected);
                }
                _ => return Err(SendError::Handles(error)),
            }
        }
    }
}

impl<T> Clone for ChannelSender<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), messages: PhantomData }
    }
}

impl<T> fmt::Debug for ChannelSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSender").field("socket", &self.inner.socket).finish()
    }
}

impl<T> Serialize for ChannelSender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let socket = transfer::attach_fd(self.inner.socket.as_fd()).map_err(serde::ser::Error::custom)?;
        socket.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for ChannelSender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let socket = Fd::<OwnedFd>::deserialize(deserializer)?;
        Self::new(socket.0).map_err(serde::de::Error::custom)
    }
}
