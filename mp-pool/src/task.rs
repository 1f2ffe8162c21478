//! For the code of a task: where it runs, whether it should stop, and the state that the initializer made.
//!
//! Everything here also works outside of a worker, where there is nothing to stop for and no state.

use std::{
    any::Any,
    cell::RefCell,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::local::desk::{Desk, Step};

static DESK: OnceLock<Desk> = OnceLock::new();
/// The position of the first item of the chunk at work.
static FIRST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static STATE: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

pub(crate) fn enter(desk: &Desk) {
    let _ = DESK.set(desk.clone());
}

pub(crate) fn begin_chunk(first: u64) {
    FIRST.store(first, Ordering::Relaxed);
}

pub(crate) fn set_state(state: Box<dyn Any>) {
    STATE.set(Some(state));
}

/// Whether the task at work should come to its end: it was cancelled, its time is over, or the pool is being terminated.
///
/// A task that looks now and then can end in good order, and what it returns counts; one that does not is killed with its worker
/// when its grace is over. May be called from any thread of the worker; costs a few nanoseconds.
///
/// ```
/// # mp_pool::test_init!();
/// use mp_pool::{Pool, task};
/// use std::time::Duration;
///
/// fn careful() -> u32 {
///     let mut rounds = 0;
///     while !task::should_stop() {
///         rounds += 1;
///         std::thread::sleep(Duration::from_millis(1));
///     }
///     rounds
/// }
///
/// let pool = Pool::with_workers(1)?;
/// let rounds = pool
///     .call()
///     .timeout(Duration::from_millis(50))
///     .grace(Duration::from_secs(10))
///     .apply(careful, ())?;
/// assert!(rounds > 0);
/// # Ok::<(), mp_pool::Error>(())
/// ```
#[must_use]
pub fn should_stop() -> bool {
    DESK.get().is_some_and(Desk::should_stop)
}

/// The position of the task at work in the input of its call; `None` outside of a task.
///
/// ```
/// # mp_pool::test_init!();
/// use mp_pool::{Pool, task};
///
/// let pool = Pool::with_workers(1)?;
/// assert_eq!(pool.map(|_: char| task::index().unwrap(), "abc".chars())?, [0, 1, 2]);
/// # Ok::<(), mp_pool::Error>(())
/// ```
#[must_use]
pub fn index() -> Option<usize> {
    let at = DESK.get()?.at().filter(|at| at.step == Step::Runs)?;
    usize::try_from(FIRST.load(Ordering::Relaxed) + u64::from(at.item)).ok()
}

/// Calls `body` with the state that the pool's initializer returned, and returns what it returns; `None` if the initializer
/// returned something of another type, there was none, or `body` is called from within another such call.
///
/// The state belongs to the worker's main thread, on which tasks run. See
/// [`PoolBuilder::initializer`](crate::PoolBuilder::initializer) for an example.
pub fn with_state<S: 'static, R>(body: impl FnOnce(&mut S) -> R) -> Option<R> {
    STATE.with(|state| {
        let mut state = state.try_borrow_mut().ok()?;
        Some(body(state.as_mut()?.downcast_mut()?))
    })
}
