//! Many senders, one receiver, on [ipc-channel](https://docs.rs/ipc-channel).
//!
//! Every message is one packet of a socket, so it arrives whole or not at all, whoever dies when: what does not fit a
//! packet goes into memory of its own, and the handles that a value contains into a *bag*, a socket that holds them. So the
//! limits of ipc-channel (64 handles, large messages that block until they are read and are torn by the sender's death)
//! are never met, and no user's code runs inside of it.

mod exchange;

use std::{
    borrow::Borrow,
    fmt,
    fs::File,
    io::{self, Read, Seek, Write},
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use ipc_channel::{
    IpcError, TryRecvError,
    ipc::{IpcReceiver, IpcSender, OpaqueIpcSender},
};
use mp_core::{
    fds,
    os::{
        self,
        event::{PollFd, PollFlags, poll},
        fd::{AsFd, BorrowedFd, OwnedFd},
        fs::{MemfdFlags, memfd_create},
        net::{RecvFlags, SendFlags},
        time::Timespec,
    },
    transfer::{self, Fd, Handle},
};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::error::{ChannelError, RecvError, SendError};

/// Longer messages do not travel in the packet.
const INLINE: usize = 64 * 1024;

/// What ipc-channel carries.
#[derive(Clone, Serialize, Deserialize)]
struct Packet {
    bytes: Bytes,
    /// The bytes are in the first file of the bag.
    outside: bool,
    bag: Option<OpaqueIpcSender>,
}

/// Bytes that the codec copies in one go; a failed send has its packet again without a copy.
#[derive(Clone, Default)]
struct Bytes(Arc<Vec<u8>>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(Arc::new(bytes.to_vec())))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// Makes a channel: any number of senders, in any number of processes, and one receiver.
///
/// Where a [`pipe`](crate::pipe()) has one process at each end and takes less than a microsecond, a channel takes a system
/// call for each message and each receive. It is the thing for what many report to one: logs, progress, results.
///
/// ```
/// # mp_core::test_init!();
/// use mp_pipe::{ChannelSender, channel};
///
/// fn report(to: ChannelSender<(u32, String)>, worker: u32) {
///     to.send(&(worker, "done".to_owned())).unwrap();
/// }
///
/// let (sender, receiver) = channel()?;
/// for worker in 0..3 {
///     mp_core::spawn(report, (sender.clone(), worker))?;
/// }
/// drop(sender);
/// let mut reports = Vec::new();
/// while let Ok(report) = receiver.recv() {
///     reports.push(report);
/// }
/// reports.sort();
/// assert_eq!(reports[2], (2, "done".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ChannelError`]: no descriptors left, or, the first time in a process, no directory for temporary files.
pub fn channel<T>() -> Result<(ChannelSender<T>, ChannelReceiver<T>), ChannelError> {
    let (left, right) = fds::pair().map_err(ChannelError::Sockets)?;
    Ok((
        ChannelSender::new(left).map_err(ChannelError::Exchange)?,
        ChannelReceiver::new(right).map_err(ChannelError::Exchange)?,
    ))
}

/// Sends to the one [`ChannelReceiver`]; made by [`channel`].
///
/// A clone is cheap; one that arrives in another process takes two descriptors there.
pub struct ChannelSender<T> {
    inner: Arc<Inner>,
    messages: PhantomData<fn(T)>,
}

struct Inner {
    ipc: IpcSender<Packet>,
    /// The same socket.
    socket: OwnedFd,
}

impl<T> ChannelSender<T> {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        let ipc = exchange::import_sender(socket.try_clone()?)?.to();
        Ok(Self { inner: Arc::new(Inner { ipc, socket }), messages: PhantomData })
    }

    /// Sends a value.
    ///
    /// **Blocks while the channel is full**, which on Linux it is with some two hundred small messages, or a hundred
    /// kilobytes, that nobody has received; messages of more than 64 KiB count little, since they lie outside. Nobody waits
    /// in vain: if the receiver dies, this is [`SendError::Disconnected`] at once.
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

    /// Sends a value if there is room.
    ///
    /// There counts as being room while no more than a quarter of the channel's memory is in use, so that a packet surely
    /// fits. Should many senders see that at the same time, some of them may have to wait a little nevertheless.
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

    /// Sends a value, waiting for room at most for `timeout`, never less; see [`ChannelSender::try_send`].
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
        if deadline.is_some() {
            match wait_for(&self.inner.socket, PollFlags::OUT, deadline) {
                Ok(true) => {}
                Ok(false) => return Err(SendError::Full),
                Err(error) => return Err(SendError::Handles(error)),
            }
        }
        let packet = pack(parcel.bytes, parcel.handles).map_err(SendError::Handles)?;
        loop {
            let Err(error) = self.inner.ipc.send(packet.clone()) else { return Ok(()) };
            let error = exchange::into_io(error);
            match error.kind() {
                // A packet is sent or not sent: nothing was.
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    return Err(SendError::Disconnected);
                }
                _ => return Err(SendError::Handles(error)),
            }
        }
    }
}

