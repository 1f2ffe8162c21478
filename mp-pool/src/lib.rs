//! mp-pool.
#![forbid(unsafe_code)]
