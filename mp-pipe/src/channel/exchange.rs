//! Where descriptors become endpoints of ipc-channel, and endpoints descriptors.
//!
//! ipc-channel has no constructor from a descriptor and does not give one away, but its endpoints may be sent over its own
//! channels. So each process that needs it makes one channel of ipc-channel to itself, whose far ends are plain sockets:
//! a packet that is sent to one of them arrives as an endpoint, and an endpoint that is sent arrives at the other one as a
//! packet with a descriptor. What such a packet looks like is learnt from two that ipc-channel itself has written, so
//! nothing here knows its format.
//!
//! The only door that ipc-channel opens to the outside is a socket in a temporary directory; it exists for the moment that
//! it takes to connect, once per process.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    path::Path,
};

use ipc_channel::{
    IpcError,
    ipc::{self, IpcOneShotServer, IpcReceiver, IpcSender, OpaqueIpcReceiver, OpaqueIpcSender},
};
use mp_core::{
    catch_panic,
    os::{
        self,
        fd::{AsFd, OwnedFd},
        io::retry_on_intr,
        net::{
            AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
            SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
            connect, listen, recvmsg, sendmsg, socket_with,
        },
    },
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// An endpoint on its way.
#[derive(Serialize, Deserialize)]
enum Carried {
    Sender(OpaqueIpcSender),
    Receiver(OpaqueIpcReceiver),
}

struct Exchange {
    /// What is sent here arrives at `arrivals`.
    inwards: OwnedFd,
    arrivals: IpcReceiver<Carried>,
    /// What is sent here arrives at `outwards`.
    departures: IpcSender<Carried>,
    outwards: OwnedFd,
    /// What ipc-channel writes for a sender and for a receiver, beside the descriptor.
    sender: Vec<u8>,
    receiver: Vec<u8>,
}

static EXCHANGE: Mutex<Option<Exchange>> = Mutex::new(None);

/// The sending endpoint of the socket `fd`.
pub(super) fn import_sender(fd: OwnedFd) -> io::Result<OpaqueIpcSender> {
    with_exchange(|exchange| match exchange.import(&exchange.sender, fd)? {
        Carried::Sender(sender) => Ok(sender),
        Carried::Receiver(_) => Err(io::ErrorKind::InvalidData.into()),
    })
}

/// The receiving endpoint of the socket `fd`.
pub(super) fn import_receiver(fd: OwnedFd) -> io::Result<OpaqueIpcReceiver> {
    with_exchange(|exchange| match exchange.import(&exchange.receiver, fd)? {
        Carried::Receiver(receiver) => Ok(receiver),
        Carried::Sender(_) => Err(io::ErrorKind::InvalidData.into()),
    })
}

/// The socket of a sending endpoint.
pub(super) fn export_sender(sender: OpaqueIpcSender) -> io::Result<OwnedFd> {
    with_exchange(|exchange| {
        exchange.departures.send(Carried::Sender(sender)).map_err(into_io)?;
        Ok(read_packet(&exchange.outwards)?.1)
    })
}

/// What an error of ipc-channel says as an error of input and output.
pub(super) fn into_io(error: IpcError) -> io::Error {
    match error {
        IpcError::Io(error) => error,
        IpcError::Disconnected => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

fn with_exchange<R>(work: impl FnOnce(&Exchange) -> io::Result<R>) -> io::Result<R> {
    let mut slot = EXCHANGE.lock();
    let exchange = match slot.take() {
        Some(exchange) => exchange,
        None => loop {
            match Exchange::open() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        },
    };
    let outcome = work(&exchange);
    // After a failure something may lie in the sockets that belongs to nobody; the next one makes a new exchange.
    if outcome.is_ok() {
        *slot = Some(exchange);
    }
    outcome
}

impl Exchange {
    fn open() -> io::Result<Self> {
        // Where this fails, ipc-channel panics.
        if !std::env::temp_dir().metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let (server, name) = catch_panic(IpcOneShotServer::<Carried>::new)
            .map_err(|report| io::Error::other(report.message))??;
        let there = Path::new(&name);
        // In the directory that the server made and removes.
        let here = there.with_file_name("exchange");
        let listener = socket()?;
        bind(&listener, &SocketAddrUnix::new(&here)?)?;
        listen(&listener, 1)?;
        let departures = IpcSender::<Carried>::connect(here.to_string_lossy().into_owned())?;
        let outwards = retry_on_intr(|| accept_with(&listener, SocketFlags::CLOEXEC))?;
        let inwards = socket()?;
        retry_on_intr(|| connect(&inwards, &SocketAddrUnix::new(there)?))?;

        let (sender, receiver) = ipc::channel::<()>()?;
        departures.send(Carried::Sender(sender.to_opaque())).map_err(into_io)?;
        let (sender, fd) = read_packet(&outwards)?;
        write_packet(&inwards, &sender, &fd)?;
        let (arrivals, _proof) = server.accept().map_err(into_io)?;
        departures.send(Carried::Receiver(receiver.to_opaque())).map_err(into_io)?;
        let (receiver, _) = read_packet(&outwards)?;
        Ok(Self { inwards, arrivals, departures, outwards, sender, receiver })
    }

    fn import(&self, packet: &[u8], fd: OwnedFd) -> io::Result<Carried> {
        write_packet(&self.inwards, packet, &fd)?;
        receive(|| self.arrivals.recv()).map_err(into_io)
    }
}

/// Receives by ipc-channel, which panics when this process may open no more descriptors, and lets EINTR through.
pub(super) fn receive<R>(mut attempt: impl FnMut() -> Result<R, IpcError>) -> Result<R, IpcError> {
    loop {
        match catch_panic(&mut attempt) {
            Ok(Err(IpcError::Io(error))) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(outcome) => return outcome,
            Err(_) => return Err(IpcError::Io(os::io::Errno::MFILE.into())),
        }
    }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn write_packet(socket: &OwnedFd, bytes: &[u8], fd: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); os::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry_on_intr(|| sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags))?;
    Ok(())
}

fn read_packet(socket: &OwnedFd) -> io::Result<(Vec<u8>, OwnedFd)> {
    let mut bytes = vec![0; 1024];
    let mut space = [MaybeUninit::uninit(); os::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received =
        retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags))?;
    bytes.truncate(received.bytes);
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((bytes, fd.ok_or(os::io::Errno::MFILE)?))
}
