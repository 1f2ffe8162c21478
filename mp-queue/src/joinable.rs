//! A queue that knows when everything that was put has been worked off.

use std::{
    borrow::Borrow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mp_core::shared::{self, Entry, RegionError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    GetError, JoinError, Many, Options, PutError, PutManyError, Queue, TaskDoneError,
    ledger::{Ledger, Signature},
    put::Patience,
};

/// How long one that joins sleeps before it looks who has died.
const SLICE: Duration = Duration::from_millis(100);

/// A [`Queue`] whose consumers say when they are done with a message, so that others can wait until all is done. Python:
/// `multiprocessing.JoinableQueue`.
///
/// A process that gets a message owes a [`task_done`](Self::task_done) for it. One that dies before that has lost it: in
/// Python `join` then waits for ever, here it returns [`JoinError::Lost`] once all else is done, within a fraction of a
/// second. Counts are exact whoever dies where; so it is the process that got a message which must say that it is done.
///
/// ```
/// # mp_core::test_init!();
/// use mp_queue::JoinableQueue;
///
/// fn work(tasks: JoinableQueue<u32>) {
///     while let Ok(_task) = tasks.get() {
///         tasks.task_done().unwrap();
///     }
/// }
///
/// let tasks = JoinableQueue::new()?;
/// let worker = mp_core::spawn(work, (tasks.clone(),))?;
/// tasks.put_many(&[1, 2, 3])?;
/// tasks.join()?; // the three are done, not just got
/// assert_eq!(tasks.unfinished(), 0);
/// tasks.close()?;
/// worker.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct JoinableQueue<T> {
    queue: Queue<T>,
    ledger: Ledger,
    /// How many lost tasks a join of this handle, or of a clone in this process, has told of.
    #[serde(skip)]
    told: Arc<AtomicU64>,
}

impl<T> JoinableQueue<T> {
    /// Makes a queue that is limited by memory only.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory or no descriptor.
    pub fn new() -> Result<Self, RegionError> {
        Options::default().create_joinable()
    }

    /// Makes a queue of at most `max_items` messages (0: any number).
    ///
    /// # Errors
    /// As for [`JoinableQueue::new`].
    pub fn bounded(max_items: u32) -> Result<Self, RegionError> {
        Options::default().max_items(max_items).create_joinable()
    }

    pub(crate) fn on(queue: Queue<T>) -> Result<Self, RegionError> {
        Ok(Self { queue, ledger: Ledger::new()?, told: Arc::default() })
    }

    /// See [`Queue::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// See [`Queue::is_empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// See [`Queue::is_full`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// See [`Queue::maxsize`].
    #[must_use]
    pub fn maxsize(&self) -> Option<usize> {
        self.queue.maxsize()
    }

    /// See [`Queue::close`]; what was put can still be got, done and joined.
    ///
    /// # Errors
    /// As for [`Queue::close`].
    pub fn close(&self) -> Result<(), PutError> {
        self.queue.close()
    }

