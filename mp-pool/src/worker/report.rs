//! Answering: results on their way to the pool.
//!
//! Results go in one message, as many as have gathered, unless they forbid it: some carry handles, some cannot be encoded, for some
//! together there is no memory. None of that may cost those beside them anything.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use mp_core::{catch_panic, shared::PutError, transfer};
use serde::Serialize;

use super::{Session, run::Pace};
use crate::{
    local::{
        desk::{Item, Step},
        link::Begin,
    },
    message::{Failure, PART_HEAD, Part, goes_ahead, write_len},
    spare,
};

/// Results on their way.
pub(super) struct Report<'a, R> {
    pub(super) session: &'a Session,
    pub(super) ticket: u32,
    /// Whether the pool wants to know when it began to encode each of them.
    pub(super) timed: bool,
    /// There was no memory for several at once.
    pub(super) singly: bool,
    /// The item of the first of them, counted within the chunk.
    pub(super) from: u32,
    pub(super) done: Vec<R>,
}

impl<R: Serialize> Report<'_, R> {
    /// Sends the results that are there: as one message, or as several if there are handles in them or some cannot be encoded.
    pub(super) fn send(&mut self, pace: &mut Pace, last: bool) {
        let mut head = Part {
            ticket: self.ticket,
            retire: self.session.too_large(),
            nanoseconds: (pace.looked - pace.answered).as_nanos() as u64,
            slowest: pace.slowest.0,
            slowest_nanoseconds: pace.slowest.1.as_nanos() as u64,
            ..Part::default()
        };
        let done = std::mem::take(&mut self.done);
        let mut rest = done.as_slice();
        while last || !rest.is_empty() {
            match self.send_some(head, rest, last) {
                Ok(sent) => rest = &rest[sent..],
                Err(_) if rest.is_empty() => self.session.over.set(true),
                Err(reason) => {
                    rest = &rest[1..];
                    self.fail(&Failure::NotEncoded(reason), last && rest.is_empty());
                }
            }
            // What one message tells of the time, the next need not.
            (head.nanoseconds, head.slowest_nanoseconds) = (0, 0);
            if rest.is_empty() {
                break;
            }
        }
        self.done = done;
        self.done.clear();
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

    /// Sends the front of `results` as one message: all of them, or up to the first that has handles or cannot be encoded. Returns
    /// how many were sent, or why the very first could not be; 0 if there were too many at once.
    fn send_some(&mut self, head: Part, results: &[R], last: bool) -> Result<usize, String> {
        let mut message = spare::take();
        let mut lengths = self.session.lengths.take();
        lengths.clear();
        message.resize(PART_HEAD, 0);
        let (mut end, mut sent, mut carried) = (PART_HEAD, 0, Vec::new());
        // Where those belong that have gone ahead.
        let mut long = Vec::new();
        let stop = Cell::new(false);
        let shared = &self.session.shared;
        let begin =
            |item| shared.desk.begin(Item { ticket: self.ticket, item, step: Step::Encodes }, self.timed);
        begin(self.from);
        let items = results.iter().zip(self.from..).map_while(|(result, item)| {
            if stop.get() || self.singly && item > self.from {
                return None;
            }
            if self.timed {
                begin(item);
            }
            Some(result)
        });
        let outcome = catch_panic(|| {
            let send_ahead = |at: usize, run: &[u8]| {
                let begin = Begin { first: long.is_empty(), at: at - PART_HEAD };
                let gone = goes_ahead(run.len(), results.len()) && self.session.send_ahead(begin, run);
                if gone {
                    long.push(at);
                }
                gone
            };
            transfer::encode_each(items, &mut message, send_ahead, |to, handles| {
                if let Some(handles) = handles {
                    stop.set(true);
                    if sent > 0 {
                        // It is encoded again, for a message of its own.
                        return;
                    }
                    carried = handles;
                }
                write_len(to - end, &mut lengths);
                (end, sent) = (to, sent + 1);
            })
        });
        let failed = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(report) => Some(format!("its `Serialize` {report}")),
        };
        shared.desk.rest();
        if let Some(reason) = failed.filter(|_| sent == 0) {
            return Err(reason);
        }
        message.truncate(end);
        message.try_reserve_exact(lengths.len()).map_err(|_| "there is no memory for it".to_owned())?;
        message.extend_from_slice(&lengths);
        self.session.lengths.set(lengths);
        let (len, last) = (sent as u32, last && sent == results.len());
        let bytes = (end - PART_HEAD) as u64;
        let long = long.iter().filter(|at| **at <= end).count() as u32;
        match self.deliver(Part { from: self.from, len, last, bytes, long, ..head }, message, carried) {
            Err(_) if sent > 1 => {
                self.singly = true;
                Ok(0)
            }
            delivered => delivered.map(|()| sent).map_err(|reason| format!("it could not be sent: {reason}")),
        }
    }

    /// Sends a message, or says why this one cannot be sent.
    fn deliver(
        &mut self,
        head: Part,
        mut message: Vec<u8>,
        handles: Vec<transfer::Handle>,
    ) -> Result<(), PutError> {
        if let Some(place) = message.get_mut(..PART_HEAD) {
            head.write(place);
        }
        let sent = self.session.send(&message, handles);
        spare::give(message);
        match sent {
            Err(error @ (PutError::Memory(_) | PutError::Handles(_))) => return Err(error),
            Err(_) => self.session.over.set(true),
            Ok(()) => {}
        }
        self.from += head.len;
        Ok(())
    }
}
