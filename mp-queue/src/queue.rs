//! The queue.

use std::{
    cell::RefCell,
    fmt, io,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use mp_core::{
    fds::Bundle,
    os::fd::OwnedFd,
    shared::{RegionError, Ring, RingOptions, Wake},
    transfer,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    error::{GetError, PutError},
    lane::Lane,
};

/// How long a put waits for room on the lane before it looks at its deadline.
const SLICE: Duration = Duration::from_millis(100);
/// A scratch buffer larger than this is not kept.
const KEPT: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A queue between any number of producers and consumers, in any processes; a cheap handle that travels.
///
/// Messages of one producer arrive in their order, each with exactly one consumer. A put is visible when it returns.
/// Whoever is killed, at whatever instruction: a message is in the queue or with one consumer, whole, and everybody else
/// goes on. Python: `multiprocessing.Queue`, without its feeder thread.
///
/// ```
/// # mp_core::test_init!();
/// use mp_queue::Queue;
///
/// fn shout(from: Queue<String>, to: Queue<String>) {
///     for word in &from {
///         to.put(&word.unwrap().to_uppercase()).unwrap();
///     }
/// }
///
/// let (words, loud) = (Queue::new()?, Queue::new()?);
/// let child = mp_core::spawn(shout, (words.clone(), loud.clone()))?;
/// words.put("hello")?;
/// assert_eq!(loud.get()?, "HELLO");
/// words.close()?;
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Queue<T> {
    ring: Ring,
    lane: Arc<Lane>,
    messages: PhantomData<fn(T) -> T>,
}

/// What a new queue is like.
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "options make no queue before `create`"]
pub struct Options(RingOptions);

impl Options {
    /// At most so many messages; 0, the default, for any number.
    pub fn max_items(mut self, max: u32) -> Self {
        self.0.max_items = max;
        self
    }

    /// At most so many bytes of encoded messages, unless a single one is larger; 0, the default, for any number.
    pub fn max_bytes(mut self, max: u64) -> Self {
        self.0.max_bytes = max;
        self
    }

    /// Makes the queue.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory or no descriptor.
    pub fn create<T>(self) -> Result<Queue<T>, RegionError> {
        let lane = Lane::new().map_err(|cause| RegionError::System {
            len: 0,
            action: "given its lane for handles",
            cause,
        })?;
        Ok(Queue { ring: Ring::create(self.0)?, lane: Arc::new(lane), messages: PhantomData })
    }
}

impl<T> Queue<T> {
    /// Makes a queue that is limited by memory only.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory or no descriptor.
    pub fn new() -> Result<Self, RegionError> {
        Options::default().create()
    }

    /// Makes a queue of at most `max_items` messages (0: any number).
    ///
    /// # Errors
    /// As for [`Queue::new`].
    pub fn bounded(max_items: u32) -> Result<Self, RegionError> {
        Options::default().max_items(max_items).create()
    }

    /// How many messages are in the queue at this moment. Python: `qsize()`, which is not exact.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is no message at this moment. Python: `empty()`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether there is no room for another message at this moment. Python: `full()`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.maxsize().is_some_and(|max| self.len() >= max)
    }

    /// At most how many messages fit; `None` for any number.
    #[must_use]
    pub fn maxsize(&self) -> Option<usize> {
        self.ring.max_items()
    }

    /// Ends the queue for everybody: what was put can still be got, then every get is an error, as is every put from now
    /// on. Closing again changes nothing.
    ///
    /// # Errors
    /// [`PutError::Corrupt`] if the shared memory was overwritten.
    pub fn close(&self) -> Result<(), PutError> {
        Ok(self.ring.close(Wake::Word)?)
    }

    /// Whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Puts bytes as they are, for a consumer that uses [`Queue::get_bytes`]; blocks while the queue is full.
    ///
    /// # Errors
    /// As for [`Queue::put`].
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<(), PutError> {
        Ok(self.ring.put(bytes, 0, None, Wake::Word, || Ok(()))?)
    }

    /// Gets the bytes of the next message into `buffer` (replacing what it held); blocks while the queue is empty.
    ///
    /// # Errors
    /// As for [`Queue::get`].
    pub fn get_bytes(&self, buffer: &mut Vec<u8>) -> Result<(), GetError> {
        buffer.clear();
        self.get_raw(buffer, None).map(drop)
    }

    fn get_raw(&self, into: &mut Vec<u8>, deadline: Option<Instant>) -> Result<Vec<OwnedFd>, GetError> {
        let mut fds = Vec::new();
        let tag = self.ring.get(into, deadline, |tag| {
            if tag == 0 {
                self.lane.take();
            } else {
                fds = self.lane.look(tag)?.unwrap_or_default();
            }
            Ok(())
        })?;
        Bundle::unpack(tag, fds).map_err(GetError::Handles)
    }
}

/// When something that may take `timeout` must have ended; `None` if never.
fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

