//! The pool's own threads, each of which may be at code of a user when the pool ends.

use std::{
    env, io,
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Instant,
};

use mp_core::os::process::{Resource, getrlimit};

/// As much as the main thread has, for what is decoded or encoded here may nest as deeply as there: memory is taken as it is touched.
/// Not less than Linux gives by default, or `RUST_MIN_STACK` asks for.
pub(crate) fn stack_size() -> usize {
    const LEAST: u64 = 8 << 20;
    const MOST: u64 = 1 << 30;
    let main = getrlimit(Resource::Stack).current.unwrap_or(LEAST);
    let asked = env::var("RUST_MIN_STACK").ok().and_then(|size| size.parse().ok());
    main.max(asked.unwrap_or(0)).clamp(LEAST, MOST) as usize
}

#[derive(Debug)]
pub(crate) struct OwnThread {
    thread: JoinHandle<()>,
    /// Disconnected when it has done what it was there for.
    ends: mpsc::Receiver<()>,
}

impl OwnThread {
    pub(crate) fn start(who: &str, life: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (lives, ends) = mpsc::channel();
        let builder = thread::Builder::new().name(format!("mp-pool-{who}")).stack_size(stack_size());
        let thread = builder.spawn(move || {
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
