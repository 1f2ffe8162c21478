//! Where descriptors become endpoints of ipc-channel, and endpoints descriptors.
//!
//! ipc-channel has no constructor from a descriptor and does not give one away, but its endpoints may be sent over its own
//! channels. So each process that needs it makes one channel of ipc-channel to itself, whose far ends are plain sockets:
//! a packet that is sent to one of them arrives as an endpoint, and an endpoint that is sent arrives at the other one as a
//! packet with a descriptor. What such a packet looks like is learnt from two that ipc-channel itself has written, so
//! nothing here knows its format.
//!
//! The first far end is had by the only door that ipc-channel opens to the outside: it connects to a socket by name, once per
//! process. The name is one that the kernel forgets with its socket; if that is taken or forbidden, a temporary
//! file, for the moment that it takes to connect.
//!
//! A process that is forked from one with an exchange has a copy of it, through whose sockets both would get what is the
//! other's, and of its lock, which a thread of the other may hold for ever. So each process makes its own and leaves that of
//! another alone.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use ipc_channel::{
    IpcError,
    ipc::{self, IpcReceiver, IpcSender, OpaqueIpcReceiver, OpaqueIpcSender},
};
use mp_core::{
    catch_panic,
    os::{
        self,
        fd::{AsFd, OwnedFd},
        io::{Errno, retry_on_intr},
        net::{
            AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
            SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
            listen, recvmsg, sendmsg, socket_with, sockopt::socket_peercred,
        },
    },
};
use once_cell::race::OnceBox;
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

/// The exchange of one process, and behind it that of a process which was forked from it.
struct Home {
    process: u32,
    exchange: Mutex<Option<Exchange>>,
    /// Written without a lock, which a fork could find held.
    forked: OnceBox<Self>,
}

static FIRST: OnceBox<Home> = OnceBox::new();

impl Home {
    /// That of the calling process.
    fn own() -> &'static Self {
        let process = os::own_pid();
        let make = || Box::new(Self { process, exchange: Mutex::new(None), forked: OnceBox::new() });
        let mut home = FIRST.get_or_init(make);
        while home.process != process {
            home = home.forked.get_or_init(make);
        }
        home
    }
}

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
    let mut slot = Home::own().exchange.lock();
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
        let (departures, outwards) = connected()?;
        let (into_here, arrivals) = ipc::channel()?;
        departures.send(Carried::Sender(into_here.to_opaque())).map_err(into_io)?;
        let (sender, inwards) = read_packet(&outwards)?;
        let (_, receiver) = ipc::channel::<()>()?;
        departures.send(Carried::Receiver(receiver.to_opaque())).map_err(into_io)?;
        let (receiver, _) = read_packet(&outwards)?;
        Ok(Self { inwards, arrivals, departures, outwards, sender, receiver })
    }

    fn import(&self, packet: &[u8], fd: OwnedFd) -> io::Result<Carried> {
        write_packet(&self.inwards, packet, &fd)?;
        receive(|| self.arrivals.recv()).map_err(into_io)
    }
}

/// A sender of ipc-channel, and the plain socket at which arrives what it sends.
fn connected() -> io::Result<(IpcSender<Carried>, OwnedFd)> {
    connected_by(&Name::Zeros).or_else(|_| connected_by(&Name::temporary()))
}

fn connected_by(name: &Name) -> io::Result<(IpcSender<Carried>, OwnedFd)> {
    let listener = socket()?;
    name.give(&listener)?;
    // Strangers may knock at a name without a file, so as many as may wait, and only this process is let in.
    listen(&listener, i32::MAX)?;
    let sender = IpcSender::connect(name.as_path())?;
    loop {
        let socket = retry_on_intr(|| accept_with(&listener, SocketFlags::CLOEXEC))?;
        if socket_peercred(&socket)?.pid == os::process::getpid() {
            return Ok((sender, socket));
        }
    }
}

/// By what a sender of ipc-channel finds a socket.
enum Name {
    /// What ipc-channel's address of the empty path is to Linux: an abstract name, of zeros alone.
    Zeros,
    File(PathBuf),
}

impl Name {
    /// How long to wait for another process that is just connecting: some microseconds are enough, unless it was stopped.
    const PATIENCE: Duration = Duration::from_millis(20);

    fn temporary() -> Self {
        let random = RandomState::new().hash_one(os::own_pid());
        Self::File(std::env::temp_dir().join(format!("mp-channel-{random:016x}")))
    }

    fn give(&self, socket: &OwnedFd) -> io::Result<()> {
        let address = match self {
            Self::Zeros => SocketAddrUnix::new_abstract_name(&[0; 107])?,
            Self::File(path) => SocketAddrUnix::new(path)?,
        };
        let deadline = Instant::now() + Self::PATIENCE;
        loop {
            match bind(socket, &address) {
                Err(Errno::ADDRINUSE) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_micros(100));
                }
                outcome => return Ok(outcome?),
            }
        }
    }

    fn as_path(&self) -> String {
        match self {
            Self::Zeros => String::new(),
            Self::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Self::File(path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Receives by ipc-channel, which panics when this process may open no more descriptors, and lets EINTR through.
pub(super) fn receive<R>(mut attempt: impl FnMut() -> Result<R, IpcError>) -> Result<R, IpcError> {
    loop {
        match catch_panic(&mut attempt) {
            Ok(Err(IpcError::Io(error))) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(outcome) => return outcome,
            Err(_) => return Err(IpcError::Io(Errno::MFILE.into())),
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
    Ok((bytes, fd.ok_or(Errno::MFILE)?))
}
