//! Many senders, one receiver, on [ipc-channel](https://docs.rs/ipc-channel).
//!
//! Every message is one packet of a socket, so it arrives whole or not at all, whoever dies when: what does not fit a
//! packet goes into memory of its own, and the handles that a value contains into a *bag*, a socket that holds them. So the
//! limits of ipc-channel (64 handles, large messages that block until they are read and are torn by the sender's death)
//! are never met, and no user's code runs inside of it.

mod exchange;
mod receiver;
mod sender;

pub use receiver::ChannelReceiver;
pub use sender::ChannelSender;

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, Write},
    sync::Arc,
    time::Instant,
};

use ipc_channel::ipc::OpaqueIpcSender;
use mp_core::{
    fds,
    os::{
        self,
        event::{PollFd, PollFlags, poll},
        fd::{AsFd, BorrowedFd, OwnedFd},
        fs::{MemfdFlags, Stat, fcntl_get_seals, fstat, memfd_create},
        net::{RecvFlags, SendFlags},
        time::Timespec,
    },
    transfer::Handle,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::ChannelError;

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
/// **A channel trusts its peers**: ipc-channel believes what stands in a packet's header. Who writes packets of his own to the
/// socket of a sender can crash the receiver or let it wait for ever, and there is no defence. For peers that are no parts of
/// the program take a [`pipe`](crate::pipe()).
///
/// # Errors
/// [`ChannelError`]: no descriptors left; or, the first time in a process, the address by which ipc-channel connects is
/// taken, and there is no directory for temporary files.
pub fn channel<T>() -> Result<(ChannelSender<T>, ChannelReceiver<T>), ChannelError> {
    let (left, right) = fds::pair().map_err(ChannelError::Sockets)?;
    Ok((
        ChannelSender::new(left).map_err(ChannelError::Exchange)?,
        ChannelReceiver::new(right).map_err(ChannelError::Exchange)?,
    ))
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
    let memory = File::from(fds.remove(0));
    Ok((read_memory(memory)?, fds))
}

/// What [`pack`] has put aside, and nothing else: that could block, or have no end.
fn read_memory(mut memory: File) -> io::Result<Vec<u8>> {
    let Stat { st_size, st_blocks, .. } = fstat(&memory)?;
    // Only memory has seals. Where it has no holes, its sender has paid for it as its receiver will.
    if fcntl_get_seals(&memory).is_err() || st_blocks.saturating_mul(512) < st_size {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "what lies outside of it is not the memory of a message",
        ));
    }
    let len = usize::try_from(st_size).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len)?;
    memory.rewind()?;
    memory.take(len as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
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
