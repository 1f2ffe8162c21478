//! A worker process of this machine, as the dispatcher sees it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use mp_core::{Child, ExitStatus, JoinError, Process, os::fd::OwnedFd};
use mp_pipe::{RecvError, Source};

use crate::{
    chunk::{HEAD, Progress},
    error::Error,
    job::{Chunk, WorkerName},
    worker::{self, Link},
};

/// How many chunks a worker may hold: one at work, one waiting, so that it never waits for the pool.
const CREDIT: usize = 2;

/// A worker process and the chunks that it holds, in the order in which it works on them.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child<()>,
    link: Link,
    progress: Progress,
    holds: VecDeque<(u32, Chunk)>,
}

/// Something that a worker did.
pub(crate) enum Event {
    Answered(Chunk, Vec<u8>, Vec<OwnedFd>),
    Died,
}

impl Worker {
    /// Starts a worker; does not wait until it runs.
    pub(crate) fn start(name: String) -> Result<Self, Error> {
        let (link, theirs) = mp_pipe::unbounded()?;
        let progress = Progress::new()?;
        let child = Process::new().name(name).daemon(true).spawn(worker::run, (theirs, progress.clone()))?;
        Ok(Self { child, link, progress, holds: VecDeque::new() })
    }

    pub(crate) fn name(&self) -> WorkerName {
        WorkerName { name: self.child.name().to_owned(), pid: self.child.pid() }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.holds.len() < CREDIT
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.holds.is_empty()
    }

    /// Gives it a chunk. A failure to send is its death, which the next event tells.
    pub(crate) fn give(&mut self, mut chunk: Chunk) {
        /// 0 is no chunk: what a worker's progress says before its first.
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        if let Some(head) = chunk.encoded.bytes.first_chunk_mut::<HEAD>() {
            *head = number.to_le_bytes();
        }
        // Its own copies stay here, in case the chunk must be made again.
        let copies = chunk
            .encoded
            .handles
            .iter()
            .map(|handle| handle.try_clone())
            .collect::<std::io::Result<Vec<_>>>();
        let handles = copies.unwrap_or_default();
        let _ = self.link.sender().send_encoded(&chunk.encoded.bytes, handles);
        self.holds.push_back((number, chunk));
    }

    /// What it did since the last call; a cheap look if `asleep` is false, else one that makes its source wake a wait.
    pub(crate) fn event(&mut self, asleep: bool) -> Option<Event> {
        let mut bytes = Vec::new();
        let received = if asleep {
            self.link.recv_encoded(&mut bytes, Some(Instant::now()))
        } else {
            self.link.peek_encoded(&mut bytes)
        };
        match received {
            Ok(fds) => {
                let number = bytes.first_chunk::<HEAD>().map(|head| u32::from_le_bytes(*head));
                let held = self.holds.iter().position(|(held, _)| Some(*held) == number);
                let Some((_, chunk)) = held.and_then(|held| self.holds.remove(held)) else {
                    // An answer to nothing: whatever this process is, it is not a worker any more.
                    let _ = self.child.kill();
                    return Some(Event::Died);
                };
                Some(Event::Answered(chunk, bytes, fds))
            }
            Err(RecvError::Empty) => None,
            Err(_) => Some(Event::Died),
        }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::from(&self.link)
    }

    /// What a dead worker held: the chunk and the item that it was at, if it had begun one, and the others; and how it
    /// ended.
    pub(crate) fn bury(self) -> (Option<(Chunk, usize)>, Vec<Chunk>, ExitStatus) {
        // Its connection has ended: so has it, or it soon will. Nothing that it still does can be seen.
        let _ = self.child.kill();
        let status = match self.child.join() {
            Ok(()) => ExitStatus::default(),
            Err(error) => error.exit_status().or(self.child.exit_status()).unwrap_or_default(),
        };
        let at = self.progress.load(Ordering::Relaxed);
        let (number, item) = ((at >> 32) as u32, (at & u64::from(u32::MAX)) as usize);
        let mut begun = None;
        let mut others = Vec::new();
        for (held, chunk) in self.holds {
            if held == number && begun.is_none() { begun = Some((chunk, item)) } else { others.push(chunk) }
        }
        (begun, others, status)
    }

    /// Lets the worker end by itself when it has done what it holds.
    pub(crate) fn dismiss(self) -> Child<()> {
        self.child
    }

    /// What it holds, which it will not answer any more.
    pub(crate) fn take_held(&mut self) -> Vec<Chunk> {
        self.holds.drain(..).map(|(_, chunk)| chunk).collect()
    }

    pub(crate) fn terminate(&self) {
        let _ = self.child.terminate();
    }
}

/// Waits for workers that were told to end, at most for `grace`, then kills them.
pub(crate) fn reap(children: Vec<Child<()>>, grace: Duration) {
    let deadline = Instant::now() + grace;
    for child in children {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(JoinError::TimedOut { .. }) = child.join_timeout(left) {
            let _ = child.kill();
            let _ = child.join();
        }
    }
}
