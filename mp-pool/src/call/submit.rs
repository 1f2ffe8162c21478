//! From an input to a job, and to its results, which are taken in meanwhile.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Call,
    encode::{Encoder, Input, Source, submit_items},
    task::Run,
};
use crate::{
    engine::Reading,
    error::Error,
    handle::Handle,
    imap::Imap,
    job::{Hint, Job},
    results::{self, Finish, Reader},
};

impl<C> Call<'_, C> {
    fn job(&self, run: Run, hint: Hint) -> Arc<Job> {
        Job::new(run.0, self.options.clone(), self.context.clone(), hint)
    }

    /// Begins a job whose tasks the caller reads.
    fn begin(&self, run: Run, hint: Hint, later: bool) -> Result<(Reading<'_>, Arc<Job>), Error> {
        let reading = self.engine.begin_reading()?;
        let job = self.job(run, hint);
        // Progress is told by the clerk.
        if later || job.options.progress.is_some() {
            job.keep_underway(self.engine.underway()?);
        }
        Ok((reading, job))
    }

    /// Submits all of `items` as one job, and shows the job to `glance` now and then.
    fn submit<T: Serialize + Send + 'static>(
        &self,
        run: Run,
        items: impl IntoIterator<Item = T>,
        later: bool,
        glance: &mut dyn FnMut(&Job),
    ) -> Result<Arc<Job>, Error> {
        let input = items.into_iter();
        let hint = input.size_hint();
        self.submit_input(run, Box::new(Input::new(input)), hint, later, glance)
    }

    fn submit_input(
        &self,
        run: Run,
        mut input: Box<dyn Source + '_>,
        hint: Hint,
        later: bool,
        glance: &mut dyn FnMut(&Job),
    ) -> Result<Arc<Job>, Error> {
        let (reading, job) = self.begin(run, hint, later)?;
        let mut encoder = Encoder::new(self.engine, &job);
        while encoder.step(&mut *input) && !job.is_cancelled() {
            self.engine.glance();
            glance(&job);
        }
        let read = encoder.read();
        // First what has code of the program, which may fork: a fork that comes back ends where it looks for the table.
        drop((encoder, input));
        reading.end(&job, read);
        Ok(job)
    }

    /// Submits one task.
    fn submit_one<T: Serialize>(&self, run: Run, args: T, later: bool) -> Result<Arc<Job>, Error> {
        let (reading, job) = self.begin(run, (1, Some(1)), later)?;
        let args = [args];
        submit_items(self.engine, &job, 0, &args.as_slice());
        drop(args);
        reading.end(&job, 1);
        Ok(job)
    }

    /// Reads the results as they come.
    pub(super) fn all<T: Serialize + Send + 'static, R: Finish>(
        &self,
        run: Run,
        items: impl IntoIterator<Item = T>,
    ) -> Result<R::Whole, Error> {
        let items = items.into_iter();
        let mut results = R::default();
        let mut reader = Reader::new(&mut results, items.size_hint().0);
        let job = self.submit(run, items, false, &mut |job| reader.read(job))?;
        reader.read_to_end(self.engine, &job);
        self.engine.check_process()?;
        job.tell_progress();
        results.finish(&job)
    }

    /// Waits for the result of one task.
    pub(super) fn one<T: Serialize, R: DeserializeOwned>(&self, run: Run, args: T) -> Result<R, Error> {
        let job = self.submit_one(run, args, false)?;
        self.engine.wait(None, &|| job.finished());
        job.tell_progress();
        results::read_one(&job)
    }

    /// Has a handle read the result of one task.
    pub(super) fn one_later<T: Serialize, R: DeserializeOwned>(
        &self,
        run: Run,
        args: T,
    ) -> Result<Handle<R>, Error> {
        let job = self.submit_one(run, args, true)?;
        Ok(Handle::new(Arc::clone(self.engine), job, results::read_one))
    }

    /// Has a handle read the results.
    pub(super) fn later<T: Serialize + Send + 'static, R>(
        &self,
        run: Run,
        items: impl IntoIterator<Item = T>,
        read: fn(&Job) -> Result<R, Error>,
    ) -> Result<Handle<R>, Error> {
        let job = self.submit(run, items, true, &mut |_| {})?;
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
        let items = items.into_iter();
        let job = self.job(run, items.size_hint());
        Imap::new(Arc::clone(self.engine), job, items, ordered)
    }
}