impl<T: Serialize> Queue<T> {
    /// Puts `value`; blocks while the queue is full.
    ///
    /// # Errors
    /// [`PutError`]; the queue is as before then.
    pub fn put<Q>(&self, value: &Q) -> Result<(), PutError>
    where
        T: std::borrow::Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.put_until(value, None)
    }

    /// Puts `value` if there is room. Python: `put_nowait()`.
    ///
    /// # Errors
    /// [`PutError::Full`] if there is none; else as [`Queue::put`].
    pub fn try_put<Q>(&self, value: &Q) -> Result<(), PutError>
    where
        T: std::borrow::Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.put_until(value, Some(Instant::now()))
    }

    /// Puts `value`, waiting for room at most for `timeout`, never less.
    ///
    /// # Errors
    /// [`PutError::Full`] after the time-out; else as [`Queue::put`].
    pub fn put_timeout<Q>(&self, value: &Q, timeout: Duration) -> Result<(), PutError>
    where
        T: std::borrow::Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.put_until(value, after(timeout))
    }

    /// Puts the values one after another; blocks while the queue is full.
    ///
    /// # Errors
    /// As for [`Queue::put`]; the values before the one that failed were put.
    pub fn put_many<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<(), PutError>
    where
        T: 'a,
    {
        values.into_iter().try_for_each(|value| self.put(value))
    }

    fn put_until<Q: Serialize + ?Sized>(&self, value: &Q, deadline: Option<Instant>) -> Result<(), PutError> {
        // Taken, not borrowed: the value's own `Serialize` may put something, too.
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let result = transfer::encode_into(value, &mut scratch)
            .map_err(PutError::from)
            .and_then(|handles| self.put_raw(&scratch, handles, deadline));
        if scratch.capacity() <= KEPT {
            SCRATCH.set(scratch);
        }
        result
    }

    fn put_raw(
        &self,
        bytes: &[u8],
        handles: Vec<transfer::Handle>,
        deadline: Option<Instant>,
    ) -> Result<(), PutError> {
        if handles.is_empty() {
            return Ok(self.ring.put(bytes, 0, deadline, Wake::Word, || Ok(()))?);
        }
        let bundle = Bundle::pack(handles).map_err(PutError::Handles)?;
        loop {
            let put = self.ring.put(bytes, bundle.tag(), deadline, Wake::Word, || self.lane.send(&bundle));
            match put.map_err(PutError::from) {
                Err(PutError::Handles(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    if deadline.is_some_and(|deadline| deadline <= now) {
                        return Err(PutError::Full);
                    }
                    self.lane
                        .wait_for_room(deadline.map_or(now + SLICE, |deadline| deadline.min(now + SLICE)));
                }
                outcome => return outcome,
            }
        }
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the next message; blocks while the queue is empty.
    ///
    /// # Errors
    /// [`GetError::Closed`] when the queue was closed and is drained; [`GetError::Decode`] if this message is not a `T`,
    /// the next one can be got then.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// Gets the next message if there is one. Python: `get_nowait()`.
    ///
    /// # Errors
    /// [`GetError::Empty`] if there is none; else as [`Queue::get`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Some(Instant::now()))
    }

    /// Gets the next message, waiting for it at most for `timeout`, never less.
    ///
    /// # Errors
    /// [`GetError::Empty`] after the time-out; else as [`Queue::get`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(after(timeout))
    }

    /// Gets up to `max` messages, at least one: blocks while the queue is empty, and takes what is there then.
    ///
    /// # Errors
    /// As for [`Queue::get`], if the first message cannot be got.
    pub fn get_many(&self, max: usize) -> Result<Vec<T>, GetError> {
        let mut messages = Vec::new();
        if max > 0 {
            messages.push(self.get()?);
        }
        while messages.len() < max {
            match self.try_get() {
                Ok(message) => messages.push(message),
                Err(_) => break,
            }
        }
        Ok(messages)
    }

    /// The messages until the queue is closed and drained.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    fn get_until(&self, deadline: Option<Instant>) -> Result<T, GetError> {
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let result = self
            .get_raw(&mut scratch, deadline)
            .and_then(|fds| transfer::decode(&scratch, fds).map_err(GetError::from));
        if scratch.capacity() <= KEPT {
            SCRATCH.set(scratch);
        }
        result
    }
}

/// The messages of a queue until it is closed and drained; each step blocks.
#[derive(Debug)]
pub struct Iter<'a, T>(&'a Queue<T>);

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.get() {
            Err(GetError::Closed) => None,
            item => Some(item),
        }
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone(), lane: Arc::clone(&self.lane), messages: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Queue");
        text.field("len", &self.len())
            .field("maxsize", &self.maxsize())
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.ring, &*self.lane).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (ring, lane) = <(Ring, Lane)>::deserialize(deserializer)?;
        Ok(Self { ring, lane: Arc::new(lane), messages: PhantomData })
    }
}
