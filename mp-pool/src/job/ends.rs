//! How tasks ended: with an answer, which is bytes until somebody wants it, or without one.

use std::{ops::Range, sync::Arc, time::Duration};

use mp_core::{ExitStatus, PanicReport, run_foreign, transfer};
use serde::de::DeserializeOwned;

use super::{Job, WorkerName};
use crate::{
    error::TaskError,
    message::{Beside, Failure, PART_HEAD, Values},
    spare,
};

/// How a worker ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    pub(crate) status: ExitStatus,
    /// The kernel killed somebody for lack of memory, most likely this worker.
    pub(crate) out_of_memory: bool,
}

/// How a run of consecutive tasks ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The results, as so many bytes behind the head of a message; or the failure of one task.
    Answered {
        bytes: u64,
        failed: bool,
        message: Vec<u8>,
        beside: Option<Box<Beside>>,
        who: Arc<WorkerName>,
    },
    Died {
        who: Arc<WorkerName>,
        death: Death,
        attempts: u32,
    },
    TimedOut {
        who: Arc<WorkerName>,
        limit: Duration,
    },
    Cancelled,
    NotEncoded(String),
    NotReceived(String),
    Input(PanicReport),
}

impl End {
    pub(crate) fn timed_out(who: Arc<WorkerName>, job: &Job) -> Self {
        Self::TimedOut { who, limit: job.options.timeout.unwrap_or_default() }
    }
}

/// Ends of tasks that nobody has looked at.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The position of the first in the input.
    pub(crate) first: usize,
    pub(crate) len: usize,
    pub(crate) end: End,
}

impl Ends {
    /// How many bytes there are to decode.
    pub(crate) fn bytes(&self) -> usize {
        match &self.end {
            End::Answered { message, .. } => message.len(),
            _ => 0,
        }
    }

    /// Calls `each` for every task, in their order.
    pub(crate) fn decode<R: DeserializeOwned>(self, mut each: impl FnMut(Result<R, TaskError>)) {
        let Self { first, len, end } = self;
        match end {
            End::Answered { bytes, failed: false, message, beside, .. } => {
                read::<R>(&message, bytes, beside, len, |at, result| {
                    each(result.map_err(|reason| TaskError::Decode { index: first + at, reason }));
                });
                spare::give(message);
            }
            failed => failed.tell(first..first + len, &mut |error| each(Err(error))),
        }
    }
}

impl End {
    /// Calls `each` with the error of every task, if they have no results.
    fn tell(self, tasks: Range<usize>, each: &mut dyn FnMut(TaskError)) {
        let mut all = |error: &dyn Fn(usize) -> TaskError| tasks.clone().for_each(|index| each(error(index)));
        match self {
            Self::Cancelled => all(&|index| TaskError::Cancelled { index }),
            Self::NotEncoded(reason) => all(&|index| TaskError::Encode { index, reason: reason.clone() }),
            Self::NotReceived(cause) => all(&|index| {
                let reason = format!("its result could not be received: {cause}");
                TaskError::Decode { index, reason }
            }),
            Self::Input(report) => all(&|index| TaskError::Input { index, report: report.clone() }),
            Self::TimedOut { who, limit } => {
                all(&|index| TaskError::TimedOut { index, worker: who.name.clone(), pid: who.pid, limit })
            }
            Self::Died { who, death, attempts } => all(&|index| TaskError::WorkerDied {
                index,
                worker: who.name.clone(),
                pid: who.pid,
                status: death.status,
                out_of_memory: death.out_of_memory,
                attempts,
            }),
            Self::Answered { message, who, .. } => {
                let failure = message.get(PART_HEAD..).map(transfer::decode_front::<Failure>);
                let (worker, pid) = (who.name.clone(), who.pid);
                all(&|index| match &failure {
                    Some(Ok((Failure::Panicked(report), _))) => {
                        let (worker, report) = (worker.clone(), report.clone());
                        TaskError::Panicked { index, worker, pid, report }
                    }
                    Some(Ok((Failure::NotDecoded(reason), _))) => {
                        let reason = format!("its argument did not arrive: {reason}");
                        TaskError::Decode { index, reason }
                    }
                    Some(Ok((Failure::NotEncoded(reason), _))) => {
                        TaskError::Decode { index, reason: reason.clone() }
                    }
                    _ => TaskError::Decode { index, reason: "its failure cannot be read".to_owned() },
                });
                spare::give(message);
            }
        }
    }
}

/// Reads `len` values out of an answer.
fn read<T: DeserializeOwned>(
    message: &[u8],
    bytes: u64,
    beside: Option<Box<Beside>>,
    len: usize,
    mut each: impl FnMut(usize, Result<T, String>),
) {
    let mut values = Values::of_answer(message, bytes, beside);
    let mut at = 0;
    while at < len {
        let outcome = run_foreign(|| {
            while at < len {
                // The value's own code may panic: then it is this item's fault, and the next is tried.
                at += 1;
                each(at - 1, values.next());
            }
        });
        if let Err(report) = outcome {
            each(at - 1, Err(format!("its `Deserialize` {report}")));
        }
    }
}
