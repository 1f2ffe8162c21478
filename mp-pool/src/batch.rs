//! Items as bytes, one behind the other, so that any run of them is a piece of memory.
//!
//! Where each item ends is known, so a chunk can be cut where and when it is needed: small at the end of a call, one item at a
//! time after a death, without encoding anything twice.

use std::{cell::Cell, ops::Range, sync::Arc};

use mp_core::{
    run_foreign,
    transfer::{self, Handle},
};
use serde::Serialize;

use crate::{
    message::{why_not_encoded, write_len},
    spare,
    store::{Kept, Stock},
};

/// A batch is full when it has so many bytes or items: small enough that workers begin while the rest is encoded.
const FULL_BYTES: usize = 1 << 20;
const FULL_ITEMS: usize = 1 << 14;

/// Consecutive items of one input; never empty.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The position of its first item in the input.
    first: usize,
    bytes: Vec<u8>,
    /// Where items end, all but the last.
    ends: Vec<u32>,
    /// The long runs that belong between them, and where.
    long: Vec<(usize, Kept)>,
    /// The handles of those items that have some.
    handles: Vec<(u32, Vec<Handle>)>,
}

/// What came of encoding the front of some items.
pub(crate) struct Encoded {
    pub(crate) batch: Option<Batch>,
    /// How many items are in the batch.
    pub(crate) len: usize,
    /// Which item of the input is behind them, if it could not be encoded, and why.
    pub(crate) failed: Option<(usize, String)>,
}

/// Encodes as many of `items` as fit one batch; the first of them is the item `first` of the input.
pub(crate) fn encode<T: Serialize>(first: usize, items: &[T], stock: &Arc<Stock>) -> Encoded {
    let mut batch = Batch::empty(first, items.len());
    let Batch { bytes, ends, long, handles, .. } = &mut batch;
    let long_bytes = Cell::new(0);
    let mut keep = |at: usize, run: &[u8]| {
        // Without memory for it there it goes with the others.
        let Some(kept) = stock.keep(run) else { return false };
        long.push((at, kept));
        long_bytes.update(|bytes| bytes + run.len());
        true
    };
    let outcome = run_foreign(|| {
        transfer::encode_each(items, bytes, &mut keep, |end, own| {
            if let Some(own) = own {
                handles.push((ends.len() as u32, own));
            }
            // Only the last item of a batch can end further behind, and its end is that of the bytes.
            ends.push(u32::try_from(end).unwrap_or(u32::MAX));
            end + long_bytes.get() < FULL_BYTES && ends.len() < FULL_ITEMS
        })
    });
    batch.finish(why_not_encoded(outcome))
}

impl Batch {
    fn empty(first: usize, items: usize) -> Self {
        let ends = Vec::with_capacity(items.min(FULL_ITEMS));
        Self { first, bytes: spare::take(), ends, long: Vec::new(), handles: Vec::new() }
    }

    /// The batch, if something is in it, and why not more.
    fn finish(mut self, failed: Option<String>) -> Encoded {
        let len = self.ends.len();
        let failed = failed.map(|reason| (self.first + len, reason));
        let batch = self.ends.pop().map(|last| {
            // A `Serialize` that panicked may have left the beginning of its item.
            if last != u32::MAX {
                self.bytes.truncate(last as usize);
            }
            // In front of each stands its length, so that none is at the very end.
            self.long.retain(|(at, _)| *at <= self.bytes.len());
            self
        });
        Encoded { batch, len, failed }
    }

    pub(crate) fn first(&self) -> usize {
        self.first
    }

    pub(crate) fn len(&self) -> u32 {
        self.ends.len() as u32 + 1
    }

    fn start(&self, item: u32) -> usize {
        item.checked_sub(1).map_or(0, |before| self.end(before))
    }

    fn end(&self, item: u32) -> usize {
        self.ends.get(item as usize).map_or(self.bytes.len(), |end| *end as usize)
    }

    /// The encoded items of a range that is not empty.
    pub(crate) fn bytes(&self, items: &Range<u32>) -> &[u8] {
        &self.bytes[self.start(items.start)..self.end(items.end - 1)]
    }

    /// The long runs that belong between these bytes, and where.
    pub(crate) fn apart(&self, items: &Range<u32>) -> Vec<(usize, &Kept)> {
        self.long_of(items).iter().map(|(at, kept)| (at - self.start(items.start), kept)).collect()
    }

    fn long_of(&self, items: &Range<u32>) -> &[(usize, Kept)] {
        // In front of each stands its length, so that none is at the very beginning of an item.
        let before = |end: usize| self.long.partition_point(|(at, _)| *at <= end);
        &self.long[before(self.start(items.start))..before(self.end(items.end - 1))]
    }

    /// How many bytes these items have in all.
    fn size(&self, items: &Range<u32>) -> usize {
        let long = self.long_of(items).iter().map(|(_, kept)| kept.place().len);
        self.bytes(items).len() + long.sum::<usize>()
    }

    /// Appends their lengths, without long runs.
    pub(crate) fn write_lengths(&self, items: &Range<u32>, into: &mut Vec<u8>) {
        items.clone().for_each(|item| write_len(self.end(item) - self.start(item), into));
    }

    pub(crate) fn handles(&self, item: u32) -> &[Handle] {
        self.handles.iter().find(|(with, _)| *with == item).map_or(&[], |(_, handles)| handles)
    }

    /// How many of a range's items can be one chunk: one with handles is alone.
    pub(crate) fn together(&self, items: &Range<u32>) -> u32 {
        match self.handles.iter().map(|(item, _)| *item).find(|item| items.contains(item)) {
            None => items.end - items.start,
            Some(item) if item == items.start => 1,
            Some(item) => item - items.start,
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        spare::give(std::mem::take(&mut self.bytes));
    }
}

/// Consecutive items of a batch: tasks of one job, which wait or are with a worker. Never empty.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) batch: Arc<Batch>,
    pub(crate) items: Range<u32>,
    /// How many workers died while they were at it (a single task then).
    pub(crate) attempts: u32,
    /// How many workers died between its tasks.
    pub(crate) losses: u32,
}

impl Span {
    pub(crate) fn all(batch: Batch) -> Self {
        let items = 0..batch.len();
        Self { batch: Arc::new(batch), items, attempts: 0, losses: 0 }
    }

    /// Some of its tasks, counted within it.
    pub(crate) fn part(&self, tasks: Range<u32>) -> Self {
        let items = self.items.start + tasks.start..self.items.start + tasks.end;
        Self { batch: Arc::clone(&self.batch), items, ..*self }
    }

    /// Cuts its first tasks off; not all of them.
    pub(crate) fn cut(&mut self, len: u32) -> Self {
        let front = self.part(0..len);
        self.items.start += len;
        front
    }

    pub(crate) fn len(&self) -> u32 {
        self.items.end - self.items.start
    }

    /// How many bytes its tasks have.
    pub(crate) fn bytes(&self) -> usize {
        self.batch.size(&self.items)
    }

    /// The position of its first task in the input.
    pub(crate) fn first(&self) -> usize {
        self.batch.first() + self.items.start as usize
    }
}
