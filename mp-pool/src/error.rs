//! What can go wrong with a pool, and with a single task.

use std::{io, sync::Arc, time::Duration};

use mp_core::{ExitStatus, PanicReport, StartError, advice, transfer::EncodeError};
use mp_pipe::{ChannelError, RegionError};

/// A task did not return a result. Everything that names it is in the message.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function panicked.
    #[error("task {index} {report} (in {worker}, pid {pid})")]
    Panicked {
        /// Which item of the input.
        index: usize,
        /// The name of the worker.
        worker: String,
        /// Its process id.
        pid: u32,
        /// The panic.
        report: PanicReport,
    },
    /// The worker died while it worked on this task.
    #[error(
        "task {index} was lost: {worker} (pid {pid}) died while it worked on it: {status}{}{}",
        hint(*.status, *.out_of_memory),
        tries(*.attempts)
    )]
    WorkerDied {
        /// Which item of the input.
        index: usize,
        /// The name of the worker.
        worker: String,
        /// Its process id.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// It was killed by the kernel for lack of memory: the count of such deaths in its control group has moved.
        out_of_memory: bool,
        /// How many workers in a row died while they worked on it.
        attempts: u32,
    },
    /// The task took longer than it was allowed to; its worker was killed.
    #[error(
        "task {index} was ended: it took longer than {limit:?} in {worker} (pid {pid}), which was replaced"
    )]
    TimedOut {
        /// Which item of the input.
        index: usize,
        /// The name of the worker.
        worker: String,
        /// Its process id.
        pid: u32,
        /// How long it might take, without the grace.
        limit: Duration,
    },
    /// The task's argument could not be encoded.
    #[error("task {index} was not started: {reason}")]
    Encode {
        /// Which item of the input.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The argument or the result could not be decoded, the result could not be encoded, or there was no memory or no descriptor for
    /// one of them.
    #[error("task {index} has no result: {reason}")]
    Decode {
        /// Which item of the input.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The input iterator panicked at this place.
    #[error("task {index} has no argument: the input iterator {report}")]
    Input {
        /// Which item of the input.
        index: usize,
        /// The panic.
        report: PanicReport,
    },
    /// The call was cancelled, or the pool terminated, before the task had ended.
    #[error("task {index} was cancelled")]
    Cancelled {
        /// Which item of the input.
        index: usize,
    },
}

impl TaskError {
    /// Which item of the input it was.
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Self::Panicked { index, .. }
            | Self::WorkerDied { index, .. }
            | Self::TimedOut { index, .. }
            | Self::Encode { index, .. }
            | Self::Decode { index, .. }
            | Self::Input { index, .. }
            | Self::Cancelled { index } => *index,
        }
    }
}

fn hint(status: ExitStatus, out_of_memory: bool) -> &'static str {
    match status.signal() {
        Some(9) if out_of_memory => " (the kernel killed it for lack of memory)",
        Some(9) => " (killed from outside, possibly for lack of memory)",
        _ => "",
    }
}

fn tries(attempts: u32) -> String {
    match attempts {
        0 | 1 => String::new(),
        attempts => format!("; it was tried {attempts} times, and each worker died"),
    }
}

/// A pool could not do what was asked.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pool of no workers was asked for.
    #[error("a pool cannot be made without workers: ask for at least 1")]
    NoWorkers,
    /// A limit of 0 was asked for.
    #[error("a pool cannot be made with a limit of 0 on {limit}: ask for at least 1, or for no limit")]
    NoLimit {
        /// On what.
        limit: &'static str,
    },
    /// This program never said where its workers begin, or elsewhere than on its main thread.
    #[error(
        "a pool cannot be made before `init` was called on the main thread: make `mp_pool::init();` (or `mp_core::init();`, which \
         is the same) the first line of `main` (in a test: `mp_pool::test_init!();` the first line of the test), because a worker \
         process begins at the same `main`"
    )]
    NotInitialised,
    /// A worker could not be started.
    #[error("the pool's worker could not be started: {0}")]
    Start(Arc<StartError>),
    /// A worker's connection could not be made.
    #[error("the pool's worker could not be connected: {0}")]
    Connect(Arc<RegionError>),
    /// The channel for what workers log could not be made.
    #[error("the pool cannot collect what its workers log: {0}")]
    Logs(Arc<ChannelError>),
    /// Something that all workers are to get could not be encoded.
    #[error("what all workers are to get cannot be sent: {0}")]
    Share(Arc<EncodeError>),
    /// Something was submitted to a pool that takes nothing any more.
    #[error("the pool takes no more work: it was closed or terminated")]
    Closed,
    /// The calling process was forked from the one that made the pool.
    #[error("the pool belongs to process {pid}, from which this one was forked: make a pool of its own here")]
    OtherProcess {
        /// The process that made the pool.
        pid: u32,
    },
    /// `join` before `close`.
    #[error("the pool still runs: call `close` or `terminate` before `join`")]
    StillRunning,
    /// A task did not return a result.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The initializer failed: no worker can do anything. Nothing more is started.
    #[error("the pool has no workers: its initializer {cause} (in {worker}, pid {pid})")]
    Initializer {
        /// The name of the first worker in which it failed.
        worker: String,
        /// Its process id.
        pid: u32,
        /// How it failed.
        cause: String,
    },
    /// One worker after another died before it had begun anything.
    #[error("the pool's workers die before they begin anything: {cause}")]
    WorkersDie {
        /// How the last one ended.
        status: ExitStatus,
        /// What became of it: its name, its process id, and why.
        cause: String,
    },
    /// The result was not there in time. The call goes on.
    #[error("the result is not there after the time-out; the call goes on")]
    TimedOut,
    /// The result was fetched before.
    #[error("the result was taken already")]
    AlreadyTaken,
    /// An exit hook returned nothing that could be used.
    #[error("the exit hook of {worker} (pid {pid}) has no result: {reason}")]
    ExitHook {
        /// The name of the worker.
        worker: String,
        /// Its process id.
        pid: u32,
        /// Why.
        reason: String,
    },
    /// The kernel refused something that the pool needs for this.
    #[error("the pool cannot do that: {0}{advice}", advice = advice(.0))]
    System(Arc<io::Error>),
}

mp_core::message_as_debug!(TaskError, Error);

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotInitialised => Self::NotInitialised,
            error => Self::Start(Arc::new(error)),
        }
    }
}

impl From<RegionError> for Error {
    fn from(error: RegionError) -> Self {
        Self::Connect(Arc::new(error))
    }
}

impl From<ChannelError> for Error {
    fn from(error: ChannelError) -> Self {
        Self::Logs(Arc::new(error))
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Share(Arc::new(error))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::System(Arc::new(error))
    }
}
