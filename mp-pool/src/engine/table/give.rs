//! Giving work out: how large the next chunk is, who gets it, and what is taken back for one that has nothing to do.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mp_core::transfer::Handle;

use super::{Flight, Table};
use crate::{
    batch::Span,
    crew::{Crew, Outgoing, Refused, Room, Ticket},
    job::{End, Job},
    message::Chunk,
};

/// Chunks for each worker, if all tasks take the same time: Python's rule, applied to what is left.
const CHUNKS_PER_WORKER: usize = 4;
/// A chunk is not made shorter than this, if there are enough short tasks.
const SHORTEST: Duration = Duration::from_micros(50);
/// What a task is taken for before the first was measured.
const UNKNOWN: Duration = Duration::from_millis(1);
/// So many bytes of chunks are given out before those who got them are woken.
const TOGETHER: usize = 4096;

impl<C: Crew> Table<C> {
    /// Gives out what waits to those that have room; takes back from the busy for the idle.
    pub(in crate::engine) fn fill(&mut self) {
        let mut given = 0;
        while let Some(room) = self.crew.room() {
            let Some((job, span)) = self.cut(room.most) else {
                if room.idle && self.take_back() {
                    continue;
                }
                break;
            };
            given += span.bytes();
            self.give(room, job, span);
            // Who sleeps is woken for several short chunks at once, but not kept waiting while long ones are copied.
            if given >= TOGETHER {
                self.crew.wake();
                given = 0;
            }
        }
        self.crew.wake();
    }

    /// Cuts the next chunk, of at most so many tasks, from what is in line.
    fn cut(&mut self, most: u32) -> Option<(Arc<Job>, Span)> {
        let workers = self.crew.size();
        self.line.cut(&mut self.news, |job, span| {
            let left = job.unassigned.load(Ordering::Relaxed).max(span.len() as usize);
            let size = job.options.chunk_size.map_or_else(
                || {
                    let share = left.div_ceil(CHUNKS_PER_WORKER * workers);
                    let shortest = match job.pace.load(Ordering::Relaxed) {
                        0 => 1,
                        pace => SHORTEST.as_nanos() as usize / pace as usize,
                    };
                    share.max(shortest)
                },
                |size| size.get(),
            );
            let size = u32::try_from(size).unwrap_or(u32::MAX).min(most.max(1));
            let len = span.batch.together(&span.items).min(size);
            job.unassigned.store(left - len as usize, Ordering::Relaxed);
            len
        })
    }

    fn give(&mut self, room: Room, job: Arc<Job>, span: Span) {
        let ticket = self.next;
        self.next = self.next.checked_add(1).unwrap_or(1);
        let handles =
            span.batch.handles(span.items.start).iter().map(Handle::try_clone).collect::<Result<_, _>>();
        let handles = match handles {
            Ok(handles) => handles,
            Err(error) => {
                let reason = format!("its handles could not be copied: {error}");
                return self.end(&job, span.first(), span.len() as usize, End::NotEncoded(reason));
            }
        };
        let items = span.batch.bytes(&span.items);
        let mut lengths = std::mem::take(&mut self.lengths);
        span.batch.write_lengths(&span.items, &mut lengths);
        let head = Chunk {
            ticket,
            place: 0,
            first: span.first() as u64,
            len: span.len(),
            bytes: items.len() as u64,
            apart: Vec::new(),
            timed: job.is_timed(),
            context: job.context.as_ref().map_or(0, |context| context.id),
            runner: job.runner,
        };
        if let Some(limit) = job.options.timeout {
            self.watch(limit);
        }
        let (apart, context) = (span.batch.apart(&span.items), job.context.as_ref());
        let given =
            self.crew.give(room, Outgoing { head, items, apart, lengths: &lengths, handles, context });
        lengths.clear();
        self.lengths = lengths;
        let len = span.len();
        match given {
            Ok(()) => {
                self.flights.insert(ticket, Flight { job, span, answered: 0, len, warned: None });
            }
            Err(Refused::Now) => self.again(&job, span),
            // Less of them may find room.
            Err(Refused::Ever(_)) if len > 1 => {
                self.again(&job, span.part(len / 2..len));
                self.again(&job, span.part(0..len / 2));
            }
            Err(Refused::Ever(reason)) => self.end(&job, span.first(), 1, End::NotEncoded(reason)),
        }
    }

    /// Takes something back from whoever has most to do, for one that has nothing; whether there was anything.
    fn take_back(&mut self) -> bool {
        let flights = &self.flights;
        let weight = |ticket: Ticket, unclaimed: u32, begun: bool| {
            let Some(flight) = flights.get(&ticket) else { return 0 };
            let job = &flight.job;
            if begun && job.options.chunk_size.is_some() {
                // What its caller wanted together stays together.
                return 0;
            }
            let pace = job.pace.load(Ordering::Relaxed);
            let pace = if pace == 0 { UNKNOWN.as_nanos() as u64 } else { pace };
            // However short they are on the average: the task in front of them may be a long one.
            u64::from(unclaimed).saturating_mul(pace)
        };
        let Some(ticket) = self.crew.heaviest(&weight) else { return false };
        let Some(flight) = self.flights.get_mut(&ticket) else { return false };
        let fresh = flight.answered == 0;
        let taken = self
            .crew
            .take_back(ticket, &|unclaimed| if fresh && unclaimed == flight.len { 0 } else { unclaimed / 2 });
        if taken.is_empty() {
            return false;
        }
        flight.len = taken.start;
        let (job, taken) = (Arc::clone(&flight.job), flight.span.part(taken));
        self.again(&job, taken);
        self.forget_ended(ticket);
        true
    }
}
