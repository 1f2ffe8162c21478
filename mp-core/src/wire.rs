//! The inherited socket between a process and the one that started it, and the frames on it.
//!
//! One frame goes down (what to run), two come up (it runs; how it went). Frames are small, so that nobody ever blocks
//! on the wire: what is large travels in a memfd whose descriptor is the frame's last.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{RecvFlags, SendFlags, SocketType},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{codec, error::PanicReport, fds, sys::image::Fingerprint, transfer::Parcel};

/// Above this, bytes travel in a memfd.
const INLINE: usize = 64 * 1024;

/// Frame 1, downwards.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) nonce: u64,
    pub(crate) image: Fingerprint,
    pub(crate) identity: Identity,
    pub(crate) trampoline: i64,
    /// The test that children of the new process are to run, under a test harness.
    pub(crate) test: Option<String>,
    /// Which of the streams 0, 1 and 2 come as descriptors, ahead of those of the arguments.
    pub(crate) streams: [bool; 3],
    pub(crate) arguments: Payload,
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
}

/// Frames upwards.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The call was understood, the function is about to run.
    Running,
    /// The call was not understood.
    Refused(String),
    Returned(Payload),
    Panicked(PanicReport),
    ResultNotSent(String),
}

/// Bytes of any length.
#[derive(Debug, Serialize, Deserialize)]
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
        let mut memory = File::from(memfd_create("mp-payload", MemfdFlags::CLOEXEC)?);
        memory.write_all(&parcel.bytes)?;
        fds.push(memory.into());
        Ok((Self::Memory(parcel.bytes.len() as u64), fds))
    }

    /// The reverse: the bytes, and the descriptors that belong to the value.
    pub(crate) fn unpack(self, mut fds: Vec<OwnedFd>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        match self {
            Self::Inline(bytes) => Ok((bytes, fds)),
            Self::Memory(len) => {
                let mut memory = File::from(fds.pop().ok_or(io::ErrorKind::InvalidData)?);
                memory.rewind()?;
                let mut bytes = Vec::new();
                let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)?;
                bytes.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
                memory.read_to_end(&mut bytes)?;
                if bytes.len() == len { Ok((bytes, fds)) } else { Err(io::ErrorKind::InvalidData.into()) }
            }
        }
    }
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
        let kind = rustix::net::sockopt::socket_type(&fd).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&fd).ok()?;
        (kind == SocketType::SEQPACKET && peer.uid == rustix::process::geteuid()).then_some(Self(fd))
    }

    pub(crate) fn send<T: Serialize>(&self, frame: &T, fds: &[OwnedFd]) -> io::Result<()> {
        let mut bytes = Vec::new();
        codec::append(frame, &mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        fds::send(&self.0, &bytes, &fds, SendFlags::empty())
    }

    /// The next frame and its descriptors; `None` when the other end is gone.
    pub(crate) fn recv<T: DeserializeOwned>(
        &self,
        flags: RecvFlags,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = Vec::new();
        let received = match fds::recv(&self.0, &mut bytes, flags) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            received => received?,
        };
        let Some(fds) = received else { return Ok(None) };
        let frame = codec::read(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        Ok(Some((frame, fds)))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
