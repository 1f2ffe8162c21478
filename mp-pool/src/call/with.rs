//! Calls whose tasks share a context.

use std::sync::Arc;

use mp_core::call::Function;
use serde::{Serialize, de::DeserializeOwned};

use super::Call;
use crate::{
    error::{Error, TaskError},
    handle::Handle,
    imap::Imap,
    job::Context,
    worker,
};

/// A [`Call`] whose tasks share a context; made by [`Call::context`].
///
/// The function's first argument is a reference to the context.
#[must_use = "nothing is called before `map` or the like"]
pub struct CallWith<'p, C> {
    pub(super) call: Call<'p>,
    pub(super) context: Arc<Context>,
    pub(super) types: std::marker::PhantomData<fn(C)>,
}

impl<C: DeserializeOwned + 'static> CallWith<'_, C> {
    /// See [`Pool::map`](crate::Pool::map).
    ///
    /// # Errors
    /// See there.
    pub fn map<F, T, R>(self, function: F, items: impl IntoIterator<Item = T>) -> Result<Vec<R>, Error>
    where
        F: for<'c> Function<(&'c C, T), Output = R>,
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.call.collect(worker::run_call_with::<F, C, T, R>(), Some(self.context), items)
    }

    /// See [`Pool::try_map`](crate::Pool::try_map).
    ///
    /// # Errors
    /// See there.
    pub fn try_map<F, T, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Result<R, TaskError>>, Error>
    where
        F: for<'c> Function<(&'c C, T), Output = R>,
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.call.try_collect(worker::run_call_with::<F, C, T, R>(), Some(self.context), items)
    }

    /// See [`Pool::map_async`](crate::Pool::map_async).
    ///
    /// # Errors
    /// See there.
    pub fn map_async<F, T, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Handle<Vec<R>>, Error>
    where
        F: for<'c> Function<(&'c C, T), Output = R>,
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.call.later(worker::run_call_with::<F, C, T, R>(), Some(self.context), items)
    }

    /// See [`Pool::imap`](crate::Pool::imap).
    ///
    /// # Errors
    /// See there.
    pub fn imap<F, I, R>(self, function: F, items: I) -> Result<Imap<I::IntoIter, R>, Error>
    where
        I: IntoIterator,
        F: for<'c> Function<(&'c C, I::Item), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.call.stream(worker::run_call_with::<F, C, I::Item, R>(), Some(self.context), items, true)
    }

    /// See [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    ///
    /// # Errors
    /// See there.
    pub fn imap_unordered<F, I, R>(self, function: F, items: I) -> Result<Imap<I::IntoIter, R>, Error>
    where
        I: IntoIterator,
        F: for<'c> Function<(&'c C, I::Item), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = function;
        self.call.stream(worker::run_call_with::<F, C, I::Item, R>(), Some(self.context), items, false)
    }
}

impl<C> std::fmt::Debug for CallWith<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallWith").finish_non_exhaustive()
    }
}
