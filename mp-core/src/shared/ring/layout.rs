//! What of a ring lies in shared memory, and where in it messages go.

use super::{Bell, Gate, GateError, Wake, Word};
use crate::{
    kill_points::kill_point,
    sync::{AtomicU64, Ordering, fence},
    sys::map::shared_struct,
};

/// The size of the smallest segment; each next one is twice as large.
pub(super) const BASE: usize = 64 * 1024;
/// The largest has 64 GiB.
pub(super) const SEGMENTS: usize = 21;
/// The address space of all segments of one ring, in the file.
pub(super) const AREA: u64 = (BASE as u64) << SEGMENTS;
/// Segments up to this size are kept when the ring was drained.
pub(super) const KEPT: usize = 8 * 1024 * 1024;
/// The 31 bits of a count.
pub(super) const COUNT: u32 = u32::MAX >> 1;
/// Room that is always left for a jump or the end.
pub(super) const RESERVE: u64 = 8;

shared_struct! {
    /// One side: who may move, how often it has moved, and where it stands.
    #[repr(align(128))]
    pub(super) struct Side {
        pub(super) gate: Gate,
        /// The other side as the gate's holder last saw it, so that it need not look each time.
        pub(super) seen_count: AtomicU64,
        pub(super) seen_place: AtomicU64,
        pub(super) seen_bytes: AtomicU64,
        pub(super) moves: Word,
        pub(super) slots: [[AtomicU64; 3]; 2],
        /// See [`Bell`].
        pub(super) rung: AtomicU64,
    }
}

shared_struct! {
    /// What is shared of a ring, besides the bytes.
    #[repr(align(128))]
    pub(super) struct Header {
        pub(super) put: Side,
        pub(super) get: Side,
        pub(super) max_items: AtomicU64,
        pub(super) max_bytes: AtomicU64,
        /// 1: there will be no consumer any more.
        pub(super) abandoned: AtomicU64,
        /// 1: never more than one segment, unless a message does not fit into it.
        pub(super) bounded: AtomicU64,
    }
}

/// Where a side stands: which segment, and how many bytes into it, not counting wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: usize,
    pub(super) offset: u64,
}

pub(super) const OFFSET_BITS: u32 = 58;

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

/// A side's state: where it stands, how many bytes it has moved so far, and (producers) whether the end was put.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) place: Place,
    pub(super) bytes: u64,
    pub(super) ended: bool,
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
    pub(super) fn load(&self, count: u32) -> Result<State, Broken> {
        let [place, bytes, ended] = &self.slots[(count & 1) as usize];
        Ok(State {
            place: Place::unpack(place.load(Ordering::Relaxed))?,
            bytes: bytes.load(Ordering::Relaxed),
            ended: ended.load(Ordering::Relaxed) != 0,
        })
    }

    /// The count and the state as the other side sees them.
    pub(super) fn observe(&self) -> Result<(u32, State), Broken> {
        loop {
            let count = self.moves.count();
            let state = self.load(count);
            fence(Ordering::Acquire);
            // A copy is only written after the count has moved past it: an unchanged count means an untorn copy.
            if self.moves.count() == count {
                return Ok((count, state?));
            }
        }
    }

    /// Writes the copy that becomes valid with the next move.
    fn prepare(&self, count: u32, state: State) {
        fence(Ordering::Release);
        let [place, bytes, ended] = &self.slots[(count.wrapping_add(1) & 1) as usize];
        place.store(state.place.pack(), Ordering::Relaxed);
        bytes.store(state.bytes, Ordering::Relaxed);
        ended.store(state.ended.into(), Ordering::Relaxed);
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
    pub(super) fn commit(&self, count: u32, state: State, wake: Wake<'_>) {
        self.prepare(count, state);
        kill_point!(SlotWritten);
        match wake {
            Wake::Word => self.moves.advance(),
            Wake::Bell(ring) => self.bell().change(ring),
        }
        kill_point!(Committed);
    }
}

pub(super) fn size_of_segment(segment: usize) -> u64 {
    (BASE as u64) << segment
}

pub(super) fn physical(place: Place) -> u64 {
    place.offset % size_of_segment(place.segment)
}

/// How many bytes of the producers' segment hold messages; `None` if that cannot be.
pub(super) fn used(put: Place, get: Place) -> Option<u64> {
    // Consumers that are still in another segment have taken nothing out of this one.
    let begin = if put.segment == get.segment { get.offset } else { 0 };
    put.offset.checked_sub(begin)
}

/// The segment in which to go on; `None` if all that are large enough are in use.
pub(super) fn next_segment(put: usize, get: usize, empty: bool, need: u64) -> Option<usize> {
    let fits = |segment: &usize| size_of_segment(*segment) >= need + RESERVE;
    // Room for several of a large message, so that one can be put while another is got.
    let roomy =
        |segment: &usize| size_of_segment(*segment) >= (4 * need).min(need.max(KEPT as u64)) + RESERVE;
    if empty {
        // Nothing is in use but the place where the consumers will find the jump.
        return if size_of_segment(put) <= KEPT as u64 && fits(&put) && roomy(&put) {
            Some(put)
        } else {
            (0..SEGMENTS).find(roomy).or_else(|| (0..SEGMENTS).find(fits))
        };
    }
    // In use are the consumers' segment and those up to the producers'.
    (put + 1..SEGMENTS).filter(|segment| *segment != get).find(fits)
}
