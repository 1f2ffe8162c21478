//! Putting: one value, many values, bytes.

use std::{
    borrow::Borrow,
    io,
    time::{Duration, Instant},
};

use mp_core::{
    fds::Bundle,
    shared::{Batch, Entry, Wake},
    transfer::{self, Handle},
};
use serde::Serialize;

use crate::{
    error::{PutError, PutManyError},
    lane::Lane,
    queue::Queue,
};

/// How long a put waits for room on the lane before it looks at its deadline.
const SLICE: Duration = Duration::from_millis(100);
/// So much of many values is encoded before it is put.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_ITEMS: usize = 4096;

/// How long to wait for room, or for a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    Until(Instant),
    Endless,
}

impl Patience {
    /// Until `timeout` from now; endless if the clock does not reach that far.
    pub(crate) fn of(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Endless, Self::Until)
    }

    /// How long to wait for one that holds a gate.
    pub(crate) fn entry(self) -> Entry {
        match self {
            Self::None => Entry::Soon,
            _ => Entry::By(self.deadline()),
        }
    }

    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Self::None => Some(Instant::now()),
            Self::Until(deadline) => Some(deadline),
            Self::Endless => None,
        }
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts `value`; blocks while the queue is full. Python: `put()`.
    ///
    /// The value may be borrowed in any form that its type can be: a `Queue<String>` takes a `&str`.
    ///
    /// # Errors
    /// [`PutError`]; the queue is as before then. [`PutError::Closed`] also if it is closed while this waits.
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// let queue = Queue::<String>::new()?;
    /// queue.put("a word")?;
    /// assert_eq!(queue.get()?, "a word");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put<Q>(&self, value: &Q) -> Result<(), PutError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.put_patiently(value, Patience::Endless)
    }

    /// Puts `value` if there is room; does not wait for any. Python: `put_nowait()`.
    ///
    /// # Errors
    /// [`PutError::Full`] if there is none, or if another one is at a put of its own for longer than some milliseconds
    /// (it is stopped, or its message is huge); else as [`Queue::put`].
    ///
    /// ```
    /// # use mp_queue::{PutError, Queue};
    /// let queue = Queue::<u32>::bounded(1)?;
    /// queue.try_put(&1)?;
    /// assert!(matches!(queue.try_put(&2), Err(PutError::Full)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_put<Q>(&self, value: &Q) -> Result<(), PutError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.put_patiently(value, Patience::None)
    }

    /// Puts `value`, waiting for room at most for `timeout`, never less. Python: `put(timeout=)`.
    ///
    /// # Errors
    /// [`PutError::Full`] after the time-out; else as [`Queue::put`].
    ///
    /// ```
    /// # use mp_queue::{PutError, Queue};
    /// # use std::time::Duration;
    /// let queue = Queue::<u32>::bounded(1)?;
    /// queue.put_timeout(&1, Duration::from_secs(60))?;
    /// let full = queue.put_timeout(&2, Duration::from_millis(5));
    /// assert!(matches!(full, Err(PutError::Full)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_timeout<Q>(&self, value: &Q, timeout: Duration) -> Result<(), PutError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.put_patiently(value, Patience::of(timeout))
    }

    /// Puts the values in their order, several at a time, which is much faster than one by one; blocks while the queue is
    /// full. Returns how many there were.
    ///
    /// Each message is whole, but the values are not one unit: consumers may get the first while the last are not put yet,
    /// and a producer that dies has put some of them, from the first on. Python has only a loop.
    ///
    /// # Errors
    /// [`PutManyError`] says how many were put before the cause, all from the front; values that the iterator has given
    /// out beyond those were not.
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// let queue = Queue::<u32>::new()?;
    /// assert_eq!(queue.put_many(&[1, 2, 3])?, 3);
    /// assert_eq!(queue.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_many<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<usize, PutManyError>
    where
        T: 'a,
    {
        self.put_many_patiently(values, Patience::Endless)
    }

    /// Puts as many of the values as there is room for, from the front; does not wait. See [`Queue::put_many`].
    ///
    /// # Errors
    /// [`PutManyError`] with [`PutError::Full`] and how many were put, if that is not all of them.
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// let queue = Queue::<u32>::bounded(2)?;
    /// let error = queue.try_put_many(&[1, 2, 3]).unwrap_err();
    /// assert_eq!(error.put, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_put_many<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<usize, PutManyError>
    where
        T: 'a,
    {
        self.put_many_patiently(values, Patience::None)
    }

    /// As [`Queue::put_many`], but waits for room at most for `timeout` in all.
    ///
    /// # Errors
    /// As for [`Queue::try_put_many`], after the time-out.
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// # use std::time::Duration;
    /// let queue = Queue::<u32>::bounded(2)?;
    /// let error = queue.put_many_timeout(&[1, 2, 3], Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.put, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_many_timeout<'a>(
        &self,
        values: impl IntoIterator<Item = &'a T>,
        timeout: Duration,
    ) -> Result<usize, PutManyError>
    where
        T: 'a,
    {
        self.put_many_patiently(values, Patience::of(timeout))
    }

    fn put_patiently<Q: Serialize + ?Sized>(&self, value: &Q, patience: Patience) -> Result<(), PutError> {
        transfer::with_buffer(|bytes| {
            let handles = transfer::encode_into(value, bytes)?;
            self.put_encoded(bytes, handles, patience)
        })
    }

    fn put_many_patiently<'a>(
        &self,
        values: impl IntoIterator<Item = &'a T>,
        patience: Patience,
    ) -> Result<usize, PutManyError>
    where
        T: 'a,
    {
        let mut batch = Batch::default();
        let mut put = 0;
        for value in values {
            let handles = match batch.push(|bytes| transfer::encode_into(value, bytes)) {
                Ok(handles) => handles,
                Err(cause) => {
                    self.put_batch(&mut batch, &mut put, patience)?;
                    return Err(PutManyError { put, cause: cause.into() });
                }
            };
            if !handles.is_empty() {
                // It goes by itself, in its turn.
                let message = batch.pop().unwrap_or_default();
                self.put_batch(&mut batch, &mut put, patience)?;
                self.put_encoded(&message, handles, patience).map_err(|cause| PutManyError { put, cause })?;
                put += 1;
            } else if batch.bytes() >= BATCH_BYTES || batch.len() >= BATCH_ITEMS {
                self.put_batch(&mut batch, &mut put, patience)?;
            }
        }
        self.put_batch(&mut batch, &mut put, patience)?;
        Ok(put)
    }
}

