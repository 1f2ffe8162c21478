//! The pool's own threads, each of which may be at code of a user when the pool ends.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Instant,
};

#[derive(Debug)]
pub(crate) struct OwnThread {
    thread: JoinHandle<()>,
    /// Disconnected when it has done what it was there for.
    ends: mpsc::Receiver<()>,
}

impl OwnThread {
    pub(crate) fn start(who: &str, life: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (lives, ends) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("mp-pool-{who}")).spawn(move || {
            life();
            drop(lives);
        })?;
        Ok(Self { thread, ends })
    }

    pub(crate) fn is_current(&self) -> bool {
        self.thread.thread().id() == thread::current().id()
    }

    /// Waits for its end; one that has not ended by the deadline is left to itself.
    pub(crate) fn join(self, deadline: Option<Instant>) {
        // Nothing is ever sent: its end is told by that of the sender.
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_none_or(|left| self.ends.recv_timeout(left) != Err(RecvTimeoutError::Timeout)) {
            // It does not panic; if it did, it has ended.
            let _ = self.thread.join();
        }
    }
}
