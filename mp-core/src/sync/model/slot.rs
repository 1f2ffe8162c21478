//! A slot for the models: loom's atomics cannot lie in shared memory, and its threads need none.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shared::{Region, RegionError, Shared};

/// One thing of type `T` that the processes of a model share.
pub struct Slot<T: Shared>(Arc<T>);

impl<T: Shared> Slot<T> {
    /// Makes a new thing.
    ///
    /// # Errors
    /// None.
    pub fn new() -> Result<Self, RegionError> {
        Ok(Self(Arc::new(T::model())))
    }

    /// As [`Slot::new`].
    ///
    /// # Errors
    /// None.
    pub fn alone() -> Result<Self, RegionError> {
        Self::new()
    }

    /// Not there.
    pub fn region(&self) -> &Region {
        unreachable!("a model has no memory of its own")
    }

    /// Whether both are handles of the same thing.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: Shared> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Shared> Deref for Slot<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Shared> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

impl<T: Shared> Serialize for Slot<T> {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("nothing travels in a model"))
    }
}

impl<'de, T: Shared> Deserialize<'de> for Slot<T> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("nothing travels in a model"))
    }
}
