//! Processes for Rust: start a function in another process, pass it handles, share memory with it.
//!
//! The counterpart of Python's `multiprocessing.Process`, and the ground that `mp-lock`, `mp-queue`, `mp-pipe` and
//! `mp-pool` stand on. Linux only so far: elsewhere it compiles, and every start is
//! [`StartError::Unsupported`]. This page is a tour; each type has the details.
//!
//! # The first line of `main`
//!
//! A child process is the same program, executed again. So something at its start must turn it into a child, and that is
//! [`init`]: in a child it runs the function that was asked for, sends the result, and never returns; everywhere else it
//! returns at once.
//!
//! ```
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     mp_core::init();
//!
//!     let child = mp_core::spawn(|name: String| format!("hello {name}"), ("you".to_owned(),))?;
//!     assert_eq!(child.join()?, "hello you");
//!     Ok(())
//! }
//! ```
//!
//! In a test, [`test_init!`] takes its place, as the first line of each `#[test]` that starts processes. A start without
//! either is an error that says what to add, never a program that starts itself without end.
//!
//! # What can be started
//!
//! A function, or a closure that captures nothing (one that does is an error when the program is built, though not yet under
//! `cargo check`), with up to eight arguments as a tuple. Arguments and result are any serde values, of any size; files, sockets and other descriptors travel in
//! [`transfer::Fd`], and the handles of the sister crates (queues, locks, connections) as they are.
//!
//! They are owned, at both ends: `String`, not `&str`.
//!
//! The format (postcard) does not describe itself: values that use serde's `untagged`, `tag = ..` or `flatten` are refused, and
//! those with `skip_serializing_if` may be refused or arrive wrong. Very deeply nested values may overflow the stack.
//!
//! ```
//! # mp_core::test_init!();
//! use mp_core::{spawn, transfer::Fd};
//! use std::{fs::File, io::Read};
//!
//! fn first_bytes(file: Fd<File>, count: usize) -> Vec<u8> {
//!     let mut bytes = vec![1; count];
//!     (&file.0).read_exact(&mut bytes).unwrap();
//!     bytes
//! }
//!
//! let child = spawn(first_bytes, (Fd(File::open("/dev/zero")?), 3))?;
//! assert_eq!(child.join()?, [0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it ends
//!
//! [`Child::join`] waits, and tells apart everything that can happen: a result, a panic (message, place, backtrace), an
//! exit code, a signal, a result that does not decode, a process that died before it began. [`Child::join_timeout`] and
//! [`Child::try_join`] wait less. [`Child::terminate`], [`Child::kill`] and [`Child::interrupt`] end it.
//!
//! ```
//! # mp_core::test_init!();
//! use mp_core::{JoinError, spawn};
//!
//! fn divide(a: u32, b: u32) -> u32 {
//!     a / b
//! }
//!
//! match spawn(divide, (1, 0))?.join() {
//!     Err(JoinError::Panicked { report, .. }) => assert!(report.message.contains("divide by zero")),
//!     other => panic!("{other:?}"),
//! }
//!
//! let child = spawn(|| std::thread::sleep(std::time::Duration::from_secs(600)), ())?;
//! child.kill()?;
//! assert!(child.join().is_err());
//! assert_eq!(child.exit_status().unwrap().code(), -9); // as in Python: the signal, negated
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A handle is also a descriptor ([`AsFd`](std::os::fd::AsFd)) that becomes readable when the process has ended, for
//! `poll` and for `mp_pipe::wait`. Dropping it leaves the process running; it never stays behind as a zombie.
//!
//! # Around it
//!
//! [`Process`] says what else the new process should be: its name, environment, working directory and streams, its limits
//! on memory, CPU time and open files, its CPUs and priority, and how it relates to this process:
//!
//! | | this process ends normally | this process is killed |
//! |---|---|---|
//! | ordinary | waits for it, and says so after two seconds | it is killed |
//! | [`daemon`](Process::daemon) | sends it SIGTERM | it is killed |
//! | [`detached`](Process::detached) | lets it run | it runs on |
//!
//! "Killed" is done by the kernel, at once, and goes down the whole tree. A normal end is a return from `main`, a
//! `std::process::exit`, or the end of a child's function; it also waits for threads of [`spawn_thread`]. In a program of tests
//! ([`test_init!`]) both are waited for during two seconds only, and then an ordinary child is ended as a daemon is: the test that was to
//! join it may have failed.
//!
//! ```
//! # mp_core::test_init!();
//! use mp_core::Process;
//!
//! let child = Process::new()
//!     .name("careful")
//!     .address_space(2 << 30)
//!     .nice(5)
//!     .current_dir("/")
//!     .spawn(|| std::env::current_dir().unwrap(), ())?;
//! assert_eq!(child.join()?.to_str(), Some("/"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A new process has the standard streams and what it was passed, whatever else was open: input from `/dev/null`, output
//! and errors as here, unless told otherwise.
//!
//! # Ctrl-C
//!
//! A terminal sends SIGINT to the whole group. Unless the program handles it, parent and children end by it at once, silently,
//! and a shell reports status 130. A program that handles it decides for itself: have its workers call [`ignore_interrupt`],
//! or start them as daemons and return from `main`.
//!
//! # Start methods
//!
//! By default the program is executed again: the cost is that of any start of the program, and does not grow with the
//! memory of this process. With [`StartMethod::ForkServer`] a helper that was executed once makes a copy of itself for
//! each start, several times faster, with the same guarantees.
//!
//! ```
//! # mp_core::test_init!();
//! use mp_core::{Process, StartMethod};
//!
//! for i in 0..10_u32 {
//!     let child = Process::new().start_method(StartMethod::ForkServer).spawn(|x: u32| x * x, (i,))?;
//!     assert_eq!(child.join()?, i * i);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who is who
//!
//! [`current_process`], [`parent_process`], [`active_children`], and [`cpu_count`], which knows the affinity and the quota of
//! a container.
//!
//! # For crates built on this one
//!
//! [`transfer`] makes handles travel inside serde values; [`shared`] is memory between processes in which anybody may be
//! killed at any instruction; [`call`] names functions by what travels; [`fds`] sends descriptors.
#![deny(unsafe_code)]
#![allow(clippy::needless_doctest_main, reason = "the place of `init` in `main` is the point")]
#![cfg_attr(
    any(mp_unsupported, not(target_os = "linux")),
    allow(dead_code, reason = "where nothing can be made, what it could do is never called")
)]
#![cfg_attr(mp_loom, allow(dead_code, unused_imports, reason = "the models use part of the crate"))]

mod body;
pub mod call;
mod child;
mod codec;
mod cpus;
mod current;
mod error;
pub mod fds;
pub mod kill_points;
mod limits;
#[cfg(mp_loom)]
#[doc(hidden)]
pub use sync::model;
mod own;
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
pub use cpus::cpu_count;
pub use current::{
    ActiveChild, CurrentProcess, ParentProcess, active_children, current_process, ignore_interrupt,
    parent_process,
};
#[doc(hidden)]
pub use error::advice;
pub use error::{ExitStatus, JoinError, PanicReport, Refusal, StartError};
#[doc(hidden)]
pub use own::{Own, run_foreign};
pub use panics::catch_panic;
pub use process::{Process, Stream, spawn};
pub use role::init;
#[doc(hidden)]
pub use role::init_test;
pub use start::{StartMethod, server::fork_server_pid, set_start_method, start_method};
#[doc(hidden)]
pub use sys::os;
pub use threads::spawn_thread;

/// What the README shows compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
