//! The connection with one worker: a ring each way, and a socket pair for handles.
//!
//! Unlike a pipe's, its ends sleep on words in shared memory: the worker on its own ring, the pool on one bell for all workers. That
//! is the cheapest wake there is; the death of the other end is learned from the kernel, not from here.

use std::io;

use mp_core::{
    fds::{self, Bundle},
    kill_points::{Point, reach},
    os::{
        event::{PollFd, PollFlags, poll},
        fd::{AsFd, OwnedFd},
        net::{RecvFlags, SendFlags},
    },
    shared::{Entry, GetError, PutError, RegionError, Ring, RingOptions, Wake, Word},
    transfer::{Fd, Handle},
};
use serde::{Deserialize, Serialize};

/// One end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    out: Ring,
    back: Ring,
    handles: Fd<OwnedFd>,
}

impl Link {
    /// The pool's end and the worker's.
    pub(crate) fn pair() -> Result<(Self, Self), RegionError> {
        let [there, back] = Ring::create_pair(RingOptions::default())?;
        let (near, far) = fds::pair().map_err(|cause| RegionError::System {
            len: 0,
            action: "given its sockets",
            cause,
        })?;
        let ours = Self { out: there.clone(), back: back.clone(), handles: Fd(near) };
        Ok((ours, Self { out: back, back: there, handles: Fd(far) }))
    }

    /// Sends a message, made of parts; waits for nobody, unless the socket is full of handles. One with handles wakes in any
    /// case: the other end must be at work for the socket to become empty.
    pub(crate) fn send(&self, parts: &[&[u8]], handles: Vec<Handle>, wake: Wake<'_>) -> Result<(), PutError> {
        if handles.is_empty() {
            return self.out.put_parts(parts, 0, None, wake, || Ok(()));
        }
        let bundle = Bundle::pack(handles).map_err(PutError::Handles)?;
        loop {
            let deliver = || bundle.send(&self.handles.0, SendFlags::DONTWAIT);
            match self.out.put_parts(parts, bundle.tag(), None, Wake::Word, deliver) {
                Err(PutError::Handles(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = poll(&mut [PollFd::new(&self.handles.0, PollFlags::OUT)], None);
                }
                // Nobody has the other end any more, which is no fault of the handles.
                Err(PutError::Handles(error))
                    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
                {
                    return Err(PutError::Closed);
                }
                outcome => return outcome,
            }
        }
    }

    /// Wakes the other end, if it sleeps beside what was sent with [`Wake::Later`].
    pub(crate) fn wake(&self) {
        // As for the end.
        let _ = self.out.wake();
    }

    /// Says that nothing more will be sent.
    pub(crate) fn close(&self) {
        // A corrupt ring has no end to be marked; its worker finds out by itself.
        let _ = self.out.close(Wake::Word);
    }

    /// Waits for a message and appends it to `into`. It comes also when its handles cannot be had, with the reason.
    pub(crate) fn receive(&self, into: &mut Vec<u8>) -> Result<io::Result<Vec<OwnedFd>>, GetError> {
        let mut fds = Ok(Vec::new());
        let tag = self.back.get(into, None, |tag| {
            let mut came = Vec::new();
            fds = self.collect(tag, &mut came).map(|()| came);
            Ok(())
        })?;
        Ok(fds.and_then(|fds| unpack(tag, fds)))
    }

    /// As [`receive`](Self::receive), if there is a message.
    pub(crate) fn try_receive(
        &self,
        into: &mut Vec<u8>,
    ) -> Result<Option<io::Result<Vec<OwnedFd>>>, GetError> {
        let mut fds = Ok(Vec::new());
        let tag = self.back.try_get(into, Entry::By(None), &mut |tag| {
            let mut came = Vec::new();
            fds = self.collect(tag, &mut came).map(|()| came);
            Ok(())
        })?;
        Ok(tag.map(|tag| fds.and_then(|fds| unpack(tag, fds))))
    }

    /// How many messages have come, modulo 2^31: a cheap look for new ones.
    pub(crate) fn arrived(&self) -> u32 {
        self.back.puts()
    }

    /// Takes the handles of the message with this tag, which were sent before it; those before them are of messages that
    /// never came.
    fn collect(&self, tag: u64, into: &mut Vec<OwnedFd>) -> io::Result<()> {
        if tag == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        loop {
            let fds = fds::recv(self.handles.0.as_fd(), &mut bytes, RecvFlags::DONTWAIT)?;
            let fds = fds.ok_or(io::ErrorKind::UnexpectedEof)?;
            if bytes == tag.to_le_bytes() {
                *into = fds;
                return Ok(());
            }
        }
    }
}

fn unpack(tag: u64, fds: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    if tag == 0 { Ok(fds) } else { Bundle::unpack(tag, fds) }
}

/// What the one that collects sleeps on: any worker rings it.
pub(crate) type Bell = mp_core::shared::Slot<Word>;

/// Commits an answer, then rings: a death in between is the keeper's to notice.
pub(crate) fn answer(bell: &Bell, commit: impl FnOnce()) {
    #[cfg(mp_loom)]
    if mp_core::kill_points::mutated() {
        bell.advance();
        return commit();
    }
    commit();
    reach(Point::Sent);
    bell.advance();
    reach(Point::BellRung);
}
