//! From an input to a job: items are read piece by piece, encoded and submitted, and results taken in meanwhile.

use std::sync::Arc;

use mp_core::{call::Pointer, catch_panic};
use serde::{Serialize, de::DeserializeOwned};

use super::Call;
use crate::{
    batch,
    engine::Engine,
    error::{Error, TaskError},
    handle::{self, Handle, Reader},
    imap::Imap,
    job::{Context, End, Job},
    worker::Runner,
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

impl Call<'_> {
    /// Submits all of `items` as one job, and shows the job to `glance` now and then.
    pub(super) fn submit<T: Serialize>(
        &self,
        runner: Pointer<Runner>,
        context: Option<Arc<Context>>,
        items: impl IntoIterator<Item = T>,
        later: bool,
        mut glance: impl FnMut(&Job),
    ) -> Result<Arc<Job>, Error> {
        let engine = self.engine;
        let _reading = engine.begin_reading()?;
        let mut input = items.into_iter();
        let job = Job::new(runner, self.options.clone(), context, input.size_hint().0);
        // Progress is told by the clerk.
        if later || job.options.progress.is_some() {
            job.keep_underway(engine.underway()?);
        }
        let mut piece = Vec::new();
        let (mut read, mut size) = (0, FIRST_PIECE);
        loop {
            piece.clear();
            let panicked = catch_panic(|| piece.extend(input.by_ref().take(size))).err();
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

    pub(super) fn collect<T: Serialize, R: DeserializeOwned>(
        &self,
        runner: Pointer<Runner>,
        context: Option<Arc<Context>>,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<R>, Error> {
        let items = items.into_iter();
        let mut results = Reader::<R>::with_capacity(items.size_hint().0);
        let job = self.submit(runner, context, items, false, |job| results.read(job))?;
        results.read_to_end(self.engine, &job);
        job.tell_progress();
        results.finish(&job)
    }

    pub(super) fn try_collect<T: Serialize, R: DeserializeOwned>(
        &self,
        runner: Pointer<Runner>,
        context: Option<Arc<Context>>,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Result<R, TaskError>>, Error> {
        let job = self.submit(runner, context, items, false, |_| {})?;
        self.engine.wait(None, &|| job.finished());
        job.tell_progress();
        handle::try_read_all(&job)
    }

    pub(super) fn later<T: Serialize, R: DeserializeOwned>(
        &self,
        runner: Pointer<Runner>,
        context: Option<Arc<Context>>,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Handle<Vec<R>>, Error> {
        let job = self.submit(runner, context, items, true, |_| {})?;
        Ok(Handle::new(Arc::clone(self.engine), job, handle::read_all))
    }

    pub(super) fn stream<I: IntoIterator, R>(
        &self,
        runner: Pointer<Runner>,
        context: Option<Arc<Context>>,
        items: I,
        ordered: bool,
    ) -> Result<Imap<I::IntoIter, R>, Error> {
        self.engine.check_running()?;
        let job = Job::new(runner, self.options.clone(), context, 0);
        Imap::new(Arc::clone(self.engine), job, items.into_iter(), ordered)
    }
}
