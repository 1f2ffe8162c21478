//! Values and arrays of plain data that processes share, behind a lock.
//!
//! The memory is reached through the lock only, so whoever has it gets a plain `&mut`. The lock may be one that guards
//! other things as well. What needs no lock is in `raw.rs`.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use bytemuck::Pod;
use mp_core::shared::{Guarded, GuardedGuard, RegionError};
use serde::{Deserialize, Serialize};

use crate::{Lock, LockError};

/// A fixed number of plain values behind a lock; a cheap handle that travels, the values do not.
///
/// Plain values ([`bytemuck::Pod`]) are numbers, arrays of them, and structs that derive it. What holds for [`Lock`] holds
/// here: an owner that died is reported to the next one, and the values may be half changed. Python:
/// `multiprocessing.Array`; for one without a lock see [`RawArray`](crate::RawArray).
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Array;
///
/// let squares = Array::<u64>::zeroed(4)?;
/// let fill = |squares: Array<u64>| {
///     for (i, square) in (0..).zip(squares.lock().unwrap().iter_mut()) {
///         *square = i * i;
///     }
/// };
/// mp_core::spawn(fill, (squares.clone(),))?.join()?;
/// assert_eq!(*squares.lock().unwrap(), [0, 1, 4, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "", deserialize = "T: Pod"))]
pub struct Array<T>(Guarded<T>);

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The values of an [`Array`], for as long as its lock is held.
pub type ArrayGuard<'a, T> = GuardedGuard<'a, T>;

type Locked<'a, T> = Result<ArrayGuard<'a, T>, LockError<ArrayGuard<'a, T>>>;

impl<T: Pod> Array<T> {
    /// Makes `len` zeroed values. Python: `Array(type, len)`.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn zeroed(len: usize) -> Result<Self, RegionError> {
        Self::zeroed_with(&Lock::new()?, len)
    }

    /// Makes `len` zeroed values behind a lock that may guard other things as well. Python: `Array(…, lock=lock)`.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn zeroed_with(lock: &Lock, len: usize) -> Result<Self, RegionError> {
        Guarded::zeroed(lock.0.clone(), len).map(Self)
    }

    /// Makes an array with these values. Python: `Array(type, values)`.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn from_slice(values: &[T]) -> Result<Self, RegionError> {
        let array = Self::zeroed(values.len())?;
        // Nobody else knows its lock.
        array.lock().map_err(|_| RegionError::Corrupt("a new lock cannot be taken"))?.copy_from_slice(values);
        Ok(array)
    }

    /// The lock by itself. While the calling thread has it, [`lock`](Self::lock) here is a [`LockError::Deadlock`]: the guard
    /// of the array is the one to keep. Python: `get_lock()`.
    #[must_use]
    pub fn get_lock(&self) -> Lock {
        Lock(self.0.gate().clone())
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for the lock and gives access to the values.
    ///
    /// # Errors
    /// As for [`Lock::lock`](crate::Lock::lock).
    pub fn lock(&self) -> Locked<'_, T> {
        guard(self.0.lock(None)?)
    }

    /// Gives access to the values if the lock is free.
    ///
    /// # Errors
    /// As for [`Lock::try_lock`](crate::Lock::try_lock).
    pub fn try_lock(&self) -> Locked<'_, T> {
        guard(self.0.try_lock()?)
    }

    /// Waits for the lock, at most for `timeout`, and gives access to the values.
    ///
    /// # Errors
    /// As for [`Lock::lock_timeout`](crate::Lock::lock_timeout).
    pub fn lock_timeout(&self, timeout: Duration) -> Locked<'_, T> {
        guard(self.0.lock(Instant::now().checked_add(timeout))?)
    }
}

impl<T: Pod> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array({} values, {:?})", self.len(), self.get_lock())
    }
}

fn guard<T: Pod>(guard: ArrayGuard<'_, T>) -> Locked<'_, T> {
    if guard.owner_died() { Err(LockError::OwnerDied(guard)) } else { Ok(guard) }
}

/// One plain value behind a lock; a cheap handle that travels, the value does not. Python: `multiprocessing.Value`.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Value;
///
/// let counter = Value::new(40_u64)?;
/// let add = |counter: Value<u64>| *counter.lock().unwrap() += 1;
/// let children = [(); 2].map(|()| mp_core::spawn(add, (counter.clone(),)).unwrap());
/// for child in children {
///     child.join()?;
/// }
/// assert_eq!(counter.get()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "", deserialize = "T: Pod"))]
pub struct Value<T>(Array<T>);

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The value of a [`Value`], for as long as its lock is held.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct ValueGuard<'a, T>(ArrayGuard<'a, T>);

impl<T: Pod> Deref for ValueGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // It is an array of one.
        &self.0[0]
    }
}

impl<T: Pod> DerefMut for ValueGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[0]
    }
}

impl<T: Pod> Value<T> {
    /// Makes a shared value. Python: `Value(type, value)`.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new(value: T) -> Result<Self, RegionError> {
        Array::from_slice(&[value]).map(Self)
    }

    /// Makes a zeroed value behind a lock that may guard other things as well. Python: `Value(…, lock=lock)`.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn zeroed_with(lock: &Lock) -> Result<Self, RegionError> {
        Array::zeroed_with(lock, 1).map(Self)
    }

    /// The lock by itself: see [`Array::get_lock`].
    #[must_use]
    pub fn get_lock(&self) -> Lock {
        self.0.get_lock()
    }

    /// Waits for the lock and gives access to the value.
    ///
    /// # Errors
    /// As for [`Lock::lock`](crate::Lock::lock).
    pub fn lock(&self) -> LockedValue<'_, T> {
        value_guard(self.0.lock())
    }

    /// Gives access to the value if the lock is free.
    ///
    /// # Errors
    /// As for [`Lock::try_lock`](crate::Lock::try_lock).
    pub fn try_lock(&self) -> LockedValue<'_, T> {
        value_guard(self.0.try_lock())
    }

    /// Waits for the lock, at most for `timeout`, and gives access to the value.
    ///
    /// # Errors
    /// As for [`Lock::lock_timeout`](crate::Lock::lock_timeout).
    pub fn lock_timeout(&self, timeout: Duration) -> LockedValue<'_, T> {
        value_guard(self.0.lock_timeout(timeout))
    }

    /// A copy of the value, taken under the lock.
    ///
    /// # Errors
    /// As for [`Lock::lock`](crate::Lock::lock): [`LockError::OwnerDied`] once, since nobody else will be told of that death; the next
    /// call gets the value as it was left.
    pub fn get(&self) -> Result<T, LockError<()>> {
        self.lock().map(|guard| *guard).map_err(LockError::without_guard)
    }

    /// Replaces the value, under the lock.
    ///
    /// # Errors
    /// As for [`Value::get`]; nothing was replaced then.
    pub fn set(&self, value: T) -> Result<(), LockError<()>> {
        self.lock().map(|mut guard| *guard = value).map_err(LockError::without_guard)
    }
}

type LockedValue<'a, T> = Result<ValueGuard<'a, T>, LockError<ValueGuard<'a, T>>>;

fn value_guard<'a, T>(guard: Locked<'a, T>) -> LockedValue<'a, T> {
    guard.map(ValueGuard).map_err(|error| error.map(ValueGuard))
}

impl<T: Pod> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({:?})", self.get_lock())
    }
}