/// Puts what does not fit a packet aside.
fn pack(bytes: Vec<u8>, handles: Vec<Handle>) -> io::Result<Packet> {
    let outside = bytes.len() > INLINE;
    if !outside && handles.is_empty() {
        return Ok(Packet { bytes: Bytes(Arc::new(bytes)), outside, bag: None });
    }
    let mut file = None;
    let mut inline = Bytes::default();
    if outside {
        let mut memory = File::from(memfd_create(c"mp-channel", MemfdFlags::CLOEXEC)?);
        memory.write_all(&bytes)?;
        file = Some(memory);
    } else {
        inline = Bytes(Arc::new(bytes));
    }
    let (bag, mouth) = fds::pair()?;
    let contents: Vec<BorrowedFd<'_>> =
        file.iter().map(AsFd::as_fd).chain(handles.iter().map(AsFd::as_fd)).collect();
    fds::send(&mouth, &[], &contents, SendFlags::DONTWAIT)?;
    Ok(Packet { bytes: inline, outside, bag: Some(exchange::import_sender(bag)?) })
}

fn unpack(packet: Packet) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let Some(bag) = packet.bag else { return Ok((Arc::unwrap_or_clone(packet.bytes.0), Vec::new())) };
    let bag = exchange::export_sender(bag)?;
    let fds = fds::recv(&bag, &mut Vec::new(), RecvFlags::DONTWAIT)?;
    let mut fds = fds.ok_or(io::ErrorKind::InvalidData)?;
    if !packet.outside {
        return Ok((Arc::unwrap_or_clone(packet.bytes.0), fds));
    }
    if fds.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut memory = File::from(fds.remove(0));
    memory.rewind()?;
    let mut bytes = Vec::new();
    memory.read_to_end(&mut bytes)?;
    Ok((bytes, fds))
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

/// Receives what all [`ChannelSender`]s send, in the order of the sends; made by [`channel`].
///
/// May be shared by threads; each message goes to one of them. It travels as an argument and in messages; the one who sent
/// it away should drop it.
///
/// As a descriptor ([`AsFd`]) it is readable when there is something to receive, or the end.
pub struct ChannelReceiver<T> {
    ipc: Mutex<IpcReceiver<Packet>>,
    /// The same socket.
    socket: OwnedFd,
    messages: PhantomData<fn() -> T>,
}

impl<T> ChannelReceiver<T> {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        let ipc = exchange::import_receiver(socket.try_clone()?)?.to();
        Ok(Self { ipc: Mutex::new(ipc), socket, messages: PhantomData })
    }

    /// Waits at most for `timeout` until there is something to receive, a message or the end; whether there is.
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
    /// # Errors
    /// [`RecvError::Disconnected`] if all senders are gone and everything that they sent was received;
    /// [`RecvError::Decode`] or [`RecvError::Handles`] if this message cannot be used, the next one can be received then.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None)
    }

    /// Receives the next message if there is one.
    ///
    /// # Errors
    /// [`RecvError::Empty`] if there is none; else as [`ChannelReceiver::recv`].
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Some(Instant::now()))
    }

    /// Receives the next message, waiting for it at most for `timeout`, never less.
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

/// Waits until the socket is ready, at most until `deadline`; a deadline that has passed still has one look.
fn wait_for(socket: &OwnedFd, events: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(socket, events)], timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(os::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
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
