//! What of a ring lies in shared memory, and where in it messages go.

use super::{Bell, Gate, GateError, Wake, Word};
use crate::{
    kill_points::kill_point,
    sync::{AtomicU64, Ordering, fence},
    sys::map::shared_struct,
};

/// The size of the smallest segment; each next one is twice as large.
pub(super) const BASE: usize = if cfg!(mp_loom) { 32 } else { 64 * 1024 };
/// The largest has 64 GiB.
pub(super) const SEGMENTS: usize = if cfg!(mp_loom) { 4 } else { 21 };
/// Pages of segments up to this size are kept, whatever happens.
pub(super) const SMALL: u64 = if cfg!(mp_loom) { 16 } else { 1024 * 1024 };
/// Pages of a segment up to this size are kept when it was drained, if it is so large for the sake of its messages.
pub(super) const KEPT: u64 = 32 * 1024 * 1024;
/// Messages of up to so many bytes get a segment with room for several.
const ROOMY: u64 = if cfg!(mp_loom) { 0 } else { 8 * 1024 * 1024 };
/// How many bytes of a large segment are reserved at a time.
pub(super) const RESERVED: u64 = 1024 * 1024;
/// Room that is always left for a jump.
pub(super) const RESERVE: u64 = 8;

shared_struct! {
    /// One side: who may move, and where it stands.
    ///
    /// In three groups by who writes when: what only the gate's holder touches, the right to sleep, and the position, which
    /// the other side reads. The word of `moves` is its last part, so that it and both slots share one cache line.
    #[repr(align(128))]
    pub(super) struct Side {
        pub(super) gate: Gate,
        /// The other side as the gate's holder last saw it, so that it need not look each time.
        pub(super) seen: Seen,
        /// Producers: the largest record since the last wrap, for the choice of the segment.
        pub(super) most: AtomicU64,
        /// Producers: the places from which and up to which there are pages; everywhere, if a lap or more is between them.
        pub(super) backed: AtomicU64,
        pub(super) reserved: AtomicU64,
        pub(super) moves: Word,
        slots: [[AtomicU64; 3]; 2],
        /// See [`Bell`].
        pub(super) rung: AtomicU64,
        /// Of a private ring, instead of the gate: 1 while somebody is at work here. In a cache line that the other side as good as
        /// never reads.
        pub(super) inside: AtomicU64,
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(mp_loom, mp_unsupported))))]
const _: () = assert!(std::mem::offset_of!(Side, slots) % 64 == 8, "a position spans two cache lines");

shared_struct! {
    /// A state of the other side. Its parts may be of different age after a death; each is too old at worst.
    pub(super) struct Seen {
        pub(super) items: AtomicU64,
        pub(super) place: AtomicU64,
        pub(super) bytes: AtomicU64,
    }
}

impl Seen {
    pub(super) fn load(&self) -> Result<State, Broken> {
        Ok(State {
            place: Place::unpack(self.place.load(Ordering::Relaxed))?,
            bytes: self.bytes.load(Ordering::Relaxed),
            items: self.items.load(Ordering::Relaxed),
            note: 0,
        })
    }

    pub(super) fn store(&self, state: State) {
        self.items.store(state.items, Ordering::Relaxed);
        self.place.store(state.place.pack(), Ordering::Relaxed);
        self.bytes.store(state.bytes, Ordering::Relaxed);
    }
}

shared_struct! {
    /// What is shared of a ring, besides the bytes.
    #[repr(align(128))]
    pub(super) struct Header {
        pub(super) put: Side,
        pub(super) get: Side,
        /// 1: there will be no consumer any more.
        pub(super) abandoned: AtomicU64,
        /// See [`Pages`]; after how many messages, and what, by whoever holds the consumers' gate.
        drained: AtomicU64,
    }
}

/// What becomes of the pages of a large segment in which everything was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    Stay,
    /// A consumer is about to give them back, or has died over it: not to be written, but for the place at which both
    /// sides stand.
    Leave,
    /// They were given back.
    Gone,
}

