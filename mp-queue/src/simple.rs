//! A queue with nothing but put, get and close.

use std::borrow::Borrow;

use mp_core::shared::RegionError;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{GetError, PutError, Queue};

/// A [`Queue`] without limits, time-outs and batches. Python: `multiprocessing.SimpleQueue`, whose put blocks when its pipe
/// is full; this one's does not.
///
/// ```
/// # mp_core::test_init!();
/// use mp_queue::SimpleQueue;
///
/// let queue = SimpleQueue::<String>::new()?;
/// let child = mp_core::spawn(|queue: SimpleQueue<String>| queue.put("hello").unwrap(), (queue.clone(),))?;
/// assert_eq!(queue.get()?, "hello");
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct SimpleQueue<T>(Queue<T>);

impl<T> SimpleQueue<T> {
    /// Makes a queue that is limited by memory only.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory or no descriptor.
    pub fn new() -> Result<Self, RegionError> {
        Queue::new().map(Self)
    }

    /// Whether there is no message at this moment. Python: `empty()`, which fails after `close`; this one does not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends the queue for everybody; see [`Queue::close`]. Python's `close` concerns one process.
    ///
    /// # Errors
    /// [`PutError::Corrupt`] if the shared memory was overwritten.
    pub fn close(&self) -> Result<(), PutError> {
        self.0.close()
    }
}

impl<T: Serialize> SimpleQueue<T> {
    /// Puts `value`; never blocks for room.
    ///
    /// # Errors
    /// As for [`Queue::put`].
    pub fn put<Q>(&self, value: &Q) -> Result<(), PutError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.0.put(value)
    }
}

impl<T: DeserializeOwned> SimpleQueue<T> {
    /// Gets the next message; blocks while the queue is empty.
    ///
    /// # Errors
    /// As for [`Queue::get`].
    pub fn get(&self) -> Result<T, GetError> {
        self.0.get()
    }
}

impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
