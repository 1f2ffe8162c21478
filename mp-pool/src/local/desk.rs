//! The desk: words that a worker and the pool share. See the module's page for who may change what.

#[cfg(not(mp_loom))]
use std::sync::atomic::{AtomicU64, Ordering};
use std::{ops::Range, time::Duration};

#[cfg(mp_loom)]
use mp_core::model::atomic::{AtomicU64, Ordering};
use mp_core::{
    kill_points::{Point, reach},
    os::time::{ClockId, clock_gettime},
    shared::{RegionError, Slot},
};
use serde::{Deserialize, Serialize};

/// How many chunks a worker can hold.
pub(crate) const PLACES: usize = 32;

/// `ticket << 32 | step | item`, or 0: what the worker is at.
const AT: usize = 0;
/// When it began that, if its chunk is timed.
const BEGAN: usize = 1;
/// What the task at work is told to stop: like [`AT`], or [`ALL`].
const STOP: usize = 2;
/// The first of the words that cut chunks, on a cache line of its own.
const CUTS: usize = 8;

const ALL: u64 = u64::MAX;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Desk(Slot<[AtomicU64; CUTS + PLACES]>);

/// The bit of [`AT`] that says that the item was run. No chunk has so many items.
const ENCODES: u32 = 1 << 31;

/// What a worker does about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Decodes its argument and calls the function: whoever dies at that has lost it.
    Runs,
    /// Encodes its result, for an answer of which it may not be the only one: whoever dies at that has lost nothing but time.
    Encodes,
}

/// An item of a chunk, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) ticket: u32,
    /// Counted within the chunk.
    pub(crate) item: u32,
    pub(crate) step: Step,
}

impl Item {
    fn pack(self) -> u64 {
        let step = if self.step == Step::Encodes { ENCODES } else { 0 };
        pack(self.ticket, self.item | step)
    }

    fn unpack(word: u64) -> Option<Self> {
        let (ticket, item) = unpack(word);
        let step = if item & ENCODES == 0 { Step::Runs } else { Step::Encodes };
        (ticket != 0).then_some(Self { ticket, item: item & !ENCODES, step })
    }
}

fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// The time that all processes share.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

impl Desk {
    pub(crate) fn new() -> Result<Self, RegionError> {
        Slot::new().map(Self)
    }

    fn cut(&self, place: u32) -> &AtomicU64 {
        &self.0[CUTS + place as usize % PLACES]
    }

    /// Parent: a chunk of `len` items is about to lie in `place`.
    pub(crate) fn lay(&self, place: u32, len: u32) {
        self.cut(place).store(pack(0, len), Ordering::Release);
    }

    /// Worker: the next items to run, at most `most`; empty when there are none. `left` is what it believes to be unclaimed: one
    /// that is right need not look before, which would fetch the cache line twice.
    #[inline]
    pub(crate) fn claim(&self, place: u32, most: u32, left: Range<u32>) -> Range<u32> {
        let claimed = self.change(
            place,
            pack(left.start, left.end),
            |next, end| (next.saturating_add(most).min(end.max(next)), end),
            |next, _, to, _| next..to,
        );
        reach(Point::Claimed);
        claimed
    }

    /// Parent: takes back what has not been claimed, all but `keep` of it; returns what was taken.
    pub(crate) fn take_back(&self, place: u32, keep: impl Fn(u32) -> u32) -> Range<u32> {
        let keep = |next: u32, end: u32| next + keep(end.saturating_sub(next)).min(end.saturating_sub(next));
        let word = self.cut(place).load(Ordering::Acquire);
        self.change(place, word, |next, end| (next, keep(next, end).min(end)), |_, end, _, to| to..end)
    }

