//! Packets with descriptors over a SEQPACKET socket, however many descriptors there are.
//!
//! The kernel passes at most 253 descriptors with one packet. A message with more is followed by packets that carry
//! nothing else; its first packet says how many are to come. Both directions retry on EINTR, and a peer that is gone is
//! an error, never a signal.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    os::{
        self,
        fd::{AsFd, BorrowedFd, OwnedFd},
        io::{Errno, retry_on_intr},
        net::{
            AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
            SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
            socketpair,
        },
    },
    sys::process::above_streams,
    transfer::Handle,
};

/// The kernel's SCM_MAX_FD.
const PER_PACKET: usize = 253;
/// The longest packet that fits a socket's default buffer with room to spare.
pub const MAX_PACKET: usize = 128 * 1024;

/// Sends `bytes` (at most [`MAX_PACKET`]) and duplicates of `fds` as one message; may block while the socket's buffer is full.
///
/// # Errors
/// What the kernel says: the peer is gone (`BrokenPipe`), the message is too long, too many descriptors are in flight.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let count = u32::try_from(fds.len()).map_err(|_| Errno::INVAL)?.to_le_bytes();
    let mut groups = fds.chunks(PER_PACKET);
    let first = groups.next().unwrap_or_default();
    send_packet(&socket, &[IoSlice::new(&count), IoSlice::new(bytes)], first, flags)?;
    for group in groups {
        send_packet(&socket, &[IoSlice::new(&count)], group, flags)?;
    }
    Ok(())
}

/// Whether a descriptor leads to a socket at all. Code that closes all descriptors may have given the number to another file.
#[must_use]
pub fn is_socket(fd: impl AsFd) -> bool {
    const KIND: u32 = 0o170_000;
    const SOCKET: u32 = 0o140_000;
    os::fs::fstat(fd).is_ok_and(|stat| stat.st_mode & KIND == SOCKET)
}

fn send_packet(
    socket: impl AsFd,
    bytes: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); os::cmsg_space!(ScmRights(PER_PACKET))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL.into());
    }
    let flags = flags | SendFlags::NOSIGNAL;
    retry_on_intr(|| sendmsg(&socket, bytes, &mut control, flags))?;
    Ok(())
}

/// Receives one message into `buffer` (replacing what it held); `None` at the end, when all senders are gone.
///
/// With [`RecvFlags::DONTWAIT`], a message of more than 253 descriptors must be there with all of them.
///
/// # Errors
/// What the kernel says (`WouldBlock` with [`RecvFlags::DONTWAIT`]), or `InvalidData` if the message is not whole: cut
/// short, or lacking descriptors because this process may open no more.
pub fn recv(socket: impl AsFd, buffer: &mut Vec<u8>, flags: RecvFlags) -> io::Result<Option<Vec<OwnedFd>>> {
    recv_up_to(MAX_PACKET + 4, socket, buffer, flags)
}

/// As [`recv`], for a message whose first packet has at most `limit` bytes, its header of four included.
///
/// # Errors
/// As for [`recv`].
pub fn recv_up_to(
    limit: usize,
    socket: impl AsFd,
    buffer: &mut Vec<u8>,
    flags: RecvFlags,
) -> io::Result<Option<Vec<OwnedFd>>> {
    recv_message(limit, socket, buffer, flags, true)
}

/// As [`recv`], for what a [`Bundle`] or a bell sends: one packet, whatever it says of more.
///
/// # Errors
/// As for [`recv`].
pub fn recv_small(
    socket: impl AsFd,
    buffer: &mut Vec<u8>,
    flags: RecvFlags,
) -> io::Result<Option<Vec<OwnedFd>>> {
    recv_message(4 + size_of::<u64>(), socket, buffer, flags, false)
}

