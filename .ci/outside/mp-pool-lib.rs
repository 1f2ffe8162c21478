//! ```
//! mp_pool::test_init!();
//! let pool = mp_pool::Pool::with_workers(2)?;
//! assert_eq!(pool.map(|x: u64| x * x, [1, 2, 3])?, [1, 4, 9]);
//! # Ok::<(), mp_pool::Error>(())
//! ```
