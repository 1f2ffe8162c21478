//! The line: what waits for a worker.
//!
//! In it stand *turns*, one for each span that waits; the spans themselves lie with their jobs, and the first of a job is what its
//! next turn is for. So a job that is cancelled has its spans at hand, however long the line is. Its turns stay where they are until
//! they come up, or are more than half of the line.

use std::{collections::VecDeque, sync::Arc};

use crate::{batch::Span, job::Job};

#[derive(Default)]
pub(super) struct Line {
    turns: VecDeque<Arc<Job>>,
    /// How many turns are those of cancelled jobs.
    gone: usize,
    /// How many of the others are of jobs with a time-out.
    timed: usize,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.len() == self.gone
    }

    /// The job with a time-out whose turn comes first.
    pub(super) fn first_timed(&self) -> Option<&Arc<Job>> {
        let timed = |job: &&Arc<Job>| job.is_timed() && !job.is_cancelled();
        if self.timed == 0 { None } else { self.turns.iter().find(timed) }
    }

    pub(super) fn has_timed(&self) -> bool {
        self.timed > 0
    }

    pub(super) fn push_back(&mut self, job: Arc<Job>, span: Span) {
        self.timed += usize::from(job.is_timed());
        job.waiting.lock().push_back(span);
        self.turns.push_back(job);
    }

    pub(super) fn push_front(&mut self, job: Arc<Job>, span: Span) {
        self.timed += usize::from(job.is_timed());
        job.waiting.lock().push_front(span);
        self.turns.push_front(job);
    }

    /// Takes as many tasks as `size` says from the span whose turn it is. For what is left of that its job gets a turn behind all
    /// others: so everybody gets on, chunk by chunk, and the tasks of a job in their order.
    ///
    /// Jobs that have left are put where they are dropped without the lock of the table: part of them is foreign.
    pub(super) fn cut(
        &mut self,
        left: &mut Vec<Arc<Job>>,
        size: impl FnOnce(&Job, &Span) -> u32,
    ) -> Option<(Arc<Job>, Span)> {
        loop {
            let job = self.turns.pop_front()?;
            let Some(mut span) = job.waiting.lock().pop_front() else {
                self.gone -= 1;
                left.push(job);
                continue;
            };
            self.timed -= usize::from(job.is_timed());
            let len = size(&job, &span);
            if len == span.len() {
                return Some((job, span));
            }
            let chunk = span.cut(len);
            job.waiting.lock().push_front(span);
            self.timed += usize::from(job.is_timed());
            self.turns.push_back(Arc::clone(&job));
            return Some((job, chunk));
        }
    }

    /// Takes all spans of a job that was cancelled.
    pub(super) fn leave(&mut self, left: &mut Vec<Arc<Job>>, job: &Job) -> VecDeque<Span> {
        let spans = std::mem::take(&mut *job.waiting.lock());
        self.gone += spans.len();
        if job.is_timed() {
            self.timed -= spans.len();
        }
        if self.gone > self.turns.len() / 2 {
            self.turns.retain(|job| {
                if job.is_cancelled() {
                    left.push(Arc::clone(job));
                }
                !job.is_cancelled()
            });
            self.gone = 0;
        }
        spans
    }
}
