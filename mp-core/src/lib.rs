//! Processes for Rust: start a function in another process, pass it handles, share memory with it.
//!
//! (The guided tour grows with the crate.)
#![deny(unsafe_code)]
#![cfg_attr(mp_loom, allow(dead_code, unused_imports, reason = "the models use part of the crate"))]

mod codec;
pub mod kill_points;
pub mod shared;
mod sync;
mod sys;
pub mod transfer;
