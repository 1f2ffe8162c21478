//! Answering: results on their way to the pool.
//!
//! Results go in one message, as many as have gathered, unless they forbid it: some carry handles, some cannot be encoded, for some
//! together there is no memory. None of that may cost those beside them anything.

use std::time::{Duration, Instant};

use mp_core::{
    PanicReport, catch_panic,
    shared::PutError,
    transfer::{self, EncodeError, Handle},
};
use serde::Serialize;

use super::{Session, Shared, run::Pace};
use crate::{
    local::{
        desk::{Item, Step},
        link::Begin,
    },
    message::{Failure, PART_HEAD, Part, goes_ahead, why_not_encoded, write_len},
    spare,
};

/// Results, of whatever type.
pub(super) trait Results {
    fn len(&self) -> usize;

    fn clear(&mut self);

    /// Encodes those from `from` on, until `message` wants no more; long runs of bytes are shown to `ahead`.
    fn encode(
        &self,
        from: usize,
        bytes: &mut Vec<u8>,
        ahead: &mut dyn FnMut(usize, &[u8]) -> bool,
        message: &mut Message<'_>,
    ) -> Result<Result<(), EncodeError>, PanicReport>;
}

impl<R: Serialize> Results for Vec<R> {
    fn len(&self) -> usize {
        self.len()
    }

    fn clear(&mut self) {
        self.clear();
    }

    fn encode(
        &self,
        from: usize,
        bytes: &mut Vec<u8>,
        ahead: &mut dyn FnMut(usize, &[u8]) -> bool,
        message: &mut Message<'_>,
    ) -> Result<Result<(), EncodeError>, PanicReport> {
        let results = &self[from..];
        catch_panic(|| transfer::encode_each(results, bytes, ahead, |to, handles| message.note(to, handles)))
    }
}

/// What a message consists of.
pub(super) struct Message<'a> {
    shared: &'a Shared,
    /// The item whose result is next, and how many may follow it.
    next: Item,
    left: usize,
    timed: bool,
    /// How many results are in it, and where the last of them ends.
    sent: usize,
    end: usize,
    lengths: Vec<u8>,
    handles: Vec<Handle>,
}

impl Message<'_> {
    /// Notes that a result was encoded; whether the next may be.
    #[inline]
    fn note(&mut self, to: usize, handles: Option<Vec<Handle>>) -> bool {
        if let Some(handles) = handles {
            self.left = 0;
            if self.sent > 0 {
                // It is encoded again, for a message of its own.
                return false;
            }
            self.handles = handles;
        }
        write_len(to - self.end, &mut self.lengths);
        (self.end, self.sent) = (to, self.sent + 1);
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        if self.timed {
            self.next.item += 1;
            self.shared.desk.begin(self.next, true);
        }
        true
    }
}

/// Results on their way.
pub(super) struct Report<'a> {
    pub(super) session: &'a Session,
    pub(super) ticket: u32,
    /// Whether the pool wants to know when it began to encode each of them.
    pub(super) timed: bool,
    /// There was no memory for several at once.
    pub(super) singly: bool,
    /// The item of the first of them, counted within the chunk.
    pub(super) from: u32,
}