/// `more`: whether packets may follow the first one.
fn recv_message(
    limit: usize,
    socket: impl AsFd,
    buffer: &mut Vec<u8>,
    flags: RecvFlags,
    more: bool,
) -> io::Result<Option<Vec<OwnedFd>>> {
    buffer.resize(limit, 0);
    let mut fds = Vec::new();
    let len = recv_packet(&socket, buffer, &mut fds, flags)?;
    if len == 0 {
        buffer.clear();
        return Ok(None);
    }
    buffer.truncate(len);
    let header = buffer.first_chunk::<4>().copied().ok_or(io::ErrorKind::InvalidData)?;
    let count = u32::from_le_bytes(header) as usize;
    buffer.drain(..4);
    while fds.len() < count {
        if !more {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let before = fds.len();
        let len = match recv_packet(&socket, &mut [0; 4], &mut fds, flags) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(missing_descriptors()),
            len => len?,
        };
        if len != 4 || fds.len() == before {
            return Err(missing_descriptors());
        }
    }
    if fds.len() > count { Err(io::ErrorKind::InvalidData.into()) } else { Ok(Some(fds)) }
}

/// Whether a receive has failed because its packet was not one of [`send`]'s, and not because this process may open no more
/// descriptors.
#[must_use]
pub fn is_malformed(error: &io::Error) -> bool {
    // That of `missing_descriptors` says more than its kind.
    error.kind() == io::ErrorKind::InvalidData && error.get_ref().is_none()
}

fn missing_descriptors() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a message arrived without all its descriptors: this process may not open so many, or it was not sent whole",
    )
}

fn recv_packet(
    socket: impl AsFd,
    into: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    flags: RecvFlags,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); os::cmsg_space!(ScmRights(PER_PACKET))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let mut receive =
        || retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(into)], &mut control, flags));
    let received = match receive() {
        // Says, once, that the peer has ended with packets that it had not read. What it sent before is there all the same.
        Err(Errno::CONNRESET) => receive()?,
        outcome => outcome?,
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            for fd in rights {
                fds.push(above_streams(fd).map_err(|_| missing_descriptors())?);
            }
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(missing_descriptors());
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(received.bytes)
}

/// A connected pair of SEQPACKET sockets, closed on exec, and above the standard streams.
///
/// # Errors
/// What the kernel says: no descriptors left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((above_streams(near)?, above_streams(far)?))
}

/// The handles of one message, packed so that one packet carries them: more than fit are put into a *bag*, a socket that
/// holds them.
#[derive(Debug)]
pub struct Bundle {
    tag: u64,
    packed: Packed,
}

#[derive(Debug)]
enum Packed {
    Few(Vec<Handle>),
    Many(OwnedFd),
}

impl Bundle {
    /// Packs `handles` under a tag that no other message bears, most likely, and in which the bit of 2 is set.
    ///
    /// # Errors
    /// What the kernel says: no descriptors left, or too many in flight.
    pub fn pack(handles: Vec<Handle>) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let random = RandomState::new().hash_one((std::process::id(), number));
        // The lowest bit says whether there is a bag; the next one that it is a tag.
        let tag = (random | 2) & !1;
        if handles.len() <= PER_PACKET {
            return Ok(Self { tag, packed: Packed::Few(handles) });
        }
        let (bag, mouth) = pair()?;
        let fds: Vec<BorrowedFd<'_>> = handles.iter().map(AsFd::as_fd).collect();
        send(&mouth, &[], &fds, SendFlags::DONTWAIT)?;
        Ok(Self { tag: tag | 1, packed: Packed::Many(bag) })
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Sends the tag and the handles as one packet.
    ///
    /// # Errors
    /// As for [`send`]; `WouldBlock` with [`SendFlags::DONTWAIT`].
    pub fn send(&self, socket: impl AsFd, flags: SendFlags) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = match &self.packed {
            Packed::Few(handles) => handles.iter().map(AsFd::as_fd).collect(),
            Packed::Many(bag) => vec![bag.as_fd()],
        };
        send(socket, &self.tag.to_le_bytes(), &fds, flags)
    }

    /// The descriptors of the message with this tag, from those that came in its packet.
    ///
    /// # Errors
    /// The bag is not one, or this process may not open so many descriptors.
    pub fn unpack(tag: u64, fds: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
        if tag & 1 == 0 {
            return Ok(fds);
        }
        let bag = fds.first().ok_or(io::ErrorKind::InvalidData)?;
        recv(bag, &mut Vec::new(), RecvFlags::DONTWAIT)?.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
