//! The programs of the tutorial, and a real job: each is an example of its own, and a station of the tour.
//!
//! They stand in a library so that the tour can run them in its own process; an example is a `main` around one of them.
#![forbid(unsafe_code)]

pub mod programs;
pub mod tree_hash;

/// What a program may fail with.
pub type Failure = Box<dyn std::error::Error>;
