//! The programs of the tutorial and a real job, each an example of its own and a station of the tour; and the comparison
//! with the peers.
//!
//! The programs stand in a library so that the tour can run them in its own process; an example is a `main` around one.
#![forbid(unsafe_code)]

pub mod compare;
pub mod programs;
pub mod tree_hash;

/// What a program may fail with.
pub type Failure = Box<dyn std::error::Error>;

/// The programs of the workspace's README, which are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
