//! The connection with one worker: a ring each way, and a socket pair for handles.
//!
//! Unlike a pipe's, its ends sleep on words in shared memory: the worker on its own ring, the pool on one bell for all workers. That
//! is the cheapest wake there is; the death of the other end is learned from the kernel, not from here.

mod ahead;

use std::{
    cell::{Cell, RefCell},
    io, thread,
    time::Duration,
};

use mp_core::{
    fds::{self, Bundle},
    kill_points::{Point, reach},
    os::{
        event::{PollFd, PollFlags, poll},
        fd::{AsFd, OwnedFd},
        net::{RecvFlags, SendFlags},
        time::Timespec,
    },
    shared::{Entry, GetError, PutError, RegionError, Ring, RingOptions, Wake, Word},
    transfer::{Fd, Handle, Long},
};
use serde::{Deserialize, Serialize};

pub(crate) use self::ahead::Begin;
use self::ahead::{Ahead, Sizes};

/// How many pieces are taken at a time by one who has others to listen to: about a millisecond's worth.
const AT_ONCE: usize = 32;

/// How long one waits, for whose handles the socket has no room, before it looks again.
const FULL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How long one waits, who has no memory for a message, before it tries again.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(1);

/// One end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    out: Ring,
    back: Ring,
    handles: Fd<OwnedFd>,
    /// How many records were taken from the other end, modulo 2^31.
    #[serde(skip)]
    taken: Cell<u32>,
    #[serde(skip)]
    ahead: RefCell<Ahead>,
    #[serde(skip)]
    sizes: RefCell<Sizes>,
}

/// What a look at the other end finds.
pub(crate) enum Next {
    Nothing,
    /// Something for a message to come; there may be more.
    Ahead,
    Message(Came),
}

/// What came with a message.
pub(crate) struct Came {
    /// Or why they cannot be had.
    pub(crate) fds: io::Result<Vec<OwnedFd>>,
    /// What was sent ahead of it. The message says how much of that belongs to it.
    pub(crate) long: Vec<Long>,
}

impl Link {
    /// The pool's end and the worker's.
    pub(crate) fn pair() -> Result<(Self, Self), RegionError> {
        let [there, back] = Ring::create_pair(RingOptions { private: true, ..RingOptions::default() })?;
        let (near, far) = fds::pair().map_err(|cause| RegionError::System {
            len: 0,
            action: "given its sockets",
            cause,
        })?;
        let end = |out: &Ring, back: &Ring, handles| Self {
            out: out.clone(),
            back: back.clone(),
            handles: Fd(handles),
            taken: Cell::new(0),
            ahead: RefCell::default(),
            sizes: RefCell::default(),
        };
        Ok((end(&there, &back, near), end(&back, &there, far)))
    }

    /// Sends a message, made of parts; waits for nobody, unless the socket is full of handles, or there is no memory for the message
    /// beside those that the other end has not taken. One with handles wakes in any case: the other end must be at work for the
    /// socket to become empty.
    pub(crate) fn send(&self, parts: &[&[u8]], handles: Vec<Handle>, wake: Wake<'_>) -> Result<(), PutError> {
        let bundle = pack(handles)?;
        loop {
            // Not asked for without handles: it fetches what the pool is busy writing.
            let all_taken = bundle.is_some() && self.out.is_empty();
            match self.put(parts, bundle.as_ref(), wake) {
                // With the last message its handles were taken, so what is in the socket was sent by code of somebody else's.
                Err(PutError::Full) if all_taken => return Err(PutError::Corrupt),
                Err(PutError::Full) => {
                    let _ = poll(&mut [PollFd::new(&self.handles.0, PollFlags::OUT)], Some(&FULL));
                }
                Err(PutError::Memory(_)) if !self.out.is_empty() => thread::sleep(SHORT_OF_MEMORY),
                outcome => return outcome,
            }
        }
    }

    /// As [`send`](Self::send), but waits for nobody at all: where the socket is full of handles, that is [`PutError::Full`].
    pub(crate) fn try_send(
        &self,
        parts: &[&[u8]],
        handles: Vec<Handle>,
        wake: Wake<'_>,
    ) -> Result<(), PutError> {
        self.put(parts, pack(handles)?.as_ref(), wake)
    }

