//! The inherited socket between a process and the one that started it, and the frames on it.
//!
//! One frame goes down (what to run), one comes up (how it went). Frames are small, so that nobody ever blocks on the
//! wire: what is large travels in a memfd whose descriptor is the frame's last. That a process has read its frame is
//! its handshake: the kernel tells the sender when a process ends with the frame unread, and on demand whether it is.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    ops::Deref,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    codec,
    error::{PanicReport, Refusal},
    fds,
    limits::Limits,
    os::{
        self,
        fd::{AsFd, BorrowedFd, OwnedFd},
        fs::{MemfdFlags, memfd_create},
        io::{Errno, retry_on_intr},
        net::{RecvFlags, SendFlags, SocketType},
    },
    start::StartMethod,
    sys::{
        image::Fingerprint,
        memory::set_len,
        process::is_unread,
        sealed::{self, Sealed},
    },
    transfer::Parcel,
};

/// Above this, bytes travel in a memfd.
const INLINE: usize = 64 * 1024;

/// Frame 1, downwards.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) nonce: u64,
    pub(crate) image: Fingerprint,
    pub(crate) identity: Identity,
    /// The test that children of the new process are to run, under a test harness.
    pub(crate) test: Option<String>,
    pub(crate) work: Work,
}

/// What a new process is for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    Call(Call),
    /// To be the fork server; the descriptor is the memory in which the process that it made last is noted.
    Serve,
}

/// The call of a function, and what has to be set up around it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) trampoline: i64,
    pub(crate) arguments: Payload,
    /// Which of the streams 0, 1 and 2 come as descriptors, ahead of those of the arguments.
    pub(crate) streams: [bool; 3],
    pub(crate) limits: Limits,
    /// For a process that was forked: its descriptors begin with the wire and the working directory.
    pub(crate) surroundings: Option<Surroundings>,
}

/// What a process that was forked has to take over from the process that asked for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    /// Whether the server's environment is to be dropped.
    pub(crate) clear: bool,
    /// Names with their values, or with nothing if they are to be removed.
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
}

/// Who a process is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) parent_name: String,
    pub(crate) parent_pid: u32,
    pub(crate) depth: u32,
    pub(crate) daemon: bool,
    pub(crate) detached: bool,
    /// How the process itself is started.
    pub(crate) method: StartMethod,
    /// How its children are started unless they ask for something else.
    pub(crate) children: StartMethod,
}

/// The frame upwards.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The call was not made.
    Refused(Refusal),
    Returned(Payload),
    Panicked(PanicReport),
    ResultNotSent(String),
}

/// Bytes of any length.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Payload {
    Inline(Vec<u8>),
    /// In the frame's last descriptor, a memfd.
    Memory(u64),
}

impl Payload {
    /// Splits a parcel into what stands in the frame and the descriptors that go with it.
    pub(crate) fn pack(parcel: Parcel) -> io::Result<(Self, Vec<OwnedFd>)> {
        let mut fds =
            parcel.handles.into_iter().map(|handle| handle.into_fd()).collect::<io::Result<Vec<_>>>()?;
        if parcel.bytes.len() <= INLINE {
            return Ok((Self::Inline(parcel.bytes), fds));
        }
        fds.push(memory_with(&parcel.bytes)?);
        Ok((Self::Memory(parcel.bytes.len() as u64), fds))
    }

    /// The reverse: the bytes, and the descriptors that belong to the value.
    pub(crate) fn unpack(self, mut fds: Vec<OwnedFd>) -> io::Result<(Bytes, Vec<OwnedFd>)> {
        match self {
            Self::Inline(bytes) => Ok((Bytes::Own(bytes), fds)),
            Self::Memory(len) => {
                let bytes = contents(fds.pop().as_ref())?;
                if bytes.len() as u64 == len {
                    Ok((bytes, fds))
                } else {
                    Err(io::ErrorKind::InvalidData.into())
                }
            }
        }
    }
}

/// Bytes that arrived.
#[derive(Debug)]
pub(crate) enum Bytes {
    Own(Vec<u8>),
    Mapped(Sealed),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

pub(crate) fn memory_with(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut memory = File::from(memfd_create("mp-payload", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    set_len(&memory, bytes.len() as u64)?;
    memory.write_all(bytes)?;
    sealed::seal(&memory)?;
    Ok(memory.into())
}

pub(crate) fn contents(memory: Option<&OwnedFd>) -> io::Result<Bytes> {
    Ok(Bytes::Mapped(Sealed::new(memory.ok_or(io::ErrorKind::InvalidData)?)?))
}

/// What one look at the wire brought.
#[derive(Debug)]
pub(crate) enum Heard<T> {
    Frame(T, Vec<OwnedFd>),
    /// The other end is gone.
    End,
    /// The other end went before it had read what was sent to it; frames may still follow.
    Unread,
}

/// One end of the wire.
#[derive(Debug)]
pub(crate) struct Wire(OwnedFd);

impl Wire {
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = fds::pair()?;
        Ok((Self(ours), theirs))
    }

    /// The wire that this process was started with, if `fd` really is one: a socket whose other end belongs to the same
    /// user.
    pub(crate) fn genuine(fd: OwnedFd) -> Option<Self> {
        let kind = os::net::sockopt::socket_type(&fd).ok()?;
        let peer = os::net::sockopt::socket_peercred(&fd).ok()?;
        (kind == SocketType::SEQPACKET && peer.uid == os::process::geteuid()).then_some(Self(fd))
    }

    /// The wire that came with a request to fork.
    pub(crate) fn given(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(crate) fn send<T: Serialize>(&self, frame: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = vec![0];
        codec::append(frame, &mut bytes).map_err(|error| io::Error::other(error.cause()))?;
        if bytes.len() <= 2 * INLINE {
            return fds::send(&self.0, &bytes, fds, SendFlags::empty());
        }
        let memory = memory_with(&bytes[1..])?;
        let fds: Vec<_> = fds.iter().copied().chain([memory.as_fd()]).collect();
        fds::send(&self.0, &[1], &fds, SendFlags::empty())
    }

    /// Whether something that was sent has not been received yet.
    pub(crate) fn is_unread(&self) -> bool {
        is_unread(&self.0)
    }

    /// The next frame and its descriptors.
    pub(crate) fn recv<T: DeserializeOwned>(&self, flags: RecvFlags) -> io::Result<Heard<T>> {
        // The length first: a buffer for the longest frame would cost more than all the rest.
        let peek = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
        let len = match retry_on_intr(|| os::net::recv(&self.0, &mut [0_u8; 1], peek)) {
            Ok((_, len)) => len,
            Err(Errno::CONNRESET) => return Ok(Heard::Unread),
            Err(error) => return Err(error.into()),
        };
        if len == 0 {
            return Ok(Heard::End);
        }
        let mut bytes = Vec::new();
        let Some(mut fds) = fds::recv_up_to(len, &self.0, &mut bytes, flags)? else { return Ok(Heard::End) };
        let bytes = match bytes.split_first() {
            Some((0, frame)) => frame,
            Some((1, [])) => &*contents(fds.pop().as_ref())?,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let frame =
            codec::read(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.cause()))?;
        Ok(Heard::Frame(frame, fds))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
