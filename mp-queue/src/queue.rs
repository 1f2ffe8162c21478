//! The queue: what it is made of, and what can be asked of it. Putting and getting are in `put.rs` and `get.rs`.

use std::{fmt, marker::PhantomData, sync::Arc};

use mp_core::shared::{RegionError, Ring, RingOptions, Wake};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{error::PutError, joinable::JoinableQueue, lane::Lane};

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
    pub(crate) ring: Ring,
    pub(crate) lane: Arc<Lane>,
    messages: PhantomData<fn(T) -> T>,
}

/// What a new queue is like. Python: `Queue(maxsize)`.
///
/// ```
/// use mp_queue::Options;
///
/// let queue = Options::default().max_items(100).max_bytes(1 << 20).create::<String>()?;
/// assert_eq!(queue.maxsize(), Some(100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
        let ring = Ring::create(self.0)?;
        let lane = Lane::new().map_err(|cause| RegionError::System {
            len: 0,
            action: "given its lane for handles",
            cause,
        })?;
        Ok(Queue { ring, lane: Arc::new(lane), messages: PhantomData })
    }

    /// Makes a queue that can be joined.
    ///
    /// # Errors
    /// As for [`Options::create`].
    pub fn create_joinable<T>(self) -> Result<JoinableQueue<T>, RegionError> {
        JoinableQueue::on(self.create()?)
    }
}

impl<T> Queue<T> {
    /// Makes a queue that is limited by memory only.
    ///
    /// The type of its messages is known from what it is passed to, or from a value that is got. What is put does not tell it,
    /// since a borrowed form will do (a `str` for a `String`): where the compiler asks for an annotation, write it here.
    ///
    /// ```
    /// use mp_queue::Queue;
    ///
    /// let queue = Queue::<String>::new()?;
    /// queue.put("hello")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// let queue = Queue::<u32>::bounded(2)?;
    /// queue.put(&1)?;
    /// assert!(queue.len() == 1 && !queue.is_empty() && !queue.is_full());
    /// queue.put(&2)?;
    /// assert!(queue.len() == 2 && queue.is_full());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// on. Those who wait are woken. Closing again changes nothing. Python's `close()` concerns one process.
    ///
    /// # Errors
    /// [`PutError::Corrupt`] if the shared memory was overwritten.
    ///
    /// ```
    /// # use mp_queue::{GetError, PutError, Queue};
    /// let queue = Queue::<u32>::new()?;
    /// queue.put(&1)?;
    /// queue.close()?;
    /// assert!(queue.is_closed());
    /// assert!(matches!(queue.put(&2), Err(PutError::Closed)));
    /// assert_eq!(queue.get()?, 1);
    /// assert!(matches!(queue.get(), Err(GetError::Closed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) -> Result<(), PutError> {
        Ok(self.ring.close(Wake::Word)?)
    }

    /// Whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
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