    fn put(&self, parts: &[&[u8]], bundle: Option<&Bundle>, wake: Wake<'_>) -> Result<(), PutError> {
        let sent = match bundle {
            None => self.out.try_put_parts(parts, 0, wake, &mut || Ok(())),
            Some(bundle) => {
                let mut deliver = || bundle.send(&self.handles.0, SendFlags::DONTWAIT);
                self.out.try_put_parts(parts, bundle.tag(), Wake::Word, &mut deliver)
            }
        };
        match sent {
            // There is always room, if nobody has overwritten where the other end stands.
            Ok(room) => room.ok_or(PutError::Corrupt),
            Err(PutError::Handles(error)) => Err(match error.kind() {
                io::ErrorKind::WouldBlock => PutError::Full,
                // Nobody has the other end any more, which is no fault of the handles.
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => PutError::Closed,
                _ => PutError::Handles(error),
            }),
            Err(error) => Err(error),
        }
    }

    /// Wakes the other end, if it sleeps beside what was sent with [`Wake::Later`].
    pub(crate) fn wake(&self) {
        // As for the end.
        let _ = self.out.wake();
    }

    /// Whether this end has the descriptors that it needs.
    pub(crate) fn is_whole(&self) -> bool {
        self.out.is_open() && fds::is_socket(&self.handles.0)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn close(&self) {
        // A corrupt ring has no end to be marked; its worker finds out by itself.
        let _ = self.out.close(Wake::Word);
    }

    /// Sends a long run of bytes ahead of the message that it belongs to, in pieces, so that the other end takes it in at the
    /// same time; calls `sent` after each step, with whether one that sleeps is to be woken now. See [`Ahead`].
    pub(crate) fn send_ahead(&self, begin: Begin, bytes: &[u8], sent: impl Fn(bool)) -> Result<(), PutError> {
        let whole = self.sizes.borrow_mut().with(begin.first, bytes);
        let put = |record: &[u8], tag, wake| {
            let how = if wake { Wake::Word } else { Wake::Later };
            self.out.put_piece(record, tag, whole, how).map(|()| sent(wake))
        };
        put(&begin.write(bytes.len()), ahead::BEGIN, true)?;
        reach(Point::Announced);
        let pieces = bytes.chunks(ahead::PIECE_LEN);
        let last = pieces.len();
        // Whoever is awake sees each; to wake somebody for each would take longer than the copy.
        let mut numbered = (1..).zip(pieces);
        numbered.try_for_each(|(number, piece)| {
            put(piece, ahead::PIECE, number == last || number % ahead::WAKE_EVERY == 0)
        })
    }

    /// Waits for a message and appends it to `into`. It comes also when its handles cannot be had, with the reason.
    pub(crate) fn receive(&self, into: &mut Vec<u8>) -> Result<Came, GetError> {
        loop {
            let next = self.take(into, |into, collect| self.back.get(into, None, collect).map(Some))?;
            if let Next::Message(came) = next {
                return Ok(came);
            }
        }
    }

    /// As [`receive`](Self::receive), if there is a message; of what goes ahead of one no more is taken than lasts a moment.
    pub(crate) fn try_receive(&self, into: &mut Vec<u8>) -> Result<Next, GetError> {
        for _ in 0..AT_ONCE {
            match self.take(into, |into, collect| self.back.try_get(into, Entry::By(None), collect))? {
                Next::Ahead => {}
                next => return Ok(next),
            }
        }
        Ok(Next::Ahead)
    }

    /// Takes in one record.
    fn take(
        &self,
        into: &mut Vec<u8>,
        get: impl FnOnce(&mut Vec<u8>, &mut dyn FnMut(u64) -> io::Result<()>) -> Result<Option<u64>, GetError>,
    ) -> Result<Next, GetError> {
        let mut ahead = self.ahead.borrow_mut();
        let mut fds = Ok(Vec::new());
        let mut collect = |tag| {
            let mut came = Vec::new();
            fds = self.collect(tag, &mut came).map(|()| came);
            Ok(())
        };
        let record = ahead.room(into);
        let before = record.len();
        let Some(tag) = get(record, &mut collect)? else { return Ok(Next::Nothing) };
        self.taken.set(self.taken.get().wrapping_add(1) & (u32::MAX >> 1));
        if ahead.takes(tag, before, into)? {
            return Ok(Next::Ahead);
        }
        Ok(Next::Message(Came { fds: fds.and_then(|fds| unpack(tag, fds)), long: ahead.end() }))
    }

    /// Whether something has come that was not taken: a cheap look.
    pub(crate) fn has_news(&self) -> bool {
        self.arrived() != self.taken.get()
    }

    /// Lets the other end run at once, if it shares the CPU, and nothing has come that keeps this one busy.
    pub(crate) fn make_way(&self) {
        if self.back.is_empty() {
            self.back.make_way();
        }
    }

    /// How many records have come, modulo 2^31.
    pub(crate) fn arrived(&self) -> u32 {
        self.back.puts()
    }

    /// Takes the handles of the message with this tag, which were sent before it; those before them are of messages that
    /// never came.
    fn collect(&self, tag: u64, into: &mut Vec<OwnedFd>) -> io::Result<()> {
        if !ahead::has_handles(tag) {
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

fn pack(handles: Vec<Handle>) -> Result<Option<Bundle>, PutError> {
    (!handles.is_empty()).then(|| Bundle::pack(handles)).transpose().map_err(PutError::Handles)
}

fn unpack(tag: u64, fds: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    if ahead::has_handles(tag) { Bundle::unpack(tag, fds) } else { Ok(fds) }
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
    ring(bell);
}

/// Rings for something that was sent.
fn ring(bell: &Bell) {
    reach(Point::Sent);
    bell.advance();
    reach(Point::BellRung);
}

/// As [`ring`], for one that is awake, if it need not be `loud`.
pub(crate) fn ring_for_a_step(bell: &Bell, loud: bool) {
    if loud {
        ring(bell);
    } else {
        bell.advance_quietly();
    }
}

#[cfg(all(test, target_os = "linux", not(mp_unsupported), not(mp_loom)))]
mod tests {
    use super::*;
    use crate::local::desk::PLACES;

    #[test]
    fn a_socket_full_of_handles_is_told_and_has_room_for_more_than_a_worker_may_hold() {
        let (near, far) = Link::pair().unwrap();
        let send = || {
            let handle = Handle::Fd(std::fs::File::open("/dev/null").unwrap().into());
            near.try_send(&[b"message"], vec![handle], Wake::Word)
        };
        let mut sent = 0;
        let error = loop {
            match send() {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, PutError::Full), "{error}");
        // Each chunk may come with a context.
        assert!(sent > 2 * PLACES, "{sent}");
        for _ in 0..sent {
            let Next::Message(came) = far.try_receive(&mut Vec::new()).unwrap() else { panic!("it came") };
            assert_eq!(came.fds.unwrap().len(), 1);
        }
        send().unwrap();
    }

    #[test]
    fn a_socket_full_of_what_no_message_is_about_is_not_waited_for() {
        let (near, far) = Link::pair().unwrap();
        while fds::send(&far.handles.0, b"rubbish", &[], SendFlags::DONTWAIT).is_ok() {}
        let handle = || vec![Handle::Fd(std::fs::File::open("/dev/null").unwrap().into())];
        assert!(matches!(far.send(&[b"message"], handle(), Wake::Word), Err(PutError::Corrupt)));
        // While there are others, the pool may yet take that, too.
        far.send(&[b"first"], Vec::new(), Wake::Word).unwrap();
        let (go, gone) = std::sync::mpsc::channel();
        let pool = thread::spawn(move || {
            gone.recv().unwrap();
            assert!(matches!(near.try_receive(&mut Vec::new()).unwrap(), Next::Message(_)));
            near
        });
        go.send(()).unwrap();
        assert!(matches!(far.send(&[b"message"], handle(), Wake::Word), Err(PutError::Corrupt)));
        pool.join().unwrap();
    }
}
