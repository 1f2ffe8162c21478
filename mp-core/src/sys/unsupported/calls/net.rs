//! Sockets, and the descriptors beside their messages.

use std::{
    io::{IoSlice, IoSliceMut},
    marker::PhantomData,
    mem::MaybeUninit,
    path::Path,
};

use super::{AsFd, BorrowedFd, OwnedFd, Result, UNSUPPORTED};

flags! {
    AddressFamily: UNIX;
    RecvFlags: CMSG_CLOEXEC DONTWAIT PEEK TRUNC;
    ReturnFlags: CTRUNC TRUNC;
    SendFlags: DONTWAIT NOSIGNAL;
    SocketFlags: CLOEXEC NONBLOCK;
    SocketType: SEQPACKET STREAM;
}

pub struct SendAncillaryBuffer<'buf, 'slice, 'fd>(PhantomData<(&'buf (), &'slice (), &'fd ())>);

#[non_exhaustive]
pub enum SendAncillaryMessage<'slice, 'fd> {
    ScmRights(&'slice [BorrowedFd<'fd>]),
}

impl<'buf, 'slice, 'fd> SendAncillaryBuffer<'buf, 'slice, 'fd> {
    pub fn new(_: &'buf mut [MaybeUninit<u8>]) -> Self {
        Self(PhantomData)
    }

    pub fn push(&mut self, _: SendAncillaryMessage<'slice, 'fd>) -> bool {
        false
    }
}

pub struct RecvAncillaryBuffer<'buf>(PhantomData<&'buf ()>);

#[non_exhaustive]
pub enum RecvAncillaryMessage {
    ScmRights(std::vec::IntoIter<OwnedFd>),
    ScmCredentials,
}

impl<'buf> RecvAncillaryBuffer<'buf> {
    pub fn new(_: &'buf mut [MaybeUninit<u8>]) -> Self {
        Self(PhantomData)
    }

    pub fn drain(&mut self) -> impl Iterator<Item = RecvAncillaryMessage> {
        std::iter::empty()
    }
}

#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RecvMsg {
    pub bytes: usize,
    pub flags: ReturnFlags,
}

#[derive(Debug, Clone)]
pub struct SocketAddrUnix(());

impl SocketAddrUnix {
    pub fn new(_: impl AsRef<Path>) -> Result<Self> {
        Err(UNSUPPORTED)
    }

    pub fn new_abstract_name(_: &[u8]) -> Result<Self> {
        Err(UNSUPPORTED)
    }
}

pub fn socketpair(
    _: AddressFamily,
    _: SocketType,
    _: SocketFlags,
    _: Option<()>,
) -> Result<(OwnedFd, OwnedFd)> {
    Err(UNSUPPORTED)
}

pub fn socket_with(_: AddressFamily, _: SocketType, _: SocketFlags, _: Option<()>) -> Result<OwnedFd> {
    Err(UNSUPPORTED)
}

pub fn bind(_: impl AsFd, _: &SocketAddrUnix) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn connect(_: impl AsFd, _: &SocketAddrUnix) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn listen(_: impl AsFd, _: i32) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn accept_with(_: impl AsFd, _: SocketFlags) -> Result<OwnedFd> {
    Err(UNSUPPORTED)
}

#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Shutdown {
    Both,
}

pub fn shutdown(_: impl AsFd, _: Shutdown) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn recv(_: impl AsFd, _: &mut [u8], _: RecvFlags) -> Result<(usize, usize)> {
    Err(UNSUPPORTED)
}

pub fn sendmsg(
    _: impl AsFd,
    _: &[IoSlice<'_>],
    _: &mut SendAncillaryBuffer<'_, '_, '_>,
    _: SendFlags,
) -> Result<usize> {
    Err(UNSUPPORTED)
}

pub fn recvmsg(
    _: impl AsFd,
    _: &mut [IoSliceMut<'_>],
    _: &mut RecvAncillaryBuffer<'_>,
    _: RecvFlags,
) -> Result<RecvMsg> {
    Err(UNSUPPORTED)
}

pub mod sockopt {
    use super::{
        super::process::{Pid, Uid},
        AsFd, Result, SocketType, UNSUPPORTED,
    };

    #[derive(Debug, Clone, Copy)]
    #[non_exhaustive]
    pub struct UCred {
        pub pid: Pid,
        pub uid: Uid,
    }

    #[derive(Debug, Clone, Copy)]
    #[non_exhaustive]
    pub enum Timeout {
        Send,
    }

    pub fn set_socket_timeout(_: impl AsFd, _: Timeout, _: Option<std::time::Duration>) -> Result<()> {
        Err(UNSUPPORTED)
    }

    pub fn socket_type(_: impl AsFd) -> Result<SocketType> {
        Err(UNSUPPORTED)
    }

    pub fn socket_peercred(_: impl AsFd) -> Result<UCred> {
        Err(UNSUPPORTED)
    }
}
