//! Getting: one message, many messages, bytes, all until the end.

use std::{io, marker::PhantomData, time::Duration};

use mp_core::{
    fds::Bundle,
    os::fd::OwnedFd,
    shared::{Entry, Got, LastTaken, Taking},
    transfer,
};
use serde::de::DeserializeOwned;

use crate::{error::GetError, lane::Lane, put::Patience, queue::Queue};

/// Who signs for messages, if anybody does.
pub(crate) trait Signs {
    fn sign(&self, last: LastTaken) -> u16;
}

impl Signs for () {
    #[inline]
    fn sign(&self, _last: LastTaken) -> u16 {
        0
    }
}

/// Takes the handles of a message off the lane.
struct Collecting<'a, S> {
    lane: &'a Lane,
    signs: &'a S,
    fds: Vec<OwnedFd>,
}

impl<S: Signs> Taking for Collecting<'_, S> {
    fn collect(&mut self, tag: u64) -> io::Result<()> {
        self.fds = self.lane.look(tag)?.unwrap_or_default();
        Ok(())
    }

    fn collected(&mut self) {
        self.lane.take();
    }

    #[inline]
    fn sign(&mut self, last: LastTaken) -> u16 {
        self.signs.sign(last)
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Gets the next message; blocks while the queue is empty. Python: `get()`.
    ///
    /// # Errors
    /// [`GetError::Closed`] when the queue was closed and is drained; [`GetError::Decode`] if this message is not a `T`,
    /// the next one can be got then.
    ///
    /// ```
    /// # use mp_queue::{GetError, Queue};
    /// let queue = Queue::<u32>::new()?;
    /// queue.put(&1)?;
    /// queue.close()?;
    /// assert_eq!(queue.get()?, 1);
    /// assert!(matches!(queue.get(), Err(GetError::Closed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(&self) -> Result<T, GetError> {
        self.get_patiently(Patience::Endless, &())
    }

    /// Gets the next message if there is one; does not wait. Python: `get_nowait()`.
    ///
    /// # Errors
    /// [`GetError::Empty`] if there is none, or if another one is at a get of its own for longer than some milliseconds
    /// (it is stopped, or its message is huge); else as [`Queue::get`].
    ///
    /// ```
    /// # use mp_queue::{GetError, Queue};
    /// let queue = Queue::<u32>::new()?;
    /// assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_patiently(Patience::None, &())
    }

    /// Gets the next message, waiting for it at most for `timeout`, never less. Python: `get(timeout=)`.
    ///
    /// # Errors
    /// [`GetError::Empty`] after the time-out; else as [`Queue::get`].
    ///
    /// ```
    /// # use mp_queue::{GetError, Queue};
    /// # use std::time::Duration;
    /// let queue = Queue::<u32>::new()?;
    /// assert!(matches!(queue.get_timeout(Duration::from_millis(5)), Err(GetError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_patiently(Patience::of(timeout), &())
    }

    /// Gets up to `max` messages together, at least one, which is much faster than one by one: blocks while the queue is
    /// empty, and takes what is there then. Each is decoded when the returned iterator comes to it; those to which it does
    /// not come are lost. Python has only a loop.
    ///
    /// They leave the queue in one step, so a consumer that dies loses all that it has not come to.
    /// It may get fewer than there are: a message with handles in it comes alone, and a megabyte is enough at a time.
    ///
    /// # Errors
    /// As for [`Queue::get`], if there is no first message to get.
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// let queue = Queue::<u32>::new()?;
    /// queue.put_many(&[1, 2, 3])?;
    /// let two = queue.get_many(2)?.collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(two, [1, 2]);
    /// assert_eq!(queue.get_many(100)?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many(&self, max: usize) -> Result<Many<T>, GetError> {
        self.get_many_patiently(max, Patience::Endless, &())
    }

    /// As [`Queue::get_many`], but does not wait.
    ///
    /// # Errors
    /// As for [`Queue::try_get`].
    ///
    /// ```
    /// # use mp_queue::{GetError, Queue};
    /// let queue = Queue::<u32>::new()?;
    /// assert!(matches!(queue.try_get_many(10), Err(GetError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_get_many(&self, max: usize) -> Result<Many<T>, GetError> {
        self.get_many_patiently(max, Patience::None, &())
    }

    /// As [`Queue::get_many`], but waits for the first message at most for `timeout`, never less.
    ///
    /// # Errors
    /// As for [`Queue::get_timeout`].
    ///
    /// ```
    /// # use mp_queue::{GetError, Queue};
    /// # use std::time::Duration;
    /// let queue = Queue::<u32>::new()?;
    /// assert!(matches!(queue.get_many_timeout(10, Duration::from_millis(5)), Err(GetError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many_timeout(&self, max: usize, timeout: Duration) -> Result<Many<T>, GetError> {
        self.get_many_patiently(max, Patience::of(timeout), &())
    }

    /// The messages until the queue is closed and drained; each step blocks. Also `for message in &queue`.
    ///
    /// Python: `iter(queue.get, SENTINEL)`, which needs a sentinel for each consumer.
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// let queue = Queue::<u32>::new()?;
    /// queue.put_many(&[1, 2])?;
    /// queue.close()?;
    /// assert_eq!(queue.iter().collect::<Result<Vec<_>, _>>()?, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    #[inline]
    pub(crate) fn get_patiently(&self, patience: Patience, signs: &impl Signs) -> Result<T, GetError> {
        transfer::with_buffer(|bytes| {
            let fds = self.get_encoded(bytes, patience, signs)?;
            // The decoding runs the value's own code; no gate is held.
            Ok(transfer::decode(bytes, fds)?)
        })
    }

    pub(crate) fn get_many_patiently(
        &self,
        max: usize,
        patience: Patience,
        signs: &impl Signs,
    ) -> Result<Many<T>, GetError> {
        let mut many =
            Many { bytes: Vec::new(), ends: Vec::new(), next: 0, fds: Vec::new(), messages: PhantomData };
        if max == 0 {
            return Ok(many);
        }
        let mut taking = Collecting { lane: &self.lane, signs, fds: Vec::new() };
        let got = match patience {
            Patience::None => self
                .ring
                .try_get_many(&mut many.bytes, &mut many.ends, max, Entry::Soon, &mut taking)?
                .ok_or(GetError::Empty)?,
            _ => {
                self.ring.get_many(&mut many.bytes, &mut many.ends, max, patience.deadline(), &mut taking)?
            }
        };
        let Got { tag, .. } = got;
        many.fds = Bundle::unpack(tag, taking.fds).map_err(GetError::Handles)?;
        Ok(many)
    }
}

