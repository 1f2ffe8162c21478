//! Whose an end of a connection is.
//!
//! An end that is dropped tells the other side so, but not by everybody who happens to have a copy of it: not by the one who
//! has sent it on, and not by a fork of its process, which has copied it with everything else.

use std::sync::atomic::{AtomicBool, Ordering};

use mp_core::os::own_pid;

#[derive(Debug)]
pub(crate) struct Tenure {
    pid: u32,
    travelled: AtomicBool,
}

impl Tenure {
    pub(crate) fn new() -> Self {
        Self { pid: own_pid(), travelled: AtomicBool::new(false) }
    }

    /// From now on the end is the one of its last copy, wherever that is.
    pub(crate) fn travels(&self) {
        self.travelled.store(true, Ordering::Relaxed);
    }

    /// Whether the end is over when it is dropped here.
    pub(crate) fn ends(&mut self) -> bool {
        !*self.travelled.get_mut() && self.pid == own_pid()
    }
}
