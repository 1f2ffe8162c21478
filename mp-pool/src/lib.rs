#![doc = include_str!("../README.md")]
//!
//! # A tour
//!
//! ## One result for each item
//!
//! [`Pool::map`] gives all results or the first error, [`Pool::try_map`] a [`Result`] for each item. A [`TaskError`] says which
//! item it was, what happened, and in which worker:
//!
//! ```
//! # mp_pool::test_init!();
//! use mp_pool::{Pool, TaskError};
//!
//! fn parse(text: String) -> i32 {
//!     text.parse().expect("a number")
//! }
//!
//! let pool = Pool::with_workers(2)?;
//! let results = pool.try_map(parse, ["1", "two", "3"].map(str::to_owned))?;
//! assert!(matches!((&results[0], &results[2]), (Ok(1), Ok(3))));
//! match &results[1] {
//!     Err(TaskError::Panicked { index: 1, report, .. }) => assert!(report.message.contains("a number")),
//!     other => unreachable!("{other:?}"),
//! }
//! # Ok::<(), mp_pool::Error>(())
//! ```
//!
//! A task that may fail in a way that its caller expects returns a `Result` of its own, which is a value like any other.
//!
//! ## Time-outs, retries, and what else may be said about a call
//!
//! [`Pool::call`] begins a [`Call`], which ends with `map`, `apply` or another of the pool's methods:
//!
//! ```
//! # mp_pool::test_init!();
//! use mp_pool::Pool;
//! use std::{num::NonZeroUsize, time::Duration};
//!
//! let pool = Pool::with_workers(2)?;
//! let careful = pool
//!     .call()
//!     .timeout(Duration::from_secs(60)) // of each task; its worker is killed then
//!     .retries(3) // if a worker dies at it
//!     .backoff(Duration::from_millis(10)) // before the first of them
//!     .chunk_size(NonZeroUsize::MIN); // one task at a time, because each is long
//! let lengths = careful.clone().map(|text: String| text.len(), ["one".to_owned()])?;
//! assert_eq!(lengths, [3]);
//! assert_eq!(careful.apply(|a: u32, b: u32| a + b, (1, 2))?, 3);
//! # Ok::<(), mp_pool::Error>(())
//! ```
//!
//! ## Now or later
//!
//! The `_async` forms return a [`Handle`] at once. It can be [waited for](Handle::get), also [for a while](Handle::get_timeout)
//! or [with others](wait_any), [looked at](Handle::ready), [cancelled](Handle::cancel) at any time, given
//! [callbacks](Handle::on_success), or awaited:
//!
//! ```
//! # mp_pool::test_init!();
//! use mp_pool::{Error, Pool, TaskError};
//!
//! async fn both(pool: &Pool) -> Result<u64, Error> {
//!     let (sum, product) = (
//!         pool.apply_async(|xs: Vec<u64>| xs.iter().sum::<u64>(), (vec![1, 2, 3],))?,
//!         pool.apply_async(|xs: Vec<u64>| xs.iter().product::<u64>(), (vec![1, 2, 3],))?,
//!     );
//!     Ok(sum.await? + product.await?)
//! }
//! # use std::{future::Future, pin::pin, sync::Arc, task::{Context, Poll, Wake, Waker}, thread::{self, Thread}};
//! # struct Unpark(Thread);
//! # impl Wake for Unpark { fn wake(self: Arc<Self>) { self.0.unpark(); } }
//! # fn block_on<T>(future: impl Future<Output = T>) -> T {
//! #     let waker = Waker::from(Arc::new(Unpark(thread::current())));
//! #     let mut future = pin!(future);
//! #     loop {
//! #         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
//! #             Poll::Ready(value) => return value,
//! #             Poll::Pending => thread::park(),
//! #         }
//! #     }
//! # }
//!
//! let pool = Pool::with_workers(2)?;
//! assert_eq!(block_on(both(&pool))?, 12); // of whatever runtime
//!
//! let endless = pool.apply_async(|| std::thread::sleep(std::time::Duration::from_secs(600)), ())?;
//! endless.cancel(); // it runs, and ends
//! assert!(matches!(endless.get(), Err(Error::Task(TaskError::Cancelled { .. }))));
//! # Ok::<(), mp_pool::Error>(())
//! ```
//!
//! ## Endless inputs
//!
//! [`Pool::imap`] and [`Pool::imap_unordered`] read a little of their input with each result that is taken:
//!
//! ```
//! # mp_pool::test_init!();
//! use mp_pool::Pool;
//!
//! let pool = Pool::with_workers(2)?;
//! let mut squares = pool.imap(|x: u64| x * x, 0..)?;
//! assert_eq!(squares.next().transpose()?, Some(0));
//! assert_eq!(squares.next().transpose()?, Some(1));
//! assert_eq!(squares.nth(97).transpose()?, Some(99 * 99));
//! # Ok::<(), mp_pool::Error>(())
//! ```
//!
//! ## What each worker has
//!
//! What every task of every call needs is made by the [initializer](PoolBuilder::initializer), once in each worker, and is the
//! worker's [state](task::with_state). What all tasks of one call need is its [context](Call::context), sent to each worker once.
//! What is large stays where it is, in shared memory: a `SharedMemory` or an `Array` of `mp-lock` is an argument of a few bytes.
//! Arguments and results are owned, at both ends: `String`, not `&str`.
//! What travels all the same travels fastest as one string of bytes: a `String`, or a `Vec<u8>` by `serde_bytes`. Serde takes
//! every other `Vec` element by element, which costs least where the elements are numbers of 32 or 64 bits, and most for bytes.
//!
//! Tasks run on a worker's main thread, one at a time, with the stack that `ulimit -s` gives it. The state is dropped when the worker
//! comes to its end in good order: after [`close`](Pool::close), when it is replaced, and at [`terminate`](Pool::terminate) if it is at no
//! task that goes on. [`current_process`] tells a task the name of its worker.
//!
//! Calls are served in the order in which they were made, chunk by chunk. Each worker is given a little ahead, which comes before what is
//! submitted later. To submit takes as long as to encode the input, and waits for nobody: `_async` calls return then.
//!
//! ## Limits
//!
//! A worker can be replaced [after so many tasks](PoolBuilder::max_tasks_per_worker) or when it has
//! [grown too large](PoolBuilder::max_resident), have less [address space](PoolBuilder::address_space), run on
//! [CPUs](PoolBuilder::cpus) of its own with so many [threads](PoolBuilder::threads_per_worker), and
//! [end when there is nothing to do](PoolBuilder::idle_timeout).
//!
//! ## The end
//!
//! [`Pool::close`] and [`Pool::join`] let everything come to its end, [`Pool::scope`] does both; [`Pool::terminate`] does not wait, and
//! is what happens to a pool that is dropped. After `close`, nothing can be submitted; before it, `join` is an error:
//!
//! ```
//! # mp_pool::test_init!();
//! use mp_pool::{Error, Pool};
//!
//! let pool = Pool::with_workers(1)?;
//! let last = pool.apply_async(|| 1, ())?;
//! assert!(matches!(pool.join(), Err(Error::StillRunning)));
//! pool.close();
//! assert!(matches!(pool.apply(|| 2, ()), Err(Error::Closed)));
//! pool.join()?;
//! assert_eq!(last.get()?, 1);
//! # Ok::<(), Error>(())
//! ```
//!
//! ## Ctrl-C
//!
//! A terminal sends SIGINT to every process in front of it. Workers ignore it: what it means is for the pool's own process to
//! say. If that one does not handle it, it ends at once, and its workers with it: no task goes on, nothing that it would have
//! done at its end is done. If it handles the signal (with a crate such as `ctrlc` or `signal-hook`, or `tokio::signal`), the tasks
//! run on undisturbed, and it may let them end ([`close`](Pool::close), then [`join`](Pool::join)) or not
//! ([`terminate`](Pool::terminate), from any thread); tasks may ask [`task::should_stop`] on the way. A task that wants the signal
//! itself sets a handler of its own.
#![forbid(unsafe_code)]
#![allow(clippy::needless_doctest_main, reason = "the place of `init` in `main` is the point")]

mod batch;
mod builder;
mod call;
mod crew;
mod engine;
mod error;
mod handle;
mod help;
mod imap;
mod insights;
mod job;
mod local;
#[cfg(feature = "log")]
mod logs;
mod message;
#[cfg(all(test, mp_loom))]
mod models;
mod own_thread;
mod pool;
#[cfg(feature = "progress")]
mod progress;
mod results;
mod spare;
mod store;
pub mod task;
mod trace;
mod wait;
mod worker;

pub use builder::PoolBuilder;
pub use call::{Call, TaskFunction, With};
pub use error::{Error, TaskError};
pub use handle::Handle;
pub use imap::Imap;
pub use insights::{Insights, SlowTask, Work, WorkerInsights};
pub use job::Progress;
pub use mp_core::{ExitStatus, PanicReport, StartMethod, current_process, init, init_test, test_init};
pub use pool::Pool;
pub use wait::{Waitable, wait_all, wait_any};
