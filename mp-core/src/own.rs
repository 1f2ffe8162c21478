//! What one process does, and a fork of it must not do once more.
//!
//! Code of the program may fork: a task, a callback, the `Serialize` of a value. Mostly the fork executes another program or ends.
//! If it returns instead, it is in the midst of what this workspace does for the process that it is a copy of, and would do that a
//! second time: answer for a worker, send a result, collect. So a fork that returns ends here, at once, with a message, and
//! without the hooks and buffers of the other one.

use std::ops::Deref;

use crate::{
    PanicReport,
    current::current_process,
    os::own_pid,
    panics::catch_panic,
    sys::process::{exit_now, say},
};

/// What others take for the process that made this; a fork that reaches for it ends.
#[derive(Debug)]
pub struct Own<T> {
    value: T,
    pid: u32,
}

impl<T> Own<T> {
    /// Makes it this process's.
    pub fn new(value: T) -> Self {
        Self { value, pid: own_pid() }
    }

    /// Returns in this process alone: for one that goes on without reaching for the value.
    #[inline]
    pub fn stay(&self) {
        if own_pid() != self.pid {
            end_fork(self.pid);
        }
    }
}

impl<T> Deref for Own<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.stay();
        &self.value
    }
}

/// Runs code of the program in the midst of something that only this process may go on with: as [`catch_panic`], but a fork in
/// which the code returns ends.
///
/// # Errors
/// The panic.
pub fn run_foreign<R>(body: impl FnOnce() -> R) -> Result<R, PanicReport> {
    let this = Own::new(());
    let result = catch_panic(body);
    this.stay();
    result
}

#[cold]
fn end_fork(of: u32) -> ! {
    let this = current_process();
    say(&format!(
        "[{} {}] ends: it was forked from process {of} by code that this process called for it, and came back from that code; end \
         a fork where it is made, or execute another program there\n",
        this.name, this.pid
    ));
    exit_now(1)
}