impl Report<'_> {
    /// Sends the results that are there: as one message, or as several if there are handles in them or some cannot be encoded.
    pub(super) fn send(&mut self, done: &mut dyn Results, pace: &mut Pace, last: bool) {
        let mut head = Part {
            ticket: self.ticket,
            retire: self.session.too_large(),
            nanoseconds: (pace.looked - pace.answered).as_nanos() as u64,
            slowest: pace.slowest.0,
            slowest_nanoseconds: pace.slowest.1.as_nanos() as u64,
            ..Part::default()
        };
        let (mut next, end) = (0, done.len());
        while last || next < end {
            match self.send_some(head, done, next, last) {
                Ok(sent) => next += sent,
                Err(_) if next == end => self.session.over.set(true),
                Err(reason) => {
                    next += 1;
                    self.fail(&Failure::NotEncoded(reason), last && next == end);
                }
            }
            // What one message tells of the time, the next need not.
            (head.nanoseconds, head.slowest_nanoseconds) = (0, 0);
            if next == end {
                break;
            }
        }
        done.clear();
        if !last {
            // The clock ran on while this was sent; that is not the next item's time.
            pace.looked = Instant::now();
            (pace.answered, pace.slowest) = (pace.looked, (0, Duration::ZERO));
        }
    }

    /// Sends the failure of one item.
    pub(super) fn fail(&mut self, failure: &Failure, last: bool) {
        let head =
            Part { ticket: self.ticket, from: self.from, len: 1, last, failed: true, ..Part::default() };
        let mut message = spare::take();
        message.resize(PART_HEAD, 0);
        // Strings always encode.
        let _ = transfer::encode_into(failure, &mut message);
        let head = Part { bytes: (message.len() - PART_HEAD) as u64, ..head };
        if self.deliver(head, message, Vec::new()).is_err() {
            self.session.over.set(true);
        }
    }

    /// Sends some of `results` from `next` on as one message: all of them, or up to the first that has handles or cannot be encoded.
    /// Returns how many were sent, or why the very first could not be; 0 if there were too many at once.
    fn send_some(
        &mut self,
        head: Part,
        results: &dyn Results,
        next: usize,
        last: bool,
    ) -> Result<usize, String> {
        let mut bytes = spare::take();
        let mut lengths = self.session.lengths.take();
        lengths.clear();
        bytes.resize(PART_HEAD, 0);
        let shared = &self.session.shared;
        let len = results.len() - next;
        let mut message = Message {
            shared,
            next: Item { ticket: self.ticket, item: self.from, step: Step::Encodes },
            left: if self.singly { 0 } else { len.saturating_sub(1) },
            timed: self.timed,
            sent: 0,
            end: PART_HEAD,
            lengths,
            handles: Vec::new(),
        };
        // Where those belong that have gone ahead.
        let mut long = Vec::new();
        let mut send_ahead = |at: usize, run: &[u8]| {
            let begin = Begin { first: long.is_empty(), at: at - PART_HEAD };
            let gone = goes_ahead(run.len(), len) && self.session.send_ahead(begin, run);
            if gone {
                long.push(at);
            }
            gone
        };
        shared.desk.begin(message.next, self.timed);
        let outcome = results.encode(next, &mut bytes, &mut send_ahead, &mut message);
        shared.desk.rest();
        let Message { sent, end, lengths, handles, .. } = message;
        if let Some(reason) = why_not_encoded(outcome).filter(|_| sent == 0) {
            return Err(reason);
        }
        bytes.truncate(end);
        bytes.try_reserve_exact(lengths.len()).map_err(|_| "there is no memory for it".to_owned())?;
        bytes.extend_from_slice(&lengths);
        self.session.lengths.set(lengths);
        let long = long.iter().filter(|at| **at <= end).count() as u32;
        let part = Part {
            from: self.from,
            len: sent as u32,
            last: last && sent == len,
            bytes: (end - PART_HEAD) as u64,
            long,
            ..head
        };
        match self.deliver(part, bytes, handles) {
            Err(_) if sent > 1 => {
                self.singly = true;
                Ok(0)
            }
            delivered => delivered.map(|()| sent).map_err(|reason| format!("it could not be sent: {reason}")),
        }
    }

    /// Sends a message, or says why this one cannot be sent.
    fn deliver(&mut self, head: Part, mut message: Vec<u8>, handles: Vec<Handle>) -> Result<(), PutError> {
        if let Some(place) = message.get_mut(..PART_HEAD) {
            head.write(place);
        }
        let sent = self.session.send(&message, handles);
        spare::give(message);
        match sent {
            Err(error @ (PutError::Memory(_) | PutError::Handles(_))) => {
                self.session.check_connection(&error);
                return Err(error);
            }
            Err(_) => self.session.over.set(true),
            Ok(()) => {}
        }
        self.from += head.len;
        Ok(())
    }
}
