//! Helpers: threads that do a part of what has piled up before a caller.
//!
//! They are threads of a rayon pool of their own, and not of rayon's global one: that belongs to the program, which may want to build
//! it as it likes, and whose threads may be busy, or wait for the very caller who asks for help. Nor are they used as rayon's own
//! operations would: a caller asks, goes on, and waits for a helper only when that has begun something. So it needs nobody, if no
//! thread can be started, none has time, or all are missing because the process is a fork.

pub(crate) mod pile;

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
};

use mp_core::os::own_pid;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::own_thread;

/// How many threads may work for one caller, with its own; 0 for as many as rayon decides.
static THREADS: AtomicUsize = AtomicUsize::new(0);
/// The helpers, if there could be some, and the process that has them.
static POOL: OnceLock<Option<(ThreadPool, u32)>> = OnceLock::new();

thread_local! {
    /// Whom this thread helps.
    static HELPED: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

/// Has no more than `threads` work for one caller from now on; in time only before the first asks.
pub(crate) fn limit(threads: usize) {
    THREADS.store(threads, Ordering::Relaxed);
}

/// How many helpers a caller may have: with its own, as many threads as rayon would use where it is called. Within a pool of the
/// program that is no more than that has.
pub(crate) fn most() -> usize {
    let Some(pool) = pool() else { return 0 };
    let threads = pool.current_num_threads();
    let here = rayon::current_thread_index().map(|_| rayon::current_num_threads());
    here.map_or(threads, |here| here.min(threads)) - 1
}

/// Asks a helper to do `work` when it has time; whether there is one. The work is told whether it may begin: a thread that is in the
/// midst of other such work may not, which comes to this when code of the program waits there for something of rayon's.
pub(crate) fn ask(work: impl FnOnce(bool) + Send + 'static) -> bool {
    let caller = on_behalf_of();
    let help = move || {
        let before = HELPED.replace(Some(caller));
        work(before.is_none());
        HELPED.set(before);
    };
    pool().map(|pool| pool.spawn(help)).is_some()
}

/// The thread whose call this thread works for: the helped one, or itself.
pub(crate) fn on_behalf_of() -> ThreadId {
    HELPED.get().unwrap_or_else(|| thread::current().id())
}

fn pool() -> Option<&'static ThreadPool> {
    if POOL.get().is_none() {
        let name = |n| format!("mp-pool-helper-{n}");
        let builder = ThreadPoolBuilder::new().num_threads(THREADS.load(Ordering::Relaxed)).thread_name(name);
        let pool = builder.stack_size(own_thread::stack_size()).build();
        // Made before, so that a fork finds nobody on the way.
        let _ = POOL.set(pool.ok().map(|pool| (pool, own_pid())));
    }
    POOL.get()?.as_ref().filter(|(_, pid)| *pid == own_pid()).map(|(pool, _)| pool)
}