    /// See [`Queue::is_closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Says that a message that this process has got is done. Python: `task_done()`, which may be called by any process.
    ///
    /// Also for a message that could not be decoded.
    ///
    /// # Errors
    /// [`TaskDoneError::TooMany`] if this process has got no message that is not done. Python: `ValueError`.
    ///
    /// ```
    /// # use mp_queue::{JoinableQueue, TaskDoneError};
    /// let queue = JoinableQueue::<u32>::new()?;
    /// queue.put(&1)?;
    /// assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany)); // it was not got yet
    /// queue.get()?;
    /// queue.task_done()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        match self.ledger.task_done(&self.queue.ring) {
            Ok(true) => Ok(()),
            Ok(false) => Err(TaskDoneError::TooMany),
            Err(_) => Err(TaskDoneError::Corrupt),
        }
    }

    /// How many messages are not done at this moment: in the queue, or with a process that has not said that they are.
    /// What died with a process counts until a `join` has noticed.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.ledger.unfinished(&self.queue.ring).unwrap_or(0)
    }

    /// Waits until every message that was put is done. Python: `join()`.
    ///
    /// # Errors
    /// [`JoinError::Lost`] if nothing is left to wait for, but processes have died with messages that they had not done
    /// (and no join of this process has told of these before).
    ///
    /// ```
    /// # mp_core::test_init!();
    /// use mp_queue::{JoinError, JoinableQueue};
    ///
    /// fn die_over_it(queue: JoinableQueue<u32>) {
    ///     queue.get().unwrap();
    ///     std::process::abort();
    /// }
    ///
    /// let queue = JoinableQueue::new()?;
    /// let worker = mp_core::spawn(die_over_it, (queue.clone(),))?;
    /// queue.put(&1)?;
    /// assert_eq!(queue.join(), Err(JoinError::Lost { tasks: 1 }));
    /// # assert!(worker.join().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(&self) -> Result<(), JoinError> {
        self.join_until(None)
    }

    /// As [`JoinableQueue::join`], but waits at most for `timeout`, never less. Python has none.
    ///
    /// # Errors
    /// [`JoinError::TimedOut`]; else as [`JoinableQueue::join`].
    ///
    /// ```
    /// # use mp_queue::{JoinError, JoinableQueue};
    /// # use std::time::Duration;
    /// let queue = JoinableQueue::<u32>::new()?;
    /// queue.put(&1)?;
    /// assert_eq!(queue.join_timeout(Duration::from_millis(5)), Err(JoinError::TimedOut));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.join_until(Instant::now().checked_add(timeout))
    }

    fn join_until(&self, deadline: Option<Instant>) -> Result<(), JoinError> {
        let ring = &self.queue.ring;
        let look = || {
            let lost = match self.ledger.bury(ring, Entry::By(deadline)) {
                Ok(lost) => lost,
                Err(shared::GetError::Empty) => return None,
                Err(_) => return Some(Err(JoinError::Corrupt)),
            };
            match self.ledger.unfinished(ring) {
                Ok(0) => {}
                Ok(_) => return None,
                Err(()) => return Some(Err(JoinError::Corrupt)),
            }
            let tasks = lost.wrapping_sub(self.told.swap(lost, Ordering::Relaxed));
            Some(if tasks == 0 { Ok(()) } else { Err(JoinError::Lost { tasks }) })
        };
        loop {
            // Nobody is woken by a death.
            let slice = Instant::now() + SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            match self.ledger.all_done.wait_shared(Some(until), look) {
                Ok(outcome) => return outcome,
                Err(_) if deadline == Some(until) => return Err(JoinError::TimedOut),
                Err(_) => {}
            }
        }
    }
}

impl<T: Serialize> JoinableQueue<T> {
    /// See [`Queue::put`].
    ///
    /// # Errors
    /// As for [`Queue::put`].
    pub fn put<Q>(&self, value: &Q) -> Result<(), PutError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.queue.put(value)
    }

    /// See [`Queue::try_put`].
    ///
    /// # Errors
    /// As for [`Queue::try_put`].
    pub fn try_put<Q>(&self, value: &Q) -> Result<(), PutError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.queue.try_put(value)
    }

    /// See [`Queue::put_timeout`].
    ///
    /// # Errors
    /// As for [`Queue::put_timeout`].
    pub fn put_timeout<Q>(&self, value: &Q, timeout: Duration) -> Result<(), PutError>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.queue.put_timeout(value, timeout)
    }

    /// See [`Queue::put_many`].
    ///
    /// # Errors
    /// As for [`Queue::put_many`].
    pub fn put_many<'a>(&self, values: impl IntoIterator<Item = &'a T>) -> Result<usize, PutManyError>
    where
        T: 'a,
    {
        self.queue.put_many(values)
    }
}

impl<T: DeserializeOwned> JoinableQueue<T> {
    fn signature(&self, patience: Patience) -> Result<Signature<'_>, GetError> {
        self.ledger.signature(&self.queue.ring, patience.entry())?.ok_or(GetError::TooManyConsumers)
    }

    /// See [`Queue::get`]; this process then owes a [`task_done`](Self::task_done).
    ///
    /// # Errors
    /// As for [`Queue::get`]; [`GetError::TooManyConsumers`] if more than 1000 living processes have got messages of this
    /// queue.
    pub fn get(&self) -> Result<T, GetError> {
        self.queue.get_patiently(Patience::Endless, &self.signature(Patience::Endless)?)
    }

    /// See [`Queue::try_get`] and [`JoinableQueue::get`].
    ///
    /// # Errors
    /// As for [`Queue::try_get`] and [`JoinableQueue::get`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.queue.get_patiently(Patience::None, &self.signature(Patience::None)?)
    }

    /// See [`Queue::get_timeout`] and [`JoinableQueue::get`].
    ///
    /// # Errors
    /// As for [`Queue::get_timeout`] and [`JoinableQueue::get`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        let patience = Patience::of(timeout);
        self.queue.get_patiently(patience, &self.signature(patience)?)
    }

    /// See [`Queue::get_many`]; this process then owes a [`task_done`](Self::task_done) for each.
    ///
    /// # Errors
    /// As for [`Queue::get_many`] and [`JoinableQueue::get`].
    pub fn get_many(&self, max: usize) -> Result<Many<T>, GetError> {
        self.queue.get_many_patiently(max, Patience::Endless, &self.signature(Patience::Endless)?)
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), ledger: self.ledger.clone(), told: Arc::clone(&self.told) }
    }
}
