//! A pool of worker processes that never hangs.
//!
//! (The guided tour grows with the crate.)
//!
//! ```
//! # mp_pool::test_init!();
//! use mp_pool::Pool;
//!
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! let pool = Pool::new()?;
//! assert_eq!(pool.map(square, [1, 2, 3])?, [1, 4, 9]);
//! pool.close();
//! pool.join()?;
//! # Ok::<(), mp_pool::Error>(())
//! ```
#![forbid(unsafe_code)]

mod batch;
mod builder;
mod call;
mod crew;
mod engine;
mod error;
mod handle;
mod imap;
mod insights;
mod job;
mod local;
#[cfg(feature = "log")]
mod logs;
mod message;
mod pool;
#[cfg(feature = "progress")]
mod progress;
mod spare;
pub mod task;
mod trace;
mod wait;
mod worker;

pub use builder::PoolBuilder;
pub use call::{Call, CallWith};
pub use error::{Error, TaskError};
pub use handle::Handle;
pub use imap::Imap;
pub use insights::{Insights, SlowTask, Work, WorkerInsights};
pub use job::Progress;
pub use mp_core::{ExitStatus, PanicReport, StartMethod, init, init_test, test_init};
pub use pool::Pool;
pub use wait::{Waitable, wait_all, wait_any};