impl<T> Queue<T> {
    /// Gets the bytes of the next message into `buffer`, replacing what it held, and using its memory again; blocks while
    /// the queue is empty. For messages of [`Queue::put_bytes`]; of others these are the encoded bytes, without their
    /// handles, which are closed.
    ///
    /// # Errors
    /// As for [`Queue::get`]; the buffer is empty then.
    ///
    /// ```
    /// # use mp_queue::Queue;
    /// let queue = Queue::<()>::new()?;
    /// let mut buffer = Vec::new();
    /// for i in 0..3 {
    ///     queue.put_bytes(&[i; 1000])?;
    ///     queue.get_bytes(&mut buffer)?;
    ///     assert_eq!(buffer, [i; 1000]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_bytes(&self, buffer: &mut Vec<u8>) -> Result<(), GetError> {
        buffer.clear();
        self.get_encoded(buffer, Patience::Endless, &()).map(drop)
    }

    /// As [`Queue::get_bytes`], but does not wait.
    ///
    /// # Errors
    /// As for [`Queue::try_get`]; the buffer is empty then.
    ///
    /// ```
    /// # use mp_queue::{GetError, Queue};
    /// let queue = Queue::<()>::new()?;
    /// assert!(matches!(queue.try_get_bytes(&mut Vec::new()), Err(GetError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_get_bytes(&self, buffer: &mut Vec<u8>) -> Result<(), GetError> {
        buffer.clear();
        self.get_encoded(buffer, Patience::None, &()).map(drop)
    }

    /// As [`Queue::get_bytes`], waiting at most for `timeout`, never less.
    ///
    /// # Errors
    /// As for [`Queue::get_timeout`]; the buffer is empty then.
    ///
    /// ```
    /// # use mp_queue::{GetError, Queue};
    /// # use std::time::Duration;
    /// let queue = Queue::<()>::new()?;
    /// let nothing = queue.get_bytes_timeout(&mut Vec::new(), Duration::from_millis(5));
    /// assert!(matches!(nothing, Err(GetError::Empty)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_bytes_timeout(&self, buffer: &mut Vec<u8>, timeout: Duration) -> Result<(), GetError> {
        buffer.clear();
        self.get_encoded(buffer, Patience::of(timeout), &()).map(drop)
    }

    #[inline]
    fn get_encoded(
        &self,
        into: &mut Vec<u8>,
        patience: Patience,
        signs: &impl Signs,
    ) -> Result<Vec<OwnedFd>, GetError> {
        let mut taking = Collecting { lane: &self.lane, signs, fds: Vec::new() };
        let tag = match patience {
            Patience::None => self.ring.try_get_by(into, Entry::Soon, &mut taking)?.ok_or(GetError::Empty)?,
            _ => self.ring.get_by(into, patience.deadline(), &mut taking)?,
        };
        if tag == 0 {
            return Ok(Vec::new());
        }
        Bundle::unpack(tag, taking.fds).map_err(GetError::Handles)
    }
}

/// Messages that were got together; see [`Queue::get_many`]. Each step decodes one; none blocks.
#[derive(Debug)]
pub struct Many<T> {
    bytes: Vec<u8>,
    /// Where each message ends.
    ends: Vec<usize>,
    next: usize,
    /// Of the only one.
    fds: Vec<OwnedFd>,
    messages: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for Many<T> {
    type Item = Result<T, GetError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let end = *self.ends.get(self.next)?;
        let begin = self.next.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.next += 1;
        Some(transfer::decode(&self.bytes[begin..end], std::mem::take(&mut self.fds)).map_err(GetError::from))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ends.len() - self.next;
        (left, Some(left))
    }
}

impl<T: DeserializeOwned> ExactSizeIterator for Many<T> {}

/// The messages of a queue until it is closed and drained; each step blocks. See [`Queue::iter`].
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
