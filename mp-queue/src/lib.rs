//! Queues between processes: many producers, many consumers, any of which may be killed at any instruction.
//!
//! The counterpart of Python's `multiprocessing.Queue` and its kin. This page is a tour; each type has the details, and the
//! README has the promises, the table from Python to Rust, and what is good to know.
//!
//! # A queue is a cheap handle that travels
//!
//! Make one, pass clones of it to processes as arguments (or inside messages of other queues), put on one side and get on the
//! other. Messages are any serde values. Those of one producer arrive in their order, each with exactly one consumer.
//!
//! ```
//! # mp_core::test_init!();
//! use mp_queue::Queue;
//!
//! fn shout(words: Queue<String>, loud: Queue<String>) {
//!     for word in &words {
//!         loud.put(&word.unwrap().to_uppercase()).unwrap();
//!     }
//! }
//!
//! let (words, loud) = (Queue::new()?, Queue::new()?);
//! let child = mp_core::spawn(shout, (words.clone(), loud.clone()))?;
//! words.put("hello")?;
//! assert_eq!(loud.get()?, "HELLO");
//! words.close()?;
//! child.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # To wait, or not
//!
//! | | waits | does not wait | waits for a time |
//! |---|---|---|---|
//! | one value | [`put`](Queue::put), [`get`](Queue::get) | [`try_put`](Queue::try_put), [`try_get`](Queue::try_get) | [`put_timeout`](Queue::put_timeout), [`get_timeout`](Queue::get_timeout) |
//! | many values | [`put_many`](Queue::put_many), [`get_many`](Queue::get_many) | [`try_put_many`](Queue::try_put_many), [`try_get_many`](Queue::try_get_many) | [`put_many_timeout`](Queue::put_many_timeout), [`get_many_timeout`](Queue::get_many_timeout) |
//! | bytes | [`put_bytes`](Queue::put_bytes), [`get_bytes`](Queue::get_bytes) | [`try_put_bytes`](Queue::try_put_bytes), [`try_get_bytes`](Queue::try_get_bytes) | [`put_bytes_timeout`](Queue::put_bytes_timeout), [`get_bytes_timeout`](Queue::get_bytes_timeout) |
//! | all until the end | [`iter`](Queue::iter) | | |
//!
//! A put waits only if the queue has a limit ([`Queue::bounded`], [`Options`]): else it is limited by memory alone.
//!
//! # The end
//!
//! [`Queue::close`] ends a queue for everybody: what was put can still be got, then each get says [`GetError::Closed`] and
//! each iteration ends; whoever puts, or waits for room, gets [`PutError::Closed`].
//!
//! # Until all is done
//!
//! A [`JoinableQueue`] also knows which messages have been worked off, and which have died with their workers.
//!
//! # Handles in messages
//!
//! ```
//! # mp_core::test_init!();
//! use mp_queue::Queue;
//!
//! // Each question carries the queue for its answer.
//! fn answer(questions: Queue<(u32, Queue<u32>)>) {
//!     for question in &questions {
//!         let (number, reply) = question.unwrap();
//!         reply.put(&(number * 2)).unwrap();
//!     }
//! }
//!
//! let questions = Queue::new()?;
//! let child = mp_core::spawn(answer, (questions.clone(),))?;
//! let reply = Queue::new()?;
//! questions.put(&(21, reply.clone()))?;
//! assert_eq!(reply.get()?, 42);
//! questions.close()?;
//! child.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod get;
mod joinable;
mod lane;
mod ledger;
mod put;
mod queue;
mod simple;

pub use error::{GetError, JoinError, PutError, PutManyError, TaskDoneError};
pub use get::{Iter, Many};
pub use joinable::JoinableQueue;
pub use mp_core::shared::RegionError;
pub use queue::{Options, Queue};
pub use simple::SimpleQueue;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
