//! Blocks of shared memory, anonymous or with a name.
//!
//! The kernel frees anonymous memory with its last user, however that one ends. A name usually costs this: what lies in
//! `/dev/shm` stays there when all its users are killed. So the name of a block is not a file. It is the abstract address
//! of a listening socket, of which every user holds a descriptor, and whose connections any user answers with the block:
//! a thread of each process that has a named block sleeps for that. When the last descriptor is closed, which a death
//! does as well, the kernel forgets the name, and the memory with it. Nothing has to be swept.

mod host;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use mp_core::{
    advice, fds,
    os::{
        event::{PollFd, PollFlags, poll},
        fd::OwnedFd,
        io::Errno,
        net::{
            AddressFamily, RecvFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
            listen, shutdown, socket_with,
            sockopt::{Timeout, set_socket_timeout},
        },
        process::geteuid,
        time::Timespec,
    },
    shared::{Atomic, Region, RegionError},
    transfer::{self, Fd},
};
use serde::{Deserialize, Serialize};

use host::{Host, is_of_this_user};

/// How long an answer is waited for before another user is asked.
const ANSWER: Duration = Duration::from_millis(100);
/// How long all users may be silent: stopped, or without descriptors to spare.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a name that was unlinked may take to be forgotten by all users.
const FORGET: Duration = Duration::from_secs(1);
/// What an abstract address has room for.
const ADDRESS: usize = 107;

/// A block of shared memory could not be made, found or unlinked.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// A block has at least one byte.
    #[error("shared memory cannot be made with 0 bytes")]
    Empty,
    /// The name cannot be one.
    #[error("shared memory cannot be named {name:?}: {cause}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// There is a block of this name. Python: `FileExistsError`.
    #[error("shared memory named {name:?} cannot be created: it exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is no block of this name (any more). Python: `FileNotFoundError`.
    #[error("shared memory named {name:?} was not found: no living process has it")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The name is used by another user of the machine.
    #[error("shared memory named {name:?} cannot be attached: a process of another user answers to the name")]
    Foreign {
        /// The name.
        name: String,
    },
    /// Its users are all stopped, or cannot send.
    #[error("shared memory named {name:?} cannot be attached: none of its users answers")]
    Silent {
        /// The name.
        name: String,
    },
    /// There is no memory.
    #[error(transparent)]
    Memory(#[from] RegionError),
    /// The kernel refused a socket, a thread or a descriptor.
    #[error("shared memory named {name:?} could not be {action}: {cause}{}", advice(.cause))]
    System {
        /// The name.
        name: String,
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        cause: std::io::Error,
    },
}

mp_core::message_as_debug!(MemoryError);

/// A block of shared bytes, zeroed at first; a cheap handle that travels. Freed with its last handle in any process.
///
/// Most blocks need no name: a handle travels as an argument, in a queue, in a pipe. A name lets processes find the block
/// that were not started by each other: of the same user, in the same network namespace. Reads and writes copy, and
/// nothing keeps them apart: several processes at once see each other's half-written bytes, unless a
/// [`Lock`](crate::Lock) stands before it, or the bytes are used as [`atomics`](Self::atomics).
/// Python: `shared_memory.SharedMemory`.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::SharedMemory;
///
/// let name = format!("example-{}", std::process::id());
/// let block = SharedMemory::create(&name, 4096)?;
/// let find = |name: String| SharedMemory::attach(&name).unwrap().write(0, b"hello");
/// assert!(mp_core::spawn(find, (name.clone(),))?.join()?);
///
/// let mut bytes = [0; 5];
/// assert!(block.read(0, &mut bytes));
/// assert_eq!(&bytes, b"hello");
/// drop(block);
/// assert!(SharedMemory::attach(&name).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "Parts", try_from = "Parts")]
pub struct SharedMemory {
    region: Region,
    host: Option<Arc<Host>>,
}

impl SharedMemory {
    /// Makes a block of `len` bytes without a name.
    ///
    /// # Errors
    /// [`MemoryError::Empty`] or [`MemoryError::Memory`].
    pub fn new(len: usize) -> Result<Self, MemoryError> {
        if len == 0 {
            return Err(MemoryError::Empty);
        }
        Ok(Self { region: Region::create(len)?, host: None })
    }

