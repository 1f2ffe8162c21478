//! Both directions in one, and how connections are made.

use std::{borrow::Borrow, ops::Deref, time::Duration};

use mp_core::{
    fds,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    shared::{RegionError, Ring, RingOptions},
};
use serde::{Deserialize, Serialize};

use crate::{Receiver, SendError, Sender};

/// One end of a two-way connection, which sends `S` and receives `R`; derefs to its [`Receiver`] for everything that
/// receives.
///
/// The types belong to the connection, because the bytes do not describe themselves: for messages of several kinds use an
/// enum. Python's connections take any object.
///
/// ```
/// # mp_core::test_init!();
/// use mp_pipe::{Connection, pipe};
///
/// type Answer = (u32, Option<()>, usize);
///
/// fn answer(connection: Connection<Answer, String>) {
///     let question = connection.recv().unwrap();
///     connection.send(&(42, None, question.len())).unwrap();
/// }
///
/// let (ours, theirs) = pipe()?;
/// let child = mp_core::spawn(answer, (theirs,))?;
/// ours.send("what?")?;
/// assert_eq!(ours.recv()?, (42, None, 5));
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Connection<S, R = S> {
    sender: Sender<S>,
    receiver: Receiver<R>,
}

/// Makes a two-way connection and returns its ends. Python: `Pipe()`.
///
/// Each direction holds about 64 KiB of messages, or one that is larger; a send that finds no room waits.
///
/// ```
/// let (a, b) = mp_pipe::pipe::<u32, String>()?;
/// a.send(&1)?;
/// b.send("two")?;
/// assert_eq!((b.recv()?, a.recv()?), (1, "two".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RegionError`] if there is no shared memory or no descriptor.
#[expect(
    clippy::type_complexity,
    reason = "the two ends are each other's mirror image; a name for the pair would hide that"
)]
pub fn pipe<A, B>() -> Result<(Connection<A, B>, Connection<B, A>), RegionError> {
    connect(RingOptions { bounded: true, ..RingOptions::default() })
}

/// As [`pipe`], but limited by memory only: a send never waits for the other end. Memory goes back when it was received.
///
/// ```
/// let (a, b) = mp_pipe::unbounded::<Vec<u8>, ()>()?;
/// // Nobody receives meanwhile.
/// for _ in 0..100 {
///     a.send(&vec![7; 10_000])?;
/// }
/// assert_eq!(b.recv()?.len(), 10_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As for [`pipe`].
#[expect(clippy::type_complexity, reason = "as for `pipe`")]
pub fn unbounded<A, B>() -> Result<(Connection<A, B>, Connection<B, A>), RegionError> {
    connect(RingOptions::default())
}

#[expect(clippy::type_complexity, reason = "as for `pipe`")]
fn connect<A, B>(options: RingOptions) -> Result<(Connection<A, B>, Connection<B, A>), RegionError> {
    let [there, back] = Ring::create_pair(options)?;
    // One pair for each direction: the halves of an end may go to different processes, and each must be missed alone.
    let (near, far) = (sockets()?, sockets()?);
    let left = Connection {
        sender: Sender::new(there.clone(), near.0),
        receiver: Receiver::new(back.clone(), far.0),
    };
    let right = Connection { sender: Sender::new(back, far.1), receiver: Receiver::new(there, near.1) };
    Ok((left, right))
}

/// Makes a one-way connection. Python: `Pipe(duplex=False)`.
///
/// ```
/// let (receiver, sender) = mp_pipe::simplex::<(u32, Option<u8>, String)>()?;
/// sender.send(&(42, None, "hello".to_owned()))?;
/// assert_eq!(receiver.recv()?, (42, None, "hello".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RegionError`] if there is no shared memory or no descriptor.
pub fn simplex<T>() -> Result<(Receiver<T>, Sender<T>), RegionError> {
    let ring = Ring::create(RingOptions { bounded: true, ..RingOptions::default() })?;
    let (left, right) = sockets()?;
    Ok((Receiver::new(ring.clone(), left), Sender::new(ring, right)))
}

fn sockets() -> Result<(OwnedFd, OwnedFd), RegionError> {
    fds::pair().map_err(|cause| RegionError::System { len: 0, action: "given its sockets", cause })
}

