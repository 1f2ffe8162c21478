//! Jobs: what was submitted as one, and where the answers to its chunks go.
//!
//! The dispatcher knows chunks and their jobs; only a job knows types. Answers are stored as they come and decoded by
//! whoever asked for them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use mp_core::{ExitStatus, os::fd::OwnedFd};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::{
    chunk::{Answer, Encoded, HEAD, Outcome, Splitter},
    error::TaskError,
};

/// Which worker it was.
#[derive(Debug, Clone)]
pub(crate) struct WorkerName {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// How a chunk ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The worker's message.
    Answered(Vec<u8>, Vec<OwnedFd>, WorkerName),
    /// The worker died while it worked on this one item.
    Died(WorkerName, ExitStatus),
    /// The pool was terminated.
    Cancelled,
}

/// A chunk of a job.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) job: Arc<Job>,
    /// The position of the first item in the input.
    pub(crate) first: usize,
    pub(crate) len: usize,
    pub(crate) encoded: Encoded,
    /// Makes a chunk of each of its items, in case a worker dies with it.
    pub(crate) split: Splitter,
}

impl Chunk {
    /// One chunk for each item but the one at `without`; what cannot be split has ended.
    pub(crate) fn without(self, without: usize) -> Vec<Self> {
        if self.len == 1 {
            return Vec::new();
        }
        match (self.split)(&self.encoded) {
            Ok(items) if items.len() == self.len => (0..self.len)
                .zip(items)
                .filter(|(item, _)| *item != without)
                .map(|(item, encoded)| Self {
                    job: Arc::clone(&self.job),
                    first: self.first + item,
                    len: 1,
                    encoded,
                    split: self.split,
                })
                .collect(),
            _ => {
                self.job.end(self.first, without, End::Cancelled);
                self.job.end(self.first + without + 1, self.len - without - 1, End::Cancelled);
                Vec::new()
            }
        }
    }
}

/// The ends of the chunks of one submission, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Job {
    ends: Mutex<Vec<(usize, usize, End)>>,
    items: AtomicUsize,
}

impl Job {
    pub(crate) fn end(&self, first: usize, len: usize, end: End) {
        self.ends.lock().push((first, len, end));
        self.items.fetch_add(len, Ordering::Release);
    }

    /// How many items have ended so far.
    pub(crate) fn ended(&self) -> usize {
        self.items.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Vec<(usize, usize, End)> {
        std::mem::take(&mut *self.ends.lock())
    }
}

/// The results of the items of a chunk that ended, in their order.
pub(crate) fn results<R: DeserializeOwned>(first: usize, len: usize, end: End) -> Vec<Result<R, TaskError>> {
    let all =
        |error: &dyn Fn(usize) -> TaskError| (first..first + len).map(|index| Err(error(index))).collect();
    match end {
        End::Cancelled => all(&|index| TaskError::Cancelled { index }),
        End::Died(WorkerName { name, pid }, status) => {
            all(&|index| TaskError::WorkerDied { index, worker: name.clone(), pid, status })
        }
        End::Answered(bytes, fds, WorkerName { name, pid }) => {
            let answer = mp_core::transfer::decode(bytes.get(HEAD..).unwrap_or_default(), fds);
            match answer {
                Ok(Answer::Items(items)) if items.len() == len => (first..)
                    .zip(items)
                    .map(|(index, item)| match item {
                        Outcome::Done(result) => Ok(result),
                        Outcome::NotEncoded(reason) => Err(TaskError::Decode { index, reason }),
                        Outcome::Panicked(report) => {
                            Err(TaskError::Panicked { index, worker: name.clone(), pid, report })
                        }
                    })
                    .collect(),
                Ok(Answer::Items(_)) => all(&|index| TaskError::Decode {
                    index,
                    reason: "its worker answered for another number of items".to_owned(),
                }),
                Ok(Answer::NotDecoded(reason)) => {
                    all(&|index| TaskError::Decode { index, reason: reason.clone() })
                }
                Err(error) => all(&|index| TaskError::Decode { index, reason: error.to_string() }),
            }
        }
    }
}