    /// Makes a block of `len` bytes that can be found by `name`. Python: `SharedMemory(name, create=True, size=len)`.
    ///
    /// Of several that create the same name at the same time, one succeeds. A name may contain anything but zero bytes, up
    /// to about 90 bytes. Waits up to a second for a name that was unlinked a moment ago.
    ///
    /// # Errors
    /// [`MemoryError::Exists`], [`MemoryError::Name`], [`MemoryError::Empty`]; or the kernel refuses something.
    pub fn create(name: &str, len: usize) -> Result<Self, MemoryError> {
        let address = address(name)?;
        let block = Self::new(len)?;
        let give_up = Instant::now() + FORGET;
        let listener = loop {
            match listen_at(&address) {
                Ok(listener) => break listener,
                Err(Errno::ADDRINUSE) => match connect_to(&address) {
                    // Unlinked, and not forgotten by all its users yet; or made at this moment.
                    Err(Errno::CONNREFUSED) if Instant::now() < give_up => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    _ => return Err(MemoryError::Exists { name: name.to_owned() }),
                },
                Err(errno) => return Err(system(name, "created")(errno.into())),
            }
        };
        let host =
            Host::of(block.region.clone(), name, Arc::new(listener)).map_err(system(name, "created"))?;
        Ok(Self { host: Some(host), ..block })
    }

    /// Finds the block that some process has created as `name`, and that is still used by at least one. Python:
    /// `SharedMemory(name)`.
    ///
    /// Asks a user of the block, and another one if that one does not answer; waits up to ten seconds if none does.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`], [`MemoryError::Name`], [`MemoryError::Foreign`], [`MemoryError::Silent`].
    pub fn attach(name: &str) -> Result<Self, MemoryError> {
        let address = address(name)?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let socket = match connect_to(&address) {
                Ok(socket) => socket,
                Err(Errno::CONNREFUSED) => return Err(MemoryError::NotFound { name: name.to_owned() }),
                // So many ask at the same time that there is no room to wait.
                Err(Errno::AGAIN) if Instant::now() < give_up => continue,
                Err(Errno::AGAIN) => return Err(MemoryError::Silent { name: name.to_owned() }),
                Err(errno) => return Err(system(name, "attached")(errno.into())),
            };
            if !is_of_this_user(&socket) {
                return Err(MemoryError::Foreign { name: name.to_owned() });
            }
            match receive(&socket) {
                Ok(Some(block)) => return Ok(block),
                // That user died, or is stopped.
                Ok(None) if Instant::now() < give_up => {}
                Ok(None) => return Err(MemoryError::Silent { name: name.to_owned() }),
                Err(cause) => return Err(system(name, "attached")(cause)),
            }
        }
    }

    /// Takes the name away: nobody finds the block by it any more; those who have it keep it. Python: `unlink()`, which
    /// there is a duty, and here is not.
    ///
    /// # Errors
    /// [`MemoryError::NotFound`] if it has no name, or was unlinked before.
    pub fn unlink(&self) -> Result<(), MemoryError> {
        let not_found = |name: &str| MemoryError::NotFound { name: name.to_owned() };
        let host = self.host.as_ref().ok_or_else(|| not_found(""))?;
        let listener = host.take_listener().filter(|listener| !is_shut(listener));
        let listener = listener.ok_or_else(|| not_found(host.name()))?;
        shutdown(&*listener, Shutdown::Both).map_err(|errno| system(host.name(), "unlinked")(errno.into()))
    }

    /// The name by which it was made or found, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.host.as_ref().map(|host| host.name())
    }

    /// How many bytes there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one byte")]
    pub fn len(&self) -> usize {
        self.region.len()
    }

    /// Copies bytes from `offset` out; false, and nothing done, if they do not all lie in the block.
    #[inline]
    #[must_use]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        self.region.read(offset, into)
    }

    /// Copies bytes in at `offset`; false, and nothing done, if they do not all lie in the block.
    #[inline]
    #[must_use]
    pub fn write(&self, offset: usize, from: &[u8]) -> bool {
        self.region.write(offset, from)
    }

    /// The whole block as atomics, as many as fit.
    #[inline]
    #[must_use]
    pub fn atomics<A: Atomic>(&self) -> &[A] {
        self.region.atomics(0, self.len() / size_of::<A>()).unwrap_or_default()
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "SharedMemory({} bytes, named {name:?})", self.len()),
            None => write!(f, "SharedMemory({} bytes)", self.len()),
        }
    }
}

