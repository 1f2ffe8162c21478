//! The calls of a pool about which nothing more is to be said; each is one of a [`Call`](crate::Call).
//!
//! Each names `Captures::NOTHING` itself, so that the error of a build shows the line that called it.

use mp_core::call::{Captures, Function};
use serde::{Serialize, de::DeserializeOwned};

use super::Pool;
use crate::{
    error::{Error, TaskError},
    handle::Handle,
    imap::Imap,
};

impl Pool {
    /// Calls `function` once, in some worker, with the tuple `args`, and returns its result. Blocks until then. Python: `apply()`.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// let pool = mp_pool::Pool::with_workers(1)?;
    /// assert_eq!(pool.apply(|text: String, times: usize| text.repeat(times), ("ab".to_owned(), 2))?, "abab");
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Task`] with what happened instead of a result, [`Error::Closed`] after `close` or `terminate`, and what breaks the
    /// pool as a whole.
    pub fn apply<F, Args, R>(&self, function: F, args: Args) -> Result<R, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let () = Captures::<F>::NOTHING;
        self.call().apply(function, args)
    }

    /// As [`Pool::apply`], but returns at once, with a [`Handle`]. Python: `apply_async()`.
    ///
    /// # Errors
    /// [`Error::Closed`], or what has broken the pool; everything else is told by the handle.
    pub fn apply_async<F, Args, R>(&self, function: F, args: Args) -> Result<Handle<R>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let () = Captures::<F>::NOTHING;
        self.call().apply_async(function, args)
    }

    /// Calls `function` with each of `items` and returns the results in the order of the items. Python: `map()`.
    ///
    /// Blocks until all have ended, also if one fails. See [`Pool::try_map`] for the results of the others then. All of the input is
    /// read, as fast as it comes; for an input without end there is [`Pool::imap`].
    ///
    /// Large results are decoded by several threads of this process, no more than rayon would use where this is called, and so are items
    /// encoded while workers have to wait for them. So both are [`Send`] and borrow nothing, and neither the `Serialize` of an item nor
    /// the `Deserialize` of a result should need a lock that the caller holds. [`Pool::imap`] encodes on the caller's thread, whatever it is.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use mp_pool::{Error, Pool, TaskError};
    ///
    /// let pool = Pool::with_workers(2)?;
    /// assert_eq!(pool.map(|x: u32| 100 / x, [1, 2, 5])?, [100, 50, 20]);
    /// let failed = pool.map(|x: u32| 100 / x, [1, 0, 5]);
    /// assert!(matches!(failed, Err(Error::Task(TaskError::Panicked { index: 1, .. }))));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// A function that takes one to hand it on asks for `Copy + 'static`, which whatever captures nothing is.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// # use mp_pool::{Error, Pool};
    /// fn sum(pool: &Pool, f: impl Fn(u32) -> u32 + Copy + 'static) -> Result<u32, Error> {
    ///     Ok(pool.map(f, 0..10)?.into_iter().sum())
    /// }
    ///
    /// assert_eq!(sum(&Pool::with_workers(2)?, |x| 2 * x)?, 90);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// Arguments are owned, in the function and in the call: `String`, not `&str`.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// let pool = mp_pool::Pool::with_workers(2)?;
    /// let lengths = pool.map(|word: String| word.len(), ["a", "bc"].map(String::from))?;
    /// assert_eq!(lengths, [1, 2]);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Task`]: the first item, in their order, that has no result; else as [`Pool::apply`].
    pub fn map<F, T, R>(&self, function: F, items: impl IntoIterator<Item = T>) -> Result<Vec<R>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let () = Captures::<F>::NOTHING;
        self.call().map(function, items)
    }

    /// As [`Pool::map`], with one result for each item, so that a failure costs nobody else's result. Python has nothing like it.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// let pool = mp_pool::Pool::with_workers(2)?;
    /// let results = pool.try_map(|x: u32| 100 / x, [1, 0, 5])?;
    /// assert_eq!(results[0].as_ref().ok(), Some(&100));
    /// assert!(results[1].as_ref().unwrap_err().to_string().contains("divide by zero"));
    /// assert_eq!(results[2].as_ref().ok(), Some(&20));
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Closed`], or what breaks the pool as a whole.
    pub fn try_map<F, T, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Result<R, TaskError>>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let () = Captures::<F>::NOTHING;
        self.call().try_map(function, items)
    }

    /// As [`Pool::map`], but returns when all items are read and submitted, with a [`Handle`]. Python: `map_async()`.
    ///
    /// # Errors
    /// As for [`Pool::apply_async`].
    pub fn map_async<F, T, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Handle<Vec<R>>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let () = Captures::<F>::NOTHING;
        self.call().map_async(function, items)
    }

    /// As [`Pool::try_map`], but returns when all items are submitted, with a [`Handle`] of all results.
    ///
    /// # Errors
    /// As for [`Pool::apply_async`].
    pub fn try_map_async<F, T, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Handle<Vec<Result<R, TaskError>>>, Error>
    where
        F: Function<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let () = Captures::<F>::NOTHING;
        self.call().try_map_async(function, items)
    }

    /// As [`Pool::map`], for functions with several arguments: each item is the tuple of them. Python: `starmap()`.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// let pool = mp_pool::Pool::with_workers(2)?;
    /// assert_eq!(pool.starmap(|base: u64, power: u32| base.pow(power), [(2, 5), (3, 2)])?, [32, 9]);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Pool::map`].
    pub fn starmap<F, Args, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<R>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let () = Captures::<F>::NOTHING;
        self.call().starmap(function, items)
    }

    /// As [`Pool::starmap`], but returns when all items are submitted. Python: `starmap_async()`.
    ///
    /// # Errors
    /// As for [`Pool::apply_async`].
    pub fn starmap_async<F, Args, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Handle<Vec<R>>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let () = Captures::<F>::NOTHING;
        self.call().starmap_async(function, items)
    }

    /// As [`Pool::starmap`], with one result for each item, like [`Pool::try_map`].
    ///
    /// # Errors
    /// As for [`Pool::try_map`].
    pub fn try_starmap<F, Args, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Vec<Result<R, TaskError>>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let () = Captures::<F>::NOTHING;
        self.call().try_starmap(function, items)
    }

    /// As [`Pool::try_starmap`], but returns when all items are submitted, with a [`Handle`] of all results.
    ///
    /// # Errors
    /// As for [`Pool::apply_async`].
    pub fn try_starmap_async<F, Args, R>(
        &self,
        function: F,
        items: impl IntoIterator<Item = Args>,
    ) -> Result<Handle<Vec<Result<R, TaskError>>>, Error>
    where
        F: Function<Args, Output = R>,
        Args: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let () = Captures::<F>::NOTHING;
        self.call().try_starmap_async(function, items)
    }

    /// Calls `function` with each of `items`, which are read as they are needed, and gives the results in their order. Python:
    /// `imap()`, which reads the whole input at once.
    ///
    /// At most a [window](crate::Call::window) of items is read ahead of the results that were taken. Each result has its own error, after
    /// which the results go on. Returns at once; each step of the result waits for its task. Each task travels by itself: where they are
    /// short, and many, give them a [chunk size](crate::Call::chunk_size).
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// let pool = mp_pool::Pool::with_workers(2)?;
    /// let endless = pool.imap(|x: u64| x * x, 0..)?;
    /// assert_eq!(endless.take(4).collect::<Result<Vec<_>, _>>()?, [0, 1, 4, 9]);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// Items may borrow here, or be of a type that is not [`Send`], if that can be decoded as an owned one.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// use std::borrow::Cow;
    ///
    /// let pool = mp_pool::Pool::with_workers(2)?;
    /// let text = "so it goes".to_owned();
    /// let lengths = pool.imap(|word: Cow<'_, str>| word.len(), text.split(' ').map(Cow::Borrowed))?;
    /// assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [2, 2, 4]);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Pool::apply_async`].
    pub fn imap<F, I, R>(&self, function: F, items: I) -> Result<Imap<I::IntoIter, R>, Error>
    where
        I: IntoIterator,
        F: Function<(I::Item,), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let () = Captures::<F>::NOTHING;
        self.call().imap(function, items)
    }

    /// As [`Pool::imap`], with each result as soon as it is there. A result does not say which item it is of: where that matters, number
    /// the input, and have the function return the number. Python: `imap_unordered()`.
    ///
    /// ```
    /// # mp_pool::test_init!();
    /// let pool = mp_pool::Pool::with_workers(2)?;
    /// let mut squares = pool.imap_unordered(|x: u64| x * x, 0..4)?.collect::<Result<Vec<_>, _>>()?;
    /// squares.sort_unstable();
    /// assert_eq!(squares, [0, 1, 4, 9]);
    /// # Ok::<(), mp_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Pool::imap`].
    pub fn imap_unordered<F, I, R>(&self, function: F, items: I) -> Result<Imap<I::IntoIter, R>, Error>
    where
        I: IntoIterator,
        F: Function<(I::Item,), Output = R>,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let () = Captures::<F>::NOTHING;
        self.call().imap_unordered(function, items)
    }
}