impl<S: Serialize, R> Connection<S, R> {
    /// Sends a value; blocks while the connection is full: see [`Sender::send`]. Python: `send()`.
    ///
    /// ```
    /// let (near, far) = mp_pipe::pipe::<u8, u8>()?;
    /// near.send(&1)?;
    /// assert_eq!(far.recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Sender::send`].
    pub fn send<Q>(&self, value: &Q) -> Result<(), SendError>
    where
        S: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.sender.send(value)
    }

    /// Sends a value if there is room: see [`Sender::try_send`].
    ///
    /// ```
    /// let (near, far) = mp_pipe::pipe::<u8, u8>()?;
    /// near.try_send(&1)?;
    /// assert_eq!(far.recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Sender::try_send`].
    pub fn try_send<Q>(&self, value: &Q) -> Result<(), SendError>
    where
        S: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.sender.try_send(value)
    }

    /// Sends a value, waiting for room at most for `timeout`: see [`Sender::send_timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (near, far) = mp_pipe::pipe::<u8, u8>()?;
    /// near.send_timeout(&1, Duration::from_secs(1))?;
    /// assert_eq!(far.recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Sender::send_timeout`].
    pub fn send_timeout<Q>(&self, value: &Q, timeout: Duration) -> Result<(), SendError>
    where
        S: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.sender.send_timeout(value, timeout)
    }
}

impl<S, R> Connection<S, R> {
    /// The sending half.
    ///
    /// ```
    /// let (near, far) = mp_pipe::pipe::<u8, u8>()?;
    /// near.sender().send(&1)?;
    /// assert_eq!(far.receiver().recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sender(&self) -> &Sender<S> {
        &self.sender
    }

    /// The receiving half; a connection derefs to it.
    ///
    /// ```
    /// let (near, far) = mp_pipe::pipe::<u8, u8>()?;
    /// near.send(&1)?;
    /// assert_eq!(far.receiver().recv()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn receiver(&self) -> &Receiver<R> {
        &self.receiver
    }

    /// Sends bytes; blocks while the connection is full: see [`Sender::send_bytes`]. Python: `send_bytes()`.
    ///
    /// ```
    /// let (near, far) = mp_pipe::pipe::<(), ()>()?;
    /// near.send_bytes(b"as they are")?;
    /// assert_eq!(far.recv_bytes()?, b"as they are");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Sender::send_bytes`].
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.sender.send_bytes(bytes)
    }

    /// Sends bytes if there is room: see [`Sender::try_send_bytes`].
    ///
    /// ```
    /// let (near, far) = mp_pipe::pipe::<(), ()>()?;
    /// near.try_send_bytes(b"as they are")?;
    /// assert_eq!(far.recv_bytes()?, b"as they are");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Sender::try_send_bytes`].
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.sender.try_send_bytes(bytes)
    }

    /// Sends bytes, waiting for room at most for `timeout`: see [`Sender::send_bytes_timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (near, far) = mp_pipe::pipe::<(), ()>()?;
    /// near.send_bytes_timeout(b"as they are", Duration::from_secs(1))?;
    /// assert_eq!(far.recv_bytes()?, b"as they are");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Sender::send_bytes_timeout`].
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.sender.send_bytes_timeout(bytes, timeout)
    }

    /// The two directions, to be used or to travel by themselves. Each is missed alone by the other end.
    ///
    /// ```
    /// let (near, far) = mp_pipe::pipe::<u8, u8>()?;
    /// let (sender, receiver) = far.split();
    /// drop(receiver);
    /// sender.send(&1)?;
    /// assert_eq!(near.recv()?, 1);
    /// assert!(near.send(&2).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn split(self) -> (Sender<S>, Receiver<R>) {
        (self.sender, self.receiver)
    }

    /// Closes this end; dropping it does the same. What was sent can still be received. Python: `close()`.
    ///
    /// ```
    /// let (near, far) = mp_pipe::pipe::<u8, u8>()?;
    /// near.send(&1)?;
    /// near.close();
    /// assert_eq!(far.recv()?, 1);
    /// assert!(far.recv().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self) {}
}

impl<S, R> Deref for Connection<S, R> {
    type Target = Receiver<R>;

    fn deref(&self) -> &Receiver<R> {
        &self.receiver
    }
}

impl<S, R> AsFd for Connection<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
