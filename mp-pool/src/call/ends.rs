//! The ends of a call: the functions that begin its tasks, each as [`Pool`](crate::Pool) has it.

use serde::{Serialize, de::DeserializeOwned};

use super::{Call, TaskFunction, known_by_type};
use crate::{
    error::{Error, TaskError},
    handle::Handle,
    imap::Imap,
    results::{self, Each, Values},
};

impl<C> Call<'_, C> {
    /// See [`Pool::apply`](crate::Pool::apply).
    ///
    /// # Errors
    /// See there.
    pub fn apply<F, Args, R>(self, function: F, args: Args) -> Result<R, Error>
    where
        F: TaskFunction<C, Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        known_by_type!(function: F);
        self.one(F::run(), args)
    }

    /// See [`Pool::apply_async`](crate::Pool::apply_async).
    ///
    /// # Errors
    /// See there.
    pub fn apply_async<F, Args, R>(self, function: F, args: Args) -> Result<Handle<R>, Error>
    where
        F: TaskFunction<C, Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        known_by_type!(function: F);
        self.one_later(F::run(), args)
    }

    /// See [`Pool::map`](crate::Pool::map).
    ///
    /// # Errors
    /// See there.
    pub fn map<F, T, R>(self, function: F, items: impl IntoIterator<Item = T>) -> Result<Vec<R>, Error>
    where
        F: TaskFunction<C, (T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        known_by_type!(function: F);
        self.all::<_, Values<R>>(F::run(), items)
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
        F: TaskFunction<C, (T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        known_by_type!(function: F);
        self.later(F::run(), items, results::read_all::<Values<R>>)
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
        F: TaskFunction<C, (T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        known_by_type!(function: F);
        self.all::<_, Each<R>>(F::run(), items)
    }

    /// See [`Pool::try_map_async`](crate::Pool::try_map_async).
    ///
    /// # Errors
    /// See there.
    pub fn try_map_async<F, T, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Handle<Vec<Result<R, TaskError>>>, Error>
    where
        F: TaskFunction<C, (T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        known_by_type!(function: F);
        self.later(F::run(), items, results::read_all::<Each<R>>)
    }

    /// See [`Pool::starmap`](crate::Pool::starmap).
    ///
    /// # Errors
    /// See there.
    pub fn starmap<F, Args, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<R>, Error>
    where
        F: TaskFunction<C, Args, Output = R>,
        Args: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        known_by_type!(function: F);
        self.all::<_, Values<R>>(F::run(), items)
    }

    /// See [`Pool::starmap_async`](crate::Pool::starmap_async).
    ///
    /// # Errors
    /// See there.
    pub fn starmap_async<F, Args, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Handle<Vec<R>>, Error>
    where
        F: TaskFunction<C, Args, Output = R>,
        Args: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        known_by_type!(function: F);
        self.later(F::run(), items, results::read_all::<Values<R>>)
    }

    /// See [`Pool::try_starmap`](crate::Pool::try_starmap).
    ///
    /// # Errors
    /// See there.
    pub fn try_starmap<F, Args, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<Result<R, TaskError>>, Error>
    where
        F: TaskFunction<C, Args, Output = R>,
        Args: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        known_by_type!(function: F);
        self.all::<_, Each<R>>(F::run(), items)
    }

    /// See [`Pool::try_starmap_async`](crate::Pool::try_starmap_async).
    ///
    /// # Errors
    /// See there.
    pub fn try_starmap_async<F, Args, R>(
        self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Handle<Vec<Result<R, TaskError>>>, Error>
    where
        F: TaskFunction<C, Args, Output = R>,
        Args: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        known_by_type!(function: F);
        self.later(F::run(), items, results::read_all::<Each<R>>)
    }

    /// See [`Pool::imap`](crate::Pool::imap).
    ///
    /// # Errors
    /// See there.
    pub fn imap<F, I, R>(self, function: F, items: I) -> Result<Imap<I::IntoIter, R>, Error>
    where
        I: IntoIterator,
        F: TaskFunction<C, (I::Item,), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        known_by_type!(function: F);
        self.stream(F::run(), items, true)
    }

    /// See [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    ///
    /// # Errors
    /// See there.
    pub fn imap_unordered<F, I, R>(self, function: F, items: I) -> Result<Imap<I::IntoIter, R>, Error>
    where
        I: IntoIterator,
        F: TaskFunction<C, (I::Item,), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        known_by_type!(function: F);
        self.stream(F::run(), items, false)
    }
}
