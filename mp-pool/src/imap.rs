//! Results one after another, while the input is still being read.

use std::{collections::BTreeMap, sync::Arc};

use mp_core::{call::Function, catch_panic};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    chunk::{self, Encoded},
    dispatch::Dispatcher,
    error::{Error, TaskError},
    job::{self, Chunk, Job},
};

/// How many items for each worker are read ahead of the results.
const AHEAD: usize = 4;

/// The results of [`Pool::imap`](crate::Pool::imap) and [`Pool::imap_unordered`](crate::Pool::imap_unordered).
///
/// Each step reads a little of the input, so an endless input is fine, and a slow reader costs constant memory.
#[derive(Debug)]
pub struct Imap<'p, I, F, R> {
    dispatcher: &'p Dispatcher,
    /// `None` when it has ended, or panicked.
    input: Option<I>,
    function: F,
    ordered: bool,
    job: Arc<Job>,
    /// How many items were read.
    read: usize,
    /// How many items were seen to end.
    ended: usize,
    /// The next result to be given, in order.
    next: usize,
    ready: BTreeMap<usize, Result<R, TaskError>>,
}

impl<'p, I: Iterator, F, R> Imap<'p, I, F, R>
where
    F: Function<(I::Item,), Output = R>,
    I::Item: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    pub(crate) fn new(dispatcher: &'p Dispatcher, function: F, input: I, ordered: bool) -> Self {
        let job = Arc::new(Job::default());
        Self {
            dispatcher,
            input: Some(input),
            function,
            ordered,
            job,
            read: 0,
            ended: 0,
            next: 0,
            ready: BTreeMap::new(),
        }
    }

    fn read_ahead(&mut self) {
        let window = AHEAD * self.dispatcher.workers();
        while self.read - self.ended + self.ready.len() < window
            && let Some(input) = &mut self.input
        {
            let index = self.read;
            match catch_panic(|| input.next()) {
                Ok(Some(item)) => match chunk::encode::<F, (I::Item,), _>(self.function, &[item]) {
                    Ok(encoded) => self.submit(encoded),
                    Err(error) => self.fail(TaskError::Encode { index, reason: error.to_string() }),
                },
                Ok(None) => {
                    self.input = None;
                    break;
                }
                Err(report) => {
                    self.input = None;
                    self.fail(TaskError::Input { index, report });
                }
            }
            self.read += 1;
        }
    }

    fn submit(&self, encoded: Encoded) {
        self.dispatcher.submit([Chunk {
            job: Arc::clone(&self.job),
            first: self.read,
            len: 1,
            encoded,
            split: chunk::split::<F, (I::Item,)>,
        }]);
    }

    fn fail(&mut self, error: TaskError) {
        self.ready.insert(self.read, Err(error));
        self.ended += 1;
    }
}

impl<I: Iterator, F, R> Iterator for Imap<'_, I, F, R>
where
    F: Function<(I::Item,), Output = R>,
    I::Item: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut seen = self.job.ended();
        loop {
            for (first, len, end) in self.job.take() {
                self.ended += len;
                self.ready.extend((first..).zip(job::results(first, len, end)));
            }
            self.read_ahead();
            let found = if self.ordered {
                self.ready.remove(&self.next)
            } else {
                self.ready.pop_first().map(|(_, result)| result)
            };
            if let Some(result) = found {
                self.next += 1;
                return Some(result.map_err(Error::Task));
            }
            if self.input.is_none() && self.ended == self.read {
                return None;
            }
            let job = &self.job;
            if let Err(error) = self.dispatcher.drive(&|| job.ended() != seen) {
                // What was cancelled has ended by now, or never will.
                self.input = None;
                self.ended = self.read;
                self.ready.clear();
                return Some(Err(error));
            }
            seen = self.job.ended();
        }
    }
}