/// What travels: to other processes in messages, and to one that asks for the name.
#[derive(Serialize, Deserialize)]
struct Parts {
    region: Region,
    /// With the listener, unless the name was taken away.
    name: Option<(String, Fd<Arc<OwnedFd>>)>,
}

impl From<SharedMemory> for Parts {
    fn from(block: SharedMemory) -> Self {
        let name = block.host.and_then(|host| host.name_and_listener());
        Self { region: block.region, name }
    }
}

impl TryFrom<Parts> for SharedMemory {
    type Error = std::io::Error;

    fn try_from(Parts { region, name }: Parts) -> Result<Self, Self::Error> {
        let host = name.map(|(name, Fd(listener))| Host::of(region.clone(), &name, listener)).transpose()?;
        Ok(Self { region, host })
    }
}

fn address(name: &str) -> Result<SocketAddrUnix, MemoryError> {
    let bad = |cause| MemoryError::Name { name: name.to_owned(), cause };
    if name.is_empty() {
        return Err(bad("it is empty"));
    }
    if name.contains('\0') {
        return Err(bad("it contains a zero byte"));
    }
    let full = format!("mp-memory/{}/{name}", geteuid().as_raw());
    if full.len() > ADDRESS {
        return Err(bad("it is too long"));
    }
    if !mp_core::os::SUPPORTED {
        return Err(RegionError::Unsupported.into());
    }
    SocketAddrUnix::new_abstract_name(full.as_bytes()).map_err(|_| bad("it is too long"))
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC, None)
}

fn listen_at(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    // Several users wait for the same connection, and only one gets it.
    let listener = socket(SocketFlags::NONBLOCK)?;
    bind(&listener, address)?;
    listen(&listener, 128)?;
    Ok(listener)
}

fn connect_to(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let socket = socket(SocketFlags::empty())?;
    let give_up = Instant::now() + ANSWER;
    loop {
        // A signal begins the wait anew: for what is left of it, so that one that comes again and again does not prolong it.
        let left = give_up.saturating_duration_since(Instant::now());
        set_socket_timeout(&socket, Timeout::Send, Some(left.max(Duration::from_micros(1))))?;
        match connect(&socket, address) {
            Err(Errno::INTR) if !left.is_zero() => {}
            Err(Errno::INTR) => return Err(Errno::AGAIN),
            outcome => return outcome.map(|()| socket),
        }
    }
}

fn is_shut(listener: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(listener, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut ready, Some(&at_once)).is_ok() && ready[0].revents().contains(PollFlags::HUP)
}

/// The answer; `None` if there is none in time.
fn receive(socket: &OwnedFd) -> std::io::Result<Option<SharedMemory>> {
    let mut ready = [PollFd::new(socket, PollFlags::IN)];
    let give_up = Instant::now() + ANSWER;
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: 0, tv_nsec: left.as_nanos() as i64 };
        match poll(&mut ready, Some(&wait)) {
            // As in `connect_to`.
            Err(Errno::INTR) if !left.is_zero() => {}
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut bytes = Vec::new();
    match fds::recv_up_to(64 * 1024, socket, &mut bytes, RecvFlags::DONTWAIT) {
        Ok(None) => Ok(None),
        Ok(Some(fds)) => transfer::decode(&bytes, fds).map(Some).map_err(std::io::Error::other),
        // Closed with the answer unread.
        Err(error) if error.raw_os_error() == Some(Errno::CONNRESET.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn system(name: &str, action: &'static str) -> impl FnOnce(std::io::Error) -> MemoryError {
    let name = name.to_owned();
    move |cause| MemoryError::System { name, action, cause }
}
