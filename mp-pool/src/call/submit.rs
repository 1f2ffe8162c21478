//! From an input to a job: items are read piece by piece, encoded and submitted, and results taken in meanwhile.

use std::sync::Arc;

use mp_core::run_foreign;
use serde::{Serialize, de::DeserializeOwned};

use super::{Call, task::Run};
use crate::{
    batch,
    engine::Engine,
    error::Error,
    handle::Handle,
    imap::Imap,
    job::{End, Job},
    results::{self, Reader, Results},
};

/// How many items of an input are read at once: few at first, so that workers begin early.
const FIRST_PIECE: usize = 256;
const PIECE: usize = 1 << 14;

/// Submits consecutive items, of which the first is the item `first` of the input.
pub(crate) fn submit_items<T: Serialize>(engine: &Engine, job: &Arc<Job>, first: usize, items: &[T]) {
    let mut at = 0;
    while at < items.len() {
        let encoded = batch::encode(first + at, &items[at..]);
        at += encoded.len;
        if let Some(batch) = encoded.batch {
            engine.submit(job, batch);
        }
        if let Some(reason) = encoded.failed {
            engine.end(job, first + at, End::NotEncoded(reason));
            at += 1;
        }
    }
}

impl<C> Call<'_, C> {
    fn job(&self, run: Run, expected: usize) -> Arc<Job> {
        Job::new(run.0, self.options.clone(), self.context.clone(), expected)
    }

    /// Submits all of `items` as one job, and shows the job to `glance` now and then.
    fn submit<T: Serialize>(
        &self,
        run: Run,
        items: impl IntoIterator<Item = T>,
        later: bool,
        mut glance: impl FnMut(&Job),
    ) -> Result<Arc<Job>, Error> {
        let engine = self.engine;
        let _reading = engine.begin_reading()?;
        let mut input = items.into_iter();
        let job = self.job(run, input.size_hint().0);
        // Progress is told by the clerk.
        if later || job.options.progress.is_some() {
            job.keep_underway(engine.underway()?);
        }
        let mut piece = Vec::new();
        let (mut read, mut size) = (0, FIRST_PIECE);
        loop {
            piece.clear();
            let panicked = run_foreign(|| piece.extend(input.by_ref().take(size))).err();
            submit_items(engine, &job, read, &piece);
            read += piece.len();
            if let Some(report) = panicked {
                engine.end(&job, read, End::Input(report));
                read += 1;
                break;
            }
            if piece.len() < size || job.is_cancelled() {
                break;
            }
            engine.glance();
            glance(&job);
            size = (2 * size).min(PIECE);
        }
        engine.seal(&job, read);
        Ok(job)
    }

    /// Reads the results as they come.
    pub(super) fn all<T: Serialize, R: Results>(
        &self,
        run: Run,
        items: impl IntoIterator<Item = T>,
    ) -> Result<R::Whole, Error> {
        let items = items.into_iter();
        let mut results = Reader::<R>::with_capacity(items.size_hint().0);
        let job = self.submit(run, items, false, |job| results.read(job))?;
        let results = results.read_to_end(self.engine, &job);
        job.tell_progress();
        results.finish(&job)
    }

    /// Waits for the result of one task.
    pub(super) fn one<T: Serialize, R: DeserializeOwned>(&self, run: Run, args: T) -> Result<R, Error> {
        let job = self.submit(run, [args], false, |_| {})?;
        self.engine.wait(None, &|| job.finished());
        job.tell_progress();
        results::read_one(&job)
    }

    /// Has a handle read the results.
    pub(super) fn later<T: Serialize, R>(
        &self,
        run: Run,
        items: impl IntoIterator<Item = T>,
        read: fn(&Job) -> Result<R, Error>,
    ) -> Result<Handle<R>, Error> {
        let job = self.submit(run, items, true, |_| {})?;
        Ok(Handle::new(Arc::clone(self.engine), job, read))
    }

    /// Leaves it to the reader of the results to read the input.
    pub(super) fn stream<I: IntoIterator, R>(
        &self,
        run: Run,
        items: I,
        ordered: bool,
    ) -> Result<Imap<I::IntoIter, R>, Error> {
        self.engine.check_running()?;
        let job = self.job(run, 0);
        Imap::new(Arc::clone(self.engine), job, items.into_iter(), ordered)
    }
}
