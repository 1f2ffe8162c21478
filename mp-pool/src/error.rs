//! What can go wrong with a pool, and with a single task.

use mp_core::{ExitStatus, PanicReport, StartError};

/// A task did not return a result. Everything that names it is in the message.
#[derive(Debug, Clone, thiserror::Error)]
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
    #[error("task {index} was lost: {worker} (pid {pid}) died while it worked on it: {status}{}", hint(*.status))]
    WorkerDied {
        /// Which item of the input.
        index: usize,
        /// The name of the worker.
        worker: String,
        /// Its process id.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// The task's argument could not be encoded.
    #[error("task {index} was not started: {reason}")]
    Encode {
        /// Which item of the input.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The argument or the result could not be decoded, or the result could not be encoded.
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
    /// The pool was terminated first.
    #[error("task {index} was cancelled: the pool was terminated")]
    Cancelled {
        /// Which item of the input.
        index: usize,
    },
}

fn hint(status: ExitStatus) -> &'static str {
    if status.signal() == Some(9) { " (killed from outside, perhaps because memory ran out)" } else { "" }
}

/// A pool could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pool of no workers was asked for.
    #[error("a pool cannot be made without workers: ask for at least 1")]
    NoWorkers,
    /// A worker could not be started.
    #[error("the pool's worker could not be started: {0}")]
    Start(#[from] StartError),
    /// A worker's connection could not be made.
    #[error("the pool's worker could not be connected: {0}")]
    Connect(#[from] mp_pipe::RegionError),
    /// Something was submitted to a pool that takes nothing any more.
    #[error("the pool takes no more work: it was closed or terminated")]
    Closed,
    /// `join` before `close`.
    #[error("the pool still runs: call `close` or `terminate` before `join`")]
    StillRunning,
    /// A task did not return a result.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// One worker after another died before it had begun anything.
    #[error("the pool's workers die before they begin anything: the last one ended with {status}")]
    WorkersDie {
        /// How the last one ended.
        status: ExitStatus,
    },
    /// The kernel refused to wait.
    #[error("the pool cannot wait for its workers: {0}")]
    System(std::io::Error),
}
