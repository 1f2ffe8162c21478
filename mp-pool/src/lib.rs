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

mod chunk;
mod dispatch;
mod error;
mod imap;
mod job;
mod local;
mod pool;
mod worker;

pub use error::{Error, TaskError};
pub use imap::Imap;
pub use mp_core::{init, init_test, test_init};
pub use pool::Pool;
