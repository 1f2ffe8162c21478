//! Threads that a normal end of the process waits for.
//!
//! A thread of Rust ends with its process, whatever it is doing. Python's (non-daemon) threads do not: the interpreter
//! waits for them. [`spawn_thread`] is for work that must be finished before a child process, or the program, ends.

use std::{cell::Cell, io, thread::JoinHandle, time::Instant};

use parking_lot::{Condvar, Mutex};

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

thread_local! {
    /// 1 in a thread that is counted: it cannot wait for itself when it ends the process.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        *RUNNING.lock() -= 1;
        ENDED.notify_all();
    }
}

/// Starts a thread that a normal end of this process (a return from `main`, `std::process::exit`, the end of a child
/// process's function) waits for. Python: `threading.Thread(daemon=False)`.
///
/// ```
/// # mp_core::test_init!();
/// let child = mp_core::spawn(
///     || {
///         mp_core::spawn_thread(|| {
///             // ... work that outlives the function, but not the process.
///         })
///         .map(drop)
///         .map_err(|error| error.to_string())
///     },
///     (),
/// )?;
/// child.join()??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A thread of a child process may end the process by `std::process::exit`, also while the process waits for it. In the
/// program's own process it must not: once `main` has returned, or another thread has called `exit`, std holds every
/// further caller of `exit` for ever, and such a thread would be waited for as long.
///
/// # Errors
/// The kernel refuses another thread.
pub fn spawn_thread<F, T>(body: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    *RUNNING.lock() += 1;
    let counted = Counted;
    std::thread::Builder::new().spawn(move || {
        let _counted = counted;
        INSIDE.set(1);
        body()
    })
}

/// Waits until no such thread (other than the calling one) runs, at most until `deadline`; whether that is so.
pub(crate) fn wait_for_all(deadline: Option<Instant>) -> bool {
    let mut running = RUNNING.lock();
    let others_run = |running: &mut usize| *running > INSIDE.get();
    match deadline {
        None => ENDED.wait_while(&mut running, others_run),
        Some(deadline) => drop(ENDED.wait_while_until(&mut running, others_run, deadline)),
    }
    !others_run(&mut running)
}