impl Header {
    /// Says what becomes of the pages where the ring is empty after so many messages in all.
    pub(super) fn note_pages(&self, items: u64, pages: Pages) {
        self.drained.store(items << NOTE_BITS | pages as u64, Ordering::Release);
        #[cfg(mp_loom)]
        if crate::kill_points::mutated() {
            return;
        }
        // With the other one: either a producer sees this, or whoever has said it sees that producer in its gate.
        fence(Ordering::SeqCst);
    }

    /// What was said so when there were as many messages; for whoever has taken the producers' gate before.
    pub(super) fn pages(&self, items: u64) -> Pages {
        fence(Ordering::SeqCst);
        let word = self.drained.load(Ordering::Acquire);
        let said = |pages: &Pages| word == items << NOTE_BITS | *pages as u64;
        [Pages::Leave, Pages::Gone].into_iter().find(said).unwrap_or(Pages::Stay)
    }
}

/// Where a side stands: which segment, and how many bytes into it, not counting wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: usize,
    pub(super) offset: u64,
}

const OFFSET_BITS: u32 = 58;
/// How often a state is looked at that changes at each look.
const LOOKS: u32 = 1 << 24;

impl Place {
    pub(super) fn pack(self) -> u64 {
        (self.segment as u64) << OFFSET_BITS | self.offset
    }

    pub(super) fn unpack(word: u64) -> Result<Self, Broken> {
        let place = Self { segment: (word >> OFFSET_BITS) as usize, offset: word & ((1 << OFFSET_BITS) - 1) };
        if place.segment < SEGMENTS && place.offset.is_multiple_of(8) { Ok(place) } else { Err(Broken) }
    }

    pub(super) fn forward(self, by: u64) -> Self {
        Self { offset: self.offset + by, ..self }
    }
}

/// A side's state.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) place: Place,
    /// How many bytes it has moved so far, modulo 2^64.
    pub(super) bytes: u64,
    /// How many messages it has moved so far, modulo 2^48.
    pub(super) items: u64,
    /// Producers: 1 if the ring was closed. Consumers: who took the last messages.
    pub(super) note: u16,
}

const NOTE_BITS: u32 = u16::BITS;
const ITEMS: u64 = u64::MAX >> NOTE_BITS;

impl State {
    /// The state after `items` more messages with `need` bytes in all, the last of which ends there.
    pub(super) fn after(self, items: u64, place: Place, need: u64) -> Self {
        Self {
            place: place.forward(need),
            bytes: self.bytes.wrapping_add(need),
            items: (self.items + items) & ITEMS,
            ..self
        }
    }

    /// How many messages this side is ahead of the other one.
    pub(super) fn ahead_of(self, items: u64) -> u64 {
        self.items.wrapping_sub(items) & ITEMS
    }
}

/// Something in shared memory cannot be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken;

impl From<GateError> for Broken {
    fn from(_: GateError) -> Self {
        Self
    }
}

impl Side {
    /// The state after `count` moves; only the gate's holder, or one that checks the count again, may trust it.
    #[inline]
    pub(super) fn load(&self, count: u32) -> Result<State, Broken> {
        let [place, bytes, items] = &self.slots[(count & 1) as usize];
        let items = items.load(Ordering::Relaxed);
        Ok(State {
            place: Place::unpack(place.load(Ordering::Relaxed))?,
            bytes: bytes.load(Ordering::Relaxed),
            items: items >> NOTE_BITS,
            note: items as u16,
        })
    }

    /// How many messages the state before the last move counted, if nobody has written its slot since.
    pub(super) fn items_before(&self, count: u32) -> u64 {
        self.slots[(count.wrapping_add(1) & 1) as usize][2].load(Ordering::Relaxed) >> NOTE_BITS
    }

    /// The state as the other side sees it.
    pub(super) fn observe(&self) -> Result<State, Broken> {
        // Honest peers let some look succeed; the others must not hold anybody up for ever.
        for _ in 0..LOOKS {
            let count = self.moves.count();
            let state = self.load(count);
            fence(Ordering::Acquire);
            // A copy is only written after the count has moved past it: an unchanged count means an untorn copy.
            if self.moves.count() == count {
                return state;
            }
        }
        Err(Broken)
    }

