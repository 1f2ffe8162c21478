//! What a worker process does: take a chunk, run it, answer, until its connection ends.

use mp_pipe::Connection;

use crate::chunk::{self, HEAD, Progress, Work};

/// Chunks come as raw messages; the types of both directions are those of the tasks.
pub(crate) type Link = Connection<()>;

/// The main function of a worker process.
pub(crate) fn run(link: Link, progress: Progress) {
    // Ctrl-C reaches the whole group; what it means is for the pool's own process to say.
    mp_core::ignore_interrupt();
    loop {
        let mut bytes = Vec::new();
        // An error is the end: the pool has dropped its side, or is gone.
        let Ok(fds) = link.recv_encoded(&mut bytes, None) else { return };
        let Some((number, runner, at)) = chunk::runner(&bytes) else { return };
        let answer = runner(Work { number, bytes, at, fds, progress: progress.clone() });
        let mut message = Vec::with_capacity(HEAD + answer.bytes.len());
        message.extend(number.to_le_bytes());
        message.extend(answer.bytes);
        if link.sender().send_encoded(&message, answer.handles).is_err() {
            return;
        }
    }
}
