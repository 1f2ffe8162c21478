//! Waiting for several results.

use std::{
    sync::Arc,
    task::{Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::{engine::Engine, handle::Handle, job::Job};

mod sealed {
    pub trait Sealed {}
}

/// A result that can be waited for together with others, of whatever types and pools.
pub trait Waitable: sealed::Sealed {
    #[doc(hidden)]
    fn parts(&self) -> Parts<'_>;
}

#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    engine: &'a Arc<Engine>,
    job: &'a Arc<Job>,
}

impl Parts<'_> {
    /// Whether the result is there, in this process.
    fn finished(self) -> bool {
        self.job.finished() && self.engine.check_process().is_ok()
    }
}

impl<T> sealed::Sealed for Handle<T> {}

impl<T> Waitable for Handle<T> {
    fn parts(&self) -> Parts<'_> {
        Parts { engine: self.engine(), job: self.job() }
    }
}

/// Waits until at least one of `handles` has its result, at most for `timeout` (`None`: for ever), and returns the positions of all
/// that have; none after the time-out. Returns at once where one can never have it, in a process that was forked from its pool's. Python: `concurrent.futures.wait(return_when=FIRST_COMPLETED)`.
///
/// ```
/// # mp_pool::test_init!();
/// use mp_pool::{Pool, wait_any};
///
/// let pool = Pool::with_workers(2)?;
/// let slow = pool.apply_async(|| std::thread::sleep(std::time::Duration::from_secs(600)), ())?;
/// let fast = pool.apply_async(|| 1, ())?;
/// assert_eq!(wait_any(&[&slow, &fast], None), [1]);
/// # Ok::<(), mp_pool::Error>(())
/// ```
#[must_use]
pub fn wait_any(handles: &[&dyn Waitable], timeout: Option<Duration>) -> Vec<usize> {
    wait(handles, timeout, &|finished| finished > 0);
    handles.iter().enumerate().filter(|(_, handle)| handle.parts().finished()).map(|(at, _)| at).collect()
}

/// Waits until all of `handles` have their results, at most for `timeout` (`None`: for ever); whether they have. Callbacks may still run
/// then. Returns at once where one can never have it, in a process that was forked from its pool's. Python:
/// `concurrent.futures.wait()`.
///
/// ```
/// # mp_pool::test_init!();
/// use mp_pool::{Pool, wait_all};
///
/// let pool = Pool::with_workers(2)?;
/// let number = pool.apply_async(|| 1, ())?;
/// let text = pool.apply_async(|| "one".to_owned(), ())?;
/// assert!(wait_all(&[&number, &text], None));
/// # Ok::<(), mp_pool::Error>(())
/// ```
#[must_use]
pub fn wait_all(handles: &[&dyn Waitable], timeout: Option<Duration>) -> bool {
    wait(handles, timeout, &|finished| finished == handles.len())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait(handles: &[&dyn Waitable], timeout: Option<Duration>, enough: &dyn Fn(usize) -> bool) -> bool {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let done = || enough(handles.iter().filter(|handle| handle.parts().finished()).count());
    let Some(first) = handles.first() else { return done() };
    if handles.iter().any(|handle| handle.parts().engine.check_process().is_err()) {
        return done();
    }
    let engine = first.parts().engine;
    if handles.iter().all(|handle| Arc::ptr_eq(handle.parts().engine, engine)) {
        return engine.wait(deadline, &done);
    }
    // Several pools: their clerks collect, and wake this thread.
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let enough = loop {
        for handle in handles {
            if handle.parts().job.watch(&waker) {
                handle.parts().engine.hurry();
            }
        }
        if done() {
            break true;
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => break false,
            Some(left) => thread::park_timeout(left),
        }
    };
    handles.iter().for_each(|handle| handle.parts().job.unwatch(&waker));
    enough
}

#[cfg(all(test, target_os = "linux", not(mp_unsupported), not(mp_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wait_leaves_no_waker_behind() {
        crate::test_init!();
        let pools = [(); 2].map(|()| crate::Pool::with_workers(1).unwrap());
        let handles =
            pools.each_ref().map(|pool| pool.apply_async(|| thread::sleep(Duration::MAX), ()).unwrap());
        let [a, b] = &handles;
        for _ in 0..10 {
            assert!(wait_any(&[a, b], Some(Duration::ZERO)).is_empty());
            assert!(!wait_all(&[a, b], Some(Duration::ZERO)));
        }
        assert_eq!(handles.each_ref().map(|handle| handle.job().watchers()), [0, 0]);
    }
}