    /// Writes the copy that becomes valid with the next move.
    #[inline]
    fn prepare(&self, count: u32, state: State) {
        fence(Ordering::Release);
        let [place, bytes, items] = &self.slots[(count.wrapping_add(1) & 1) as usize];
        place.store(state.place.pack(), Ordering::Relaxed);
        bytes.store(state.bytes, Ordering::Relaxed);
        items.store(state.items << NOTE_BITS | u64::from(state.note), Ordering::Relaxed);
    }

    pub(super) fn bell(&self) -> Bell<'_> {
        Bell { moves: &self.moves, rung: &self.rung }
    }

    /// Comes first whenever the producers' gate was taken: see [`Bell::resume`].
    pub(super) fn resume(&self, wake: Wake<'_>) {
        if let Wake::Bell(ring) = wake {
            self.bell().resume(ring);
        }
    }

    /// Makes `state` the valid one and wakes who waits for it, in one step.
    #[inline]
    pub(super) fn commit(&self, count: u32, state: State, wake: Wake<'_>) {
        self.prepare(count, state);
        kill_point!(SlotWritten);
        match wake {
            Wake::Word => self.moves.advance(),
            Wake::Later => self.moves.advance_quietly(),
            Wake::Bell(ring) => self.bell().change(ring),
        }
        kill_point!(Committed);
    }
}

pub(super) fn size_of_segment(segment: usize) -> u64 {
    (BASE as u64) << segment
}

pub(super) fn physical(place: Place) -> usize {
    // The sizes are powers of two.
    (place.offset & (size_of_segment(place.segment) - 1)) as usize
}

/// How many bytes of the producers' segment hold messages; `None` if that cannot be.
pub(super) fn used(put: Place, get: Place) -> Option<u64> {
    // Consumers that are still in another segment have taken nothing out of this one.
    let begin = if put.segment == get.segment { get.offset } else { 0 };
    put.offset.checked_sub(begin)
}

/// Whether a segment is the right size for records of `need` bytes: with room for several of a large one, so that one can
/// be put while another is got.
fn roomy(segment: usize, need: u64) -> bool {
    size_of_segment(segment) >= need.saturating_mul(4).min(need.max(ROOMY)).saturating_add(RESERVE)
}

/// Whether a segment is large for the sake of a backlog, and not of messages of up to `most` bytes. One whose pages are not kept
/// is, if they would be kept in the one to begin with: else each message takes them anew, long after the backlog.
pub(super) fn oversized(segment: usize, most: u64) -> bool {
    let size = size_of_segment(segment);
    let begun = || first_segment(most).map_or(u64::MAX, size_of_segment);
    size > SMALL
        && (most.saturating_mul(if cfg!(mp_loom) { 2 } else { 8 }) < size || size > KEPT && begun() <= KEPT)
}

/// The segment to begin with, when no other is in use than the one left, for records of up to `need` bytes.
pub(super) fn first_segment(need: u64) -> Option<usize> {
    first_segment_except(SEGMENTS, need)
}

/// As [`first_segment`], but not `except`.
pub(super) fn first_segment_except(except: usize, need: u64) -> Option<usize> {
    let fits = |segment: &usize| size_of_segment(*segment) >= need.saturating_add(RESERVE);
    let others = || (0..SEGMENTS).filter(|segment| *segment != except);
    others().find(|segment| roomy(*segment, need)).or_else(|| others().find(fits))
}

/// The segment in which to go on, when those between `get` and `put` are in use; `None` if there is none that is large
/// enough.
///
/// In use are the consumers' and others up to the producers', never a larger one: the producers go to a smaller one only
/// when the consumers are in the same as they ([`first_segment`]), and else only up.
pub(super) fn larger_segment(put: usize, get: usize, need: u64) -> Option<usize> {
    (put + 1..SEGMENTS)
        .filter(|segment| *segment != get)
        .find(|segment| size_of_segment(*segment) >= need.saturating_add(RESERVE))
}
