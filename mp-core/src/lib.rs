//! Processes for Rust: start a function in another process, pass it handles, share memory with it.
//!
//! (The guided tour grows with the crate.)
#![deny(unsafe_code)]
#![cfg_attr(mp_loom, allow(dead_code, unused_imports, reason = "the models use part of the crate"))]

mod body;
pub mod call;
mod child;
mod codec;
mod current;
mod error;
pub mod fds;
pub mod kill_points;
mod limits;
mod panics;
mod process;
mod reaper;
mod role;
pub mod shared;
mod start;
mod sync;
mod sys;
mod threads;
pub mod transfer;
mod wire;

pub use child::Child;
pub use current::{
    ActiveChild, CurrentProcess, ParentProcess, active_children, cpu_count, current_process,
    ignore_interrupt, parent_process,
};
pub use error::{ExitStatus, JoinError, PanicReport, Refusal, StartError};
pub use panics::catch_panic;
pub use process::{Process, Stream, spawn};
pub use role::init;
#[doc(hidden)]
pub use role::init_test;
pub use start::{StartMethod, server::fork_server_pid, set_start_method, start_method};
pub use threads::spawn_thread;
