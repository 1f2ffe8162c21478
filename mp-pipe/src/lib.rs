#![doc = include_str!("../README.md")]
//!
//! # A tour
//!
//! ## Two ways, one way
//!
//! [`pipe`] gives the two ends of a two-way connection, [`simplex`] a [`Receiver`] and a [`Sender`]. Every [`Connection`]
//! can be [split](Connection::split) into those. What goes through has a type, in each direction; the wrong direction does
//! not compile:
//!
//! ```compile_fail
//! let (receiver, sender) = mp_pipe::simplex::<u32>().unwrap();
//! receiver.send(&1);
//! ```
//!
//! Where the types differ from message to message, use an enum; where there are none, the methods with `bytes` in their
//! names move bytes as they are.
//!
//! ## Waiting, trying, timing out
//!
//! A receive waits for a message, a send for room, and each of them has a `try_` form that does not wait and a `_timeout`
//! form that does not wait for longer; no time-out is ever early, and [`Duration::MAX`](std::time::Duration::MAX) is for
//! ever. What fails because of the time has done nothing:
//!
//! ```
//! use mp_pipe::{RecvError, SendError, simplex};
//! use std::time::Duration;
//!
//! let (receiver, sender) = simplex::<Vec<u8>>()?;
//! assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
//! let mut sent = 0;
//! while sender.try_send(&vec![0; 1000]).is_ok() {
//!     sent += 1;
//! }
//! let outcome = sender.send_timeout(&vec![0; 1000], Duration::from_millis(1));
//! assert!(matches!(outcome, Err(SendError::Full)));
//! for _ in 0..sent {
//!     assert_eq!(receiver.recv()?.len(), 1000);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Receiver::poll`] waits and takes nothing; [`wait`] waits for many things at once: connections, the ends of processes,
//! sockets.
//!
//! ## The end
//!
//! An end that is dropped, or whose process has ended, however it ended, is gone for the other one: first everything that
//! it sent is received, then [`RecvError::Disconnected`]; a send to it is [`SendError::Disconnected`], never a signal.
//! Whoever sleeps wakes up.
//!
//! ```
//! # mp_core::test_init!();
//! use mp_pipe::{RecvError, Sender, simplex};
//!
//! fn crash(sender: Sender<String>) {
//!     sender.send("last words").unwrap();
//!     std::process::abort();
//! }
//!
//! let (receiver, sender) = simplex()?;
//! let child = mp_core::spawn(crash, (sender,))?;
//! assert_eq!(receiver.recv()?, "last words");
//! assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
//! assert!(child.join().is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Handles
//!
//! A message may hold files, sockets ([`Fd`](mp_core::transfer::Fd)), connections, queues, locks, thousands of them. They
//! arrive working, also if their sender has ended meanwhile.
//!
//! ```
//! use mp_core::transfer::Fd;
//! use mp_pipe::{Sender, simplex};
//! use std::{fs::File, io::Read};
//!
//! let (receiver, sender) = simplex::<(Fd<File>, Sender<u64>)>()?;
//! let (sizes, to_sizes) = simplex()?;
//! sender.send(&(Fd(File::open("/dev/zero")?), to_sizes))?;
//!
//! let (file, answer_to) = receiver.recv()?;
//! answer_to.send(&file.0.take(5).bytes().count().try_into()?)?;
//! assert_eq!(sizes.recv()?, 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Async runtimes
//!
//! All receiving ends are descriptors ([`AsFd`](std::os::fd::AsFd)): try, and when a try finds nothing, wait until the
//! descriptor is readable. `examples/tokio.rs` shows it with tokio.
//!
//! ## Many senders
//!
//! [`channel`] has any number of senders, in any number of processes, and one receiver; it stands on
//! [ipc-channel](https://docs.rs/ipc-channel).
#![forbid(unsafe_code)]

mod channel;
mod connection;
mod error;
mod receiver;
mod sender;
mod tenure;

mod wait;

pub use channel::{ChannelReceiver, ChannelSender, channel};
pub use connection::{Connection, pipe, simplex, unbounded};
pub use error::{ChannelError, RecvError, SendError};
pub use mp_core::shared::RegionError;
pub use receiver::Receiver;
pub use sender::Sender;
pub use wait::{Receive, Source, wait};
