//! Plain values that are written once, and then read by any number of processes at a time.
//!
//! The kernel seals the memory: nobody can change it any more, not even with its descriptor in hand. That is why a plain `&[T]` to
//! it is sound without a lock, and why all may have one at once.

use std::{
    fmt,
    io::{self, ErrorKind},
    marker::PhantomData,
    ops::Deref,
    sync::Arc,
};

use bytemuck::Pod;
use mp_core::{shared::RegionError, transfer::Constant};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Plain values that never change; a cheap handle that travels, the values do not.
///
/// It derefs to the slice. Any number of processes and threads read it at once, where it is: for a table that every task of a
/// pool looks things up in, however large. For values that change see [`Array`](crate::Array) and
/// [`RawArray`](crate::RawArray). Python has none; `SharedMemory` under a numpy array comes near.
///
/// ```
/// # mp_core::test_init!();
/// use mp_lock::Frozen;
///
/// let table = Frozen::new(&[2.0, 3.0, 5.0])?;
/// let sum = |table: Frozen<f64>| table.iter().sum::<f64>();
/// let children = [(); 2].map(|()| mp_core::spawn(sum, (table.clone(),)));
/// for child in children {
///     assert_eq!(child?.join()?, 10.0);
/// }
/// assert_eq!(table[1], 3.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Frozen<T> {
    memory: Arc<Memory>,
    values: PhantomData<fn() -> T>,
}

struct Memory {
    constant: Constant,
    mapped: Box<dyn Deref<Target = [u8]> + Send + Sync>,
}

impl Memory {
    fn open(constant: Constant) -> io::Result<Arc<Self>> {
        let mapped = Box::new(constant.read()?);
        Ok(Arc::new(Self { constant, mapped }))
    }
}

impl<T: Pod> Frozen<T> {
    /// Where a mapping begins, and how many values bytes are.
    const FITS: () = assert!(
        size_of::<T>() > 0 && align_of::<T>() <= 4096,
        "frozen values have a size, and an alignment of a page at most"
    );

    /// Copies the values, once and for all. Values of no size, or with an alignment of more than 4096, do not compile.
    ///
    /// # Errors
    /// [`RegionError`] if there is no shared memory.
    pub fn new(values: &[T]) -> Result<Self, RegionError> {
        let () = Self::FITS;
        let bytes = bytemuck::cast_slice(values);
        let memory = Constant::new(bytes).and_then(Memory::open).map_err(|cause| match cause.kind() {
            ErrorKind::Unsupported => RegionError::Unsupported,
            _ => RegionError::System { len: bytes.len() as u64, action: "written and sealed", cause },
        })?;
        Ok(Self { memory, values: PhantomData })
    }
}

impl<T> Clone for Frozen<T> {
    fn clone(&self) -> Self {
        Self { memory: Arc::clone(&self.memory), values: PhantomData }
    }
}

impl<T: Pod> Deref for Frozen<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // What arrived was looked at when it did, and a mapping begins with a page. Nothing is what an empty one has.
        bytemuck::try_cast_slice(&self.memory.mapped).unwrap_or_default()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Frozen<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T> Serialize for Frozen<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory.constant.serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Frozen<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let () = Self::FITS;
        let memory = Memory::open(Constant::deserialize(deserializer)?).map_err(D::Error::custom)?;
        if !memory.mapped.is_empty() && bytemuck::try_cast_slice::<u8, T>(&memory.mapped).is_err() {
            return Err(D::Error::custom("frozen values have another size than those that are expected"));
        }
        Ok(Self { memory, values: PhantomData })
    }
}