    /// Changes the word of a place, which is believed to be `word`.
    fn change<R>(
        &self,
        place: u32,
        mut word: u64,
        new: impl Fn(u32, u32) -> (u32, u32),
        result: impl Fn(u32, u32, u32, u32) -> R,
    ) -> R {
        let cut = self.cut(place);
        loop {
            let (next, end) = unpack(word);
            let (to_next, to_end) = new(next, end);
            #[cfg(mp_loom)]
            if mp_core::kill_points::mutated() {
                cut.store(pack(to_next, to_end), Ordering::Release);
                return result(next, end, to_next, to_end);
            }
            match cut.compare_exchange(word, pack(to_next, to_end), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return result(next, end, to_next, to_end),
                Err(now) => word = now,
            }
        }
    }

    /// Parent: whether the chunk still has so many items in all, as far as the place tells, which only the parent changes.
    pub(crate) fn has(&self, place: u32, len: u32) -> bool {
        unpack(self.cut(place).load(Ordering::Acquire)).1 == len
    }

    /// Parent: how many items of the chunk nobody has claimed, and whether any was claimed.
    pub(crate) fn unclaimed(&self, place: u32) -> (u32, bool) {
        let (next, end) = unpack(self.cut(place).load(Ordering::Acquire));
        (end.saturating_sub(next), next > 0)
    }

    /// Worker: begins a step of an item.
    #[inline]
    pub(crate) fn begin(&self, item: Item, timed: bool) {
        if timed {
            // Nobody may see the new item with the old time, which would seem to have run for long.
            self.0[AT].store(0, Ordering::Relaxed);
            self.0[BEGAN].store(now().as_nanos() as u64, Ordering::Release);
        }
        self.0[AT].store(item.pack(), Ordering::Release);
        reach(if item.step == Step::Runs { Point::Begun } else { Point::Encoding });
    }

    /// Worker: is at nothing.
    pub(crate) fn rest(&self) {
        self.0[AT].store(0, Ordering::Release);
        reach(Point::AtRest);
    }

    /// What the worker is at.
    pub(crate) fn at(&self) -> Option<Item> {
        Item::unpack(self.0[AT].load(Ordering::Acquire))
    }

    /// What the worker is at and since when, if its chunk is timed.
    pub(crate) fn at_since(&self) -> Option<(Item, Duration)> {
        loop {
            let at = self.0[AT].load(Ordering::Acquire);
            let began = self.0[BEGAN].load(Ordering::Acquire);
            if self.0[AT].load(Ordering::Acquire) == at {
                return Item::unpack(at).map(|item| (item, Duration::from_nanos(began)));
            }
        }
    }

    /// Parent: tells this item to stop, if it is still at work.
    pub(crate) fn stop(&self, item: Item) {
        self.0[STOP].store(item.pack(), Ordering::Release);
    }

    /// Parent: tells whatever is at work, now and later, to stop.
    pub(crate) fn stop_all(&self) {
        self.0[STOP].store(ALL, Ordering::Release);
    }

    /// Worker: whether the item at work was told to stop.
    pub(crate) fn should_stop(&self) -> bool {
        let stop = self.0[STOP].load(Ordering::Acquire);
        stop == ALL || stop != 0 && stop == self.0[AT].load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(mp_loom)))]
mod tests {
    use super::*;

    #[test]
    fn items_are_claimed_or_taken_back_and_never_both() {
        let desk = Desk::new().unwrap();
        for _ in 0..200 {
            desk.lay(0, 1000);
            let (mut claimed, mut taken) = (Vec::new(), Vec::new());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    loop {
                        match desk.claim(0, 7, 0..0) {
                            range if range.is_empty() => break,
                            range => claimed.extend(range),
                        }
                    }
                });
                for _ in 0..5 {
                    taken.extend(desk.take_back(0, |unclaimed| unclaimed / 2));
                }
            });
            let mut all = [claimed, taken].concat();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn all_can_be_taken_back_before_the_first_claim() {
        let desk = Desk::new().unwrap();
        desk.lay(3, 5);
        assert_eq!(desk.unclaimed(3), (5, false));
        assert_eq!(desk.take_back(3, |_| 0), 0..5);
        assert!(desk.claim(3, 1, 0..5).is_empty());
    }
}