impl<T> Queue<T> {
    /// Puts bytes as they are, for a consumer that uses [`Queue::get_bytes`]; blocks while the queue is full. Python has
    /// this for pipes only.
    ///
    /// # Errors
    /// As for [`Queue::put`].
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// let queue = Queue::<()>::new()?;
    /// queue.put_bytes(b"as they are")?;
    /// let mut buffer = Vec::new();
    /// queue.get_bytes(&mut buffer)?;
    /// assert_eq!(buffer, b"as they are");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<(), PutError> {
        self.put_encoded(bytes, Vec::new(), Patience::Endless)
    }

    /// As [`Queue::put_bytes`], if there is room; does not wait for any.
    ///
    /// # Errors
    /// As for [`Queue::try_put`].
    ///
    /// ```
    /// # use mp_queue::{PutError, Queue};
    /// let queue = Queue::<()>::bounded(1)?;
    /// queue.try_put_bytes(b"first")?;
    /// assert!(matches!(queue.try_put_bytes(b"second"), Err(PutError::Full)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_put_bytes(&self, bytes: &[u8]) -> Result<(), PutError> {
        self.put_encoded(bytes, Vec::new(), Patience::None)
    }

    /// As [`Queue::put_bytes`], waiting for room at most for `timeout`, never less.
    ///
    /// # Errors
    /// As for [`Queue::put_timeout`].
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// # use std::time::Duration;
    /// let queue = Queue::<()>::new()?;
    /// queue.put_bytes_timeout(b"there is room", Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), PutError> {
        self.put_encoded(bytes, Vec::new(), Patience::of(timeout))
    }

    fn put_encoded(&self, bytes: &[u8], handles: Vec<Handle>, patience: Patience) -> Result<(), PutError> {
        if handles.is_empty() {
            if let Patience::None = patience {
                let put = self.ring.try_put(bytes, 0, Wake::Word, &mut || Ok(()))?;
                return put.ok_or(PutError::Full);
            }
            return Ok(self.ring.put(bytes, 0, patience.deadline(), Wake::Word, || Ok(()))?);
        }
        let bundle = Bundle::pack(handles).map_err(PutError::Handles)?;
        let deadline = patience.deadline();
        let send = || match self.lane.send(&bundle) {
            Err(error) if Lane::is_full(&error) && self.sweep() => self.lane.send(&bundle),
            outcome => outcome,
        };
        loop {
            let put = self.ring.put(bytes, bundle.tag(), deadline, Wake::Word, send);
            match put.map_err(PutError::from) {
                Err(PutError::Handles(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    if deadline.is_some_and(|deadline| deadline <= now) {
                        return Err(PutError::Full);
                    }
                    let slice = now + SLICE;
                    self.lane.wait_for_room(deadline.map_or(slice, |deadline| deadline.min(slice)));
                }
                outcome => return outcome,
            }
        }
    }

    /// Throws away what lies on the lane of an empty queue, left by producers that died before their commit: nobody who gets a
    /// message comes across it, for with a full lane there will be none with handles. Whether there was anything. While there are
    /// messages, it is not known whose handles these are.
    ///
    /// The caller holds the producers' gate, so that no packet is on its way.
    fn sweep(&self) -> bool {
        let sweep = |_| self.ring.is_empty() && self.lane.clear();
        self.ring.is_empty() && self.ring.with_last_taken(Entry::Soon, sweep).unwrap_or(false)
    }

    /// Puts all of `batch`, counts in `put`, and leaves it empty.
    fn put_batch(&self, batch: &mut Batch, put: &mut usize, patience: Patience) -> Result<(), PutManyError> {
        let mut done = 0;
        while done < batch.len() {
            let outcome = match patience {
                Patience::None => match self.ring.try_put_batch(batch, done, Wake::Word) {
                    Ok(0) => Err(mp_core::shared::PutError::Full),
                    outcome => outcome,
                },
                _ => self.ring.put_batch(batch, done, patience.deadline(), Wake::Word),
            };
            let count = outcome.map_err(|cause| PutManyError { put: *put, cause: cause.into() })?;
            done += count;
            *put += count;
        }
        batch.clear();
        Ok(())
    }
}
